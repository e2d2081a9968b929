"""`quarterturn feedback`: say what a part really is, list what was said, and where the newest bank disagrees."""

from __future__ import annotations

import argparse
import getpass
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager

from rich.box import SIMPLE_HEAD
from rich.table import Column, Table

from quarterturn.worker.bankstore.versions import load_active
from quarterturn.worker.commands.options import add_config, add_fit, read_config
from quarterturn.worker.commands.say import say
from quarterturn.worker.contract.errors import (
    ConfigError,
    DataError,
    FrameError,
    NoFrameError,
    QuarterturnError,
)
from quarterturn.worker.contract.manifest import short
from quarterturn.worker.contract.picture import Region
from quarterturn.worker.contract.settings import load_settings, parse_settings
from quarterturn.worker.contract.times import now
from quarterturn.worker.learning.disagreements import find_disagreements
from quarterturn.worker.learning.shelf import Shelf
from quarterturn.worker.messages.events import position_of, result_id_in
from quarterturn.worker.messages.feedback import MAX_NAME, Feedback
from quarterturn.worker.messages.frames import Frame, Position
from quarterturn.worker.pictures.decode import decode_picture
from quarterturn.worker.runtime.assemble import open_engine, open_store
from quarterturn.worker.settings.bank import FitSettings
from quarterturn.worker.settings.worker import CameraSettings, KafkaSettings, WorkerSettings

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
    kafka = settings.require_kafka("what people say of results goes through Kafka")
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
    _write(_feedback(arguments, kafka), settings, kafka)


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


def _require_known(feedback: Feedback, settings: WorkerSettings, kafka: KafkaSettings) -> None:
    """Refuse a frame that never was, a product that the bank does not hold, and a region outside the picture.

    What cannot be asked is said and not checked: retention may have deleted the frame, and who may write here need not
    be allowed to read frames or banks.

    Raises:
        DataError: it is one of those.
    """
    if feedback.product is not None:
        try:
            with closing(open_store(settings.bank)) as store:
                products = load_active(store, settings.line).products
        except QuarterturnError as error:
            say(f"not checked whether the line knows '{feedback.product}': {error}")
        else:
            if feedback.product not in products:
                raise DataError(f"--product {feedback.product}: the line's bank holds {', '.join(products)}")
    frame, region = _fetched(position_of(feedback.result_id), kafka), feedback.region
    if frame is None or region is None:
        return
    try:
        info = frame.info()
        bit_depth = settings.cameras.get(info.camera, CameraSettings()).bit_depth
        height, width = decode_picture(frame.data, info.raw, bit_depth).shape[:2]
    except FrameError as error:
        raise DataError(f"--region: the frame of {feedback.result_id} is no picture ({error}); leave it out") from error
    if region.x + region.width > width or region.y + region.height > height:
        raise DataError(f"--region: reaches out of the picture, which is {width} x {height} pixels")


def _fetched(position: Position, kafka: KafkaSettings) -> Frame | None:
    from quarterturn.worker.transport.kafka.archive import FrameArchive

    try:
        with closing(FrameArchive(kafka)) as archive:
            found = archive.fetch([position])[position]
        if isinstance(found, DataError):
            raise found
    except NoFrameError:
        raise
    except QuarterturnError as error:
        say(f"the frame was not looked at: {error}")
        return None
    return found


def _feedback(arguments: argparse.Namespace, kafka: KafkaSettings) -> Feedback:
    result_id = result_id_in(arguments.what)
    position = position_of(result_id)
    if position.topic != kafka.topics.frames:
        raise DataError(
            f"{arguments.what}: is a result of the topic '{position.topic}', but this line's frames are in "
            f"'{kafka.topics.frames}'; name the settings of its line with --config"
        )
    document = {
        "resultId": result_id,
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


def _write(feedback: Feedback, settings: WorkerSettings, kafka: KafkaSettings) -> None:
    from quarterturn.worker.transport.kafka.feedback import FeedbackTopic

    with closing(FeedbackTopic(kafka)) as topic:
        _require_known(feedback, settings, kafka)
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
        bank = load_active(store, settings.line)
        kept = Shelf(fit.learned).read()
        disagreements = find_disagreements(engine, bank, said, kept=kept, archive=archive, settings=settings)
    numbers = (Column(name, justify="right") for name in ("score", "threshold"))
    table = _table("the bank says", *numbers)
    for word, data in disagreements.found:
        table.add_row(
            word.result_id, word.verdict, word.by, data.alert or "good", f"{data.score:.4g}", f"{data.threshold:.4g}"
        )
    compared = len(said) - len(disagreements.unknown)
    say(table if disagreements.found else f"bank {short(bank.version)} agrees with all {compared} words")
    for why in disagreements.unknown.values():
        say(f"not compared: {why}")


def _table(*columns: str | Column) -> Table:
    return Table("result", "is", "by", *columns, box=SIMPLE_HEAD, pad_edge=False)
