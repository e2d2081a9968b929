"""`quarterturn probe`: does something trivial separate a set's good from its bad pictures?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Column, Table

from quarterturn.worker.contract.errors import DataError, FrameError
from quarterturn.worker.contract.picture import BitDepth
from quarterturn.worker.evaluation.figures import Unreadable
from quarterturn.worker.evaluation.probe.confounders import CONFOUNDERS, Comparison, Traits, compare, read_traits
from quarterturn.worker.evaluation.probe.findings import (
    Finding,
    NearDuplicate,
    on_bad,
    on_near_duplicates,
    on_shift,
)
from quarterturn.worker.pictures.near_duplicates import SIMILARITY, nearest
from quarterturn.worker.pictures.sets import GOOD, good_pictures, test_pictures

OnProgress = Callable[[int, int], object]
Pictures = Mapping[Path, Traits]

_THREADS = 2


@dataclass(frozen=True)
class ProductProbe:
    """What is trivial about one product: bad against good test pictures, good test against training pictures."""

    product: str
    bad: Comparison
    shift: Comparison
    near_duplicates: Sequence[NearDuplicate]

    @property
    def findings(self) -> list[Finding]:
        """The findings on this product, the strongest first."""
        counts = (self.shift.reference, self.bad.reference, self.bad.group)
        near_duplicates = on_near_duplicates(self.near_duplicates, *counts)
        found = [on_bad(self.bad), near_duplicates, on_shift(self.shift)]
        return sorted(found, key=lambda finding: -finding.strength)


@dataclass(frozen=True)
class Probe:
    """The probe of a folder. Pictures that could not be read are left out of all comparisons."""

    products: Sequence[ProductProbe]
    unreadable: Sequence[Unreadable]

    @property
    def findings(self) -> list[Finding]:
        """The findings, the strongest first; one that does not hold for all products names those it holds for."""
        holds: dict[Finding, list[str]] = {}
        for one in self.products:
            for finding in one.findings:
                holds.setdefault(finding, []).append(one.product)
        named = [
            finding
            if len(products) == len(self.products)
            else Finding(finding.strength, f"{', '.join(products)}: {finding.sentence}")
            for finding, products in holds.items()
        ]
        return sorted(named, key=lambda finding: -finding.strength)


def probe(data: Path, *, bit_depth: BitDepth | None = None, on_progress: OnProgress | None = None) -> Probe:
    """Probe a labelled folder; every picture is decoded once; `bit_depth` is that of samples that lie in 16 bits.

    What a product has none of (a part that does not belong on the line has no good pictures) is taken of all products.
    A folder of test pictures alone has no training pictures to compare them with.

    Raises:
        DataError: the folder holds no labelled pictures, or none can be read.
    """
    train, test = good_pictures(data, needed=False), test_pictures(data)
    all_train = [path for paths in train.values() for path in paths]
    all_good = [one.path for one in test if one.defect == GOOD]
    paths = list(dict.fromkeys([*all_train, *(one.path for one in test)]))
    traits, unreadable = _read(paths, bit_depth, on_progress)
    if not traits:
        first = unreadable[0]
        raise DataError(f"none of {len(paths)} pictures can be read; the first, {first.path}: {first.reason}")
    products = []
    for product in sorted({one.product for one in test}):
        good = [one.path for one in test if one.product == product and one.defect == GOOD]
        bad = [one.path for one in test if one.product == product and one.defect != GOOD]
        groups = (train.get(product, all_train), good or all_good, bad)
        products.append(_probe_product(product, *({p: traits[p] for p in group if p in traits} for group in groups)))
    return Probe(products, unreadable)


def confounder_table(probed: ProductProbe) -> Table:
    """The confounders of one product for a terminal."""
    columns = (
        Column("good/bad", justify="right", no_wrap=True),
        Column("bad ones are"),
        Column("train/test", justify="right", no_wrap=True),
        Column("test ones are"),
    )
    train, good, bad = probed.shift.reference, probed.bad.reference, probed.bad.group
    result = Table(
        Column("AUROC of", no_wrap=True),
        *columns,
        title=f"{probed.product}: {good} good and {bad} bad to test, {train} good to train",
        title_justify="left",
        box=SIMPLE_HEAD,
        collapse_padding=True,
        pad_edge=False,
    )
    for confounder in CONFOUNDERS:
        result.add_row(confounder, *_cells(confounder, probed.bad), *_cells(confounder, probed.shift))
    return result


def probe_sentences(found: Probe) -> list[str]:
    """The findings in words, the strongest first, then the pictures that were left out."""
    return [finding.sentence for finding in found.findings] + [
        f"{one.path}: not probed: {one.reason}" for one in found.unreadable
    ]


def probe_json(found: Probe) -> dict[str, Any]:
    """All figures, for `json.dumps`."""
    return {
        "findings": [{"strength": one.strength.name.lower(), "sentence": one.sentence} for one in found.findings],
        "products": [
            {
                "product": one.product,
                "bad": _comparison_json(one.bad),
                "shift": _comparison_json(one.shift),
                "near_duplicates": [
                    {**asdict(pair), "test": str(pair.test), "train": str(pair.train)} for pair in one.near_duplicates
                ],
            }
            for one in found.products
        ],
        "unreadable": [{"path": str(one.path), "reason": one.reason} for one in found.unreadable],
    }


def _read(
    files: Sequence[Path], bit_depth: BitDepth | None, on_progress: OnProgress | None
) -> tuple[dict[Path, Traits], list[Unreadable]]:
    traits, unreadable, read = {}, [], partial(_try_traits, bit_depth=bit_depth)
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="decode") as pool:
        for done, (path, result) in enumerate(zip(files, pool.map(read, files), strict=True), 1):
            if isinstance(result, Traits):
                traits[path] = result
            else:
                unreadable.append(Unreadable(path, str(result)))
            if on_progress:
                on_progress(done, len(files))
    return traits, unreadable


def _try_traits(path: Path, bit_depth: BitDepth | None) -> Traits | FrameError:
    try:
        return read_traits(path, bit_depth)
    except FrameError as error:
        return error


def _probe_product(product: str, train: Pictures, good: Pictures, bad: Pictures) -> ProductProbe:
    return ProductProbe(
        product,
        bad=compare(list(good.values()), list(bad.values())),
        shift=compare(list(train.values()), list(good.values())),
        near_duplicates=_near_duplicates(train, good, bad),
    )


def _near_duplicates(train: Pictures, good: Pictures, bad: Pictures) -> list[NearDuplicate]:
    """The near-duplicates of good and bad test pictures in training, the nearest first."""
    known, test = list(train), [*good, *bad]
    if not known or not test:
        return []
    similarities, indices = nearest(
        [traits.thumbnail for traits in train.values()],
        [traits.thumbnail for traits in (*good.values(), *bad.values())],
    )
    near_duplicates = [
        NearDuplicate(path, known[index], float(similarity), is_good=path in good)
        for path, index, similarity in zip(test, indices, similarities, strict=True)
        if similarity >= SIMILARITY
    ]
    return sorted(near_duplicates, key=lambda pair: -pair.similarity)


def _cells(confounder: str, compared: Comparison) -> tuple[str, str]:
    found = next((one for one in compared.confounders if one.confounder == confounder), None)
    if found is None:
        return "–", ""
    return f"{found.auroc:.2f}", found.how if found.auroc >= compared.bound else ""


def _comparison_json(compared: Comparison) -> dict[str, Any]:
    return {
        "reference": compared.reference,
        "group": compared.group,
        "bound": compared.bound,
        "confounders": [asdict(one) for one in compared.confounders],
    }
