from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from quarterturn.worker.contract.views import Views, compose, label, place_order, turn, turn_back, turned

PICTURE = np.random.default_rng(0).integers(0, 256, (6, 6, 3), np.uint8)


@pytest.mark.parametrize("view", range(8))
def test_a_view_is_the_picture_mirrored_then_turned(view: int) -> None:
    expected = np.rot90(np.fliplr(PICTURE) if view >= 4 else PICTURE, view % 4)
    np.testing.assert_array_equal(turn(PICTURE, view), expected)
    assert np.shares_memory(turn(PICTURE, view), PICTURE)


def test_the_views_are_all_different_and_the_first_is_the_picture() -> None:
    assert len({turn(PICTURE, view).tobytes() for view in range(8)}) == 8
    np.testing.assert_array_equal(turn(PICTURE, 0), PICTURE)


def test_a_quarter_turn_is_counter_clockwise() -> None:
    frame = np.array([[1, 2], [3, 4]])
    np.testing.assert_array_equal(turn(frame, 1), [[2, 4], [1, 3]])
    np.testing.assert_array_equal(turn(frame, 4), [[2, 1], [4, 3]])


@pytest.mark.parametrize("view", range(8))
@pytest.mark.parametrize("way", [1, -1], ids=["by rows", "mirrored in memory"])
def test_a_frame_that_is_laid_out_turned_is_that_view(view: int, way: int) -> None:
    frame = np.random.default_rng(view).integers(0, 256, (5, 7, 3), np.uint8)[:, ::way]
    found = turned(frame, view)
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, turn(frame, view))


@pytest.mark.parametrize("view", range(8))
def test_what_was_turned_is_turned_back(view: int) -> None:
    grid = np.arange(3 * 5 * 2).reshape(3, 5, 2)
    np.testing.assert_array_equal(turn_back(turn(grid, view), view), grid)


def test_frames_need_not_be_square() -> None:
    assert turn(np.zeros((2, 5, 3)), 1).shape == (5, 2, 3)


@pytest.mark.parametrize("views", [4, 8])
def test_the_table_says_what_turning_twice_gives(views: int) -> None:
    table = compose(views)
    for g in range(views):
        for v in range(views):
            np.testing.assert_array_equal(turn(turn(PICTURE, g), v), turn(PICTURE, table[v, g]))
    for line in (*table, *table.T):  # a group: each view once in each row and column
        assert sorted(line) == list(range(views))


def test_two_views_are_no_group() -> None:
    with pytest.raises(ValueError):
        compose(2)


@pytest.mark.parametrize("views", get_args(Views))
@pytest.mark.parametrize("side", [1, 2, 3, 5])
def test_place_order_turns_the_grids_back(views: int, side: int) -> None:
    """Each place of the part gets a number; however it is turned, the order finds the numbers where they were."""
    numbers = np.arange(side * side).reshape(side, side)
    order = place_order(views, side * side)
    assert order.shape == (views, side * side)
    for view in range(views):
        grid = turn(numbers, view).ravel()
        np.testing.assert_array_equal(grid[order[view]], numbers.ravel())


@pytest.mark.parametrize("products", [1, 2, 6, 37])
def test_labels_number_products_and_rotations(products: int) -> None:
    labels = [label(product, rotation, products) for rotation in range(4) for product in range(products)]
    assert labels == list(range(4 * products))
