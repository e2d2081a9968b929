from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import ndimage, stats

from quarterturn.worker.contract.arrays import Array
from quarterturn.worker.contract.bank import Bank
from quarterturn.worker.contract.embeddings import rows
from quarterturn.worker.contract.errors import FrameError
from quarterturn.worker.contract.framing import WHOLE
from quarterturn.worker.contract.gaussians import Gaussian
from quarterturn.worker.inspection.scorer import Scored, Scorer
from quarterturn.worker.inspection.scoring import Appearance, combine, read
from tests.worker.inspection.embeddings import BOXED, TILED, bank_from, normal_of, parts, score_of


def test_frames_are_scored_independently_and_none_gives_none() -> None:
    rng = np.random.default_rng(0)
    normal = parts(rng, 40)
    (strange,) = parts(rng, 4, products=1)
    frames = {name: np.concatenate([normal[0][name][:3], strange[name]]) for name in strange}
    bank = bank_from([normal_of(one) for one in normal], ("frame", "position", "nearest.middle"))
    together = Scorer(bank).score(frames, [WHOLE] * 7)
    for b, one in enumerate(together):
        assert (one.products, one.scores.shape, one.scores.dtype) == ((0, 1, 2), (3,), np.float32)
        (alone,) = Scorer(bank).score(rows(frames, slice(b, b + 1)), [WHOLE])
        np.testing.assert_allclose(alone.scores, one.scores, rtol=1e-3, atol=1e-5)
    assert Scorer(bank).score(rows(frames, slice(0)), []) == []


def test_each_frame_is_scored_against_the_products_that_it_may_show() -> None:
    """As against all, and in the order in which they are named; the appearance stands beside all."""
    rng = np.random.default_rng(2)
    bank = bank_from([normal_of(one) for one in parts(rng, 40)], ("frame", "nearest.middle"))
    (frames,) = parts(rng, 8, products=1)
    layouts, products = [WHOLE, TILED, BOXED, WHOLE, WHOLE, WHOLE], [(0,), (2, 1), (0,), (0, 1, 2), (2, 1), (1,)]
    against_all = Scorer(bank).score(frames, layouts)
    for found, whole, allowed in zip(Scorer(bank).score(frames, layouts, products), against_all, products, strict=True):
        assert found.products == allowed
        np.testing.assert_allclose(found.scores, whole.scores[list(allowed)], rtol=1e-3, atol=1e-5)
        for c in allowed:
            for map_here, map_there in zip(found.maps[c], whole.maps[c], strict=True):
                np.testing.assert_allclose(map_here, map_there, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(found.appearance.distance, whole.appearance.distance, rtol=1e-4)


def test_products_by_their_names() -> None:
    bank = bank_from([normal_of(one) for one in parts(np.random.default_rng(0), 20)])
    scorer = Scorer(bank)
    assert scorer.admissible(None) == (0, 1, 2)
    assert scorer.admissible(["product 2", "product 0"]) == (2, 0)
    with pytest.raises(
        FrameError, match=r"product product 1/nut is not in the bank \(product 0, .*; fit a bank"
    ) as error:
        scorer.admissible(["product 1", "nut"])
    assert error.value.reason == "unknown_product"


def test_a_bank_reads_each_product_by_its_own_scale_and_counts_votes() -> None:
    rng = np.random.default_rng(4)
    bank = bank_from([normal_of(one) for one in parts(rng, 40)], ("frame", "nearest.middle"))
    (frames,) = parts(rng, 4, products=1)
    readings = read(frames, [WHOLE] * 4, bank.normals, bank.manifest.scoring, bank.manifest.detectors)
    for one, reading in zip(Scorer(bank).score(frames, [WHOLE] * 4), readings, strict=True):
        by_hand = [score_of(reading.raw[c], bank.scales[c], [1, 2]) for c in range(3)]
        np.testing.assert_allclose(one.scores, by_hand, rtol=1e-4)


# Heat maps.


def random_maps(rng: np.random.Generator, *grids: tuple[int, int]) -> tuple[Array, ...]:
    return tuple(rng.normal(1, 1, (2, *grid)).astype(np.float32) for grid in grids)


def heat_of(maps: tuple[Array, ...], bank: Bank, product: str, threshold: float) -> Array:
    """Of a frame that may show all products of the bank."""
    nothing = np.empty(0, np.float32)
    products = tuple(range(len(bank.products)))
    by_product = {c: tuple(one[c] for one in maps) for c in products}
    whole, looks = nothing.reshape(1, 4, 0), Appearance(nothing, nothing)
    scored = Scored(products, nothing, by_product, looks, whole, WHOLE, Gaussian(nothing, ()))
    return Scorer(bank).heat_map(scored, product, threshold)


def test_a_heat_map_is_the_weighted_evidence_at_each_place_in_thresholds() -> None:
    """Of the detectors that see places, wherever they stand: the frame's has a say in the score only."""
    rng = np.random.default_rng(5)
    detectors = ("nearest.middle", "nearest.deep", "frame", "position", "learned")
    bank = bank_from([normal_of(one) for one in parts(rng, 40, products=2)], detectors)
    maps = random_maps(rng, (3, 4), (3, 4), (1, 1), (3, 4), (6, 8))
    heat = heat_of(maps, bank, "product 1", 2.5)
    assert (heat.shape, heat.dtype) == ((6, 8), np.float32)
    first, second, _, third, learned = (-stats.logistic.logsf(one[1], *bank.scales[1, k]) for k, one in enumerate(maps))
    middles = [(np.arange(n) + 0.5) / 2 - 0.5 for n in heat.shape]
    coarse = first + 2 * second + 4 * third  # votes
    enlarged = ndimage.map_coordinates(coarse, np.meshgrid(*middles, indexing="ij"), order=1, mode="nearest")
    np.testing.assert_allclose(heat, (enlarged + 5 * learned) / 12 / math.log(10) / 2.5, rtol=1e-4)
    assert np.isfinite(heat_of(maps, bank, "product 0", 0.0)).all()


def test_without_a_detector_that_sees_places_the_heat_is_the_same_everywhere() -> None:
    rng = np.random.default_rng(6)
    bank = bank_from([normal_of(one) for one in parts(rng, 40, products=2)], ("frame",))
    maps = random_maps(rng, (1, 1))
    heat = heat_of(maps, bank, "product 1", 2.5)
    frame = -stats.logistic.logsf(maps[0][1, 0, 0], *bank.scales[1, 0])
    assert heat.shape == (1, 1)
    assert heat[0, 0] == pytest.approx(frame / math.log(10) / 2.5, rel=1e-4)


def test_a_frame_that_looks_as_bad_everywhere_as_at_its_threshold_is_one_threshold_hot() -> None:
    rng = np.random.default_rng(6)
    bank = bank_from(
        [normal_of(one) for one in parts(rng, 40, products=1)], ("nearest.middle", "nearest.deep"), worst=1
    )
    (frame,) = parts(rng, 1, products=1)
    alike = {name: 20 * np.repeat(values[:, :, :1], values.shape[2], axis=2) for name, values in frame.items()}
    (scored,) = Scorer(bank).score(alike, [WHOLE])
    heat = Scorer(bank).heat_map(scored, "product 0", float(scored.scores[0]))
    np.testing.assert_allclose(heat, np.ones((4, 4)), rtol=1e-5)


def test_a_place_that_is_nearer_than_any_good_one_is_not_hot() -> None:
    """Most places of a good frame are: only a frame as a whole is too empty."""
    rng = np.random.default_rng(8)
    bank = bank_from([normal_of(one) for one in parts(rng, 40, products=1)], ("frame", "nearest.middle"))
    median, spread = bank.scales[0, 1].tolist()
    maps = (np.zeros((1, 1, 1), np.float32), np.full((1, 2, 2), -90, np.float32))
    maps[1][0, 1, 1] = median + spread * math.log(9)
    heat = heat_of(maps, bank, "product 0", 0.5)
    np.testing.assert_allclose(heat, [[0, 0], [0, 2]], atol=1e-5)
    assert combine(np.array([median, -90], np.float32), bank.scales[0], [0.5, 0.5]) > 10
