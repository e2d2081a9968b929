"""`quarterturn evaluate`: score a labelled folder and write a report."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from quarterturn.worker.bankstore.versions import load_active
from quarterturn.worker.commands.options import add_config, read_config
from quarterturn.worker.contract.bank import Bank
from quarterturn.worker.contract.manifest import EngineManifest, read_manifest
from quarterturn.worker.contract.swap import require_writable
from quarterturn.worker.evaluation.evaluate import evaluate
from quarterturn.worker.evaluation.probe.probe import Probe, probe, probe_json
from quarterturn.worker.evaluation.report import write_report
from quarterturn.worker.evaluation.result import Evaluation
from quarterturn.worker.evaluation.summary import sentences, table, to_json
from quarterturn.worker.fitting.bank_file import read_bank_file
from quarterturn.worker.inspection.agreement import disagreements
from quarterturn.worker.pictures.sets import test_pictures
from quarterturn.worker.runtime.assemble import open_engine, open_store
from quarterturn.worker.settings.worker import CameraSettings, WorkerSettings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options, and set `run` to its function."""
    add_config(parser, "configs/worker.yaml")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="labelled pictures, see docs/data.md")
    parser.add_argument("--bank", type=Path, metavar="FILE", help="a bank's file; default: the line's active bank")
    parser.add_argument(
        "--camera",
        metavar="NAME",
        help="the camera whose region and bit_depth apply; default: those that the bank was fitted with",
    )
    parser.add_argument(
        "--no-probe",
        action="store_false",
        dest="probe",
        help="do not ask whether something trivial separates good from bad, as 'quarterturn probe' does",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write an HTML report")
    parser.add_argument("--json", action="store_true", help="print the figures and every verdict as JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """`quarterturn evaluate`: print the figures, and write the report where `--out` names one."""
    settings = read_config(arguments, WorkerSettings)
    if arguments.out:
        require_writable(arguments.out, "--out")
    pictures = test_pictures(arguments.data)
    bank = read_bank_file(arguments.bank) if arguments.bank else _active_bank(settings)
    camera = settings.camera(arguments.camera) if arguments.camera else CameraSettings()
    with closing(open_engine(settings.engine)) as engine, Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("inspecting", total=None)
        evaluation = evaluate(
            engine,
            bank,
            pictures,
            settings.overkill,
            data=arguments.data,
            thresholds=settings.thresholds,
            region=camera.region,
            bit_depth=camera.bit_depth,
            on_progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    bit_depth = camera.bit_depth or bank.manifest.bit_depth
    probed = probe(arguments.data, bit_depth=bit_depth) if arguments.probe else None
    ran = {**_engine_of(settings), **evaluation.ran, "camera": arguments.camera or "none named"}
    named = {arguments.camera: camera} if arguments.camera else {}
    differ = disagreements(bank, settings.overkill, named) if named else []
    evaluation = replace(evaluation, ran=ran, warnings=[*evaluation.warnings, *differ])
    _print(evaluation, probed, as_json=arguments.json)
    if arguments.out:  # last: should it fail, the figures are there
        write_report(evaluation, arguments.out, probed.findings if probed else [])


def _print(evaluation: Evaluation, probed: Probe | None, *, as_json: bool) -> None:
    if as_json:
        document = {**to_json(evaluation), "probe": probe_json(probed) if probed else None}
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
        return
    console = Console(markup=False, highlight=False)
    console.print(table(evaluation))
    findings = [f"probe: {finding.sentence}" for finding in probed.findings] if probed else []
    for sentence in [*sentences(evaluation), *findings]:
        console.print(sentence, soft_wrap=True)


def _engine_of(settings: WorkerSettings) -> dict[str, str]:
    folder = settings.engine.path
    precision = read_manifest(folder, EngineManifest, "quarterturn build").targets[settings.engine.target].precision
    return {"engine from": str(folder.resolve()), "precision": precision}


def _active_bank(settings: WorkerSettings) -> Bank:
    with closing(open_store(settings.bank)) as store:
        return load_active(store, settings.line)
