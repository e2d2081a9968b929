from __future__ import annotations

import hashlib
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from quarterturn.trainer.config import DataSettings
from quarterturn.trainer.data import Pictures, Plan, Turns, find_good_parts, look_over, seeded
from quarterturn.worker.contract.errors import DataError
from quarterturn.worker.contract.framing import Framing
from quarterturn.worker.contract.picture import Region
from quarterturn.worker.pictures.read import read_frames
from quarterturn.worker.pictures.sets import split_held_out
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


def test_the_fingerprint_changes_with_what_the_pictures_show(parts_folder: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(parts_folder, moved)
    before = find_good_parts(settings(moved))
    learned = before.learned[0][0]
    learned.write_bytes(learned.read_bytes() + b"0")
    assert find_good_parts(settings(moved)).fingerprint != before.fingerprint


def test_what_is_known_of_the_pictures_is_where_they_are(parts_folder: Path) -> None:
    parts = find_good_parts(settings(parts_folder))
    assert list(parts.known) == ["bracket", "ring"]
    for product, learned, to_choose, held_out in zip(
        parts.products, parts.learned, parts.to_choose, parts.held_out, strict=True
    ):
        expected = {
            hashlib.sha256(path.read_bytes()).hexdigest()[:16]: side
            for side, paths in (("held_out", held_out), ("chosen_by", to_choose), ("learned", learned))
            for path in paths
        }
        assert parts.known[product].sides() == expected


def test_pictures_of_one_part_are_on_one_side(tmp_path: Path) -> None:
    write_parts(tmp_path / "ring", 60)
    for number, path in enumerate(sorted((tmp_path / "ring").iterdir())):
        path.rename(tmp_path / "ring" / f"part{number // 4}_{number}.png")
    parts = find_good_parts(settings(tmp_path / "ring", group=r"^part(\d+)"))
    (learned, held_out, to_choose) = (
        {path.name.split("_")[0] for path in side[0]} for side in (parts.learned, parts.held_out, parts.to_choose)
    )
    assert not learned & held_out
    assert len(learned | held_out) == 15
    assert len(held_out) == 6
    assert len(to_choose) == 2
    with pytest.raises(DataError, match=r"data\.group 'folder' puts all 60 pictures of product 'ring' into one group"):
        find_good_parts(settings(tmp_path / "ring", group="folder"))


def test_copies_count_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number, path in enumerate(write_parts(tmp_path / "ring", 10)):
        for copy in range(14):
            shutil.copy(path, tmp_path / "ring" / f"{number}-{copy}.bmp")
    parts = find_good_parts(settings(tmp_path / "ring"))
    assert (len(parts.learned[0]), len(parts.held_out[0])) == (6, 4)
    assert [message for message in caplog.messages if "140 of 150 pictures are exact copies" in message]


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda n: np.full((SIDE, SIDE, 3), 128, np.uint8), "has 1 good pictures, but 4 are needed"),
        (lambda n: np.full((SIDE, SIDE, 3), 90 + 2 * n, np.uint8), "all 20 good pictures are plain grey"),
        (lambda n: np.full((SIDE, SIDE + n, 3), 90, np.uint8), "all 20 good pictures look the same"),
    ],
    ids=["copies", "flat", "the same"],
)
def test_pictures_that_teach_nothing_are_refused(
    tmp_path: Path, make: Callable[[int], npt.NDArray[np.uint8]], sentence: str
) -> None:
    (tmp_path / "ring").mkdir()
    for n in range(20):
        (tmp_path / "ring" / f"{n}.png").write_bytes(png(make(n)))
    one = settings(tmp_path / "ring")
    with pytest.raises(DataError, match=sentence):
        look_over(find_good_parts(one), one)


def test_near_duplicates_on_both_sides_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    paths = write_parts(tmp_path / "ring", 40)
    one = settings(tmp_path / "ring")
    look_over(find_good_parts(one), one)
    assert caplog.messages == []
    parts = find_good_parts(one)
    learned = cv2.imread(str(parts.learned[0][3]))
    parts.held_out[0][1].write_bytes(cv2.imencode(".png", (learned * 0.9 + 10).astype(np.uint8))[1].tobytes())
    look_over(find_good_parts(one), one)
    (said,) = caplog.messages
    pair = f"{parts.held_out[0][1].name} is nearly {parts.learned[0][3].name}"
    assert said.startswith(
        f"ring: 1 of {len(parts.held_out[0])} held-out pictures show nearly what training learns from"
    )
    assert f"({pair}); if these are pictures of one part, set data.group" in said
    assert len(paths) == 40


@pytest.mark.parametrize(
    "name", [" nut", "nut ", "nut  8", "nut\u00a08", "nut\t", "nut\n8", "\x07nut", "nut\u200b", "\u202enut"]
)
def test_products_that_no_frame_could_name_are_refused(tmp_path: Path, name: str) -> None:
    write_parts(tmp_path / "plant" / name, 4)
    for root in (tmp_path / "plant", tmp_path / "plant" / name):
        with pytest.raises(
            DataError, match="has a name with spaces or characters that cannot be seen; rename its folder"
        ):
            find_good_parts(settings(root))


def test_a_product_is_named_in_one_form(tmp_path: Path) -> None:
    write_parts(tmp_path / "plant" / unicodedata.normalize("NFD", "Öse 8 mm"), 4)
    for path in write_parts(tmp_path / "plant" / "nut", 8)[:4]:
        path.unlink()  # those of the other product
    assert find_good_parts(settings(tmp_path / "plant")).products == ("nut", unicodedata.normalize("NFC", "Öse 8 mm"))


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
