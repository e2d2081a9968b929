from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from quarterturn.worker.contract.bank import Bank, ScoringSettings
from quarterturn.worker.contract.detectors import Coreset
from quarterturn.worker.contract.framing import Framing, cut, layout_of
from quarterturn.worker.explain.explain import explain
from quarterturn.worker.explain.places import box_of
from quarterturn.worker.fitting.fit import fit_bank
from quarterturn.worker.fitting.split import Split
from quarterturn.worker.pictures.read import read_picture
from quarterturn.worker.settings.worker import CameraSettings
from tests.parts import SIDE, NumpyPlacesEngine, bank_of, frame, good_part, png

FRAMINGS = {
    "stretch": Framing(side=SIDE),
    "letterbox": Framing(side=SIDE, fit="letterbox"),
    "tiles": Framing(side=SIDE, fit="tiles", tiles=2),
}
UNGUARDED = CameraSettings(guard=False)


def ramp(height: int, width: int) -> npt.NDArray[np.uint8]:
    """A picture whose red says how far right a pixel is, and whose green how far down."""
    down, across = (255 * (np.arange(length) + 0.5) / length for length in (height, width))
    picture = np.zeros((height, width, 3), np.uint8)
    picture[..., 0], picture[..., 1] = across[None, :], down[:, None]
    return picture


@pytest.mark.parametrize("fit", FRAMINGS)
@pytest.mark.parametrize("size", [(64, 64), (96, 64), (60, 150), (16, 240)], ids=str)
@pytest.mark.parametrize("grid", [2, 4, 16])
def test_a_box_is_where_the_place_was_cut_from(fit: str, size: tuple[int, int], grid: int) -> None:
    """By what the pixels of the place say of themselves, also in a letterbox's mirrored margins."""
    framing = FRAMINGS[fit].model_copy(update={"side": 64})
    frames, layout = cut(ramp(*size), framing)
    assert layout == layout_of(*size, framing)
    cells = 64 // grid
    for tile in range(len(frames)):
        for row in range(grid):
            for column in range(grid):
                seen = frames[tile, row * cells : (row + 1) * cells, column * cells : (column + 1) * cells]
                box = box_of(layout, grid, tile, row, column)
                assert 0 <= box.left < box.left + box.width <= 1 + 1e-9
                assert 0 <= box.top < box.top + box.height <= 1 + 1e-9
                across, down = seen[..., 0] / 255, seen[..., 1] / 255
                slack = 2.5 / 64 + max(1 / side for side in size)  # the scaled picture's pixels are that coarse
                assert box.left - slack <= across.min()
                assert across.max() <= box.left + box.width + slack
                assert box.top - slack <= down.min()
                assert down.max() <= box.top + box.height + slack


def part_of(rng: np.random.Generator, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """A good part of any size, with one spot that no other has: a bank knows it by it."""
    picture = rng.integers(90, 110, (*size, 3)).astype(np.uint8)
    picture[:12, :12] = 240
    y, x = rng.integers(0, size[0] - 8), rng.integers(0, size[1] - 8)
    picture[y : y + 8, x : x + 8] = rng.integers(0, 255, 3)
    return picture


@pytest.fixture(params=[("stretch", 4, (32, 32)), ("letterbox", 1, (30, 60)), ("tiles", 4, (64, 110))], ids=str)
def fitted(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[NumpyPlacesEngine, Bank, dict[str, Path]]:
    """A bank of a folder of parts, through a framing, with so many views."""
    fit, views, size = request.param
    engine, rng = NumpyPlacesEngine(framing=FRAMINGS[fit], views=views), np.random.default_rng(3)
    paths = {f"parts/{n:03}.png": tmp_path / "parts" / f"{n:03}.png" for n in range(60)}
    (tmp_path / "parts").mkdir()
    for path in paths.values():
        path.write_bytes(png(part_of(rng, size)))
    every = [*paths.values()]
    split = Split({"ring": every[:30]}, {"ring": every[30:36]}, {"ring": every[36:]})
    detectors = ("frame", "nearest.middle", "nearest.deep")
    bank = fit_bank(engine, split, ScoringSettings(coreset=40, detectors=detectors), 0.1)
    return engine, bank, {f"parts/{path.name}": path for path in every}


def test_members_were_seen_where_they_say(fitted: tuple[NumpyPlacesEngine, Bank, dict[str, Path]]) -> None:
    """Embedded anew, the picture that a member names has its features there, in its view."""
    engine, bank, paths = fitted
    for detector in ("nearest.middle", "nearest.deep"):
        coreset = bank.normals[0][detector]
        assert isinstance(coreset, Coreset)
        assert (coreset.origins[..., 0] >= 0).all()
        for view in range(engine.spec.views):
            for member, (picture, tile, row, column) in zip(
                coreset.members[view], coreset.origins[view].tolist(), strict=True
            ):
                frames, _ = cut(read_picture(paths[bank.gallery[0][picture].name]), engine.spec.framing)
                depth = detector.removeprefix("nearest.")
                place = row * engine.spec.places[depth].grid + column
                features = engine.embed(frames[tile : tile + 1])[f"places.{depth}"][0, view, place]
                np.testing.assert_allclose(member, features, rtol=2e-3, atol=2e-3)  # half precision


def test_the_worst_place_and_what_is_nearest_to_it_are_those_of_a_search_by_hand(
    fitted: tuple[NumpyPlacesEngine, Bank, dict[str, Path]],
) -> None:
    engine, bank, paths = fitted
    size = read_picture(next(iter(paths.values()))).shape[:2]
    bad = part_of(np.random.default_rng(77), (size[0], size[1]))
    bad[size[0] // 2 : size[0] // 2 + 10, size[1] - 14 :] = (255, 0, 255)
    found = explain(engine, bank, frame(png(bad)), 0.1, camera=UNGUARDED)
    frames, layout = cut(bad, engine.spec.framing)
    embeddings = engine.embed(frames)
    assert [place.detector for place in found.places] == ["nearest.middle", "nearest.deep"]
    for place in found.places:
        coreset, depth = bank.normals[0][place.detector], place.detector.removeprefix("nearest.")
        assert isinstance(coreset, Coreset)
        grid, by_place = engine.spec.places[depth].grid, {}
        for tile in range(len(frames)):
            for p in range(grid**2):
                views = [
                    min(math.dist(embeddings[f"places.{depth}"][tile, v, p], member) for member in coreset.members[v])
                    for v in range(engine.spec.views)
                ]
                by_place[tile, p] = views
        matching = [
            (tile, p)
            for (tile, p), views in by_place.items()
            if box_of(layout, grid, tile, *divmod(p, grid)) == place.box and np.allclose(views, place.views, rtol=1e-3)
        ]
        assert matching
        tile, p = matching[0]
        harmonic = len(place.views) / sum(1 / distance for distance in place.views)
        assert place.distance == pytest.approx(harmonic, rel=1e-4)
        # It contains, or touches, what was painted: the middle of the right edge.
        assert place.box.left + place.box.width > 1 - 14 / size[1] - 1e-6
        best = place.nearest[0]
        assert best.distance == pytest.approx(min(place.views), rel=1e-3)
        assert place.views[best.view] == pytest.approx(best.distance, rel=1e-3)
        assert len({near.picture.name for near in place.nearest if near.picture}) == len(place.nearest) == 3
        assert [near.distance for near in place.nearest] == sorted(near.distance for near in place.nearest)
        for near in place.nearest:
            assert near.picture is not None
            assert near.box is not None
            assert (near.picture.height, near.picture.width) == size
            assert near.picture.name in paths
        assert place.thresholds == pytest.approx(
            max(np.max(part.heat) for part in found.parts if part.detector == place.detector and part.heat is not None)
        )


@pytest.mark.parametrize("shows_nearest", [True, False])
def test_the_nearest_is_told_shown_or_not_and_shown_ones_follow(shows_nearest: bool) -> None:
    engine, rng = NumpyPlacesEngine(), np.random.default_rng(0)
    bank = bank_of(engine, scoring=ScoringSettings(detectors=("nearest.middle",)))
    coreset = bank.normals[0]["nearest.middle"]
    assert isinstance(coreset, Coreset)
    picture = good_part(rng)
    first, second, _ = explain(engine, bank, frame(png(picture)), 0.02).places[0].nearest
    gallery = list(bank.gallery[0])
    assert first.picture is not None
    kept = [number for number, one in enumerate(gallery) if one.name != first.picture.name][:3]
    shown = [*kept, *([gallery.index(first.picture)] if shows_nearest else [])]
    coreset.origins[~np.isin(coreset.origins[..., 0], shown), 0] = -1
    found = explain(engine, bank, frame(png(picture)), 0.02).places[0].nearest
    assert found[0].distance == first.distance
    assert (found[0].picture, found[0].box is not None) == (first.picture if shows_nearest else None, shows_nearest)
    assert [gallery.index(near.picture) in kept for near in found[1:] if near.picture] == [True, True]
    assert second.distance <= found[1].distance < found[2].distance
