"""What banks cost: fitting and swapping, and scoring by how many products a bank holds.

    python -m benchmarks.banks --engine out/demo/engine --bank out/demo/line.bank

Without the engine. Fitting takes random embeddings, on which its speed does not depend; what is scored is made to look
like good parts of the bank's first product, for what a frame costs that may show any depends on how it looks.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.figures import Figure, table
from quarterturn.worker.contract.arrays import Array
from quarterturn.worker.contract.bank import Bank, read_bank
from quarterturn.worker.contract.detectors import LEARNED, Coreset, samples_of, supported
from quarterturn.worker.contract.embeddings import FRAME, LOGITS, Embeddings
from quarterturn.worker.contract.framing import WHOLE
from quarterturn.worker.contract.gaussians import Gaussian
from quarterturn.worker.contract.manifest import EmbeddingSpec
from quarterturn.worker.engine.base import open_folder
from quarterturn.worker.fitting.bank_file import read_bank_file
from quarterturn.worker.fitting.normal import NormalFit
from quarterturn.worker.inspection.judge import Judge
from quarterturn.worker.inspection.scorer import Scorer
from quarterturn.worker.runtime.memory import keep_freed_memory

PART = "bank"
PRODUCTS = (1, 10, 100)
PICTURES = (100, 1_000, 10_000, 100_000)
_BATCH = 8
_ROUNDS = 5


def main() -> None:
    keep_freed_memory()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--engine", type=Path, required=True)
    parser.add_argument("--bank", type=Path, required=True, help="made by that engine")
    arguments = parser.parse_args()
    print(table(measure(arguments.engine, arguments.bank)), end="")


def measure(engine: Path, bank: Path) -> list[Figure]:
    """All figures of this part."""
    spec, held = open_folder(engine, "openvino").manifest.spec, read_bank_file(bank)
    return [*fitting(spec), *swapping(held), *scoring(held)]


def fitting(spec: EmbeddingSpec) -> list[Figure]:
    """Seconds from embeddings to what good parts look like, by how many pictures there are."""
    embeddings = random_embeddings(spec, _BATCH)
    figures = []
    for pictures in PICTURES:

        def fit(pictures: int = pictures) -> None:
            fitted = NormalFit(spec, pictures, coreset=1000)
            for _ in range(pictures // _BATCH):
                fitted.add(embeddings, [WHOLE] * _BATCH)
            fitted.build()

        figures.append(Figure(PART, f"fit from embeddings of {pictures:,} pictures", seconds(fit, 1), "s", "less"))
    return figures


def swapping(bank: Bank) -> list[Figure]:
    """From a blob to a bank in service."""
    blob, version = bank.blob, bank.version

    def swap() -> None:
        read = read_bank(blob, "memory", version)
        Scorer(read)
        Judge.of(read, 0.5, {})

    return [Figure(PART, "from blob to service", tuple(1000 * s for s in seconds(swap)), "ms", "less")]


def scoring(bank: Bank) -> list[Figure]:
    """Milliseconds a frame whose product is declared, by how many products the bank holds, and where none is."""
    embeddings = good_parts(bank, _BATCH)
    figures = []
    for count in PRODUCTS:
        many = of_many(bank, count)
        scorer = Scorer(many, Judge.of(many, many.manifest.overkill, {}).undecided)
        for declared, allowed in (("declared", [(0,)] * _BATCH), ("any", None)):
            values = seconds(lambda s=scorer, a=allowed: s.score(embeddings, [WHOLE] * _BATCH, a))  # type: ignore[misc]
            per_frame = tuple(1000 * value / _BATCH for value in values)
            figures.append(
                Figure(PART, f"scoring, {count} products, product {declared}", per_frame, "ms/frame", "less")
            )
    return figures


def of_many(bank: Bank, count: int) -> Bank:
    """The bank's first product, so many times, each in memory of its own; all but the first look like nothing else."""
    many, rng = bank.of_products([0] * count), np.random.default_rng(0)
    names = tuple(f"product-{n}" for n in range(count))
    normals = [{name: _copy(model) for name, model in normal.items()} for normal in many.normals]
    for normal in normals[1:]:
        whole = normal[FRAME]
        if isinstance(whole, Gaussian):
            normal[FRAME] = replace(whole, mean=_unit(rng.standard_normal(whole.mean.shape, np.float32)))
    return replace(many, manifest=many.manifest.model_copy(update={"products": names}), normals=tuple(normals))


def _copy(model: Gaussian | Coreset) -> Gaussian | Coreset:
    if isinstance(model, Coreset):
        return Coreset(model.members, model.origins)
    return Gaussian(model.mean.copy(), tuple(block.copy() for block in model.blocks))


def good_parts(bank: Bank, count: int) -> Embeddings:
    """Frames that are as far from the bank's first product as its good parts are, by every detector."""
    rng = np.random.default_rng(0)
    found = random_embeddings(bank.manifest.spec, count)
    usual = dict(zip(bank.manifest.detectors, bank.scales[0, :, 0], strict=True))
    if LEARNED in usual:
        found[LOGITS][:] = usual[LEARNED] - 20
    # In the order of the detectors, not of the file, which is by chance: two of them share the deepest depth.
    for detector in (one for one in supported(bank.manifest.spec) if one in bank.normals[0]):
        model, samples = bank.normals[0][detector], samples_of(detector, found)  # (N, V, P, D), looks into `found`
        views, places = samples.shape[1:3]
        away = usual.get(detector, 1) * _unit(rng.standard_normal(samples.shape, np.float32))
        if isinstance(model, Coreset):
            chosen = rng.integers(model.members.shape[1], size=(count, places))
            samples[:] = np.moveaxis(model.members[:, chosen], 0, 1) + away
        else:
            samples[:] = model.mean[:views] + np.linalg.solve(model.whitening[:views], away[..., np.newaxis])[..., 0]
    return found


def random_embeddings(spec: EmbeddingSpec, count: int) -> Embeddings:
    """Numbers of the right shapes; frame embeddings of unit length."""
    rng = np.random.default_rng(0)
    found: dict[str, Array] = {
        name: rng.standard_normal((count, *shape), np.float32) for name, shape in spec.outputs.items()
    }
    return {**found, FRAME: _unit(found[FRAME])}


def _unit(vectors: Array) -> Array:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def seconds(work: Callable[[], object], rounds: int = _ROUNDS) -> tuple[float, ...]:
    """How long each of some runs takes, after one that warms up."""
    if rounds > 1:
        work()
    taken = []
    for _ in range(rounds):
        started_s = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started_s)
    return tuple(taken)


if __name__ == "__main__":
    main()
