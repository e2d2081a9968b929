"""`quarterturn silence`: hold the alerts of a camera or product for a while, without a restart."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import closing
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from quarterturn.worker.commands.options import add_config, read_config
from quarterturn.worker.commands.say import say
from quarterturn.worker.contract.errors import ConfigError, DataError
from quarterturn.worker.contract.settings import parse_settings
from quarterturn.worker.contract.silence import Silence
from quarterturn.worker.settings.worker import WorkerSettings

if TYPE_CHECKING:
    from quarterturn.worker.transport.kafka.silences import SilenceTopic

_WORDS = ("camera", "product", "minutes", "reason", "by")
_A_YEAR = 366 * 24 * 60  # in minutes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options, and set `run` to its function."""
    parser.description = "Hold alerts for a while; verdicts go on. Without a camera or product: list the silences."
    parser.add_argument("--camera", metavar="NAME", help="whose alerts; default: those of all cameras")
    parser.add_argument("--product", metavar="NAME", help="of which product; default: of all")
    parser.add_argument("--minutes", type=float, metavar="N", help="for how long, from now on")
    parser.add_argument("--reason", metavar="TEXT", help="for whoever wonders why nothing comes")
    parser.add_argument("--by", metavar="NAME", help="who says so")
    parser.add_argument("--end", action="store_true", help="end the silence of this camera and product now")
    add_config(parser, "configs/worker.yaml")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Declare a silence on the line's topic, end one, or list those that are not over."""
    from quarterturn.worker.transport.kafka.silences import SilenceTopic  # slow, and only this command needs it

    settings = read_config(arguments, WorkerSettings)
    kafka = settings.require_kafka("write silences into 'silences' of the settings")
    now, scope = datetime.now(timezone.utc), (arguments.camera, arguments.product)
    listing = not arguments.end and all(getattr(arguments, name) is None for name in _WORDS)
    if scope == (None, None) and not listing:
        raise ConfigError("say of which --camera or --product; a line is not silenced as a whole")
    if arguments.end and any(getattr(arguments, name) is not None for name in _WORDS[2:]):
        raise ConfigError("--end ends a silence now; leave --minutes, --reason and --by out")
    silence = None if arguments.end or listing else _declared(arguments, now)
    with closing(SilenceTopic(kafka)) as topic:
        if silence is not None:
            topic.publish(silence)
            _say(silence)
        elif arguments.end:
            _end(topic, scope)
        else:
            _list((*settings.silences, *topic.words()), now)


def _end(topic: SilenceTopic, scope: tuple[str | None, str | None]) -> None:
    """Raises DataError where no such silence was declared on the topic."""
    declared = [(one.camera, one.product) for one in topic.words()]
    if scope not in declared:
        known = "; ".join(_scope(*one) for one in declared) or "none"
        raise DataError(
            f"no silence of {_scope(*scope)} was declared with this command (declared: {known}); those of worker.yaml "
            "end with its lines"
        )
    topic.end(*scope)
    say(f"{_scope(*scope)}: the silence is ended")


def _declared(arguments: argparse.Namespace, now: datetime) -> Silence:
    if arguments.minutes is None or arguments.reason is None:
        raise ConfigError("a silence needs --minutes and --reason; without end or reason it would be forgotten")
    if not 0 < arguments.minutes <= _A_YEAR:
        raise ConfigError(f"--minutes {arguments.minutes:g}: must be above 0, and a year ({_A_YEAR}) at most")
    document = {name: getattr(arguments, name) for name in ("camera", "product", "reason", "by")}
    ends = now + timedelta(minutes=arguments.minutes)
    return parse_settings({**document, "starts": now, "ends": ends}, Silence, "the silence")


def _list(silences: Sequence[Silence], now: datetime) -> None:
    left = [silence for silence in silences if silence.ends > now]
    for silence in sorted(left, key=lambda one: one.ends):
        _say(silence)
    if not left:
        say("no silence is declared, or all are over")


def _say(silence: Silence) -> None:
    times = f"{silence.starts:%Y-%m-%d %H:%M} to {silence.ends:%Y-%m-%d %H:%M} UTC"
    by = f" ({silence.by})" if silence.by else ""
    say(f"{_scope(silence.camera, silence.product)}: {times}: {silence.reason}{by}")


def _scope(camera: str | None, product: str | None) -> str:
    return f"{camera or 'all cameras'}, {product or 'all products'}"
