"""From frames to outcomes, without I/O: the same object serves the worker, offline evaluation and replay."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from quarterturn.worker.contract.arrays import Frames
from quarterturn.worker.contract.bank import Bank, require_same_engine
from quarterturn.worker.contract.embeddings import Embeddings
from quarterturn.worker.contract.errors import ConfigError, FrameError
from quarterturn.worker.contract.manifest import short
from quarterturn.worker.contract.usual import Measures, quantities
from quarterturn.worker.engine.base import Engine
from quarterturn.worker.inspection.judge import Judge, Judgement
from quarterturn.worker.inspection.look import Look, look_at
from quarterturn.worker.inspection.outcomes import Decided, Outcomes
from quarterturn.worker.inspection.repeats import Repeats
from quarterturn.worker.inspection.scorer import Scored, Scorer
from quarterturn.worker.messages.events import DeadLetter, Late, Outcome, ProcessingTimes
from quarterturn.worker.messages.frames import Frame, Position
from quarterturn.worker.settings.worker import CameraSettings

_NO_CAMERA = CameraSettings()


@dataclass(frozen=True, slots=True)
class _Batch:
    """Frames after decoding; one that is not to be inspected has its outcome already."""

    frames: Sequence[Frame]
    looks: Sequence[Look | Late | DeadLetter]
    started_s: float
    decode_ms: float


@dataclass(frozen=True, slots=True)
class _Embedded:
    """A batch that has been through the engine, and the bank that was in service then.

    `looks` are those of the frames that are inspected, by their place in the batch, and `products` what each may show;
    `outcomes` are those of the others.
    """

    batch: _Batch
    outcomes: dict[int, Outcome]
    looks: dict[int, Look]
    products: Sequence[tuple[int, ...]]
    embeddings: Embeddings
    embed_ms: float
    scorer: Scorer
    judge: Judge


class Inspector:
    """Decodes, embeds and judges frames by the bank in service.

    Each step has a thread of its own, decoding and searching two more: while one batch is in the engine, the one before
    is scored and the one after decoded.

    Example, with an `engine`, a `bank` and a `Frame` with the header `camera`:
        >>> inspector = Inspector(engine, "line-1", overkill=0.05)
        >>> inspector.use(bank)
        >>> (outcome,) = inspector.inspect([frame])
        >>> outcome.data.predicted_product, outcome.data.alert
        ('ring', None)
        >>> inspector.close()
    """

    def __init__(
        self,
        engine: Engine,
        line: str,
        overkill: float,
        cameras: Mapping[str, CameraSettings] | None = None,
        thresholds: Mapping[str, float] | None = None,
    ) -> None:
        self._engine = engine
        self._outcomes = Outcomes(line, engine.hash)
        self._overkill = overkill
        self._cameras = cameras or {}
        self._thresholds = thresholds or {}
        self._in_service: tuple[Scorer, Judge] | None = None
        self._repeats = Repeats()
        self._decoders, self._searchers = (
            ThreadPoolExecutor(max_workers=2, thread_name_prefix=name) for name in ("decode", "score")
        )
        self._preparing, self._embedding, self._scoring = (
            ThreadPoolExecutor(max_workers=1, thread_name_prefix=name) for name in ("prepare", "engine", "score")
        )

    @property
    def bank(self) -> str | None:
        """The version of the bank in service."""
        return self._in_service[0].bank.version if self._in_service else None

    def use(self, bank: Bank) -> None:
        """Take `bank` into service, from the next batch on. May be called from any thread.

        Raises:
            MismatchError: the bank was made by another engine, or its embeddings mean something else.
            ConfigError: a configured product is not in the bank.
            DataError: it holds too few calibration scores for the overkill asked.
        """
        require_same_engine(bank, self._engine.spec, self._engine.hash, self._engine.target)
        for camera, settings in self._cameras.items():
            unknown = sorted(set(settings.products or ()) - set(bank.products))
            if unknown:
                held = f"bank {short(bank.version)} ({', '.join(bank.products)})"
                raise ConfigError(f"cameras.{camera}.products: '{unknown[0]}' is not in {held}")
        judge = Judge.of(bank, self._overkill, self._thresholds)
        self._in_service = Scorer(bank, judge.undecided, self._searchers.map), judge

    def inspect(self, frames: Sequence[Frame]) -> list[Outcome]:
        """One outcome for each frame, in order.

        Raises:
            ConfigError: no bank is in service yet.
        """
        return self.begin(frames).result()

    def begin(self, frames: Sequence[Frame]) -> Future[list[Outcome]]:
        """Send a batch on its way; the result is what `inspect` returns or raises. One batch overtakes no other."""
        prepared = self._preparing.submit(self._prepare, frames)
        embedded = self._embedding.submit(lambda: self._embed(prepared.result()))
        return self._scoring.submit(lambda: self._score(embedded.result()))

    def finish(self) -> None:
        """Wait until all that was begun is done; whoever closes the engine first lets a thread work in freed memory."""
        self._scoring.submit(lambda: None).result()

    def close(self) -> None:
        """Finish what was begun and stop the threads; the engine belongs to its owner."""
        for threads in (self._preparing, self._embedding, self._scoring, self._decoders, self._searchers):
            threads.shutdown()

    def _prepare(self, frames: Sequence[Frame]) -> _Batch:
        """Read headers, decode, crop and resize."""
        started_s = time.perf_counter()
        looks = list(self._decoders.map(self._look, frames))
        return _Batch(frames, looks, started_s, _ms_since(started_s))

    def _embed(self, batch: _Batch) -> _Embedded:
        """Send a prepared batch through the engine."""
        if self._in_service is None:
            raise ConfigError("no bank is in service; push one with 'quarterturn bank push'")
        scorer, judge = self._in_service  # taken once for the whole batch: no verdict mixes two banks
        outcomes: dict[int, Outcome] = {}
        looks: dict[int, Look] = {}
        products: list[tuple[int, ...]] = []
        for n, look in enumerate(batch.looks):
            if not isinstance(look, Look):
                outcomes[n] = look
                continue
            try:
                products.append(scorer.admissible(look.products))
                looks[n] = look
            except FrameError as error:
                outcomes[n] = self._outcomes.dead_letter(batch.frames[n], look.info, error)
        started_s = time.perf_counter()
        embeddings = self._engine.embed(_joined([look.tiles for look in looks.values()], self._engine.spec.side))
        return _Embedded(batch, outcomes, looks, products, embeddings, _ms_since(started_s), scorer, judge)

    def _score(self, embedded: _Embedded) -> list[Outcome]:
        """Score and judge what has been embedded: one outcome for each frame of the batch, in order."""
        batch, looks, scorer = embedded.batch, embedded.looks, embedded.scorer
        started_s = time.perf_counter()
        scored = scorer.score(embedded.embeddings, [look.layout for look in looks.values()], embedded.products)
        decided = [
            self._decide(scorer, embedded.judge, one, look, batch.frames[n].position)
            for (n, look), one in zip(looks.items(), scored, strict=True)
        ]
        times = ProcessingTimes(
            decode_ms=round(batch.decode_ms, 3),
            embed_ms=round(embedded.embed_ms, 3),
            score_ms=round(_ms_since(started_s), 3),
            total_ms=round(_ms_since(batch.started_s), 3),
        )
        outcomes = dict(embedded.outcomes)
        for (n, look), one in zip(looks.items(), decided, strict=True):
            outcomes[n] = self._outcomes.verdict(batch.frames[n], look, one, bank=scorer.bank, times=times)
        return [outcomes[n] for n in range(len(batch.frames))]

    def _look(self, frame: Frame) -> Look | Late | DeadLetter:
        info = None
        try:
            info = frame.info()
            camera = self._cameras.get(info.camera, _NO_CAMERA)
            if camera.max_age_ms is not None and (age_ms := info.age_ms()) > camera.max_age_ms:
                return self._outcomes.late(frame, info, age_ms, camera.max_age_ms)
            return look_at(frame, info, camera, self._engine.spec.framing)
        except FrameError as error:
            return self._outcomes.dead_letter(frame, info or frame.legible(), error)

    def _decide(self, scorer: Scorer, judge: Judge, scored: Scored, look: Look, position: Position) -> Decided:
        """What is decided of a frame, and its heat map against the threshold of the product that it was judged as."""
        camera = self._cameras.get(look.info.camera, _NO_CAMERA)
        judgement = judge.judge(scored, look.measured if camera.guard else None)
        measures = _measures(scorer.bank, judgement, look)
        if look.digest is not None and camera.frozen_after is not None:
            times = self._repeats.times(look.info.camera, position, look.digest)
            if times >= camera.frozen_after:
                judgement = judgement.unusable(f"the camera has sent the same picture {times} times in a row")
                measures = None  # they say nothing new
        return Decided(judgement, scorer.heat_map(scored, judgement.product, judgement.threshold), measures)


def _measures(bank: Bank, judgement: Judgement, look: Look) -> Measures | None:
    """How the picture measures beside the good ones of the product that it shows."""
    if look.small is None or look.measured is None:
        return None
    product = bank.products.index(judgement.nearest)
    motion = bank.registrations[product].motion(look.small)
    return Measures(quantities(judgement.score, look.measured, motion), bank.usual[product], look.traits.size)


def _joined(tiles: Sequence[Frames], side: int) -> Frames:
    return np.concatenate(tiles) if tiles else np.empty((0, side, side, 3), np.uint8)


def _ms_since(start_s: float) -> float:
    return (time.perf_counter() - start_s) * 1000
