"""A learner put together from the settings of a line and of its bank's fit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass

from quarterturn.worker.contract.manifest import EngineManifest, read_manifest
from quarterturn.worker.fitting.split import split_by
from quarterturn.worker.learning.cache import RememberingEngine
from quarterturn.worker.learning.learn import Learner
from quarterturn.worker.learning.recent import LAST, Recent
from quarterturn.worker.runtime.assemble import open_engine, open_store
from quarterturn.worker.settings.bank import FitSettings
from quarterturn.worker.settings.worker import KafkaSettings, WorkerSettings
from quarterturn.worker.transport.kafka.archive import FrameArchive
from quarterturn.worker.transport.kafka.feedback import FeedbackTopic
from quarterturn.worker.transport.kafka.results import ResultReader

_CACHE = ".embeddings"


@dataclass(frozen=True)
class Opened:
    """A learner, what it hears of, and the engine that remembers for it."""

    learner: Learner
    topic: FeedbackTopic
    engine: RememberingEngine


@contextmanager
def open_learner(worker: WorkerSettings, kafka: KafkaSettings, fit: FitSettings) -> Iterator[Opened]:
    """Everything that learning needs, for a block.

    Raises:
        QuarterturnError: an artifact, a service or a folder does not fit or answer.
    """
    trained = read_manifest(worker.engine.path, EngineManifest, "quarterturn build")
    with ExitStack() as stack:
        topic = stack.enter_context(closing(FeedbackTopic(kafka)))
        opened = stack.enter_context(closing(open_engine(worker.engine)))
        engine = RememberingEngine(opened, fit.learned / _CACHE)
        learner = Learner(
            worker,
            fit,
            split_by(fit, trained.holdout, trained.group, trained.pictures),
            engine,
            store=stack.enter_context(closing(open_store(worker.bank))),
            archive=stack.enter_context(closing(FrameArchive(kafka))),
            recent=Recent(stack.enter_context(closing(ResultReader(kafka, 2 * LAST)))),
        )
        yield Opened(learner, topic, engine)
