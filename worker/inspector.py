"""From frames to outcomes, without I/O: the same object serves the worker, offline evaluation and replay."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from worker import heatmap
from worker.config import CameraSettings
from worker.contract.bank import Bank, require_same_engine
from worker.contract.errors import ConfigError, FrameError
from worker.contract.framing import Frames, Layout, cut
from worker.contract.preprocess import crop, decode
from worker.engine.base import Engine
from worker.events import (
    DeadLetter,
    DeadLetterData,
    FramePosition,
    Late,
    LateData,
    Outcome,
    ProcessingTimes,
    ResultData,
    Verdict,
    now,
    result_id,
)
from worker.frames import MAX_HEADER_BYTES, Frame, FrameInfo
from worker.judge import Judge, Judgement

_NO_CAMERA = CameraSettings()


@dataclass(frozen=True, slots=True)
class Look:
    """A decoded frame: its (T, S, S, 3) tiles and their layout; `products` are those that it may show (None: any)."""

    info: FrameInfo
    tiles: Frames
    layout: Layout
    products: Sequence[str] | None


@dataclass(frozen=True, slots=True)
class Batch:
    """Polled frames after decoding; a frame that is not to be inspected has its outcome already."""

    frames: Sequence[Frame]
    looks: Sequence[Look | Late | DeadLetter]
    started_s: float
    decode_ms: float


class Inspector:
    """Decodes, embeds and judges frames by the bank in service.

    `prepare` and `score` are the two halves of `inspect`; a service runs them for different batches at once.
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
        self._line = line
        self._overkill = overkill
        self._cameras = cameras or {}
        self._thresholds = thresholds or {}
        self._judge: Judge | None = None
        self._decoders = ThreadPoolExecutor(max_workers=2, thread_name_prefix="decode")

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
                held = f"bank {bank.version[:12]} ({', '.join(bank.products)})"
                raise ConfigError(f"cameras.{camera}.products: '{unknown[0]}' is not in {held}")
        self._judge = Judge.of(bank, self._overkill, self._thresholds)

    def inspect(self, frames: Sequence[Frame]) -> list[Outcome]:
        """One outcome for each frame, in order."""
        return self.score(self.prepare(frames))

    def prepare(self, frames: Sequence[Frame]) -> Batch:
        """Read headers, decode, crop and resize."""
        started_s = time.perf_counter()
        looks = list(self._decoders.map(self._look, frames))
        return Batch(frames, looks, started_s, _ms_since(started_s))

    def score(self, batch: Batch) -> list[Outcome]:
        """Embed and judge a prepared batch.

        Raises:
            ConfigError: no bank is in service yet.
        """
        judge = self._judge  # one reference for the whole batch: no verdict mixes two banks
        if judge is None:
            raise ConfigError("no bank is in service; push one with 'quarterturn bank push'")
        looks = [look for look in batch.looks if isinstance(look, Look)]
        started_s = time.perf_counter()
        embeddings = self._engine.embed(_joined([look.tiles for look in looks], self._engine.spec.side))
        embed_ms = _ms_since(started_s)
        started_s = time.perf_counter()
        judgements = iter(judge.judge(embeddings, [look.layout for look in looks], [look.products for look in looks]))
        times = ProcessingTimes(
            decode_ms=round(batch.decode_ms, 3),
            embed_ms=round(embed_ms, 3),
            score_ms=round(_ms_since(started_s), 3),
            total_ms=round(_ms_since(batch.started_s), 3),
        )
        outcomes: list[Outcome] = []
        for frame, look in zip(batch.frames, batch.looks, strict=True):
            if not isinstance(look, Look):
                outcomes.append(look)
            elif isinstance(judgement := next(judgements), FrameError):
                outcomes.append(self._dead_letter(frame, look.info, judgement))
            else:
                outcomes.append(self._verdict(frame, look.info, judgement, judge.bank.version, times))
        return outcomes

    def close(self) -> None:
        """Stop the decoding threads; the engine belongs to its owner."""
        self._decoders.shutdown()

    def _look(self, frame: Frame) -> Look | Late | DeadLetter:
        info = None
        try:
            info = frame.info()
            camera = self._cameras.get(info.camera, _NO_CAMERA)
            if camera.max_age_ms is not None and (age_ms := info.age_ms()) > camera.max_age_ms:
                return self._late(frame, info, age_ms, camera.max_age_ms)
            picture = crop(decode(frame.data, info.raw), camera.region)
            tiles, layout = cut(picture, self._engine.spec.framing)
        except FrameError as error:
            return self._dead_letter(frame, info, error)
        return Look(info, tiles, layout, (info.product,) if info.product else camera.products)

    def _verdict(
        self, frame: Frame, info: FrameInfo, judgement: Judgement, bank: str, times: ProcessingTimes
    ) -> Verdict:
        data = ResultData(
            **self._common(frame, info),
            internal_recipe_id=self._engine.hash,
            internal_configuration_id=bank,
            alert=judgement.alert,
            score=judgement.score,
            threshold=judgement.threshold,
            p_value=judgement.p_value,
            predicted_product=judgement.nearest,
            view_distances=list(judgement.view_distances),
            heat_map=heatmap.encode(judgement.heat) if judgement.heat.size > 1 else None,
            processing_times=times,
        )
        return Verdict(frame.position, frame.key, data, judgement.heat)

    def _late(self, frame: Frame, info: FrameInfo, age_ms: float, max_age_ms: float) -> Late:
        data = LateData(**self._common(frame, info), age_ms=round(age_ms, 3), max_age_ms=max_age_ms)
        return Late(frame.position, frame.key, data)

    def _dead_letter(self, frame: Frame, info: FrameInfo | None, error: FrameError) -> DeadLetter:
        data = DeadLetterData(
            **self._common(frame, info), reason=error.reason, message=str(error), size=len(frame.data)
        )
        key = frame.key if frame.key and len(frame.key) <= MAX_HEADER_BYTES else None  # else the letter itself is dead
        return DeadLetter(frame.position, key, data)

    def _common(self, frame: Frame, info: FrameInfo | None) -> dict[str, Any]:
        """What every outcome says of its frame; `info` is None where the headers cannot be read."""
        place, identity = frame.position, result_id(frame.position)
        captured_at = info.captured_at if info else None
        said: dict[str, Any] = {}
        if info is not None:
            said = {
                "camera": info.camera,
                "product_id": info.product,
                "part_id": info.part_id,
                "is_simulated": info.simulated,
            }
        return {
            "result_id": identity,
            "meas_id": identity,
            "job_id": self._line,
            "creation_time": now(),
            "frame": FramePosition(
                topic=place.topic, partition=place.partition, offset=place.offset, captured_at=captured_at
            ),
            **said,
        }


def _joined(tiles: Sequence[Frames], side: int) -> Frames:
    return np.concatenate(tiles) if tiles else np.empty((0, side, side, 3), np.uint8)


def _ms_since(start_s: float) -> float:
    return (time.perf_counter() - start_s) * 1000
