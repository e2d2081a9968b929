"""From words to pictures: fetches the frames that people judged, and keeps them with what was said."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from quarterturn.worker.contract.bank import Bank, BankManifest
from quarterturn.worker.contract.errors import DataError
from quarterturn.worker.learning.rejudge import Rejudge
from quarterturn.worker.learning.shelf import Kept, Note, Shelf
from quarterturn.worker.messages.events import Verdict, position_of
from quarterturn.worker.messages.feedback import Feedback
from quarterturn.worker.messages.frames import Frame, Position
from quarterturn.worker.settings.worker import CameraSettings

_AT_ONCE = 32  # frames in memory


class Archive(Protocol):
    """Gives frames of the past, such as `transport.kafka.archive.FrameArchive`."""

    def fetch(self, positions: Sequence[Position]) -> Mapping[Position, Frame | DataError]:
        """The frame at each position, or why it is gone."""
        ...


@dataclass(frozen=True)
class Gathered:
    """The pictures that are kept, by the results' ids, and why those of other words are not."""

    kept: dict[str, Kept]
    refused: dict[str, str] = field(default_factory=dict)


def gather(words: Mapping[str, Feedback], shelf: Shelf, archive: Archive, rejudge: Rejudge, bank: Bank) -> Gathered:
    """Bring the shelf up to `words`; pictures whose word was taken back stay there, and do not count.

    Args:
        words: what was said last of each result.
        shelf: where the pictures are kept.
        archive: where the others come from.
        rejudge: judges by the version in service, for a picture's product.
        bank: the version in service.

    Raises:
        DataError: the shelf cannot be read or written.
        UnavailableError: the archive does not answer.
    """
    there = shelf.read()
    gathered = Gathered({name: there[name] for name, word in words.items() if _is_as_said(there.get(name), word)})
    changed = [word for name, word in words.items() if name not in gathered.kept]
    for word, frame in _frames([word for word in changed if word.result_id in there], there):
        _keep(word, frame, there[word.result_id], shelf, rejudge=rejudge, bank=bank, gathered=gathered)
    for word, frame in _fetched([word for word in changed if word.result_id not in there], archive):
        _keep(word, frame, None, shelf, rejudge=rejudge, bank=bank, gathered=gathered)
    return Gathered({name: gathered.kept[name] for name in sorted(gathered.kept)}, gathered.refused)


def _is_as_said(kept: Kept | None, word: Feedback) -> bool:
    return kept is not None and kept.note.feedback == word


def _frames(words: Sequence[Feedback], there: Mapping[str, Kept]) -> Iterator[tuple[Feedback, Frame | DataError]]:
    for word in words:
        yield word, there[word.result_id].frame()


def _fetched(words: Sequence[Feedback], archive: Archive) -> Iterator[tuple[Feedback, Frame | DataError]]:
    for start in range(0, len(words), _AT_ONCE):
        positions = {word.result_id: position_of(word.result_id) for word in words[start : start + _AT_ONCE]}
        found = archive.fetch(list(positions.values()))
        for word in words[start : start + _AT_ONCE]:
            yield word, found[positions[word.result_id]]


def _keep(
    word: Feedback,
    frame: Frame | DataError,
    kept: Kept | None,
    shelf: Shelf,
    *,
    rejudge: Rejudge,
    bank: Bank,
    gathered: Gathered,
) -> None:
    """Keep one picture with its new word, or say why not."""
    try:
        if isinstance(frame, DataError):
            raise frame
        (verdict,) = rejudge.judge([frame])
        if isinstance(verdict, DataError):
            raise verdict
        camera = rejudge.cameras.get(verdict.data.camera, CameraSettings())
        product = _product(word, verdict, bank)
        if word.verdict == "good":
            _require_same_look(verdict.data.camera, camera, bank.manifest)
    except DataError as error:
        gathered.refused[word.result_id] = f"{word.result_id} ({word.verdict}, {word.by}): {error}"
        return
    declared = word.product or verdict.data.product_id
    stray = declared is None and verdict.data.alert == "wrong_product"
    note = Note(feedback=word, product=product, camera=verdict.data.camera, declared=declared, stray=stray)
    if kept is not None:
        gathered.kept[word.result_id] = shelf.change(kept, note)
    else:
        gathered.kept[word.result_id] = shelf.put(frame, frame.info(), note, camera.bit_depth)


def _product(word: Feedback, verdict: Verdict, bank: Bank) -> str:
    """What the part is: as the person says, else as it was declared, else as the version in service sees it.

    Raises:
        DataError: nobody can know, or the bank does not hold it.
    """
    if word.product is not None:
        if word.product not in bank.products:
            raise DataError(
                f"the bank holds {', '.join(bank.products)}, and no '{word.product}'; correct the product, or fit a "
                "bank with it"
            )
        return word.product
    data = verdict.data
    if word.verdict == "good" and data.alert == "wrong_product":
        raise DataError(
            f"it looks like '{data.predicted_product}', not like what was declared; say which product it is, with "
            "--product"
        )
    return data.product_id or data.predicted_product


def _require_same_look(name: str, camera: CameraSettings, fitted: BankManifest) -> None:
    """A bank is fitted on pictures that are all looked at alike.

    Raises:
        DataError: the camera looks at another region, or at other bits, than the bank's pictures.
    """
    if (camera.region, camera.bit_depth) != (fitted.region, fitted.bit_depth):
        raise DataError(
            f"the camera '{name}' has another region or bit_depth than the bank was fitted with, so its picture cannot "
            "join those; fit a bank with its region, for a line of its own"
        )
