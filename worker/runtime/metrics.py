"""A service's metrics for Prometheus, and the worker's. docs/reliability.md lists them, and a test compares.

Every counter is there from the start, at 0: one that first shows up at 1 is no increase to Prometheus.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.metadata import version
from typing import get_args

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    Info,
    Metric,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from quarterturn.worker.contract.errors import Reason
from quarterturn.worker.contract.times import parse_time
from quarterturn.worker.contract.usual import Measure
from quarterturn.worker.messages.alarms import Drift
from quarterturn.worker.messages.events import (
    AlarmKind,
    AlarmState,
    AlertKind,
    DeadLetter,
    Held,
    Late,
    Outcome,
    ResultData,
    Verdict,
    score_over_threshold,
)
from quarterturn.worker.messages.notices import Notice
from quarterturn.worker.transport.base import Standing

CONTENT_TYPE = CONTENT_TYPE_LATEST
OUTCOMES = ("good", *get_args(AlertKind), "late", "dead_letter")

_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 5.0, 30.0)
_STAGE_SECONDS = (0.001, 0.002, *_SECONDS)
_BATCH = (1, 2, 4, 8, 16, 32, 64)
_RATIOS = (0.25, 0.5, 0.75, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 4.0, 10.0)  # of score to threshold; beyond 1 is an alert
_CAMERAS = 1000  # counted apart; whoever may publish frames may make up names, and each would stay in memory
_UNNAMED, _OTHER = "unknown", "other"


class CommonMetrics:
    """What every service counts and measures. Thread-safe. `standing` and `ready` are asked at every scrape."""

    def __init__(self, standing: Callable[[], Standing], ready: Callable[[], bool]) -> None:
        self.registry = CollectorRegistry()
        self.rewinds = self._counter("quarterturn_rewinds", "Deliveries taken back and polled again")
        self._build = Info("quarterturn_build", "What runs here", registry=self.registry)
        self._degraded = self._gauge("quarterturn_degraded", "1 while this part does not work as it should", "part")
        self._ask("quarterturn_ready", "1 while /readyz says so", ready)
        self.registry.register(_OfTransport(standing))
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)
        self.runs("")

    def runs(self, target: str) -> None:
        """Say what runs here; `target` is the engine's, empty before it is open, or where there is none."""
        self._build.info({"version": version("quarterturn"), "python": platform.python_version(), "engine": target})

    def watch(self, part: str, is_degraded: Callable[[], bool]) -> None:
        """Ask at every scrape whether `part` works as it should."""
        self._degraded.labels(part).set_function(is_degraded)

    def text(self) -> bytes:
        """All of it in Prometheus' text format, of the type CONTENT_TYPE."""
        return generate_latest(self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: Sequence[float], *labels: str) -> Histogram:
        return Histogram(name, text, labels, buckets=buckets, registry=self.registry)

    def _ask(self, name: str, text: str, value: Callable[[], float]) -> None:
        self._gauge(name, text).set_function(value)


class Metrics(CommonMetrics):
    """All that a worker counts and measures, see CommonMetrics. `cameras` are those that the settings list."""

    def __init__(self, cameras: Iterable[str], standing: Callable[[], Standing], ready: Callable[[], bool]) -> None:
        super().__init__(standing, ready)
        self._bank_swaps = self._counter("quarterturn_bank_swaps", "Banks taken into service")
        self._bank = Info("quarterturn_bank", "The bank in service", registry=self.registry)
        self._frames = self._counter("quarterturn_frames", "Frames done, by outcome", "camera", "outcome")
        self._dead_letters = self._counter("quarterturn_dead_letters", "Frames that could not be inspected", "reason")
        self._notices = self._counter("quarterturn_notices", "Frames with something odd", "camera", "kind")
        self._held = self._counter("quarterturn_alerts_held", "Alerts that were not published", "camera", "why")
        self._alarms = self._counter("quarterturn_alarms", "Events about a camera", "camera", "event", "state")
        self._drifting = self._gauge(
            "quarterturn_drifting", "1 while an alarm says that this measure drifts", "camera", "measure"
        )
        self._last_frame = self._gauge(
            "quarterturn_last_frame_timestamp_seconds", "When the camera's last frame was done", "camera"
        )
        self._ratios = self._histogram("quarterturn_score_over_threshold", "Scores in thresholds", _RATIOS, "camera")
        self._latency = self._histogram("quarterturn_latency_seconds", "From poll to delivery", _SECONDS)
        self._since_capture = self._histogram(
            "quarterturn_capture_latency_seconds", "From captured_at to delivery", _SECONDS
        )
        self._stage = self._histogram(
            "quarterturn_stage_seconds", "Time of a batch in a stage", _STAGE_SECONDS, "stage"
        )
        self._batch = self._histogram("quarterturn_batch_frames", "Frames in a batch", _BATCH)
        # A look-up by labels costs a lock and a tuple: each is made once.
        self._stages = {stage: self._stage.labels(stage) for stage in ("decode", "embed", "score", "deliver")}
        self._reasons = {reason: self._dead_letters.labels(reason) for reason in get_args(Reason)}
        self._cameras = {camera: _Camera(self, camera) for camera in (*cameras, _UNNAMED, _OTHER)}
        self._room = len(self._cameras) + _CAMERAS

    def serves(self, bank: str, engine: str) -> None:
        """A bank of this version, made by the engine of this hash, was taken into service."""
        self._bank.info({"version": bank, "engine": engine})
        self._bank_swaps.inc()

    def notice(self, kind: Notice, camera: str) -> None:
        """Count something odd about a frame of `camera`."""
        self._camera(camera).notices[kind].inc()

    def count(self, outcomes: Sequence[Outcome], since_poll_s: float, deliver_s: float) -> None:
        """Count one delivered batch."""
        now_s = time.time()
        self._batch.observe(len(outcomes))
        self._stages["deliver"].observe(deliver_s)
        times = next((outcome.data.processing_times for outcome in outcomes if isinstance(outcome, Verdict)), None)
        if times is not None:  # those of the batch; the same in each of its verdicts
            self._stages["decode"].observe(times.decode_ms / 1000)
            self._stages["embed"].observe(times.embed_ms / 1000)
            self._stages["score"].observe(times.score_ms / 1000)
        for outcome in outcomes:
            self._latency.observe(since_poll_s)
            self._count(outcome, now_s)

    def _count(self, outcome: Outcome, now_s: float) -> None:
        camera = self._camera(outcome.data.camera)
        camera.last_frame.set(now_s)
        if isinstance(outcome, Verdict):
            camera.outcomes[outcome.data.alert or "good"].inc()
            camera.ratios.observe(score_over_threshold(outcome.data.score, outcome.data.threshold))
            if outcome.held is not None:
                camera.held[outcome.held].inc()
            for alarm in outcome.events:
                camera.alarms[alarm.event, alarm.state].inc()
                if isinstance(alarm, Drift):
                    camera.drifting[alarm.measure].set(alarm.state == "raised")
            self._count_latency(outcome.data, now_s)
        elif isinstance(outcome, Late):
            camera.outcomes["late"].inc()
        elif isinstance(outcome, DeadLetter):
            camera.outcomes["dead_letter"].inc()
            reason = outcome.data.reason
            (self._reasons.get(reason) or self._dead_letters.labels(reason)).inc()

    def _count_latency(self, data: ResultData, now_s: float) -> None:
        """A replay's frames are as old as they are, and a clock ahead of ours says nothing."""
        captured_at = data.frame.captured_at
        if captured_at is None or data.is_simulated:
            return
        latency_s = now_s - parse_time(captured_at).timestamp()
        if latency_s >= 0:
            self._since_capture.observe(latency_s)

    def _camera(self, name: str | None) -> _Camera:
        """What is counted of this camera; those beyond the thousandth are "other", without a name "unknown"."""
        found = self._cameras.get(name or _UNNAMED)
        if found is None:
            if len(self._cameras) >= self._room:
                return self._cameras[_OTHER]
            found = self._cameras.setdefault(str(name), _Camera(self, str(name)))
        return found


class _Camera:
    """The metrics of one camera."""

    def __init__(self, of: Metrics, name: str) -> None:
        self.outcomes = {outcome: of._frames.labels(name, outcome) for outcome in OUTCOMES}
        self.notices = {kind: of._notices.labels(name, kind) for kind in get_args(Notice)}
        self.held = {why: of._held.labels(name, why) for why in get_args(Held)}
        self.alarms = {
            (event, state): of._alarms.labels(name, event, state)
            for event in get_args(AlarmKind)
            for state in get_args(AlarmState)
        }
        self.drifting = {measure: of._drifting.labels(name, measure) for measure in get_args(Measure)}
        self.last_frame = of._last_frame.labels(name)
        self.ratios = of._ratios.labels(name)


class _OfTransport(Collector):
    """What the transport says of itself: partitions come and go, so their labels are made anew at every scrape."""

    def __init__(self, standing: Callable[[], Standing]) -> None:
        self._standing = standing

    def collect(self) -> Iterator[Metric]:
        standing = self._standing()
        yield GaugeMetricFamily(
            "quarterturn_assigned_partitions", "Partitions that this worker reads", standing.assigned or 0
        )
        lag = GaugeMetricFamily("quarterturn_lag_frames", "Frames that wait to be polled", labels=["partition"])
        for partition, frames in standing.lag.items():
            lag.add_metric([partition], frames)
        yield lag
