"""What banks cost: fitting and swapping, and scoring by how many products a bank holds.

    python -m benchmarks.banks --engine out/demo/engine --bank out/demo/line.bank --data out/demo/parts

Fitting takes random embeddings, on which its speed does not depend; what is scored are good parts of the bank's first
product, which it has not seen, for what a frame costs depends on how it looks.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.figures import Figure, table
from quarterturn.worker.contract.arrays import Array
from quarterturn.worker.contract.bank import Bank, read_bank
from quarterturn.worker.contract.detectors import Coreset
from quarterturn.worker.contract.embeddings import FRAME, Embeddings
from quarterturn.worker.contract.framing import WHOLE
from quarterturn.worker.contract.gaussians import Gaussian
from quarterturn.worker.contract.manifest import EmbeddingSpec
from quarterturn.worker.fitting.bank_file import read_bank_file
from quarterturn.worker.fitting.embedder import Embedder
from quarterturn.worker.fitting.normal import NormalFit
from quarterturn.worker.inspection.judge import Judge
from quarterturn.worker.inspection.scorer import Scorer
from quarterturn.worker.pictures.folder_names import GOOD
from quarterturn.worker.pictures.sets import test_pictures
from quarterturn.worker.runtime.assemble import open_engine
from quarterturn.worker.runtime.memory import keep_freed_memory
from quarterturn.worker.settings.worker import EngineSettings

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
    parser.add_argument("--data", type=Path, required=True, help="labelled pictures of its parts")
    arguments = parser.parse_args()
    print(table(measure(arguments.engine, arguments.bank, arguments.data)), end="")


def measure(engine: Path, bank: Path, data: Path) -> list[Figure]:
    """All figures of this part."""
    held = read_bank_file(bank)
    return [*fitting(held.manifest.spec), *swapping(held), *scoring(held, good_parts(engine, held, data))]


def good_parts(engine: Path, bank: Bank, data: Path) -> Embeddings:
    """A batch of the test's good pictures of the bank's first product."""
    paths = [one.path for one in test_pictures(data) if (one.product, one.defect) == (bank.products[0], GOOD)]
    with closing(open_engine(EngineSettings(path=engine))) as opened:
        embedder = Embedder(opened.spec, opened.embed)
        ((embeddings, _),) = embedder.embed(embedder.read(paths[:_BATCH]))
    return embeddings


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


def scoring(bank: Bank, embeddings: Embeddings) -> list[Figure]:
    """Milliseconds a frame whose product is declared, by how many products the bank holds, and where none is."""
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
