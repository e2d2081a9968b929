"""`quarterturn feedback`: say what a part really is, list what was said, and where the newest bank disagrees."""

from __future__ import annotations

import argparse
import getpass
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.table import Column, Table

from quarterturn.worker.bankstore.versions import require_active
from quarterturn.worker.commands.options import add_config, add_fit, read_config
from quarterturn.worker.commands.say import say
from quarterturn.worker.contract.errors import ConfigError, DataError
from quarterturn.worker.contract.picture import Region
from quarterturn.worker.contract.settings import load_settings, parse_settings
from quarterturn.worker.contract.times import now
from quarterturn.worker.learning.disagreements import find_disagreements
from quarterturn.worker.learning.shelf import Shelf
from quarterturn.worker.messages.events import position_of
from quarterturn.worker.messages.feedback import MAX_NAME, Feedback
from quarterturn.worker.runtime.assemble import open_engine, open_store
from quarterturn.worker.settings.bank import FitSettings
from quarterturn.worker.settings.worker import KafkaSettings, WorkerSettings

LIST, DISAGREEMENTS = "list", "disagreements"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options, and set `run` to its function."""
    add_config(parser, "configs/worker.yaml")
    parser.add_argument(
        "what",
        metavar=f"RESULT_ID | {LIST} | {DISAGREEMENTS}",
        help=f"the resultId of a verdict; {LIST}: what was said last of each result; {DISAGREEMENTS}: where the bank "
        "in service would decide otherwise",
    )
    parser.add_argument("verdict", nargs="?", choices=("good", "bad"), help="what the part is")
    parser.add_argument("--by", metavar="NAME", help="who says so; default: the name of the user")
    parser.add_argument("--product", metavar="NAME", help="what it is, if not what it was taken for")
    parser.add_argument("--region", metavar="X,Y,W,H", help="where the defect is, in pixels of the picture")
    add_fit(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """`quarterturn feedback`: write one word, or print."""
    settings = read_config(arguments, WorkerSettings)
    kafka = kafka_of(settings, arguments.config)
    if arguments.what in (LIST, DISAGREEMENTS):
        _refuse_word(arguments)
    if arguments.what == LIST:
        with words(kafka) as said:
            _list(said)
        return
    if arguments.what == DISAGREEMENTS:
        fit = load_settings(arguments.fit, FitSettings)
        with words(kafka) as said:
            _disagreements(fit, settings, kafka, said)
        return
    if arguments.verdict is None:
        raise ConfigError(f"feedback {arguments.what}: say whether the part is good or bad")
    _write(_feedback(arguments, kafka), kafka)


def kafka_of(settings: WorkerSettings, config: Path) -> KafkaSettings:
    """The line's Kafka.

    Raises:
        ConfigError: its frames come from a folder.
    """
    if settings.transport.kafka is None:
        raise ConfigError(f"{config}: transport.kafka is missing; what people say of results goes through Kafka")
    return settings.transport.kafka


@contextmanager
def words(kafka: KafkaSettings) -> Iterator[dict[str, Feedback]]:
    """The last word on each result."""
    from quarterturn.worker.transport.kafka.feedback import FeedbackTopic  # takes a while, as do its neighbours

    with closing(FeedbackTopic(kafka)) as topic:
        yield topic.read()


def _refuse_word(arguments: argparse.Namespace) -> None:
    for name in ("verdict", "by", "product", "region"):
        if getattr(arguments, name) is not None:
            raise ConfigError(
                f"feedback {arguments.what}: prints, and takes no {name}; name a resultId to say something"
            )


def _feedback(arguments: argparse.Namespace, kafka: KafkaSettings) -> Feedback:
    position = position_of(arguments.what)
    if position.topic != kafka.topics.frames:
        raise DataError(
            f"{arguments.what}: is a result of the topic '{position.topic}', but this line's frames are in "
            f"'{kafka.topics.frames}'; name the settings of its line with --config"
        )
    document = {
        "resultId": arguments.what,
        "verdict": arguments.verdict,
        "by": getpass.getuser()[:MAX_NAME] if arguments.by is None else arguments.by,
        "at": now(),
        "product": arguments.product,
        "region": _region(arguments.region),
    }
    return parse_settings(document, Feedback, "feedback")


def _region(text: str | None) -> Region | None:
    if text is None:
        return None
    numbers = text.split(",")
    if len(numbers) != len(Region.model_fields) or not all(number.strip().isdecimal() for number in numbers):
        raise ConfigError(f"--region {text}: write it as x,y,width,height in pixels, for example 120,40,64,64")
    return parse_settings(dict(zip(Region.model_fields, map(int, numbers), strict=True)), Region, "--region")


def _write(feedback: Feedback, kafka: KafkaSettings) -> None:
    from quarterturn.worker.transport.kafka.feedback import FeedbackTopic

    with closing(FeedbackTopic(kafka)) as topic:
        topic.publish(feedback)
    say(f"{feedback.result_id}: {feedback.verdict}, says {feedback.by}")


def _list(said: Mapping[str, Feedback]) -> None:
    table = _table("at", "product", "region")
    for one in said.values():
        region = ",".join(str(number) for number in one.region.model_dump().values()) if one.region else ""
        table.add_row(one.result_id, one.verdict, one.by, one.at, one.product or "", region)
    say(table if said else "nobody has said anything yet; 'quarterturn feedback RESULT_ID good' does")


def _disagreements(
    fit: FitSettings, settings: WorkerSettings, kafka: KafkaSettings, said: Mapping[str, Feedback]
) -> None:
    from quarterturn.worker.transport.kafka.archive import FrameArchive

    with (
        closing(open_store(settings.bank)) as store,
        closing(open_engine(settings.engine)) as engine,
        closing(FrameArchive(kafka)) as archive,
    ):
        bank = store.load(settings.line, require_active(store, settings.line).version)
        kept = Shelf(fit.learned).read()
        disagreements = find_disagreements(engine, bank, said, kept=kept, archive=archive, settings=settings)
    numbers = (Column(name, justify="right") for name in ("score", "threshold"))
    table = _table("the bank says", *numbers)
    for word, data in disagreements.found:
        table.add_row(
            word.result_id, word.verdict, word.by, data.alert or "good", f"{data.score:.4g}", f"{data.threshold:.4g}"
        )
    compared = len(said) - len(disagreements.unknown)
    say(table if disagreements.found else f"bank {bank.version[:12]} agrees with all {compared} words")
    for why in disagreements.unknown.values():
        say(f"not compared: {why}")


def _table(*columns: str | Column) -> Table:
    return Table("result", "is", "by", *columns, box=SIMPLE_HEAD, pad_edge=False)
