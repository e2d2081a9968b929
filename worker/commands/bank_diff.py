"""`quarterturn bank diff`: what changed between two versions of a line's bank, and which results would turn."""

from __future__ import annotations

import argparse
from contextlib import closing

from quarterturn.worker.bankstore.base import BankStore
from quarterturn.worker.bankstore.versions import find_version, require_active
from quarterturn.worker.commands.options import add_config, read_config
from quarterturn.worker.commands.say import say
from quarterturn.worker.contract.bank import Bank
from quarterturn.worker.contract.errors import ConfigError, DataError
from quarterturn.worker.contract.manifest import short
from quarterturn.worker.learning.diff import Turned, Turns, changes, turns
from quarterturn.worker.learning.recent import LAST, Recent
from quarterturn.worker.runtime.assemble import open_engine, open_store
from quarterturn.worker.settings.worker import KafkaSettings, WorkerSettings

_NAMED = 20  # results that turn


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options, and set `run` to its function."""
    add_config(parser, "configs/worker.yaml")
    parser.add_argument("first", nargs="?", metavar="A", help="default: the one that B was learned from or came after")
    parser.add_argument("second", nargs="?", metavar="B", help="default: the active one")
    parser.add_argument(
        "--last", type=int, default=LAST, metavar="N", help="recorded results to decide anew; 0: none (%(default)s)"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """`quarterturn bank diff`: print both versions beside each other."""
    settings = read_config(arguments, WorkerSettings)
    if arguments.last < 0:
        raise ConfigError(f"--last {arguments.last}: must be 0 or more")
    with closing(open_store(settings.bank)) as store:
        before, after = _versions(store, settings.line, arguments.first, arguments.second)
    say(f"from bank {short(before.version)} to bank {short(after.version)}")
    for sentence in changes(before, after, settings):
        say(sentence)
    if settings.transport.kafka is None:
        say("recorded results are not decided anew: the line's frames come from a folder")
    elif arguments.last:
        _say_turns(_turns(settings, settings.transport.kafka, before, after, arguments.last))


def _versions(store: BankStore, line: str, first: str | None, second: str | None) -> tuple[Bank, Bank]:
    kept = [one.version for one in store.versions(line)]  # the newest first
    version = find_version(kept, second, line) if second else require_active(store, line).version
    after = store.load(line, version)
    if first:
        return store.load(line, find_version(kept, first, line)), after
    history = after.manifest.history
    older = [history[-1].parent] if history and history[-1].parent in kept else kept[kept.index(version) + 1 :]
    if not older:
        raise DataError(f"line '{line}' has no bank older than {short(version)}; name two of 'quarterturn bank list'")
    return store.load(line, older[0]), after


def _turns(settings: WorkerSettings, kafka: KafkaSettings, before: Bank, after: Bank, last: int) -> Turns:
    from quarterturn.worker.transport.kafka.archive import FrameArchive
    from quarterturn.worker.transport.kafka.results import ResultReader

    with (
        closing(open_engine(settings.engine)) as engine,
        closing(FrameArchive(kafka)) as archive,
        closing(ResultReader(kafka, 2 * last)) as reader,
    ):
        return turns(engine, before, after, Recent(reader, last).read(), archive=archive, settings=settings)


def _say_turns(found: Turns) -> None:
    passing = sum(one.was_alert for one in found.turned)
    say(
        f"of {found.seen + found.by_score + found.unknown} recorded results, {passing} alerts would pass and "
        f"{len(found.turned) - passing} that passed would be alerts"
    )
    say(
        f"decided by their pictures: {found.seen}; by the recorded score, as the picture is gone: {found.by_score}; "
        f"not known, as neither version made that score: {found.unknown}"
    )
    for one in found.turned[:_NAMED]:
        say(_told(one))
    if len(found.turned) > _NAMED:
        say(f"and {len(found.turned) - _NAMED} more")


def _told(one: Turned) -> str:
    (before, after), (was, now) = one.scores, one.thresholds
    turn = "an alert would pass" if one.was_alert else "what passed would be an alert"
    score = f"{before:.4g} of {was:.4g} -> " + (f"{after:.4g} of {now:.4g}" if after is not None else f"of {now:.4g}")
    return f"{one.result_id}: {turn} ({score}{'' if one.seen else ', by the recorded score'})"
