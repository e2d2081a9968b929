"""What a frame costs as there are more frames, products and hours: counted in multiplications, calls and bytes."""

from __future__ import annotations

import gc
import sys
import threading
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import quarterturn.worker.inspection.scorer
import quarterturn.worker.inspection.search
from quarterturn.worker.contract.arrays import Array
from quarterturn.worker.contract.bank import Bank
from quarterturn.worker.contract.detectors import (
    Coreset,
    Normal,
    closeness,
    distances,
    from_products,
    samples_of,
    supported,
)
from quarterturn.worker.contract.embeddings import Embeddings
from quarterturn.worker.contract.framing import WHOLE, Framing
from quarterturn.worker.contract.gaussians import Gaussian
from quarterturn.worker.contract.manifest import Depth, EmbeddingSpec
from quarterturn.worker.inspection import heatmap
from quarterturn.worker.inspection.inspector import Inspector
from quarterturn.worker.inspection.judge import Judge
from quarterturn.worker.inspection.scorer import Scorer
from quarterturn.worker.inspection.scoring import read
from quarterturn.worker.messages.events import Outcome
from quarterturn.worker.messages.frames import Frame
from quarterturn.worker.runtime.health import Health
from quarterturn.worker.runtime.service import Service
from quarterturn.worker.settings.worker import BatchSettings
from tests.parts import NumpyPlacesEngine, bank_of, frame, good_part, png, unmeasured
from tests.worker.inspection.embeddings import bank_from

SPEC = EmbeddingSpec(
    framing=Framing(side=256),
    views=4,
    frame=64,
    places={"middle": Depth(grid=16, dimensions=112), "deep": Depth(grid=8, dimensions=128)},
    logits=32,
)
"""That of the default network."""
MEMBERS = 1000
DECLARED, ANY = (0,), None


def standing_apart(products: int) -> tuple[Bank, Embeddings]:
    """Products whose frames as a whole are far from each other, and a good part of the first.

    What is known of their places is the same, in the same memory.
    """
    rng = np.random.default_rng(0)
    part = {name: rng.standard_normal((1, *shape), np.float32) for name, shape in SPEC.outputs.items()}
    places = part["places.deep"][0]
    origins = np.zeros((4, MEMBERS, 4), np.intp)
    known: Normal = {
        "nearest.middle": Coreset(rng.standard_normal((4, MEMBERS, 112), np.float32), origins),
        "nearest.deep": Coreset(rng.standard_normal((4, MEMBERS, 128), np.float32), origins),
        "position": Gaussian.of(places + 1, np.broadcast_to(np.eye(128, dtype=np.float32), (4, 64, 128, 128))),
    }
    normals: list[Normal] = []
    for c in range(products):
        mean = part["frame"][0] + (1 if c == 0 else 100 * rng.standard_normal((4, 64)))
        whitening = np.broadcast_to(np.eye(64, dtype=np.float32), (4, 1, 64, 64))
        normals.append({"frame": Gaussian.of(mean[:, np.newaxis].astype(np.float32), whitening), **known})
    bank = bank_from(normals, supported(SPEC), SPEC)
    (reading,) = read(part, [WHOLE], normals[:1], bank.manifest.scoring, supported(SPEC))
    scales = np.tile(np.stack([reading.raw[0], reading.raw[0] / 10], axis=-1), (products, 1, 1))
    some = unmeasured(np.linspace(0.1, 1, 20), np.ones(20), np.ones(20))
    return replace(bank, scales=scales.astype(np.float32), calibration=(some,) * products), part


def whole_way(bank: Bank, part: Embeddings, frames: int, allowed: Sequence[int] | None) -> Callable[[], None]:
    """Score and judge a batch, and draw its heat maps."""
    judge = Judge.of(bank, 0.1, {})
    scorer = Scorer(bank, judge.undecided)
    embeddings = {name: np.repeat(values, frames, axis=0) for name, values in part.items()}

    def work() -> None:
        for scored in scorer.score(embeddings, [WHOLE] * frames, None if allowed is None else [allowed] * frames):
            judgement = judge.judge(scored)
            assert (judgement.product, judgement.alert) == ("product 0", None)
            heatmap.encode(scorer.heat_map(scored, judgement.product, judgement.threshold))

    work()  # what is made once for a bank
    return work


class Multiplications:
    """Of comparing places, and of the frames as a whole."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        monkeypatch.setattr(quarterturn.worker.inspection.search, "distances", self._distances)
        monkeypatch.setattr(quarterturn.worker.inspection.search, "closeness", self._closeness)
        monkeypatch.setattr(quarterturn.worker.inspection.scorer, "from_products", self._from_products)

    def of(self, work: Callable[[], None]) -> int:
        self.count = 0
        work()
        return self.count

    def _distances(self, detector: str, embeddings: Embeddings, normal: Normal) -> Array:
        samples = samples_of(detector, embeddings)
        self.count += samples.size * samples.shape[-1]
        return distances(detector, embeddings, normal)

    def _closeness(self, samples: Array, lifted: Array) -> Array:
        self.count += samples.size * lifted.shape[1]
        return closeness(samples, lifted)

    def _from_products(self, embeddings: Array, gaussians: Gaussian) -> Array:
        self.count += len(gaussians.mean) * embeddings.size * embeddings.shape[-1]
        return from_products(embeddings, gaussians)


def calls_of(work: Callable[[], None]) -> int:
    """How many functions it calls, Python's and C's."""
    count = 0

    def note(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def peak_of(work: Callable[[], None]) -> int:
    """The most bytes that it holds at once."""
    gc.collect()
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("allowed", [DECLARED, ANY], ids=["declared", "any"])
def test_cost_is_linear_in_frames(allowed: Sequence[int] | None, monkeypatch: pytest.MonkeyPatch) -> None:
    bank, part = standing_apart(10)
    two, four, eight = (whole_way(bank, part, frames, allowed) for frames in (2, 4, 8))
    for cost in (calls_of, peak_of):
        assert cost(eight) - cost(four) <= 2.1 * (cost(four) - cost(two))
        assert cost(eight) <= 4 * cost(two)
    multiplications = Multiplications(monkeypatch)
    assert multiplications.of(eight) == 2 * multiplications.of(four) == 4 * multiplications.of(two) > 0


@pytest.mark.parametrize("allowed", [DECLARED, ANY], ids=["declared", "any"])
def test_a_hundred_products_cost_a_tenth_more_than_one(
    allowed: Sequence[int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the frame says which it shows; and where it may show any, if it plainly looks like one as a whole."""
    one, ten, hundred = (whole_way(*standing_apart(products), 8, allowed) for products in (1, 10, 100))
    assert calls_of(ten) <= 1.1 * calls_of(one)
    assert calls_of(hundred) <= 1.1 * calls_of(one)
    assert peak_of(hundred) <= 1.1 * peak_of(one)
    multiplications = Multiplications(monkeypatch)
    assert multiplications.of(ten) <= 1.01 * multiplications.of(one)
    assert multiplications.of(hundred) <= 1.1 * multiplications.of(one)


EARLY = 300  # batches: of each camera the last 256 frames are remembered, and what tells drift has filled up


class Belt:
    """A transport of so many batches that keeps none, and notes what is held after some, early and late."""

    def __init__(self, pictures: Sequence[bytes], batches: int) -> None:
        self._pictures, self._batches = pictures, batches
        self.polled = 0
        self.delivered = 0
        self.early: list[int] = []
        self.late: list[int] = []

    @property
    def exhausted(self) -> bool:
        return self.polled == self._batches

    def poll(self, max_frames: int, timeout_s: float) -> list[Frame]:
        if self.exhausted:
            return []
        self.polled += 1
        return [frame(self._pictures[self.polled % len(self._pictures)], self.polled)]

    def deliver(self, outcomes: Sequence[Outcome]) -> None:
        self.delivered += len(outcomes)
        early = EARLY <= self.delivered < EARLY + 10
        if early or self.delivered > self._batches - 10:
            gc.collect()
            held = self.early if early else self.late
            held.append(tracemalloc.get_traced_memory()[0])

    def close(self) -> None: ...


class QuickEngine(NumpyPlacesEngine):
    """Sees a picture once, and remembers what it saw."""

    def __init__(self) -> None:
        super().__init__(logits=True)
        self._seen: dict[bytes, Embeddings] = {}

    def embed(self, frames: npt.NDArray[np.uint8]) -> Embeddings:
        key = frames.tobytes()
        if key not in self._seen:
            self._seen[key] = super().embed(frames)
        return {name: values.copy() for name, values in self._seen[key].items()}


def test_a_service_holds_as_much_after_a_thousand_batches_as_after_three_hundred() -> None:
    rng = np.random.default_rng(0)
    engine = QuickEngine()
    inspector = Inspector(engine, "line-1", overkill=0.02)
    inspector.use(bank_of(engine, ("ring", "bracket"), count=60))
    belt = Belt([png(good_part(rng, product)) for product in ("ring", "bracket") * 3], 1000)
    tracemalloc.start()
    try:
        Service(belt, inspector, Health(), BatchSettings()).run(threading.Event())
    finally:
        tracemalloc.stop()
        inspector.close()
    assert belt.delivered == 1000
    # The least of ten each, as another batch is in the engine meanwhile. Python itself keeps up to some 50 kB of small
    # objects for later; a heat map kept of each batch would be 500 kB.
    assert min(belt.late) - min(belt.early) < 100_000
