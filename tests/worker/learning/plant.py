"""A line in memory: real pictures, engine, bank, store, inspector and learner; only Kafka is a dictionary."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from quarterturn.worker.bankstore.file import FileBankStore
from quarterturn.worker.contract.bank import Bank
from quarterturn.worker.contract.errors import DataError
from quarterturn.worker.fitting.fit import fit_bank
from quarterturn.worker.fitting.split import Split, split_pictures
from quarterturn.worker.inspection.inspector import Inspector
from quarterturn.worker.learning.cache import RememberingEngine
from quarterturn.worker.learning.learn import Learned, Learner
from quarterturn.worker.learning.recent import Recent
from quarterturn.worker.messages.events import Verdict, events_of
from quarterturn.worker.messages.feedback import Feedback
from quarterturn.worker.messages.frames import Frame, Position
from quarterturn.worker.settings.bank import FitSettings
from quarterturn.worker.settings.worker import WorkerSettings
from tests import parts
from tests.worker.dataset import write_product

LINE, OVERKILL = "line-1", 0.06
Picture = npt.NDArray[np.uint8]


def glossy_part(rng: np.random.Generator, product: str = "ring") -> Picture:
    """A good part with a bright, harmless sheen in its lower left corner, of varying strength and size."""
    picture = parts.good_part(rng, product)
    height, width = rng.integers(6, 11, 2)
    picture[31 - height : 31, 2 : 2 + width] = rng.integers(150, 190, (height, width, 3))
    return picture


class Kafka:
    """Frames, results and words, as the transports of a real one give them."""

    def __init__(self) -> None:
        self.frames: dict[Position, Frame] = {}
        self.results: list[dict[str, Any]] = []
        self.words: dict[str, Feedback] = {}
        self.fetched = 0

    def fetch(self, positions: Sequence[Position]) -> dict[Position, Frame | DataError]:
        self.fetched += len(positions)
        return {one: self.frames.get(one) or DataError(f"{one}: the frame is gone") for one in positions}

    def until_now(self) -> Iterator[dict[str, Any]]:
        given, self.results = self.results, []
        yield from given


class Plant:
    def __init__(self, root: Path, *, products: Sequence[str] = ("ring",), **worker: Any) -> None:
        self.root = root
        for product in products:
            write_product(root / "parts" / product, product, train=80)
        self.engine = parts.NumpyPlacesEngine(depths={"deep": 4})
        self.fit = FitSettings.model_validate(
            {
                "data": root / "parts",
                "engine": {"path": root / "engine"},
                "overkill": OVERKILL,
                "scoring": {"detectors": ["frame", "nearest.deep"], "coreset": 200},
                "learned": root / "learned",
            }
        )
        self.settings = WorkerSettings.model_validate(
            {
                "line": LINE,
                "engine": {"path": root / "engine"},
                "bank": {"file": {"path": root / "banks"}},
                "transport": {"kafka": {}},
                "overkill": OVERKILL,
                "cameras": {"top-01": {"products": list(products)}},
                **worker,
            }
        )
        self.split: Split = split_pictures(root / "parts", None, 0.5)
        self.store = FileBankStore(root / "banks")
        self.kafka = Kafka()
        self.first = fit_bank(self.engine, self.split, self.fit.scoring, OVERKILL)
        self.store.publish(LINE, self.first)
        self.count = 0  # of the frames that came
        self.rng = np.random.default_rng(5)

    @property
    def bank(self) -> Bank:
        """The version in service."""
        current = self.store.current(LINE)
        assert current is not None
        return self.store.load(LINE, current.version)

    def learner(self, folder: str = "learned") -> Learner:
        """One that begins anew, but for what lies in `folder`."""
        fit = self.fit.model_copy(update={"learned": self.root / folder})
        self.remembering = RememberingEngine(self.engine, fit.learned / ".embeddings")
        return Learner(
            self.settings,
            fit,
            self.split,
            self.remembering,
            store=self.store,
            archive=self.kafka,
            recent=Recent(self.kafka),
        )

    def learn(self, *, rolled_back: bool = False) -> Learned:
        """Learn and, where there is something, publish."""
        learner = self.learner()
        learned = learner.learn(self.kafka.words, rolled_back=rolled_back)
        if learned.bank is not None and not learned.blocked:
            learner.publish(learned)
        return learned

    def come(self, make: Any, count: int, **headers: str) -> list[Verdict]:
        """So many parts come by; what the version in service says of them."""
        frames = [parts.frame(parts.png(make(self.rng)), self.count + n, **headers) for n in range(count)]
        self.count += count
        self.kafka.frames |= {frame.position: frame for frame in frames}
        cameras = self.settings.cameras
        with closing(Inspector(self.engine, LINE, self.settings.overkill, cameras)) as inspector:
            inspector.use(self.bank)
            verdicts = [one for one in inspector.inspect(frames) if isinstance(one, Verdict)]
        self.kafka.results += [json.loads(events_of(one)[0].value) for one in verdicts]
        return verdicts

    def say(self, verdict: str, of: Sequence[Verdict], at: str = "2026-01-02T03:04:05Z", **more: Any) -> None:
        for one in of:
            word = {"resultId": one.data.result_id, "verdict": verdict, "by": "Ilse", "at": at, **more}
            self.kafka.words[one.data.result_id] = Feedback.model_validate(word)


def alerts(verdicts: Sequence[Verdict]) -> list[Verdict]:
    return [one for one in verdicts if one.is_alert]
