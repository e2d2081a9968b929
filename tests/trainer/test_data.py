from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from quarterturn.trainer.config import DataSettings
from quarterturn.trainer.data import Pictures, Plan, Turns, find_good_parts, seeded
from quarterturn.worker.contract.errors import DataError
from quarterturn.worker.contract.framing import Framing
from quarterturn.worker.contract.pictures import split_held_out
from quarterturn.worker.contract.preprocess import Region, read_frames
from tests.parts import deepen, good_part, png

SIDE = 32


def write_parts(folder: Path, count: int) -> list[Path]:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    paths = [folder / f"{n:03}.png" for n in range(count)]
    for path in paths:
        path.write_bytes(png(good_part(rng)))
    return paths


def settings(path: Path, **changes: Any) -> DataSettings:
    return DataSettings(path=path, side=SIDE, **changes)


@pytest.mark.parametrize("products", [1, 2, 6, 37])
def test_labels_tell_product_and_rotation_for_any_number_of_products(products: int) -> None:
    order = np.random.default_rng(0).permutation(products)
    turns = Turns.of_pictures(order, np.full(products, 4))
    labels = turns.labels.tolist()
    assert sorted(labels) == list(range(4 * products))
    assert turns.products.tolist() == [int(c) for c in order for _ in range(4)]
    # As published: rotation times the number of classes, plus the class.
    assert labels == [r * products + int(c) for c in order for r in range(4)]


def test_turns_that_look_alike_share_a_label() -> None:
    turns = Turns.of_pictures(np.array([0, 1, 2] * 2), np.array([4, 1, 2]))
    rotations = [one // 3 for one in turns.labels.tolist()]
    assert rotations == [0, 1, 2, 3, 0, 0, 0, 0, 0, 1, 0, 1] * 2
    assert [one % 3 for one in turns.labels.tolist()] == turns.products.tolist()
    assert turns.products.tolist() == [product for product in (0, 1, 2) for _ in range(4)] * 2


def test_good_parts_are_split_by_product(parts_folder: Path) -> None:
    parts = find_good_parts(settings(parts_folder))
    assert parts.products == ("bracket", "ring")
    assert [len(paths) for paths in parts.learned] == [11, 11]
    assert [len(paths) for paths in parts.held_out] == [7, 7]
    assert not {*parts.learned[0], *parts.learned[1]} & {*parts.held_out[0], *parts.held_out[1]}
    for held_out, to_choose in zip(parts.held_out, parts.to_choose, strict=True):
        calibrating = split_held_out(held_out)[1]  # of the bank
        assert {*to_choose, *calibrating} == {*held_out}
        assert (len(to_choose), len(calibrating)) == (1, 6)
    paths, products = parts.to_learn
    assert [path.parent.name for path in paths] == [parts.products[c] for c in products]


def test_the_fingerprint_changes_with_the_pictures_and_not_with_the_place(parts_folder: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(parts_folder, moved)
    before = find_good_parts(settings(parts_folder)).fingerprint
    assert find_good_parts(settings(moved)).fingerprint == before
    next((moved / "train" / "ring").iterdir()).unlink()
    assert find_good_parts(settings(moved)).fingerprint != before


@pytest.mark.parametrize(("holdout", "needed"), [(0.3, 3), (0.5, 4), (0.9, 20)])
def test_too_few_pictures_say_how_many_are_needed(tmp_path: Path, holdout: float, needed: int) -> None:
    write_parts(tmp_path / "train" / "ring", needed)
    assert [len(paths) for paths in find_good_parts(settings(tmp_path, holdout=holdout)).learned] == [2]
    (tmp_path / "train" / "ring" / "000.png").unlink()
    with pytest.raises(DataError) as caught:
        find_good_parts(settings(tmp_path, holdout=holdout))
    assert str(caught.value) == (
        f"{tmp_path}: product 'ring' has {needed - 1} good pictures, but {needed} are needed to learn from 2 and hold "
        f"out {holdout:.0%}; add 1 or more"
    )


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no picture \(.*\); check the path"):
        find_good_parts(settings(tmp_path))


@pytest.mark.parametrize("cached", [0, 3, 10], ids=["none", "some", "all"])
def test_frames_are_the_workers_cached_or_not(tmp_path: Path, cached: int) -> None:
    paths = write_parts(tmp_path / "ring", 8)
    region = Region(x=2, y=0, width=12, height=16)
    plan = [(0, np.array([7, 0])), (1, np.array([2, 3, 2])), (2, np.array([5]))]
    with Pictures(paths, settings(tmp_path, region=region), cached * 3 * SIDE**2 / 2**30) as pictures:
        for path in paths[:cached]:
            path.unlink()  # what is cached is not read again
        streamed = list(pictures.stream(plan))
    assert len(pictures) == 8
    write_again = write_parts(tmp_path / "again", 8)
    for (indices, frames), (_, expected) in zip(streamed, plan, strict=True):
        assert np.array_equal(indices, expected)
        assert np.array_equal(frames, [read_frames(write_again[i], Framing(side=SIDE), region)[0] for i in expected])


def test_frames_have_the_depth_that_is_said(tmp_path: Path) -> None:
    paths = write_parts(tmp_path / "ring", 3)
    with Pictures(paths, settings(tmp_path)) as pictures:
        plain = pictures.load(np.arange(3))
    deepen(tmp_path, 10)
    with Pictures(paths, settings(tmp_path, bit_depth=10)) as pictures:
        assert np.array_equal(pictures.load(np.arange(3)), plain)


def write_strips(folder: Path, count: int) -> list[Path]:
    """Pictures 32 high and 88 wide, whose three tiles of 32 begin at 0, 28 and 56."""
    folder.mkdir()
    rng = np.random.default_rng(2)
    paths = [folder / f"{n:03}.png" for n in range(count)]
    for path in paths:
        path.write_bytes(png(rng.integers(0, 256, (SIDE, 88, 3), dtype=np.uint8)))
    return paths


@pytest.mark.parametrize("cached", [0, 9, 18], ids=["none", "some", "all"])
def test_every_epoch_shows_another_tile_of_a_picture(tmp_path: Path, cached: int) -> None:
    paths = write_strips(tmp_path / "strips", 5)
    indices = np.array([4, 0, 2])
    whole = [cv2.imread(str(path))[..., ::-1] for path in paths]
    with Pictures(paths, settings(tmp_path, fit="tiles"), cached * 3 * SIDE**2 / 2**30) as pictures:
        streamed = list(pictures.stream([(epoch, indices) for epoch in range(4)]))
        batches = list(pictures.batches(2))
    for (_, frames), left in zip(streamed, [0, 28, 56, 0], strict=True):
        assert np.array_equal(frames, [whole[i][:, left : left + SIDE] for i in indices])
    assert [len(frames) for frames in batches] == [2, 2, 1]
    assert np.array_equal(np.concatenate(batches), [picture[:, :SIDE] for picture in whole])


@pytest.mark.parametrize("cache_gib", [0.0, 1.0], ids=["while training", "at the start"])
def test_an_unreadable_picture_is_named(tmp_path: Path, cache_gib: float) -> None:
    paths = write_parts(tmp_path / "ring", 3)
    paths[1].write_bytes(b"no picture")
    with (
        pytest.raises(DataError, match=r"001.png: 10 bytes are no JPEG, .*; replace or remove the file"),
        Pictures(paths, settings(tmp_path), cache_gib) as pictures,
    ):
        list(pictures.stream([(0, np.array([0])), (0, np.array([1]))]))


def test_an_epoch_shows_every_picture_once_in_an_order_of_its_own() -> None:
    plan = Plan.of(12, batch=4, steps=9, seed=0)
    orders = [np.concatenate([plan.pictures_of(3 * epoch + n)[1] for n in range(3)]).tolist() for epoch in range(3)]
    assert [plan.pictures_of(step)[0] for step in range(9)] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert all(sorted(order) == list(range(12)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3
    assert plan.pictures_of(4)[1].tolist() == orders[1][4:8]
    assert Plan.of(12, 4, 9, seed=1).pictures_of(0)[1].tolist() != orders[0][:4]


def test_a_part_batch_is_left_out() -> None:
    plan = Plan.of(11, batch=4, steps=4, seed=0)
    epochs, batches = zip(*(plan.pictures_of(step) for step in range(4)), strict=True)
    assert epochs == (0, 0, 1, 1)
    assert [len({*batches[n], *batches[n + 1]}) for n in (0, 2)] == [8, 8]


def test_where_there_are_fewer_pictures_a_batch_has_all_of_them() -> None:
    plan = Plan.of(3, batch=4, steps=2, seed=0)
    assert [(epoch, sorted(indices)) for epoch, indices in map(plan.pictures_of, range(2))] == [
        (0, [0, 1, 2]),
        (1, [0, 1, 2]),
    ]


def test_every_place_has_random_numbers_of_its_own() -> None:
    places = [(0,), (0, 0), (0, 1), (1, 0), (1, 1), (0, 0, 1), (0, 1, 0)]
    draws = {seeded(*place).initial_seed() for place in places}
    assert len(draws) == len(places)
    assert seeded(0, 1, 5).initial_seed() == seeded(0, 1, 5).initial_seed()
