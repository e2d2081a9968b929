"""An evaluation in words and figures: as a table, as sentences, as JSON. The report shows the same as a page."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Column, Table

from quarterturn.worker.evaluation import localisation
from quarterturn.worker.evaluation.figures import OVERKILLS, Figures, Inspected, between, percent
from quarterturn.worker.evaluation.kept import Kept, kept
from quarterturn.worker.evaluation.result import Evaluation


def table(evaluation: Evaluation) -> Table:
    """The figures for a terminal: all pictures, each product where there are several, each defect type.

    Below overkill and escape stands between what the true ones lie, with 95% confidence.
    """
    names = ("good", "bad", "AUROC", "AP", "overkill", "escape", *(f"R@{overkill:.0%}" for overkill in OVERKILLS))
    columns = (Column(name, justify="right", no_wrap=True) for name in names)
    result = Table("", *columns, box=SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
    result.add_row("all", *_cells(evaluation.total), style="bold")
    if len(evaluation.by_product) > 1:
        for product, figures in evaluation.by_product.items():
            result.add_row(product, *_cells(figures))
    result.add_section()
    for (product, defect), figures in evaluation.by_defect.items():
        result.add_row(f"{product} {defect}" if len(evaluation.by_product) > 1 else defect, *_cells(figures))
    return result


def sentences(evaluation: Evaluation) -> list[str]:
    """What the table leaves out: warnings, promises and what became of them, heat maps, wrong products, bad files."""
    said = [f"warning: {sentence}" for sentence in evaluation.warnings]
    said += [f"{product}: {promise.sentence}" for product, promise in evaluation.promises.items()]
    said += [f"{one.product}: {one.sentence}" for one in kept(evaluation)]
    if (found := evaluation.localisation) is not None:
        said.append(
            f"where: in {percent(found.peak_in_mask)} of {found.masks} bad pictures with masks, the heat map's peak "
            f"lies in the mask; pixel AUROC {_figure(found.pixel_auroc)}, "
            f"AUPRO up to {localisation.LIMIT:.0%} false positives {_figure(found.aupro)}"
        )
    if (swapped := evaluation.swapped) is not None:
        said.append(
            f"of {swapped.parts} good parts declared as another product, {swapped.alerted:.1%} raised an alert "
            f"({swapped.named:.1%} wrong_product)"
        )
    said += [f"masks: {fault}" for fault in evaluation.mask_faults]
    return said + [f"{one.path}: not inspected: {one.reason}" for one in evaluation.unreadable]


def to_json(evaluation: Evaluation) -> dict[str, Any]:
    """The figures and every verdict, for `json.dumps`."""
    return {
        "engine": evaluation.engine,
        "target": evaluation.target,
        "bank": evaluation.bank,
        "overkill": evaluation.overkill,
        "ran": dict(evaluation.ran),
        "promises": {
            product: {**asdict(promise), "sentence": promise.sentence}
            for product, promise in evaluation.promises.items()
        },
        "choices": [asdict(choice) for choice in evaluation.choices],
        "kept": [_kept_json(one) for one in kept(evaluation)],
        "total": asdict(evaluation.total),
        "products": {product: asdict(figures) for product, figures in evaluation.by_product.items()},
        "defects": [
            {"product": product, "defect": defect, **asdict(figures)}
            for (product, defect), figures in evaluation.by_defect.items()
        ],
        "localisation": asdict(evaluation.localisation) if evaluation.localisation else None,
        "warnings": list(evaluation.warnings),
        "mask_faults": list(evaluation.mask_faults),
        "swapped": asdict(evaluation.swapped) if evaluation.swapped else None,
        "pictures": [_picture_json(one) for one in evaluation.inspected],
        "unreadable": [{"path": str(one.path), "reason": one.reason} for one in evaluation.unreadable],
    }


def _picture_json(one: Inspected) -> dict[str, Any]:
    everything = {field.name: getattr(one, field.name) for field in fields(one) if field.name != "heat"}
    return {**everything, "path": str(one.path), "masks": [str(path) for path in one.masks]}


def _kept_json(one: Kept) -> dict[str, Any]:
    counts = {"product": one.product, "good": one.good, "rejected": one.rejected, "most_by_chance": one.most}
    return {**counts, "within_chance": one.within_chance, "sentence": one.sentence}


def _cells(figures: Figures) -> list[str]:
    ranking = [figures.auroc, figures.average_precision]
    return [
        str(figures.good),
        str(figures.bad),
        *(_figure(value) for value in ranking),
        f"{percent(figures.overkill)}\n{between(figures.overkill_between)}",
        f"{percent(figures.escape)}\n{between(figures.escape_between)}",
        *(percent(value) for value in figures.recall_at.values()),
    ]


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
