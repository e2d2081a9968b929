from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from quarterturn.worker.contract.errors import ConfigError, FrameError
from quarterturn.worker.contract.framing import MAX_TILES, OVERLAP, UNITS, Framing, Layout, cut, resize, scaled_size
from quarterturn.worker.contract.settings import parse_settings

Floats = npt.NDArray[np.float32]

SIDE = 32
SIZES = [(1, 1), (1, 2), (1, 9), (9, 1), (37, 911), (911, 37), (16, 16), (33, 32), (64, 96), (300, 200), (5, 4)]
GRIDS = [1, 2, 4, 8, 16, 32, 48]

sizes = st.sampled_from(SIZES) | st.tuples(st.integers(1, 300), st.integers(1, 300)).filter(
    lambda size: max(size) <= 30 * min(size)
)
compact_sizes = sizes.filter(lambda size: max(size) <= 6 * min(size))  # three tiles across need 3 x 19 at most


def noise(height: int, width: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def tiled(height: int, width: int, tiles: int, side: int = SIDE) -> tuple[npt.NDArray[np.uint8], Layout]:
    return cut(noise(height, width), Framing(side=side, fit="tiles", tiles=tiles))


def cell_means(frames: npt.NDArray[np.uint8]) -> Floats:
    """(T, 3, 256): what an engine that averages the pixels of each unit would give for frames (T, side, side, 3)."""
    count, side = frames.shape[:2]
    unit = side // 16
    blocks = frames.reshape(count, 16, unit, 16, unit, 3).mean(axis=(2, 4), dtype=np.float32)
    return blocks.reshape(count, 256, 3).transpose(0, 2, 1)


def stitched_by_hand(values: Floats, layout: Layout) -> npt.NDArray[np.float64]:
    """The mean, place by place, of every tile's value there; `values` is (T, P)."""
    grid = round(values.shape[1] ** 0.5)
    fine = max(16, grid)
    rows, columns = layout.height * fine // 16, layout.width * fine // 16
    found: dict[tuple[int, int], list[float]] = {}
    for tile, (row, column) in zip(values, layout.corners, strict=True):
        for y in range(fine):
            for x in range(fine):
                place = (row * fine // 16 + y, column * fine // 16 + x)
                found.setdefault(place, []).append(float(tile[(y * grid // fine) * grid + x * grid // fine]))
    return np.array([[np.mean(found[y, x]) for x in range(columns)] for y in range(rows)])


@given(sizes, st.sampled_from(["stretch", "letterbox", "tiles"]))
def test_grey_pixels_give_the_frames_of_the_same_grey_in_three_channels(size: tuple[int, int], fit: Any) -> None:
    grey, framing = noise(*size)[..., 0], Framing(side=SIDE, fit=fit)
    spread = np.repeat(grey[..., np.newaxis], 3, axis=-1)
    found, wanted = cut(grey, framing), cut(spread, framing)
    np.testing.assert_array_equal(found[0], wanted[0])
    assert found[1] == wanted[1]


@pytest.mark.parametrize("size", [*SIZES, (32, 32), (1000, 7)])
def test_stretching_averages_areas_then_enlarges_bilinearly(size: tuple[int, int]) -> None:
    picture = noise(*size)
    frames, layout = cut(picture, Framing(side=SIDE))
    shrunk = cv2.resize(picture, (min(size[1], SIDE), min(size[0], SIDE)), interpolation=cv2.INTER_AREA)
    expected = cv2.resize(shrunk, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
    assert (frames.shape, frames.dtype) == ((1, SIDE, SIDE, 3), np.uint8)
    np.testing.assert_array_equal(frames[0], expected)
    assert layout == Layout(16, 16, ((0, 0),))


@pytest.mark.parametrize("fit", ["stretch", "letterbox", "tiles"])
def test_a_square_of_the_right_size_is_its_own_frame_and_a_copy(fit: Any) -> None:
    picture = noise(64, 64)
    frames, layout = cut(picture, Framing(side=64, fit=fit))
    np.testing.assert_array_equal(frames, picture[None])
    assert not np.shares_memory(frames, picture)
    assert layout == Layout(16, 16, ((0, 0),))


def test_resizing_keeps_height_and_width_apart() -> None:
    blocks = np.arange(6, dtype=np.uint8).reshape(2, 3, 1) * np.full(3, 40, np.uint8)
    large = blocks.repeat(5, axis=0).repeat(4, axis=1)
    np.testing.assert_array_equal(resize(large, 2, 3), blocks)
    assert resize(blocks, 7, 9).shape == (7, 9, 3)


def mirrored(index: int, length: int) -> int:
    """Where `index` outside of 0..length-1 lands when both ends are mirrors; the end itself is not repeated."""
    while not 0 <= index < length:
        index = -index if index < 0 else 2 * (length - 1) - index
    return index


@given(sizes, st.sampled_from([32, 48, 64]))
@example((1, 1000), 32)
@example((1000, 1), 32)
@example((1, 1), 32)
def test_a_letterbox_holds_the_whole_picture_and_mirrors_it_around(size: tuple[int, int], side: int) -> None:
    picture = noise(*size)
    frames, layout = cut(picture, Framing(side=side, fit="letterbox"))
    unit = side // UNITS
    assert (frames.shape, frames.dtype) == ((1, side, side, 3), np.uint8)
    assert max(layout.height, layout.width) == UNITS
    for units, length in zip((layout.height, layout.width), size, strict=True):
        assert units >= 1
        assert abs(units - UNITS * length / max(size)) <= (0.5 if units > 1 else 1)
    ((row, column),) = layout.corners
    assert (-row, -column) == ((UNITS - layout.height) // 2, (UNITS - layout.width) // 2)
    scaled = resize(picture, layout.height * unit, layout.width * unit)
    rows = [mirrored(y + row * unit, len(scaled)) for y in range(side)]
    columns = [mirrored(x + column * unit, scaled.shape[1]) for x in range(side)]
    np.testing.assert_array_equal(frames[0], scaled[rows][:, columns])


def test_the_odd_unit_of_a_letterbox_comes_last() -> None:
    frames, layout = cut(noise(16, 176), Framing(side=32, fit="letterbox"))
    assert layout == Layout(1, 16, ((-7, 0),))
    np.testing.assert_array_equal(frames[0, 14:16], resize(noise(16, 176), 2, 32))


@given(sizes, st.sampled_from([32, 48]))
def test_stitching_a_letterbox_cuts_its_margins_off(size: tuple[int, int], side: int) -> None:
    picture = noise(*size)
    frames, layout = cut(picture, Framing(side=side, fit="letterbox"))
    scaled = resize(picture, layout.height * side // 16, layout.width * side // 16)
    np.testing.assert_array_equal(layout.stitch(cell_means(frames)), unit_means(scaled, side // 16))


def unit_means(scaled: npt.NDArray[np.uint8], unit: int) -> Floats:
    """(3, h, w) means of the unit x unit blocks of a picture."""
    height, width = scaled.shape[0] // unit, scaled.shape[1] // unit
    blocks: Floats = scaled.reshape(height, unit, width, unit, 3).mean(axis=(1, 3), dtype=np.float32)
    return blocks.transpose(2, 0, 1)


def tiles_needed(size: tuple[int, int], tiles: int) -> int:
    """Counted one by one: each further tile along the longer side adds 14 units to the first one's 16."""
    shorter = 16 + 14 * (tiles - 1)
    longer, count = round(shorter * max(size) / min(size)), 1
    while 16 + 14 * (count - 1) < longer:
        count += 1
    return tiles * count


@given(sizes, st.integers(1, 8))
@example((40, 56 * 40), 1)
@example((1, 1), 8)
def test_tiles_cover_the_picture_and_overlap(size: tuple[int, int], tiles: int) -> None:
    needed = tiles_needed(size, tiles)
    if needed > 64:
        with pytest.raises(FrameError, match=f"takes {needed} tiles, more than 64"):
            tiled(*size, tiles)
        return
    frames, layout = tiled(*size, tiles)
    assert (frames.shape, frames.dtype) == ((len(layout.corners), SIDE, SIDE, 3), np.uint8)
    assert len(layout.corners) == needed <= MAX_TILES
    rows = sorted({row for row, _ in layout.corners})
    columns = sorted({column for _, column in layout.corners})
    assert layout.corners == tuple((row, column) for row in rows for column in columns)
    assert min(len(rows), len(columns)) == tiles
    assert min(layout.height, layout.width) == tiles * UNITS - (tiles - 1) * OVERLAP
    for starts, length in ((rows, layout.height), (columns, layout.width)):
        assert (starts[0], starts[-1]) == (0, length - UNITS)
        steps = np.diff(starts)
        assert np.all(steps <= UNITS - OVERLAP)
        assert np.ptp(steps, axis=0) <= 1 if len(steps) else length == UNITS
    covered = np.zeros((layout.height, layout.width), bool)
    for row, column in layout.corners:
        covered[row : row + UNITS, column : column + UNITS] = True
    assert covered.all()


@given(compact_sizes, st.integers(1, 3))
def test_tiles_keep_the_aspect_ratio(size: tuple[int, int], tiles: int) -> None:
    _, layout = tiled(*size, tiles)
    longer, shorter = max(layout.height, layout.width), min(layout.height, layout.width)
    assert abs(longer - shorter * max(size) / min(size)) <= 0.5
    assert longer == shorter or (layout.height > layout.width) == (size[0] > size[1])


@settings(max_examples=50)
@given(compact_sizes, st.integers(1, 3), st.sampled_from([32, 48]))
def test_stitching_the_tiles_of_a_picture_gives_the_picture(size: tuple[int, int], tiles: int, side: int) -> None:
    frames, layout = tiled(*size, tiles, side)
    scaled = resize(noise(*size), layout.height * side // 16, layout.width * side // 16)
    np.testing.assert_allclose(layout.stitch(cell_means(frames)), unit_means(scaled, side // 16), rtol=1e-6)


@given(compact_sizes, st.sampled_from(["stretch", "letterbox", "tiles"]), st.integers(1, 3), st.sampled_from([32, 48]))
def test_the_scaled_size_is_what_the_layout_covers(size: tuple[int, int], fit: Any, tiles: int, side: int) -> None:
    framing = Framing(side=side, fit=fit, tiles=tiles if fit == "tiles" else 1)
    _, layout = cut(noise(*size), framing)
    assert scaled_size(*size, framing) == (layout.height * side // 16, layout.width * side // 16)


@given(compact_sizes, st.sampled_from(["stretch", "letterbox", "tiles"]), st.sampled_from([2, 4, 8]))
def test_a_picture_that_was_shrunk_by_a_divisor_of_its_sides_is_laid_out_alike(
    size: tuple[int, int], fit: Any, factor: int
) -> None:
    framing, large = Framing(side=SIDE, fit=fit), (size[0] * factor, size[1] * factor)
    assert scaled_size(*large, framing) == scaled_size(*size, framing)


def test_tiles_by_hand() -> None:
    _, layout = tiled(100, 300, 1)  # 16 x 48 units: three tiles reach 44, so four, 32 units apart in all
    assert layout == Layout(16, 48, ((0, 0), (0, 10), (0, 21), (0, 32)))
    _, layout = tiled(110, 100, 2)  # 33 x 30 units
    assert layout == Layout(33, 30, tuple((row, column) for row in (0, 8, 17) for column in (0, 14)))


def test_a_picture_too_elongated_for_tiles_is_refused() -> None:
    with pytest.raises(
        FrameError, match=r"is 1000\.0 times as long as it is wide and takes 1143 tiles, more than 64; look at"
    ) as caught:
        tiled(1, 1000, 1)
    assert caught.value.reason == "too_elongated"
    with pytest.raises(FrameError, match=r"is 1000000\.0 times as long as it is wide and takes"):
        tiled(1000000, 1, 1)
    assert len(tiled(16, 898, 1)[0]) == MAX_TILES
    with pytest.raises(FrameError, match="takes 65 tiles"):
        tiled(16, 899, 1)


LAYOUTS = [
    Layout(3, 16, ((-6, 0),)),
    Layout(16, 15, ((0, 0),)),
    Layout(16, 31, ((0, 0), (0, 7), (0, 15))),
    Layout(33, 30, tuple((row, column) for row in (0, 8, 17) for column in (0, 14))),
]


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("grid", GRIDS)
def test_stitching_is_the_mean_of_the_tiles_at_each_place(layout: Layout, grid: int) -> None:
    values = np.random.default_rng(grid).normal(size=(len(layout.corners), 2, 3, grid * grid)).astype(np.float32)
    stitched = layout.stitch(values)
    fine = max(1, grid // 16)
    assert (stitched.shape, stitched.dtype) == ((2, 3, layout.height * fine, layout.width * fine), np.float32)
    assert not np.shares_memory(stitched, values)
    for b, v in np.ndindex(2, 3):
        np.testing.assert_allclose(stitched[b, v], stitched_by_hand(values[:, b, v], layout), rtol=1e-5, atol=1e-6)


@given(sizes, st.sampled_from(["letterbox", "tiles"]), st.sampled_from(GRIDS), st.floats(-1e6, 1e6, width=32))
def test_a_constant_stays_constant(size: tuple[int, int], fit: Any, grid: int, value: float) -> None:
    _, layout = cut(noise(*size), Framing(side=SIDE, fit=fit))
    stitched = layout.stitch(np.full((len(layout.corners), grid * grid), value, np.float32))
    np.testing.assert_allclose(stitched, np.float32(value), rtol=1e-6)


@pytest.mark.parametrize("grid", [*GRIDS, 5 * 16, 3, 6, 12])
def test_one_whole_tile_keeps_its_grid(grid: int) -> None:
    values = np.random.default_rng(3).normal(size=(1, 4, grid * grid)).astype(np.float32)
    stitched = Layout(16, 16, ((0, 0),)).stitch(values)
    np.testing.assert_array_equal(stitched, values.reshape(4, grid, grid))
    assert np.shares_memory(stitched, values)


def test_whole_frame_embeddings_become_blocks() -> None:
    layout = Layout(16, 30, ((0, 0), (0, 14)))
    expected = [[1.0] * 14 + [2.0] * 2 + [3.0] * 14] * 16
    np.testing.assert_array_equal(layout.stitch(np.array([[1], [3]], np.float32)), expected)


@pytest.mark.parametrize("shape", [(2, 16), (1, 15), (1, 17), (0, 16), (1, 9), (1, 24 * 24), (1, 4, 12 * 12)])
def test_values_that_are_no_such_grids_are_refused(shape: tuple[int, ...]) -> None:
    whole = [Layout(16, 16, ((0, 0),))] if shape in {(2, 16), (1, 15), (1, 17), (0, 16)} else []
    for layout in (*whole, Layout(8, 16, ((-4, 0),))):
        with pytest.raises(ValueError, match="for T = 1 tiles and a G that divides 16 or is a multiple of it"):
            layout.stitch(np.zeros(shape, np.float32))


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        ({"side": 100}, "side = 100: input should be a multiple of 16"),
        ({"side": 16}, "side = 16: input should be greater than or equal to 32"),
        ({}, "side is missing; add it"),
        ({"side": 64, "fit": "crop"}, "fit = 'crop': input should be 'stretch', 'letterbox' or 'tiles'"),
        ({"side": 64, "fit": "tiles", "tiles": 0}, "tiles = 0: input should be greater than or equal to 1"),
        ({"side": 64, "fit": "tiles", "tiles": 9}, "tiles = 9: input should be less than or equal to 8"),
        ({"side": 64, "tiles": 2}, "tiles = 2 has no effect with fit 'stretch'; set fit to 'tiles'"),
        (
            {"side": 64, "fit": "letterbox", "tiles": 3},
            "tiles = 3 has no effect with fit 'letterbox'; set fit to 'tiles'",
        ),
        ({"side": 64, "tile": 2}, "tile is unknown; did you mean 'tiles'?"),
    ],
)
def test_settings_that_cannot_be(document: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_settings(document, Framing, "line.yaml")
    assert str(caught.value) == f"line.yaml: {sentence}"


def test_settings_survive_being_written_and_read() -> None:
    for framing in (Framing(side=32), Framing(side=64, fit="letterbox"), Framing(side=64, fit="tiles", tiles=3)):
        assert parse_settings(framing.model_dump(), Framing, "manifest") == framing
