"""The evaluation as one self-contained HTML page: figures, curves, and the pictures that say most."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from quarterturn.worker.contract.calibration import CONFIDENCE, Promise, at_most, pictures_needed
from quarterturn.worker.contract.times import now
from quarterturn.worker.evaluation.figures import Inspected, between, percent, roc, split_ratios
from quarterturn.worker.evaluation.kept import kept
from quarterturn.worker.evaluation.localisation import LIMIT
from quarterturn.worker.evaluation.probe.findings import Finding
from quarterturn.worker.evaluation.result import Evaluation
from quarterturn.worker.evaluation.shown import Shown, show
from quarterturn.worker.pages import page as pages
from quarterturn.worker.pages.page import write_page
from quarterturn.worker.pictures.supply import to_add

_WORST = 12  # pictures shown of each kind of mistake
_BEST = 6  # and of the defects that were found
_FARTHEST = 3.0  # thresholds that the histogram shows; parts lying turned may score a hundred
_BINS = 48


@dataclass(frozen=True)
class Bar:
    """One bin of the histogram: its left edge (0 to 1 of the width) and both heights (0 to 1 of the highest bar)."""

    left: float
    good: float
    bad: float


@dataclass(frozen=True)
class Histogram:
    """Scores in thresholds. `threshold` and the ticks' places are 0 to 1 of the width; the last bin holds the rest.

    `highest` is the share of the good parts, or of the bad ones, that the highest bar stands for; the places of
    `shares` are 0 to 1 of that bar.
    """

    highest: float
    shares: Sequence[tuple[float, str]]
    bars: Sequence[Bar]
    bar_width: float
    threshold: float
    ticks: Sequence[tuple[float, str]]


def write_report(evaluation: Evaluation, path: Path, findings: Sequence[Finding] = ()) -> None:
    """Write the report to `path`, whole or not at all; `findings` are what a probe of the same pictures said.

    Raises:
        DataError: the file cannot be written, or a picture cannot be read any more.
    """
    write_page(render(evaluation, findings), path, "--out")


def render(evaluation: Evaluation, findings: Sequence[Finding] = ()) -> str:
    """The report as HTML; needs nothing beside itself, neither scripts nor fonts nor a network.

    Raises:
        DataError: a picture cannot be read any more.
    """
    filters: dict[str, Callable[..., str]] = {
        "percent": percent,
        "between": lambda interval: between(interval).replace("–", "\u2060–\u2060"),  # one word
        "at_most": at_most,
        "figure": lambda value: "–" if value is None else f"{value:.3f}",
    }
    overlooked = sorted((one for one in evaluation.inspected if _is_overlooked(one)), key=lambda one: one.ratio)
    rejected = sorted((one for one in evaluation.inspected if _is_rejected(one)), key=lambda one: -one.ratio)
    found = sorted((one for one in evaluation.inspected if _is_found(one)), key=lambda one: -one.ratio)

    def shown(some: Sequence[Inspected], most: int) -> list[Shown]:
        return [show(one, evaluation.region, evaluation.bit_depth) for one in some[:most]]

    return pages.render(
        Path(__file__).with_name("report.html.j2"),
        filters,
        evaluation=evaluation,
        findings=findings,
        total=evaluation.total,
        products=sorted({one.product for one in evaluation.inspected}),
        promises=_products_by_promise(evaluation.promises),
        kept=kept(evaluation),
        confidence=CONFIDENCE,
        folder_needed=lambda asked: to_add([], pictures_needed(asked), None),
        curve=roc_points(evaluation),
        histogram=histogram(evaluation),
        aupro_limit=LIMIT,
        has_heat=any(one.heat is not None for one in evaluation.inspected),
        has_masks=any(one.masks for one in evaluation.inspected),
        overlooked=shown(overlooked, _WORST),
        overlooked_count=len(overlooked),
        rejected=shown(rejected, _WORST),
        rejected_count=len(rejected),
        found=shown(found, _BEST),
        found_count=len(found),
        made_at=now(),
    )


def roc_points(evaluation: Evaluation) -> list[tuple[float, float]]:
    """(overkill, recall) along the curve; empty where there are only good or only bad parts."""
    good, bad = split_ratios(evaluation.inspected)
    if not len(good) or not len(bad):
        return []
    curve = roc(good, bad)
    return list(zip(curve.overkill.tolist(), curve.recall.tolist(), strict=True))


def histogram(evaluation: Evaluation) -> Histogram | None:
    """The scores of good and of bad parts, as shares of their kind, on one scale; None without pictures."""
    good, bad = split_ratios(evaluation.inspected)
    both = np.concatenate([good, bad])
    if not len(both):
        return None
    # The threshold is always in sight, and one far score does not squeeze all others into a corner.
    low, high = min(float(both.min()), 0.9), min(max(float(np.quantile(both, 0.97)) * 1.05, 1.1), _FARTHEST)
    edges = np.linspace(low, high, _BINS + 1)
    shares = np.stack([_shares(scores, edges) for scores in (good, bad)], axis=1)
    highest = float(shares.max())
    bars = [Bar(n / _BINS, float(up), float(down)) for n, (up, down) in enumerate(shares / highest)]
    ticks = [((value - low) / (high - low), f"{value:g}") for value in _round_values(low, high, 6)]
    marks = [(value / highest, f"{value * 100:g}%") for value in _round_values(0, highest, 3)[1:]]
    return Histogram(highest, marks, bars, 1 / _BINS, (1 - low) / (high - low), ticks)


def _shares(scores: npt.NDArray[np.float64], edges: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    counts = np.histogram(np.minimum(scores, edges[-1]), edges)[0]
    return np.asarray(counts / max(1, len(scores)), np.float64)


def _round_values(low: float, high: float, most: int) -> list[float]:
    """The multiples from `low` to `high` of 1, 2, 5 or 10 times a power of ten, in `most` steps at most."""
    step = (high - low) / most
    power = 10.0 ** np.floor(np.log10(step))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= step)
    return [float(n * step) for n in range(int(np.ceil(low / step)), int(np.floor(high / step)) + 1)]


def _products_by_promise(promises: Mapping[str, Promise]) -> dict[str, list[str]]:
    grouped: dict[str, list[str]] = {}
    for product, promise in promises.items():
        grouped.setdefault(promise.sentence, []).append(product)
    return grouped


def _is_overlooked(one: Inspected) -> bool:
    return not one.is_good and one.alert is None


def _is_rejected(one: Inspected) -> bool:
    return one.is_good and one.alert is not None


def _is_found(one: Inspected) -> bool:
    return not one.is_good and one.alert is not None
