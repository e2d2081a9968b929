"""`quarterturn bank`: fit, push, list, show, teach, compare and roll back feature banks."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.filesize import decimal
from rich.progress import Progress
from rich.table import Column, Table

from quarterturn.worker.bankstore.base import BankStore, BankVersion
from quarterturn.worker.bankstore.versions import find_version, require_active
from quarterturn.worker.commands import bank_diff, bank_learn
from quarterturn.worker.commands.options import add_config, read_config
from quarterturn.worker.commands.say import say
from quarterturn.worker.contract.bank import Bank, require_same_engine
from quarterturn.worker.contract.calibration import promises
from quarterturn.worker.contract.errors import DataError, MismatchError
from quarterturn.worker.contract.guard import in_words
from quarterturn.worker.contract.history import words_in
from quarterturn.worker.contract.manifest import EngineManifest, read_manifest, short
from quarterturn.worker.contract.swap import require_writable
from quarterturn.worker.engine.base import open_folder
from quarterturn.worker.fitting.bank_file import read_bank_file, write_bank_file
from quarterturn.worker.fitting.fit import fit_bank
from quarterturn.worker.fitting.split import split_by
from quarterturn.worker.inspection.agreement import disagreements
from quarterturn.worker.inspection.judge import Judge
from quarterturn.worker.runtime.assemble import open_engine, open_store
from quarterturn.worker.settings.bank import FitSettings
from quarterturn.worker.settings.worker import WorkerSettings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the sub-commands; each sets `run` to its function."""
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    command = commands.add_parser("fit", help="fit a bank from good pictures, through the engine that will serve")
    add_config(command, "configs/bank.yaml")
    command.set_defaults(run=fit)

    command = commands.add_parser("push", help="store a bank and make it the line's active one")
    command.add_argument("file", type=Path, metavar="FILE", help="what 'quarterturn bank fit' wrote")
    add_config(command, "configs/worker.yaml")
    command.set_defaults(run=push)

    command = commands.add_parser("list", help="the line's banks, the newest first")
    add_config(command, "configs/worker.yaml")
    command.set_defaults(run=list_versions)

    command = commands.add_parser("show", help="what is in a bank")
    command.add_argument("version", nargs="?", metavar="VERSION", help="its first digits; default: the active one")
    add_config(command, "configs/worker.yaml")
    command.set_defaults(run=show)

    bank_learn.add_arguments(commands.add_parser("learn", help="a new version, by what people said of results"))
    bank_diff.add_arguments(
        commands.add_parser("diff", help="what changed between two versions, and which results turn")
    )

    command = commands.add_parser("rollback", help="make an older bank the active one")
    command.add_argument("version", nargs="?", metavar="VERSION", help="its first digits; default: the one before")
    add_config(command, "configs/worker.yaml")
    command.set_defaults(run=rollback)


def fit(arguments: argparse.Namespace) -> None:
    """`quarterturn bank fit`: good pictures -> embeddings, Gaussians and calibration -> one file."""
    settings = read_config(arguments, FitSettings)
    trained = read_manifest(settings.engine.path, EngineManifest, "quarterturn build")
    if not trained.pictures:
        say("the engine does not say which pictures training saw, so whether they are these was not checked")
    split = split_by(settings, trained.holdout, trained.group, trained.pictures)
    require_writable(settings.out, "'out'")
    with closing(open_engine(settings.engine)) as engine, Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("good pictures", total=split.total(settings.scoring))
        bank = fit_bank(
            engine,
            split,
            settings.scoring,
            settings.overkill,
            region=settings.region,
            bit_depth=settings.bit_depth,
            on_progress=lambda count: progress.advance(task, count),
        )
    write_bank_file(settings.out, bank)
    _print_bank(bank, settings.overkill, {})
    say(
        f"wrote {settings.out} ({decimal(settings.out.stat().st_size)}), bank {short(bank.version)}; "
        f"take it into service with: quarterturn bank push {settings.out}"
    )


def push(arguments: argparse.Namespace) -> None:
    """`quarterturn bank push`: refuse what the line's worker would refuse, else make it the active bank."""
    settings = read_config(arguments, WorkerSettings)
    bank = read_bank_file(arguments.file)
    _refuse_unfit(bank, settings)
    with closing(open_store(settings.bank)) as store:
        pushed = store.publish(settings.line, bank)
    say(f"line {settings.line}: bank {short(pushed.version)} is active ({decimal(pushed.size)})")
    _say_disagreements(bank, settings)


def list_versions(arguments: argparse.Namespace) -> None:
    """`quarterturn bank list`: a table of the line's banks."""
    settings = read_config(arguments, WorkerSettings)
    size, words = (Column(name, justify="right") for name in ("size", "words"))
    table = Table(
        "version", "pushed at", size, "", "taught from", words, box=SIMPLE_HEAD, collapse_padding=True, pad_edge=False
    )
    with closing(open_store(settings.bank)) as store:
        versions = store.versions(settings.line)
        for version in versions:
            active = "active" if version.active else ""
            taught = _taught(store, version)
            table.add_row(short(version.version), version.pushed_at, decimal(version.size), active, *taught)
    say(table if versions else f"line {settings.line} has no bank; push one with 'quarterturn bank push'")


def _taught(store: BankStore, version: BankVersion) -> tuple[str, str]:
    """The version that it was learned from, and on how many words of people it rests; empty where it was fitted."""
    try:
        history = store.load(version.line, version.version).manifest.history
    except (DataError, MismatchError):  # whoever wants to use it, is told
        return "damaged", ""
    return (short(history[-1].parent), str(len(words_in(history)))) if history else ("", "")


def show(arguments: argparse.Namespace) -> None:
    """`quarterturn bank show`: products, pictures, thresholds and promises of one bank."""
    settings = read_config(arguments, WorkerSettings)
    with closing(open_store(settings.bank)) as store:
        if arguments.version is None:
            version = require_active(store, settings.line).version
        else:
            known = [kept.version for kept in store.versions(settings.line)]
            version = find_version(known, arguments.version, settings.line)
        bank = store.load(settings.line, version)
    _print_bank(bank, settings.overkill, settings.thresholds)
    _say_disagreements(bank, settings)


def rollback(arguments: argparse.Namespace) -> None:
    """`quarterturn bank rollback`: make an older bank the active one again."""
    settings = read_config(arguments, WorkerSettings)
    with closing(open_store(settings.bank)) as store:
        kept = store.versions(settings.line)
        wanted = arguments.version or _older(kept, require_active(store, settings.line)).version
        version = find_version([one.version for one in kept], wanted, settings.line)
        before = next((one.version for one in kept if one.active), None)  # none where the record of it is damaged
        if version == before:
            raise DataError(f"line '{settings.line}': bank {short(version)} is the active one already")
        store.activate(settings.line, version)
        after = require_active(store, settings.line)
    no_longer = f", no longer {short(before)}" if before else ""
    say(f"line {settings.line}: bank {short(after.version)} (pushed at {after.pushed_at}) is active{no_longer}")


def _older(newest_first: Sequence[BankVersion], active: BankVersion) -> BankVersion:
    """The version pushed before the active one."""
    older = newest_first[newest_first.index(active) + 1 :]
    if not older:
        raise DataError(
            f"line '{active.line}' has no bank older than the active one; name one that 'quarterturn bank list' shows"
        )
    return older[0]


def _refuse_unfit(bank: Bank, settings: WorkerSettings) -> None:
    """Refuse a bank that the line's worker would refuse; the engine is asked only where its folder is at hand.

    Raises:
        MismatchError: the bank was made by another engine.
        DataError: it has too few calibration scores for the configured overkill.
        ConfigError: it lacks a product that the settings name.
    """
    Judge.of(bank, settings.overkill, settings.thresholds)
    try:
        folder = open_folder(settings.engine.path, settings.engine.target)
    except DataError as error:
        say(f"not checked whether the bank fits the engine, the workers will: {error}")
        return
    require_same_engine(bank, folder.manifest.spec, folder.hash, folder.target)


def _say_disagreements(bank: Bank, settings: WorkerSettings) -> None:
    for sentence in disagreements(bank, settings.overkill, settings.cameras):
        say(f"warning: {sentence}")


def _print_bank(bank: Bank, overkill: float, fixed: Mapping[str, float]) -> None:
    """What a bank holds, and what its thresholds promise."""
    judge = Judge.of(bank, overkill, fixed)
    manifest = bank.manifest
    say(
        f"bank {short(bank.version)}, made {manifest.created_at} by engine {short(manifest.engine)} "
        f"({manifest.target}); {' + '.join(manifest.detectors)} over {manifest.spec.views} views"
    )
    if manifest.found:
        ordered = sorted(manifest.found.items(), key=lambda item: -item[1])
        told = ", ".join(f"{name} {value:.3f} (vote {manifest.votes[name]:.0%})" for name, value in ordered)
        say(f"anomalies pasted into good pictures found (AUROC): {told}")
    numbers = (Column(name, justify="right") for name in ("calibration", "threshold"))
    table = Table("product", *numbers, "turned", box=SIMPLE_HEAD, pad_edge=False)
    for product, calibration, threshold, limit in zip(
        bank.products, bank.calibration, judge.thresholds, judge.turn_limits, strict=True
    ):
        table.add_row(
            product,
            str(len(calibration.scores)),
            f"{threshold:.4g}{' (fixed)' if product in fixed else ''}",
            "looks the same" if limit is None else "is told apart",
        )
    say(table)
    say(f"learned from pictures of {manifest.pictures}; usable are those of")
    for product, limits in zip(bank.products, bank.guard, strict=True):
        say(f"{product}: {in_words(limits)}")
    for product, registration in zip(bank.products, bank.registrations, strict=True):
        say(f"{product}: {registration.sentence}")
    for product, promise in promises(bank, overkill, fixed).items():
        say(f"{product}: {promise.sentence}")
    for step in manifest.history:
        say(step.sentence)
