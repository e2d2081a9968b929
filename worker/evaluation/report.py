"""The evaluation as one self-contained HTML page: figures, curves, and the pictures that say most."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import jinja2
import numpy as np
import numpy.typing as npt

from quarterturn.worker.contract.arrays import Picture
from quarterturn.worker.contract.decode import decode_picture
from quarterturn.worker.contract.errors import DataError
from quarterturn.worker.contract.framing import resize
from quarterturn.worker.contract.preprocess import crop
from quarterturn.worker.contract.times import now
from quarterturn.worker.evaluation.figures import Evaluation, Inspected, percent, roc, split_ratios
from quarterturn.worker.evaluation.localisation import LIMIT
from quarterturn.worker.evaluation.probe.findings import Finding
from quarterturn.worker.inspection.heatmap import overlay

_WORST = 12  # pictures shown of each kind of mistake
_BEST = 6  # and of the defects that were found
_THUMBNAIL_PX = 320  # the longer side; twice its size on the page, for fine screens
_FARTHEST = 3.0  # thresholds that the histogram shows; parts lying turned may score a hundred
_BINS = 48


@dataclass(frozen=True)
class Bar:
    """One bin of the histogram: its left edge (0 to 1 of the width) and both heights (0 to 1 of the highest)."""

    left: float
    good: float
    bad: float


@dataclass(frozen=True)
class Histogram:
    """Scores in thresholds. `threshold` and the ticks' places are 0 to 1 of the width; the last bin holds the rest."""

    bars: Sequence[Bar]
    bar_width: float
    threshold: float
    ticks: Sequence[tuple[float, str]]


@dataclass(frozen=True)
class Shown:
    """A picture with a small copy of it as a data URI, and one under its heat map (None without)."""

    inspected: Inspected
    thumbnail: str
    heated: str | None
    width: int
    height: int


def write_report(evaluation: Evaluation, path: Path, findings: Sequence[Finding] = ()) -> None:
    """Write the report to `path`; `findings` are what a probe of the same pictures said.

    Raises:
        DataError: the file cannot be written, or a picture cannot be read any more.
    """
    page = render(evaluation, findings)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror}); choose another --out") from error


def render(evaluation: Evaluation, findings: Sequence[Finding] = ()) -> str:
    """The report as HTML; needs nothing beside itself, neither scripts nor fonts nor a network.

    Raises:
        DataError: a picture cannot be read any more.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = percent
    environment.filters["figure"] = lambda value: "–" if value is None else f"{value:.3f}"
    overlooked = sorted((one for one in evaluation.inspected if _is_overlooked(one)), key=lambda one: one.ratio)
    rejected = sorted((one for one in evaluation.inspected if _is_rejected(one)), key=lambda one: -one.ratio)
    found = sorted((one for one in evaluation.inspected if _is_found(one)), key=lambda one: -one.ratio)

    def shown(some: Sequence[Inspected], most: int) -> list[Shown]:
        return [_shown(one, evaluation) for one in some[:most]]

    return environment.get_template("report.html.j2").render(
        evaluation=evaluation,
        findings=findings,
        total=evaluation.total,
        products=sorted({one.product for one in evaluation.inspected}),
        promises=_products_by_promise(evaluation.promises),
        curve=roc_points(evaluation),
        histogram=histogram(evaluation),
        aupro_limit=LIMIT,
        has_heat=any(one.heat is not None for one in evaluation.inspected),
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
    """The scores of good and of bad parts, each relative to its own highest bin; None without pictures."""
    good, bad = split_ratios(evaluation.inspected)
    both = np.concatenate([good, bad])
    if not len(both):
        return None
    # The threshold is always in sight, and one far score does not squeeze all others into a corner.
    low, high = min(float(both.min()), 0.9), min(max(float(np.quantile(both, 0.97)) * 1.05, 1.1), _FARTHEST)
    edges = np.linspace(low, high, _BINS + 1)
    heights = [_heights(scores, edges) for scores in (good, bad)]
    bars = [Bar(n / _BINS, float(up), float(down)) for n, (up, down) in enumerate(zip(*heights, strict=True))]
    step = _round_step((high - low) / 6)
    ticks = [
        ((value - low) / (high - low), f"{value:g}") for value in np.arange(np.ceil(low / step), high / step) * step
    ]
    return Histogram(bars, 1 / _BINS, (1 - low) / (high - low), ticks)


def _heights(scores: npt.NDArray[np.float64], edges: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    counts = np.histogram(np.minimum(scores, edges[-1]), edges)[0]
    return np.asarray(counts / max(1, counts.max()), np.float64)


def _round_step(step: float) -> float:
    """The next larger of 1, 2, 5, 10, ... times a power of ten."""
    power = 10.0 ** np.floor(np.log10(step))
    return float(next(power * factor for factor in (1, 2, 5, 10) if power * factor >= step))


def _products_by_promise(promises: Mapping[str, str]) -> dict[str, list[str]]:
    grouped: dict[str, list[str]] = {}
    for product, sentence in promises.items():
        grouped.setdefault(sentence, []).append(product)
    return grouped


def _is_overlooked(one: Inspected) -> bool:
    return not one.is_good and one.alert is None


def _is_rejected(one: Inspected) -> bool:
    return one.is_good and one.alert is not None


def _is_found(one: Inspected) -> bool:
    return not one.is_good and one.alert is not None


def _shown(one: Inspected, evaluation: Evaluation) -> Shown:
    try:
        picture = crop(decode_picture(one.path.read_bytes(), bit_depth=evaluation.bit_depth), evaluation.region)
    except OSError as error:
        raise DataError(f"{one.path}: cannot be read any more ({error.strerror}); evaluate again") from error
    height, width = picture.shape[:2]
    scale = min(1.0, _THUMBNAIL_PX / max(height, width))
    small = resize(picture, max(1, round(height * scale)), max(1, round(width * scale)))
    heated = None if one.heat is None else _data_uri(overlay(small, one.heat))
    return Shown(one, _data_uri(small), heated, small.shape[1], small.shape[0])


def _data_uri(picture: Picture) -> str:
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 82])[1].tobytes()
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode('ascii')}"
