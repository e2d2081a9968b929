from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quarterturn.worker.contract.bank import Bank, ScoringSettings
from quarterturn.worker.contract.detectors import Coreset
from quarterturn.worker.fitting import gallery as module
from quarterturn.worker.fitting.fit import fit_bank
from quarterturn.worker.fitting.gallery import name_of, with_gallery
from quarterturn.worker.fitting.split import split_pictures
from tests.parts import NumpyPlacesEngine
from tests.worker.dataset import write_product

Picture = npt.NDArray[np.uint8]


def grey(numbers: Sequence[int]) -> list[Picture]:
    """Pictures that tell which they are by their height."""
    return [np.zeros((number + 1, 3, 3), np.uint8) for number in numbers]


def coresets(pictures: Sequence[Sequence[int]]) -> dict[str, Coreset]:
    """One a depth, of one view, whose members come from these pictures."""
    return {
        f"nearest.{depth}": Coreset(
            np.zeros((1, len(numbers), 2), np.float32), np.array([[(number, 0, 1, 2) for number in numbers]])
        )
        for depth, numbers in enumerate(pictures)
    }


@given(st.lists(st.lists(st.integers(0, 11), min_size=1, max_size=30), min_size=1, max_size=3), st.integers(1, 12))
def test_those_are_shown_that_most_members_come_from(pictures: list[list[int]], most: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MOST", most)
        normal, shown = with_gallery(coresets(pictures), [f"{n}.png" for n in range(12)], grey)
    members = Counter(number for numbers in pictures for number in numbers)
    kept = sorted(sorted(members, key=lambda number: (-members[number], number))[:most])
    assert [one.name for one in shown] == [f"{number}.png" for number in kept]
    assert [one.height - 1 for one in shown] == kept
    for depth, numbers in enumerate(pictures):
        model = normal[f"nearest.{depth}"]
        assert isinstance(model, Coreset)
        expected = [(kept.index(number) if number in kept else -1, 0, 1, 2) for number in numbers]
        assert model.origins.tolist() == [[list(origin) for origin in expected]]


def test_without_coresets_nothing_is_shown() -> None:
    assert with_gallery({}, ["a.png"], grey) == ({}, ())


@pytest.mark.parametrize(("path", "name"), [("/d/good/1.png", "good/1.png"), ("a/b/c.d/2.tif", "c.d/2.tif")])
def test_a_picture_is_named_with_its_folder_wherever_that_lies(path: str, name: str) -> None:
    assert name_of(Path(path)) == name


def fitted(root: Path) -> Bank:
    return fit_bank(NumpyPlacesEngine(), split_pictures(root, None, 0.4), ScoringSettings(coreset=30), 0.06)


def test_a_fit_shows_its_pictures_and_does_so_the_same_every_time(tmp_path: Path) -> None:
    write_product(tmp_path / "ring")
    one, again = fitted(tmp_path / "ring"), fitted(tmp_path / "ring")
    assert one.gallery == again.gallery
    split = split_pictures(tmp_path / "ring", None, 0.4)
    learned = {f"good/{path.name}" for part in (split.normal, split.weighing) for path in part["ring"]}
    assert {picture.name for picture in one.gallery[0]} <= learned
    for detector in ("nearest.middle", "nearest.deep"):
        first, second = one.normals[0][detector], again.normals[0][detector]
        assert isinstance(first, Coreset)
        assert isinstance(second, Coreset)
        np.testing.assert_array_equal(first.origins, second.origins)
