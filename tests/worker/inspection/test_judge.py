"""Judgements against the rules in words, on banks whose distances are plain Euclidean ones."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from quarterturn.worker.contract.arrays import Array
from quarterturn.worker.contract.bank import Bank, BankManifest, Calibration, ScoringSettings
from quarterturn.worker.contract.errors import DataError
from quarterturn.worker.contract.framing import WHOLE, Framing
from quarterturn.worker.contract.gaussians import Gaussian
from quarterturn.worker.contract.manifest import EmbeddingSpec
from quarterturn.worker.inspection.judge import Judge, Judgement
from quarterturn.worker.inspection.scorer import Scorer
from tests.parts import LEARNED_FROM, NumpyEngine, any_picture, bank_of, nowhere, unmeasured

PRODUCTS = ("ring", "bracket", "washer")
SPEC = EmbeddingSpec(framing=Framing(side=32), views=4, frame=2)
MEDIAN, SPREAD = 1.5, 0.1


def bank_at(means: Array, calibration: Sequence[Calibration]) -> Bank:
    """The good parts of each product lie around `means` (C, V, 2), alike in all directions."""
    identity = np.tile(np.eye(2, dtype=np.float32), (4, 1, 1, 1))
    manifest = BankManifest(
        spec=SPEC,
        engine="engine",
        target="numpy",
        products=PRODUCTS,
        scoring=ScoringSettings(),
        votes={"frame": 1},
        **LEARNED_FROM,
        created_at="",
    )
    scales = np.tile(np.array([MEDIAN, SPREAD], np.float32), (len(PRODUCTS), 1, 1))
    normals = tuple({"frame": Gaussian.of(mean[:, None], identity)} for mean in means)
    return Bank(manifest, normals, scales, tuple(calibration), any_picture(len(PRODUCTS)), nowhere(len(PRODUCTS)), ())


def calibration_of(rng: np.random.Generator, *, oriented: float) -> Calibration:
    """Twenty pictures, of which the share `oriented` fits best as it lies."""
    ratios = np.where(np.arange(20) < oriented * 20, rng.uniform(0.3, 0.9, 20), 1.2)
    scores, distances = rng.uniform(0.5, 1, 20) * rng.uniform(1, 4), rng.uniform(0.5, 1, 20) * rng.uniform(1, 6)
    return unmeasured(scores, distances, ratios)


def harmonic(distances: Sequence[float]) -> float:
    return len(distances) / sum(1 / distance for distance in distances)


def judged(bank: Bank, frames: Array, admissible: Sequence[Sequence[str] | None]) -> list[Judgement]:
    """Frames (B, V, 2), which may each show the products named."""
    scorer, judge = Scorer(bank), Judge.of(bank, 0.1, {})
    products = [scorer.admissible(names) for names in admissible]
    return [judge.judge(one) for one in scorer.score({"frame": frames}, [WHOLE] * len(frames), products)]


def distance_in_words(bank: Bank, frame: Array, c: int, turned: int = 0) -> float:
    """From product c, if the part lay turned: its view v looks like a later one of a part that lies right."""
    gaussian = bank.normals[c]["frame"]
    assert isinstance(gaussian, Gaussian)
    return harmonic([math.dist(frame[v], gaussian.mean[(v + turned) % 4, 0]) for v in range(4)])


def rare(distance: float) -> float:
    """In log10: among all good parts because it is far, among the lowest in a thousand because it is near."""
    beyond = math.log10(1 + math.exp((distance - MEDIAN) / SPREAD))
    return beyond + math.log10(1 + math.exp((MEDIAN - distance) / SPREAD) / 999)


def p_value_in_words(bank: Bank, frame: Array, allowed: Sequence[int]) -> float:
    """A good part is one of the products allowed, nobody knows which: the one for which it is the most usual counts."""
    scores = {c: rare(distance_in_words(bank, frame, c)) for c in allowed}
    return max((1 + sum(one >= scores[c] for one in bank.calibration[c].scores.tolist())) / 21 for c in allowed)


def judged_in_words(bank: Bank, frame: Array, allowed: Sequence[int]) -> tuple[str | None, int, int, float, float]:
    """(alert, product, the product that the frame looks like, score, threshold) of one frame (V, 2)."""

    def far(c: int, turned: int = 0) -> float:
        return distance_in_words(bank, frame, c, turned)

    scores = [rare(far(c)) for c in range(len(PRODUCTS))]
    thresholds = [sorted(one.scores.tolist())[18] for one in bank.calibration]  # rank 21 · 90 % of 20
    limits = [max(one.distances.tolist()) for one in bank.calibration]
    product = min(allowed, key=lambda c: scores[c] / thresholds[c])
    score, threshold = scores[product], thresholds[product]
    if score <= threshold:
        return None, product, product, score, threshold
    nearest = min(range(len(PRODUCTS)), key=lambda c: far(c) / limits[c])
    if nearest not in allowed and far(nearest) <= 2 * limits[nearest] and far(product) > limits[product]:
        return "wrong_product", product, nearest, score, threshold
    ratios = bank.calibration[product].turn_ratios.tolist()
    best_other = min(far(product, turned) for turned in (1, 2, 3))
    told_apart = sum(ratio < 1 for ratio in ratios) >= 0.95 * len(ratios)
    explained = far(product) / best_other > max(1, *ratios) and best_other <= 2 * limits[product]
    return "wrong_orientation" if told_apart and explained else "defect", product, product, score, threshold


def test_judgements_are_those_of_the_rules_in_words() -> None:
    """On products that lie in all distances of each other, and frames near to one of them, turned or not."""
    rng = np.random.default_rng(0)
    kinds: Counter[str | None] = Counter()
    empty = 0
    for _ in range(1000):
        means = rng.normal(size=(3, 4, 2)).astype(np.float32) * rng.uniform(2, 6)
        bank = bank_at(means, [calibration_of(rng, oriented=rng.choice([0.5, 0.95, 1.0])) for _ in PRODUCTS])
        shown, turned = rng.integers(3), rng.choice([0, 0, 1, 2, 3])
        frame = (np.roll(means[shown], -turned, axis=0) + rng.normal(size=(4, 2)) * rng.uniform(0.1, 3)).astype(
            np.float32
        )
        allowed = sorted(rng.choice(3, rng.integers(1, 4), replace=False).tolist())
        names = None if len(allowed) == 3 else [PRODUCTS[c] for c in allowed]
        (found,) = judged(bank, frame[None], [names])
        alert, product, nearest, score, threshold = judged_in_words(bank, frame, allowed)
        assert (found.alert, found.product, found.nearest) == (alert, PRODUCTS[product], PRODUCTS[nearest])
        assert found.score == pytest.approx(score, rel=1e-4)
        assert found.threshold == pytest.approx(threshold, rel=1e-6)
        assert found.p_value == pytest.approx(p_value_in_words(bank, frame, allowed))
        assert (found.p_value <= 0.1) == (alert is not None)  # both say that no product explains the frame
        by_view = [math.dist(frame[v], means[product, v]) for v in range(4)]
        assert found.view_distances == pytest.approx(by_view, rel=1e-4)
        kinds[alert] += 1
        empty += alert is not None and harmonic(by_view) < MEDIAN
    assert empty >= 20  # less of everything than good parts have
    assert min(kinds[kind] for kind in (None, "wrong_product", "wrong_orientation", "defect")) >= 20


def ring_and_others(distance: float) -> npt.NDArray[np.float32]:
    """The means of three products, `distance` apart from one to the next; all views alike."""
    return np.tile(np.array([[[0, 0]], [[distance, 0]], [[0, 9 * distance]]], np.float32), (1, 4, 1))


@pytest.mark.parametrize(
    ("limits", "admissible", "alert"),
    [
        ((2, 2, 2), ["ring"], "wrong_product"),
        ((2, 0.6, 2), ["ring"], "wrong_product"),  # farther than any bracket of the calibration: one in 21 good ones is
        ((2, 0.4, 2), ["ring"], "defect"),  # not one of the bracket's good parts either
        ((12, 2, 2), ["ring"], "defect"),  # no farther from the ring than some good rings
        ((2, 2, 2), ["ring", "washer"], "wrong_product"),
        ((2, 2, 2), ["ring", "bracket"], None),
        ((2, 2, 2), None, None),
        ((2, 2, 2), ["bracket"], None),
    ],
)
def test_a_bracket_declared_as_other_products(
    limits: tuple[float, ...], admissible: list[str] | None, alert: str | None
) -> None:
    ones = np.ones(20, np.float32)
    calibration = [unmeasured(ones, limit * ones, 0.5 * ones) for limit in limits]
    frame = ring_and_others(8.0)[1] + np.array([1, 0], np.float32)
    (found,) = judged(bank_at(ring_and_others(8.0), calibration), frame[None], [admissible])
    assert found.alert == alert
    declared = "bracket" if admissible is None or "bracket" in admissible else "ring"
    assert found.product == declared
    assert found.nearest == ("bracket" if alert == "wrong_product" else declared)


def test_each_frame_is_judged_by_its_own_admissible_products() -> None:
    ones = np.ones(20, np.float32)
    means = ring_and_others(8.0)
    frames = np.stack([means[1], means[1], means[2]]) + np.float32(0.6)
    found = judged(bank_at(means, [unmeasured(ones, ones, ones)] * 3), frames, [["ring"], ["bracket"], None])
    assert [one.alert for one in found] == ["wrong_product", None, None]
    assert [one.nearest for one in found] == ["bracket", "bracket", "washer"]


def test_a_bank_with_too_few_calibration_pictures_says_how_many_it_takes() -> None:
    bank = bank_of(NumpyEngine(), count=63)
    with pytest.raises(DataError) as caught:
        Judge.of(bank, 0.01, {})
    assert str(caught.value) == (
        "product 'ring': an overkill of 1.000% needs 99 calibration pictures, but there are 63; fit a bank with a "
        "folder of 131 good pictures as 'calibration', or set overkill: 0.0157 in worker.yaml"
    )
    assert Judge.of(bank, 0.0157, {}).thresholds.shape == (1,)
    assert Judge.of(bank, 0.01, {"ring": 1.0}).thresholds == [1.0]
