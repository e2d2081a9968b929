"""`quarterturn demo --story`: a new gloss comes, good parts are rejected, an operator says so, and the line learns.

Every step is what people and their commands would do, between a real Kafka and two workers. docs/operators.md tells it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
from rich.console import Console

from quarterturn.demo.config import DemoSettings, settings_for
from quarterturn.demo.fit import fit_line
from quarterturn.demo.folder import claim
from quarterturn.demo.line import require_services, worker_settings
from quarterturn.demo.parts import PRODUCTS, Product
from quarterturn.demo.render import take
from quarterturn.demo.stream import Result, camera_of, working
from quarterturn.engine_build.build import build
from quarterturn.trainer.train import train
from quarterturn.worker.contract.bank import Bank
from quarterturn.worker.contract.errors import ConfigError, DataError, UnavailableError
from quarterturn.worker.contract.manifest import short
from quarterturn.worker.contract.times import now
from quarterturn.worker.learning.open import Opened, open_learner
from quarterturn.worker.messages.feedback import Feedback
from quarterturn.worker.runtime.assemble import open_store
from quarterturn.worker.settings.worker import KafkaSettings, WorkerSettings
from quarterturn.worker.transport.kafka.producer import FramePublisher
from quarterturn.worker.transport.kafka.results import ResultReader
from quarterturn.worker.transport.kafka.topics import create_topics

_PRODUCT: Product = PRODUCTS[0]
_OVERKILL = 0.05  # of which twenty confirmed parts can make a new promise
_WORKERS = 2
_GLOSS, _GLOSSY = 2.4, 0.4  # how much more polished parts mirror, and the share of parts that is
_DEFECTS, _EACH = (f"missing_{_PRODUCT.feature}", "turned"), 10
_LEARNED_FROM = 160
_PARTS = 120  # that come by before and after
_CONFIRMED = 20
_OPERATOR = "Ilse"
_CAMERAS = 4
_SILENCE_S = 60.0


@dataclass(frozen=True)
class Story:
    """What happened, in figures: shares of good parts that were rejected, and of bad ones that were found.

    `learned_s`: from the first word to the push; `swapped_s`: from there until the last worker served the new version.
    """

    promised: float
    overkill_usual: float
    overkill_gloss: float
    overkill_after: float
    confirmed: int
    regression: int
    found_before: float
    found_after: float
    learned_s: float
    swapped_s: float


def run(arguments: argparse.Namespace) -> None:
    """Render, train, build, fit and stream; then the story, told as it goes; its figures go to `story.json`."""
    if arguments.kafka is None or arguments.data is not None:
        raise ConfigError("demo --story renders its parts and needs Kafka: give --kafka HOST:PORT, and no --data")
    console = Console(highlight=False)
    out: Path = arguments.out
    ours = [f"bank.overkill={_OVERKILL}", f"bank.learned={out / 'learned'}"]
    settings = settings_for(arguments.config, _data(out), out, [*ours, *arguments.overrides])
    require_services(arguments)
    claim(out)
    console.rule("1. A line: parts, encoder, engine, bank, two workers")
    bank = _make(settings, out)
    worker = worker_settings(arguments, settings, bank)
    assert worker.transport.kafka is not None  # as the arguments ask
    with closing(open_store(worker.bank)) as store:
        store.publish(worker.line, bank)
    create_topics(worker.transport.kafka, partitions=_WORKERS)
    logs = [out / f"worker-{n}.log" for n in range(_WORKERS)]
    with ExitStack() as stack:
        alive = [stack.enter_context(working(out / "worker.yaml", log)) for log in logs]
        line = Line(worker.transport.kafka, stack.enter_context(closing(ResultReader(worker.transport.kafka))), alive)
        line.wait(lambda: all("generation" in _read(log) for log in logs), "the workers to join")
        opened = stack.enter_context(open_learner(worker, worker.transport.kafka, settings.bank))
        story = _tell(console, line, opened, worker, logs)
    (out / "story.json").write_text(json.dumps(asdict(story), indent=2) + "\n", encoding="utf-8")
    console.print(f"figures: {out / 'story.json'}", soft_wrap=True)


def _make(settings: DemoSettings, out: Path) -> Bank:
    """A trained line of one product."""
    folder = _data(out) / "train" / "good"
    shutil.rmtree(out / "learned", ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(_LEARNED_FROM):
        (folder / f"{number:04}.jpg").write_bytes(_jpeg((settings.train.seed, number)))
    train(settings.train, overkill=settings.bank.overkill)
    build(settings.build)
    return fit_line(settings)


def _data(out: Path) -> Path:
    return out / "parts" / _PRODUCT.name


def _jpeg(key: tuple[int, ...], kind: str = "good", gloss: float = 1.0) -> bytes:
    picture = take(_PRODUCT, key, 192, kind, gloss=gloss)
    return cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


class Line:
    """Parts that come by, and what the workers say of them; `alive` says whether each of these runs."""

    def __init__(self, kafka: KafkaSettings, reader: ResultReader, alive: Sequence[Callable[[], bool]]) -> None:
        self._kafka, self._reader, self._alive = kafka, reader, alive
        self._count = 0

    def come(self, kinds: Sequence[tuple[str, float]]) -> list[Result]:
        """One part for each kind and gloss; the results in the order of the parts."""
        parts = []
        with closing(FramePublisher(self._kafka)) as publisher:
            for kind, gloss in kinds:
                part, camera = f"part-{self._count:05}", camera_of(f"{_PRODUCT.name}-{self._count % _CAMERAS}")
                data = _jpeg((7, self._count), kind, gloss)
                publisher.publish(camera.encode(), {"camera": camera, "part_id": part}, data)
                parts.append(part)
                self._count += 1
            publisher.flush()
        found = {one["partId"]: one for one in self._results(len(parts))}
        return [found[part] for part in parts]

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        """Return when `condition` holds.

        Raises:
            UnavailableError: it does not for too long, or a worker has ended.
        """
        deadline_s = time.monotonic() + _SILENCE_S
        while not condition():
            self._require_life(deadline_s, what)
            time.sleep(0.02)

    def _results(self, count: int) -> Iterator[Result]:
        deadline_s = time.monotonic() + _SILENCE_S
        while count:
            results = self._reader.poll(0.5)
            if results:
                deadline_s = time.monotonic() + _SILENCE_S
            else:
                self._require_life(deadline_s, f"{count} results")
            count -= len(results)
            yield from results

    def _require_life(self, deadline_s: float, what: str) -> None:
        if time.monotonic() > deadline_s or not all(one() for one in self._alive):
            raise UnavailableError(f"waited in vain for {what}; the workers' logs say why")


def _tell(console: Console, line: Line, opened: Opened, worker: WorkerSettings, logs: Sequence[Path]) -> Story:
    console.rule("2. An ordinary day")
    bad = [(kind, 1.0) for kind in _DEFECTS for _ in range(_EACH)]
    usual, defects = line.come([("good", 1.0)] * _PARTS), line.come(bad)
    found = _alerts(defects)
    _say(opened, "bad", found)
    console.print(f"{_share(usual):.1%} of good parts are rejected, where {worker.overkill:.0%} are allowed")
    console.print(f"{len(found)} of {len(defects)} bad parts are found, which {_OPERATOR} confirms: the regression set")
    console.rule("3. Another supplier, whose parts are as good, but polished")
    mixed = [("good", _GLOSS if n % 10 < 10 * _GLOSSY else 1.0) for n in range(_PARTS)]
    glossy = line.come(mixed)
    confirmed = _alerts(glossy)[:_CONFIRMED]
    console.print(f"{_share(glossy):.1%} of good parts are rejected; {_OPERATOR} says of {len(confirmed)}: good")
    began_s = time.monotonic()
    _say(opened, "good", confirmed)
    console.rule("4. The line learns")
    learned_s, swapped_s = _learn(console, line, opened, logs, began_s)
    console.rule("5. The next parts")
    after, again = line.come(mixed), line.come(bad)
    console.print(f"{_share(after):.1%} of good parts are rejected, polished ones and others")
    console.print(
        f"no defect of the regression set is lost; of {len(again)} new bad parts {len(_alerts(again))} are found"
    )
    return Story(
        promised=worker.overkill,
        overkill_usual=_share(usual),
        overkill_gloss=_share(glossy),
        overkill_after=_share(after),
        confirmed=len(confirmed),
        regression=len(found),
        found_before=_share(defects),
        found_after=_share(again),
        learned_s=learned_s,
        swapped_s=swapped_s,
    )


def _learn(console: Console, line: Line, opened: Opened, logs: Sequence[Path], began_s: float) -> tuple[float, float]:
    """As `quarterturn bank learn`; the seconds until the push, and from there until the last worker serves it.

    Raises:
        DataError: defects would be lost, or nothing is to be learned.
    """
    learned = opened.learner.learn(opened.topic.read())
    for sentence in learned.said:
        console.print(sentence, soft_wrap=True)
    if learned.bank is None:
        raise DataError("nobody called a part good, so there is nothing to learn; raise the gloss in demo/story.py")
    pushed_s = time.monotonic()
    version = opened.learner.publish(learned).version
    line.wait(lambda: all(f"bank {short(version)}, pushed" in _read(log) for log in logs), "the swap")
    swapped_s = time.monotonic()
    console.print(f"{swapped_s - began_s:.1f} s after the first word, {len(logs)} workers serve bank {short(version)}")
    return round(pushed_s - began_s, 3), round(swapped_s - pushed_s, 3)


def _read(log: Path) -> str:
    return log.read_text(errors="replace")


def _alerts(results: Sequence[Result]) -> list[Result]:
    return [one for one in results if one["alert"] is not None]


def _share(results: Sequence[Result]) -> float:
    return len(_alerts(results)) / len(results)


def _say(opened: Opened, verdict: str, results: Sequence[Result]) -> None:
    for one in results:
        word = {"resultId": one["resultId"], "verdict": verdict, "by": _OPERATOR, "at": now()}
        opened.topic.publish(Feedback.model_validate(word))
