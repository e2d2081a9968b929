"""What the names of folders and files say: good, bad, masks, test; and the refusal of those that say it in vain."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from quarterturn.worker.contract.errors import DataError
from quarterturn.worker.contract.splits import composed
from quarterturn.worker.pictures.folders import folders_in, list_pictures, pictures_in

GOOD = "good"

# Names of folders, as `word_of` gives them.
GOODS = frozenset({"good", "ok", "normal"})
BADS = frozenset(
    {
        *("bad", "ng", "nok", "notok", "notgood", "ko", "nio", "scrap", "reject", "rejected"),
        *("defect", "defective", "fault", "faulty", "fail", "failed"),
        *("anomaly", "anomalie", "anomalous", "abnormal", "logicalanomalie", "structuralanomalie"),
    }
)
MASKS = frozenset({"mask", "groundtruth", "gt", "annotation"})
TRAIN = frozenset({"train", "training"})
TEST = frozenset({"test", "testing", "testpublic"})
NOT_TRAINED = TEST | {"testprivate", "testprivatemixed", "val", "validation"}

_HOLDS = {
    **dict.fromkeys(BADS, "bad parts"),
    **dict.fromkeys(MASKS, "masks"),
    **dict.fromkeys(NOT_TRAINED, "test pictures"),
    **dict.fromkeys(TRAIN, "one part of a set"),
}
_MASK_FILE = re.compile(r"(?P<picture>.+)[_\-. ](?P<ending>gt|masks?|labels?|ground_?truth)", re.IGNORECASE)
_WANTED = (
    "lay the pictures out as train/good, test/good, test/<type of defect> and ground_truth/<type of defect>, or give "
    "a folder of good pictures alone; docs/data.md has all layouts"
)


def word_of(folder: Path) -> str:
    """What a folder's name says: without case, plural, separators and a number behind one."""
    plain = re.sub(r"[\s_.\-]+\d+$", "", composed(folder.name).casefold().strip())
    return re.sub(r"[\s_.\-]+", "", plain).removesuffix("s")


def named(folder: Path, words: Iterable[str]) -> list[Path]:
    """The folders in `folder` whose names say one of `words`."""
    return [child for child in folders_in(folder) if word_of(child) in words]


def type_of(folder: Path) -> str:
    """What the test pictures in `folder` are: "good", or the folder's name in Unicode's composed form."""
    return GOOD if word_of(folder) in GOODS else composed(folder.name)


def picture_of(mask: Path) -> str | None:
    """The stem of the picture that a file named as a mask belongs to, such as "7" of "7_mask.png"."""
    found = _MASK_FILE.fullmatch(mask.stem)
    return found["picture"] if found else None


def masks_among(pictures: Sequence[Path]) -> dict[Path, Path]:
    """Of `pictures`, those that are named as masks of others beside them, and these."""
    beside = {(path.parent, path.stem): path for path in pictures}
    pairs = {path: beside.get((path.parent, picture_of(path) or "")) for path in pictures}
    return {mask: picture for mask, picture in pairs.items() if picture is not None}


def learned_in(folder: Path) -> list[Path]:
    """All pictures below `folder`, which must be good ones alone.

    Raises:
        DataError: there is none, or bad pictures, test pictures or masks seem to lie among them.
    """
    pictures = list_pictures(folder)
    for below in sorted({path.parent for path in pictures}):
        for inner in [below, *below.parents][: len(below.parts) - len(folder.parts)]:
            require_good_name(inner)
            if word_of(inner) in GOODS and any(not path.is_relative_to(inner) for path in pictures):
                raise bad_beside_good(inner)
    masks = masks_among(pictures)
    for path in pictures:  # without a picture beside it, "front_label" may well be a picture of a label
        found = _MASK_FILE.fullmatch(path.stem)
        if path in masks or (found and not found["ending"].lower().startswith("label")):
            raise DataError(f"{path}: is named as a mask, and lies among good pictures; {_WANTED}")
    return pictures


def require_good_name(folder: Path) -> None:
    """Refuse a folder to learn from whose name says that it holds something else than good pictures.

    Raises:
        DataError: says what its name stands for.
    """
    if held := _HOLDS.get(word_of(folder)):
        raise DataError(f"{folder}: by its name holds {held}, and lies where all pictures count as good; {_WANTED}")


def require_no_good_among(folders: Sequence[Path]) -> None:
    """Refuse folders side by side of which one is called "good": the others would hold bad parts.

    Raises:
        DataError: names it.
    """
    for folder in folders if len(folders) > 1 else ():
        if word_of(folder) in GOODS:
            raise bad_beside_good(folder)


def require_no_pictures(folder: Path, beside: str) -> None:
    """Refuse pictures that lie directly in `folder`, beside folders that say what a picture is.

    Raises:
        DataError: names the first.
    """
    if loose := pictures_in(folder):
        raise DataError(f"{loose[0]}: lies beside {beside}, so nobody knows what it shows; move it into one of them")


def bad_beside_good(folder: Path) -> DataError:
    """The error for a folder called "good" beside others."""
    return DataError(f"{folder}: lies beside others, which by its name hold no good parts; {_WANTED}")
