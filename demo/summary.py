"""What the demo shows at its end: the streamed verdicts beside the truth, and what training was good for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import get_args

import rich.box
from rich.console import Console
from rich.table import Column, Table

from quarterturn.demo.stream import WRONG_PRODUCT, Result
from quarterturn.worker.contract.bank import Bank
from quarterturn.worker.contract.calibration import promises
from quarterturn.worker.evaluation.choice import choices
from quarterturn.worker.evaluation.figures import Inspected
from quarterturn.worker.evaluation.kept import kept
from quarterturn.worker.evaluation.ran import what_was_run
from quarterturn.worker.evaluation.result import Evaluation, Swapped
from quarterturn.worker.inspection.heatmap import decode
from quarterturn.worker.messages.events import AlertKind
from quarterturn.worker.pictures.sets import GOOD, TestPicture

_KINDS: tuple[AlertKind, ...] = get_args(AlertKind)


def streamed_evaluation(
    results: Sequence[Result], truth: Mapping[str, TestPicture], bank: Bank, overkill: float
) -> Evaluation:
    """The evaluation of streamed verdicts; parts under the wrong camera are counted apart, as swapped.

    Heat maps are as they travelled, in 8 bits and up to four thresholds, so nothing is measured on them.
    """
    verdicts = [(truth[result["partId"]], result) for result in results if "score" in result]
    swapped = [result["alert"] for part, result in verdicts if part.defect == WRONG_PRODUCT]
    inspected = [_inspected(part, result) for part, result in verdicts if part.defect != WRONG_PRODUCT]
    return Evaluation(
        engine=bank.manifest.engine,
        target=bank.manifest.target,
        bank=bank.version,
        overkill=overkill,
        promises=promises(bank, overkill, {}),
        inspected=inspected,
        unreadable=[],
        swapped=Swapped(
            parts=len(swapped),
            alerted=sum(alert is not None for alert in swapped) / len(swapped),
            named=swapped.count("wrong_product") / len(swapped),
        )
        if swapped
        else None,
        choices=choices(bank, inspected, overkill),
        ran=what_was_run(bank, overkill, data=None, thresholds={}, region=None),
    )


def print_summary(
    console: Console,
    evaluation: Evaluation,
    results: Sequence[Result],
    truth: Mapping[str, TestPicture],
    raw: Evaluation | None,
) -> None:
    """The table of verdicts by truth, then the figures in words."""
    console.print(_verdict_table(results, truth))
    total = evaluation.total
    console.print(f"AUROC {_figure(total.auroc)}", end="")
    if raw is not None:
        console.print(f" (of the raw backbone: {_figure(raw.total.auroc)})", end="")
    if total.overkill is not None and total.escape is not None:
        console.print(f"; overkill {total.overkill:.1%}, escape {total.escape:.1%} at the threshold")
    for product, promise in evaluation.promises.items():
        console.print(f"{product}: {promise.sentence}")
    for one in kept(evaluation):
        console.print(f"{one.product}: {one.sentence}")


def _verdict_table(results: Sequence[Result], truth: Mapping[str, TestPicture]) -> Table:
    counts: dict[tuple[str, str], Counter[str | None]] = {}
    for result in results:
        part = truth[result["partId"]] if "score" in result else None
        row = (part.product, part.defect) if part else ("", "dead letter")
        counts.setdefault(row, Counter())[result.get("alert")] += 1
    numbers = ("frames", "pass", *(kind.replace("_", "\n") for kind in _KINDS), "alerts")
    columns = [Column(name, justify="right", vertical="bottom") for name in numbers]
    names = (Column("product", vertical="bottom"), Column("truth", vertical="bottom"))
    table = Table(*names, *columns, box=rich.box.SIMPLE, padding=0, pad_edge=False)
    for (product, defect), kinds in sorted(counts.items(), key=lambda item: (item[0][0], item[0][1] != GOOD, item[0])):
        frames = sum(kinds.values())
        cells = (str(kinds[kind] or "·") for kind in (None, *_KINDS))
        share = f"{1 - kinds[None] / frames:.0%}"
        table.add_row(product, defect, str(frames), *cells, share, style="bold" if defect == GOOD else None)
    return table


def _inspected(part: TestPicture, result: Result) -> Inspected:
    return Inspected(
        path=part.path,
        product=part.product,
        defect=part.defect,
        score=result["score"],
        threshold=result["threshold"],
        alert=result["alert"],
        nearest=result["predictedProduct"],
        heat=decode(result["heatMap"]) if result["heatMap"] else None,
    )


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
