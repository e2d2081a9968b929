"""Puts the worker together from its settings: the one place that names engines, stores and transports."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

from quarterturn.worker.alerting.alerting import Alerting
from quarterturn.worker.alerting.hygiene import Silences
from quarterturn.worker.bankstore.base import BankStore
from quarterturn.worker.bankstore.watch import BankWatcher
from quarterturn.worker.contract.bank import Bank
from quarterturn.worker.engine.base import Engine, open_folder
from quarterturn.worker.inspection.agreement import disagreements
from quarterturn.worker.inspection.inspector import Inspector
from quarterturn.worker.runtime.health import Health
from quarterturn.worker.runtime.memory import give_back_freed_memory
from quarterturn.worker.runtime.server import HealthServer
from quarterturn.worker.runtime.service import Service
from quarterturn.worker.settings.worker import BankSettings, EngineSettings, TransportSettings, WorkerSettings
from quarterturn.worker.transport.base import Transport

log = logging.getLogger(__name__)


@contextmanager
def build_service(settings: WorkerSettings) -> Iterator[Service]:
    """The worker that `settings` describe, ready to run; everything is closed on leaving the block.

    Raises:
        QuarterturnError: an artifact, a service or a setting does not fit; one sentence.
    """
    with ExitStack() as stack:
        health = Health(settings.cameras)
        if settings.http is not None:
            stack.enter_context(HealthServer(health, settings.http))
        engine = stack.enter_context(closing(open_engine(settings.engine)))
        health.metrics.runs(engine.target)
        inspector = stack.enter_context(
            closing(Inspector(engine, settings.line, settings.overkill, settings.cameras, settings.thresholds))
        )

        def use(bank: Bank, version: str) -> None:
            inspector.use(bank)
            for sentence in disagreements(bank, settings.overkill, settings.cameras):
                log.warning("%s", sentence)
            health.metrics.serves(version, bank.manifest.engine)

        store = stack.enter_context(closing(open_store(settings.bank)))
        watcher = BankWatcher(
            store,
            settings.line,
            use,
            settings.bank.poll_s,
            snapshot=_snapshot(settings.bank),
            tidy=give_back_freed_memory,
        )
        health.watch("bank store", lambda: watcher.state)
        stack.enter_context(closing(watcher))
        watcher.start()
        transport = stack.enter_context(closing(open_transport(settings.transport)))
        declared = _silences(settings.transport, stack, health)
        alerting = Alerting(settings.cameras, lambda: (*settings.silences, *declared()))
        yield Service(transport, inspector, health, settings.batch, alerting)


def open_engine(settings: EngineSettings) -> Engine:
    """Open and verify the configured engine.

    Example, with an engine in the folder `engine`:
        >>> opened = open_engine(EngineSettings(path=Path("engine"), threads=1))
        >>> frames = np.zeros((2, opened.spec.side, opened.spec.side, 3), np.uint8)
        >>> opened.embed(frames)["frame"].shape == (2, opened.spec.views, opened.spec.frame)
        True
        >>> opened.close()

    Raises:
        DataError: the folder is no engine, or damaged.
        ConfigError: it was not built for this target, or the target's package is not installed.
        MismatchError: a file is not what the manifest says.
    """
    folder = open_folder(settings.path, settings.target)
    if settings.target == "openvino":
        from quarterturn.worker.engine.openvino import OpenVinoEngine

        return OpenVinoEngine(folder, settings.threads)
    if settings.target == "tensorrt":
        from quarterturn.worker.engine.tensorrt import TensorRtEngine

        return TensorRtEngine(folder)
    from quarterturn.worker.engine.onnxruntime import OnnxRuntimeEngine

    return OnnxRuntimeEngine(folder, settings.threads)


def open_store(settings: BankSettings) -> BankStore:
    """Open the configured bank store."""
    if settings.redis is not None:
        from quarterturn.worker.bankstore.redis import RedisBankStore

        return RedisBankStore(settings.redis)
    from quarterturn.worker.bankstore.file import FileBankStore

    assert settings.file is not None  # BankSettings holds exactly one
    return FileBankStore(settings.file.path, settings.file.keep)


def open_transport(settings: TransportSettings) -> Transport:
    """Open the configured transport."""
    if settings.kafka is not None:
        from quarterturn.worker.transport.kafka.transport import KafkaTransport

        return KafkaTransport(settings.kafka)
    from quarterturn.worker.transport.folder import FolderTransport

    assert settings.folder is not None  # TransportSettings holds exactly one
    return FolderTransport(settings.folder)


def _silences(settings: TransportSettings, stack: ExitStack, health: Health) -> Silences:
    """Those that are declared while the worker runs."""
    if settings.kafka is None:
        return tuple
    from quarterturn.worker.transport.kafka.silences import SilenceWatcher

    watcher = stack.enter_context(closing(SilenceWatcher(settings.kafka)))
    health.watch("silences", lambda: watcher.state)
    watcher.start()
    return watcher.known


def _snapshot(settings: BankSettings) -> BankStore | None:
    """The local copy of the last good bank, for a start without Redis."""
    if settings.redis is None or settings.redis.snapshot is None:
        return None
    from quarterturn.worker.bankstore.file import FileBankStore

    return FileBankStore(settings.redis.snapshot, keep=1)
