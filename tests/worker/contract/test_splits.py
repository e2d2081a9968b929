"""Pictures of one part stay on one side. How single pictures are split: test_pictures.py."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from quarterturn.worker.contract.errors import DataError
from quarterturn.worker.contract.splits import Group, groups_of, hold_out, split_held_out

PATTERN = r"^part(\d+)"
parts = st.dictionaries(st.integers(0, 99), st.integers(1, 9), max_size=25)


def named(sizes: dict[int, int]) -> list[Path]:
    """Pictures of parts, in a folder each; their names say the part."""
    return [Path(f"{part:02}/part{part}-{n}.png") for part, size in sizes.items() for n in range(size)]


@given(parts, st.sampled_from(["folder", PATTERN]), st.sampled_from([0.05, 0.3, 0.5, 0.9]), st.randoms())
def test_a_part_is_on_one_side(sizes: dict[int, int], group: str, share: float, random: object) -> None:
    pictures = named(sizes)
    learned, held_out = hold_out(pictures, share, group)
    weighing, calibrating = split_held_out(held_out, group)
    sides = [{path.parent.name for path in side} for side in (learned, weighing, calibrating)]
    assert sorted([*learned, *weighing, *calibrating]) == sorted(pictures)
    assert sum(map(len, sides)) == len(sizes)
    if len(sizes) > 1:
        assert learned
        assert held_out
        largest = max(sizes.values())
        assert len(held_out) < share * len(pictures) + largest or len(sides[0]) == 1
    shuffled = list(pictures)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    moved = [Path("/elsewhere") / path for path in shuffled]
    assert hold_out(moved, share, group)[1] == [Path("/elsewhere") / path for path in held_out]


@given(parts)
def test_folders_and_patterns_say_the_same_parts(sizes: dict[int, int]) -> None:
    by_folder, by_name = ({frozenset(part) for part in groups_of(named(sizes), group)} for group in ("folder", PATTERN))
    assert by_folder == by_name
    assert len(groups_of(named(sizes))) == sum(sizes.values())


def test_another_part_leaves_the_order_of_the_others() -> None:
    sizes = dict.fromkeys(range(20), 3)
    before = [part[0].parent.name for part in groups_of(named(sizes), PATTERN)]
    after = [part[0].parent.name for part in groups_of(named(sizes | {50: 4}), PATTERN)]
    assert [part for part in after if part != "50"] == before


def test_a_name_that_says_no_part_is_named() -> None:
    with pytest.raises(
        DataError, match=r"odd\.png: its name does not match the pattern '\^part\(\\d\+\)' of data.group"
    ):
        hold_out([Path("part1-2.png"), Path("odd.png")], 0.5, PATTERN)
    with pytest.raises(DataError, match=r"odd\.png: its name does not match"):
        hold_out([Path("part1-2.png"), Path("odd.png")], 0.5, r"part(\d)|odd")  # matches without naming a part


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        ("(", "neither 'folder' nor a regular expression"),
        (r"\d+", r"no \(group\) that names the part"),
        ("", "no \\(g"),
    ],
)
def test_rules_that_are_none_are_refused(rule: str, sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        TypeAdapter(Group).validate_python(rule)


def test_all_pictures_of_one_part() -> None:
    one = [Path(f"part1-{n}.png") for n in range(5)]
    assert hold_out(one, 0.3, PATTERN) == (one, [])
    assert split_held_out(one, PATTERN) == (one, [])
    assert split_held_out([], PATTERN) == ([], [])


@pytest.mark.parametrize("name", ["Schräge", "ångström", "é", "가각", "ﬁlter ä"])
def test_the_form_of_a_name_decides_nothing(name: str) -> None:
    """A Mac writes 'ä' as two characters, and copies files with such names to others."""
    splits = []
    for form in ("NFC", "NFD"):
        names = [unicodedata.normalize(form, f"{name}{n}") for n in range(40)]
        pictures = [Path(f"{one}.png") for one in names]
        grouped = [Path(unicodedata.normalize(form, f"{name}{n % 10}")) / f"{n}.png" for n in range(40)]
        splits.append(
            [
                {unicodedata.normalize("NFC", str(path)) for path in held_out}
                for _, held_out in (hold_out(pictures, 0.3), hold_out(grouped, 0.3, "folder"))
            ]
        )
    assert splits[0] == splits[1]


def test_names_that_are_no_utf8_are_split_like_others() -> None:
    pictures = [Path(os.fsdecode(b"\xff%d.png" % n)) for n in range(20)]
    learned, held_out = hold_out(pictures, 0.3)
    assert sorted(learned + held_out) == sorted(pictures)
