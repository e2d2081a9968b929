"""`quarterturn bank learn`: what people said of results becomes a new version of the line's bank."""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Mapping

from rich.filesize import decimal

from quarterturn.worker.commands.options import add_config, add_fit, read_config
from quarterturn.worker.commands.say import say
from quarterturn.worker.contract.errors import DataError, QuarterturnError
from quarterturn.worker.contract.manifest import short
from quarterturn.worker.contract.settings import load_settings
from quarterturn.worker.learning.cache import RememberingEngine
from quarterturn.worker.learning.learn import Learned, Learner
from quarterturn.worker.messages.feedback import Feedback
from quarterturn.worker.settings.bank import FitSettings
from quarterturn.worker.settings.worker import WorkerSettings

log = logging.getLogger(__name__)

_WAIT_S = 1.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options, and set `run` to its function."""
    add_config(parser, "configs/worker.yaml")
    add_fit(parser)
    parser.add_argument("--dry-run", action="store_true", help="say what would be published, and publish nothing")
    parser.add_argument("--follow", action="store_true", help="go on, and learn whenever somebody says something")
    parser.add_argument(
        "--again", action="store_true", help="learn also what a version knew that was rolled back since"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """`quarterturn bank learn`: once, or whenever there is something to learn."""
    from quarterturn.worker.learning.open import open_learner  # takes a while, and only this command needs it

    worker, fit = read_config(arguments, WorkerSettings), load_settings(arguments.fit, FitSettings)
    kafka = worker.require_kafka("what people say of results goes through Kafka")
    with open_learner(worker, kafka, fit) as opened:
        round_ = _Round(opened.learner, opened.engine, worker.line, publish=not arguments.dry_run)
        round_.learn(opened.topic.read(), rolled_back=arguments.again)
        while arguments.follow:
            if opened.topic.poll(_WAIT_S):
                try:
                    round_.learn(opened.topic.read())
                except QuarterturnError as error:  # the next word may mend it
                    log.error("%s", error)


class _Round:
    """One round of learning, told to people; what was told before is not repeated."""

    def __init__(self, learner: Learner, engine: RememberingEngine, line: str, *, publish: bool) -> None:
        self._learner, self._engine, self._line, self._publish = learner, engine, line, publish
        self._told: set[str] = set()

    def learn(self, words: Mapping[str, Feedback], *, rolled_back: bool = False) -> None:
        """Raises DataError where confirmed defects would be lost."""
        began_s = time.monotonic()
        learned = self._learner.learn(words, rolled_back=rolled_back)
        for sentence in learned.said:
            if sentence not in self._told:
                say(sentence)
        self._told.update(learned.said)
        if learned.bank is None:
            bad = sum(not one.is_good for one in learned.kept.values())
            say(f"line {self._line}: nothing new to learn; {bad} confirmed defects are kept for every new version")
            return
        if learned.blocked:
            raise DataError(f"line {self._line}: not published, {'; '.join(learned.blocked)}")
        say(learned.bank.manifest.history[-1].sentence)
        if self._publish:
            self._say_published(learned, began_s)
        else:
            say(f"line {self._line}: nothing is published (--dry-run)")

    def _say_published(self, learned: Learned, began_s: float) -> None:
        published = self._learner.publish(learned)
        say(
            f"line {self._line}: bank {short(published.version)} is active ({decimal(published.size)}), after "
            f"{time.monotonic() - began_s:.1f} s; {self._engine.embedded} frames were embedded, "
            f"{self._engine.remembered} remembered ({decimal(self._engine.forget_unused())} on disk)"
        )
