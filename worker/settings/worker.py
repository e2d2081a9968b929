"""The worker's settings: `configs/worker.yaml` as frozen models."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, Field, field_validator, model_validator

from quarterturn.worker.contract.calibration import OVERKILL
from quarterturn.worker.contract.errors import ConfigError
from quarterturn.worker.contract.manifest import TargetName
from quarterturn.worker.contract.picture import Depth, Region
from quarterturn.worker.contract.settings import Settings
from quarterturn.worker.contract.silence import Silence
from quarterturn.worker.contract.usual import Measure
from quarterturn.worker.settings.console import ConsoleSettings
from quarterturn.worker.settings.parts import PartsSettings
from quarterturn.worker.settings.security import SaslSettings, Secret, TlsSettings

Overkill = Annotated[
    float,
    Field(
        gt=0,
        lt=1,
        description="share of good parts that may be rejected at most, on average; "
        "0.01 needs 99 calibration pictures of each product, 0.005 needs 199",
    ),
]
_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"


def _is_name(text: str) -> str:
    if not re.fullmatch(_NAME, text):
        raise ValueError("may hold letters (A to Z), digits, '.', '_' and '-', and begins with a letter or a digit")
    return text


Name = Annotated[
    str,
    Field(min_length=1, max_length=200, json_schema_extra={"pattern": f"^{_NAME}$"}),
    AfterValidator(_is_name),
]
Delivery = Literal["exactly_once", "at_least_once"]


class EngineSettings(Settings):
    """Which engine folder, and which of its targets."""

    path: Path = Field(description="the folder that `quarterturn build` wrote")
    target: TargetName = Field(
        default="openvino", description="its runtime; a bank serves the target that it was fitted through"
    )
    threads: int | None = Field(default=None, gt=0, description="CPU threads of the engine; None: all cores")


class FileStoreSettings(Settings):
    """Banks in a local folder: the embedded default."""

    path: Path = Field(description="one folder below it for each line")
    keep: int = Field(default=10, gt=1, description="versions kept for a rollback")


class RedisStoreSettings(Settings):
    """Banks in Redis, with a local copy of the last good one."""

    url: str = Field(
        default="redis://localhost:6379/0", repr=False, description="rediss:// for TLS, unix:///PATH for a socket"
    )
    username: str | None = Field(default=None, min_length=1, description="of Redis's access list")
    password: Secret | None = None
    tls: TlsSettings | None = None
    signing_key: Secret | None = Field(
        default=None, description="pushed versions are signed with it, and only such are taken into service"
    )
    timeout_s: float = Field(default=10.0, gt=0, description="how long Redis may take to answer")
    keep: int = Field(default=10, gt=1, description="versions kept for a rollback")
    snapshot: Path | None = Field(default=Path("state/banks"), description="local copy of the last good bank")

    @model_validator(mode="after")
    def _tls_has_its_scheme(self) -> RedisStoreSettings:
        if self.tls is not None and not self.url.startswith("rediss://"):
            raise ValueError("'tls' needs a url that begins with rediss://")
        return self


class BankSettings(Settings):
    """Where the bank comes from; exactly one of `file` and `redis`."""

    file: FileStoreSettings | None = None
    redis: RedisStoreSettings | None = None
    poll_s: float = Field(default=1.0, gt=0, description="how often to look for a new version without a hint")

    @model_validator(mode="after")
    def _one(self) -> BankSettings:
        if (self.file is None) == (self.redis is None):
            raise ValueError("set exactly one of 'file' and 'redis'")
        return self


class Topics(Settings):
    """Names of the Kafka topics."""

    frames: Name = Field(default="frames", description="pictures, from the cameras")
    verdicts: Name = Field(default="verdicts", description="a result for each frame")
    alerts: Name = Field(default="alerts", description="verdicts beyond their threshold")
    dead_letters: Name = Field(default="dead-letters", description="frames that could not be inspected, and why")
    feedback: Name = Field(default="feedback", description="what people say of results; no worker reads it")

    silences: Name = Field(
        default="silences", description="silences that are declared while workers run; they do without it"
    )
    parts: Name = Field(
        default="parts", description="a result for each part, by `quarterturn parts`; no worker needs it"
    )

    @property
    def of_a_worker(self) -> tuple[str, ...]:
        """Those without which a worker cannot run."""
        return self.frames, self.verdicts, self.alerts, self.dead_letters


class KafkaSettings(Settings):
    """Frames from Kafka, outcomes to Kafka."""

    bootstrap_servers: str = Field(default="localhost:9092", description="HOST:PORT, several with commas between them")
    tls: TlsSettings | None = None
    sasl: SaslSettings | None = None
    group: Name = Field(
        default="quarterturn", description="its workers share the partitions; another line needs another"
    )
    delivery: Delivery = Field(default="exactly_once", description="at_least_once is for brokers without transactions")
    topics: Topics = Topics()
    start: Literal["earliest", "latest"] = Field(
        default="earliest", description="where a group without positions begins"
    )
    max_frame_bytes: int = Field(
        default=32 * 2**20, gt=0, description="of one frame; the topic's max.message.bytes must allow it too"
    )
    session_timeout_s: float = Field(
        default=30.0, gt=0, description="a worker that is silent for so long loses its partitions to others"
    )
    give_up_after_s: float = Field(default=300.0, gt=0, description="how long a broker may be gone")

    @model_validator(mode="after")
    def _sasl_is_under_tls(self) -> KafkaSettings:
        if self.sasl is not None and self.tls is None:
            raise ValueError("'sasl' needs 'tls': without it whoever is on the way reads along; write tls: {ca: PATH}")
        return self


class FolderSettings(Settings):
    """Pictures from a folder, outcomes as JSON lines: the embedded default, no server."""

    path: Path = Field(description="a sub-folder for each camera, or pictures of one camera directly")
    out: Path = Field(description="the file; started again, it goes on behind its last result")
    camera: Name | None = Field(default=None, description="None: the sub-folder's name, one camera each")


class TransportSettings(Settings):
    """Where frames come from and outcomes go; exactly one of `kafka` and `folder`."""

    kafka: KafkaSettings | None = None
    folder: FolderSettings | None = None

    @model_validator(mode="after")
    def _one(self) -> TransportSettings:
        if (self.kafka is None) == (self.folder is None):
            raise ValueError("set exactly one of 'kafka' and 'folder'")
        return self


class AlertSettings(Settings):
    """Which of a camera's alerts are published: by default all. Its verdicts always are."""

    at_least: int = Field(
        default=1, ge=1, description="no alert unless it and others are so many among the last `of_last` frames"
    )
    of_last: int = Field(default=1, ge=1, le=100, description="frames of which `at_least` must be alerts")
    cool_down_s: float = Field(default=0.0, ge=0, description="after an alert none for so long; 0: no pause")
    group_runs: bool = Field(
        default=False, description="of a run of alerts only the first, and events that say how the run goes on"
    )
    hold_while_unusable: bool = Field(
        default=True, description="no alert about a part while one about the pictures goes on; see `of_last`"
    )
    hold_while_drifting: bool = Field(
        default=True,
        description="no alert that there would not be without a drift of which an alarm tells; see `drift`",
    )

    @model_validator(mode="after")
    def _can_be_reached(self) -> AlertSettings:
        if self.at_least > self.of_last:
            raise ValueError(f"'at_least' is {self.at_least}, but there are only {self.of_last} frames in 'of_last'")
        return self


class DriftSettings(Settings):
    """When a camera's pictures count as drifting away from those that its bank was calibrated with."""

    alpha: float = Field(
        default=0.001,
        gt=0,
        lt=1,
        description="the chance that the camera ever raises a false alarm while a bank serves; shared by the measures",
    )
    measures: tuple[Measure, ...] = Field(
        default=get_args(Measure), min_length=1, description="each has its own alarm, so that it names the cause"
    )

    @field_validator("measures")
    @classmethod
    def _once_each(cls, measures: tuple[Measure, ...]) -> tuple[Measure, ...]:
        if len(set(measures)) < len(measures):
            raise ValueError("a measure is named twice")
        return measures


class CameraSettings(Settings):
    """What is known of one camera: its products (one, or several to choose from) and the region to look at."""

    products: tuple[str, ...] | None = Field(
        default=None, min_length=1, description="None: the frame's header, else all products of the bank"
    )
    region: Region | None = None
    bit_depth: Depth = None
    max_age_ms: float | None = Field(
        default=None,
        gt=0,
        description="an older frame is not inspected but reported as late; None: no frame is too old",
    )
    guard: bool = Field(
        default=True,
        description="a picture too dark, bright, flat, blurred or tinted for the bank is an alert, whatever it scores",
    )
    frozen_after: int | None = Field(
        default=5,
        ge=2,
        description="the same picture for so many times in a row is an alert, unless the frame is marked as simulated; "
        "None: never",
    )
    alerts: AlertSettings = AlertSettings()
    drift: DriftSettings | None = Field(
        default=DriftSettings(), description="alarms where pictures are no longer as they were; None: never"
    )


class BatchSettings(Settings):
    """Micro-batches are made of whatever is waiting."""

    max_frames: int = Field(
        default=32, gt=0, le=128, description="most frames of a batch; nothing waits for it to fill"
    )
    poll_timeout_s: float = Field(default=0.5, gt=0, description="how long to wait for a frame before looking round")


class HttpSettings(Settings):
    """Metrics and health: `/metrics`, `/healthz`, `/readyz`, all read-only."""

    host: str = Field(default="127.0.0.1", description="address to listen on; 0.0.0.0: all of this machine's")
    port: int = Field(default=9600, ge=0, le=65535, description="0 takes any free one")
    stalled_after_s: float = Field(default=120.0, gt=0, description="without progress for so long `/healthz` is red")


class WorkerSettings(Settings):
    """`configs/worker.yaml`."""

    line: Name = Field(description="names the line's banks in their store")
    engine: EngineSettings
    bank: BankSettings
    transport: TransportSettings
    overkill: Overkill = OVERKILL
    thresholds: dict[str, Annotated[float, Field(gt=0)]] = Field(
        default_factory=dict, description="fixed thresholds by product, instead of the calibrated ones"
    )
    cameras: dict[str, CameraSettings] = Field(
        default_factory=dict, description="by camera name; a camera not listed has no region and any product"
    )
    silences: tuple[Silence, ...] = Field(
        default=(), description="times without alerts, by camera or product; those that are over change nothing"
    )
    parts: PartsSettings | None = Field(default=None, description="None: each frame is judged by itself alone")
    batch: BatchSettings = BatchSettings()
    http: HttpSettings | None = HttpSettings()
    console: ConsoleSettings = ConsoleSettings()
    drain_s: float = Field(default=20.0, gt=0, description="how long SIGTERM may take")

    def camera(self, name: str) -> CameraSettings:
        """The settings of one camera.

        Raises:
            ConfigError: it is not listed.
        """
        if name not in self.cameras:
            raise ConfigError(f"camera {name}: is not listed under cameras ({', '.join(self.cameras) or 'empty'})")
        return self.cameras[name]

    def require_kafka(self, why: str) -> KafkaSettings:
        """The line's Kafka; `why` says what needs it.

        Raises:
            ConfigError: its frames come from a folder.
        """
        if self.transport.kafka is None:
            raise ConfigError(f"transport.kafka is missing; {why}")
        return self.transport.kafka
