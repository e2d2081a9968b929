from __future__ import annotations

import hashlib
import logging
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from quarterturn.worker.contract.errors import DataError
from quarterturn.worker.contract.known_pictures import SIDES, KnownPictures, Side, distinct, hash_pictures, sides_of


def content(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()[:16]


@given(st.dictionaries(st.integers(0, 500), st.sampled_from(SIDES), max_size=60), st.randoms())
def test_every_picture_is_known_again_under_any_name(sides: dict[int, Side], random: object) -> None:
    before = {Path(f"{number}.png"): content(number) for number in sides}
    known = KnownPictures.of(
        {side: [Path(f"{n}.png") for n, own in sides.items() if own == side] for side in SIDES}, before
    )
    known = KnownPictures.model_validate_json(known.model_dump_json())
    numbers = list(sides)
    random.shuffle(numbers)  # type: ignore[attr-defined]
    renamed = {Path(f"renamed/{place}.jpg"): content(number) for place, number in enumerate(numbers)}
    strangers = {Path(f"strangers/{number}.bmp"): content(1000 + number) for number in range(5)}
    found = sides_of(known, [*renamed, *strangers], renamed | strangers, None)
    assert found == {path: sides[number] for path, number in zip(renamed, numbers, strict=True)}
    assert known.changes([*renamed, *strangers], renamed | strangers) == {"new": 5, "changed": 0, "gone": 0}


def known_of(**sides: list[str]) -> KnownPictures:
    hashes = {Path(name): content(hash(name)) for names in sides.values() for name in names}
    return KnownPictures.of({side: [Path(name) for name in sides.get(side, [])] for side in SIDES}, hashes)


def test_a_changed_file_stays_where_its_name_was() -> None:
    known = known_of(learned=["a.png", "ä.png"], chosen_by=["b.png"], held_out=["c.png", "x/d.png"])
    here = {Path(f"there/{name}.png"): content(n) for n, name in enumerate(["a", "b", "c", "ä", "new"])}
    assert {path.stem: side for path, side in sides_of(known, list(here), here, None).items()} == {
        "a": "learned",
        "b": "chosen_by",
        "c": "held_out",
        "ä": "learned",
    }
    assert known.changes(list(here), here) == {"new": 1, "changed": 4, "gone": 1}


def test_a_name_on_two_sides_says_nothing() -> None:
    known = known_of(learned=["monday/0.png"], held_out=["tuesday/0.png"])
    assert sides_of(known, [Path("0.png")], {Path("0.png"): content(7)}, None) == {}


@pytest.mark.parametrize(("group", "side"), [(r"^(\d+)-", "learned"), (None, None)])
def test_a_new_picture_of_a_part_stays_with_it(group: str | None, side: str | None) -> None:
    known = known_of(learned=["1-0.png"], held_out=["2-0.png"])
    new = Path("1-1.png")
    assert (
        sides_of(known, [new, Path("1-0.png")], {new: content(7), Path("1-0.png"): content(8)}, group).get(new) == side
    )


def test_names_are_known_in_either_form() -> None:
    known = known_of(held_out=[unicodedata.normalize("NFC", "Schräge.png")])
    path = Path(unicodedata.normalize("NFD", "Schräge.png"))
    assert sides_of(known, [path], {path: content(7)}, None) == {path: "held_out"}


@pytest.mark.parametrize("text", ["0", "g" * 32, "A" * 32, "0" * 33])
def test_what_is_no_list_of_hashes_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        KnownPictures(learned=text)


def test_hashes_are_of_the_content(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.png", "b.jpg", "c.png")]
    for path, data in zip(paths, (b"one", b"one", b"two"), strict=True):
        path.write_bytes(data)
    one, two = (hashlib.sha256(data).hexdigest()[:16] for data in (b"one", b"two"))
    assert hash_pictures(paths) == dict(zip(paths, (one, one, two), strict=True))
    paths[1].unlink()
    with pytest.raises(DataError, match=r"b\.jpg: cannot be read"):
        hash_pictures(paths)


def test_copies_count_once_and_that_is_said(caplog: pytest.LogCaptureFixture) -> None:
    nut = [Path(f"nut/{n}.png") for n in range(6)]
    bolt = [Path(f"bolt/{n}.png") for n in range(2)]
    hashes = {path: content(n % 4) for n, path in enumerate(nut)} | {
        path: content(10 + n) for n, path in enumerate(bolt)
    }
    caplog.set_level(logging.WARNING)
    assert distinct({"nut": nut, "bolt": bolt}, hashes) == {"nut": nut[:4], "bolt": bolt}
    assert caplog.messages == [
        "nut: 2 of 6 pictures are exact copies of others; each picture counts once, so there are 4"
    ]


def test_one_picture_shows_one_product() -> None:
    nut, bolt = Path("nut/0.png"), Path("bolt/7.png")
    with pytest.raises(DataError, match=r"bolt/7\.png: is the same picture as nut/0\.png, of another product; remove"):
        distinct({"nut": [nut], "bolt": [bolt]}, {nut: "0", bolt: "0"})
