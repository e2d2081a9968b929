"""`quarterturn demo`: the whole way on one machine. Every step is what a user's own command would do."""

from __future__ import annotations

import argparse
import uuid
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

import yaml
from rich.console import Console
from rich.progress import track

from quarterturn.demo.config import DemoSettings, settings_for
from quarterturn.demo.fit import fit_line, split_for
from quarterturn.demo.folder import claim
from quarterturn.demo.render import render_line
from quarterturn.demo.stream import Result, camera_of, lay_out, through_folder, through_kafka
from quarterturn.demo.summary import print_summary, streamed_evaluation
from quarterturn.engine_build.build import build
from quarterturn.trainer.train import train
from quarterturn.worker.contract.bank import Bank
from quarterturn.worker.contract.settings import parse_settings
from quarterturn.worker.contract.times import parse_time
from quarterturn.worker.evaluation.evaluate import evaluate
from quarterturn.worker.evaluation.report import write_report
from quarterturn.worker.evaluation.result import Evaluation
from quarterturn.worker.fitting.split import require_enough
from quarterturn.worker.pictures.sets import TestPicture, test_pictures
from quarterturn.worker.runtime.assemble import open_engine, open_store
from quarterturn.worker.settings.worker import BankSettings, KafkaSettings, Topics, WorkerSettings
from quarterturn.worker.transport.kafka.topics import look_at_topics

_NAME = "demo"  # of the line; what is its own begins with it


def run(arguments: argparse.Namespace) -> None:
    """Render or take parts, train, build, fit and push a bank, stream the test pictures, report."""
    console = Console(highlight=False)
    out: Path = arguments.out
    data: Path = arguments.data or out / "parts"
    settings = settings_for(arguments.config, data, out, arguments.overrides)
    require_services(arguments)
    if arguments.data is None:
        claim(out)
        console.rule(f"1. Render parts into {data}")
        render_line(data, seed=settings.train.seed)
    pictures = test_pictures(data)
    require_enough(split_for(settings), settings.bank.overkill)  # before minutes of training
    claim(out)

    console.rule("2. Train an encoder on good parts")
    train(settings.train, overkill=settings.bank.overkill)
    console.rule("3. Build an engine")
    build(settings.build)
    console.rule("4. Fit a bank through the engine, and push it")
    bank = fit_line(settings)
    worker = worker_settings(arguments, settings, bank)
    with closing(open_store(worker.bank)) as store:
        store.publish(worker.line, bank)

    console.rule("5. Stream test pictures past a worker")
    truth = lay_out(pictures, out / "frames", settings.train.seed)
    results = _stream(worker, out, truth)
    evaluation = streamed_evaluation(results, truth, bank, settings.bank.overkill)
    raw = None
    if settings.raw:
        console.rule("6. Compare with the raw backbone")
        overrides = [*arguments.overrides, "train.projection.steps=0", "train.head.steps=0"]
        raw = _evaluate(settings_for(arguments.config, data, out / "raw", overrides), pictures)
    console.rule("7. Report")
    write_report(evaluation, out / "report.html")
    print_summary(console, evaluation, results, truth, raw)
    console.print(f"{len(results)} frames, {_frames_per_s(results):.0f} frames/s")
    for what, name in (("report", "report.html"), ("worker's settings", "worker.yaml"), ("worker's log", "worker.log")):
        console.print(f"{what}: {out / name}", soft_wrap=True)


def require_services(arguments: argparse.Namespace) -> None:
    """Ask the broker and the Redis that are named whether they answer, before minutes of training.

    Raises:
        UnavailableError: one of them does not.
    """
    if arguments.kafka:
        kafka = parse_settings({"bootstrap_servers": arguments.kafka, "group": _NAME}, KafkaSettings, "--kafka")
        look_at_topics(kafka, [f"{_NAME}-frames"])
    if arguments.redis:
        bank = parse_settings({"redis": {"url": arguments.redis}}, BankSettings, "--redis")
        with closing(open_store(bank)) as store:
            store.current(_NAME)


def worker_settings(arguments: argparse.Namespace, settings: DemoSettings, bank: Bank) -> WorkerSettings:
    """The worker's settings; they are also written to `worker.yaml`, for the worker and for the user to go on with."""
    out: Path = arguments.out
    name = f"{_NAME}-{uuid.uuid4().hex[:8]}"  # nobody else's topics, group or bank
    topics = {kind: f"{name}-{kind}" for kind in Topics.model_fields}
    kafka = {"bootstrap_servers": arguments.kafka, "group": name, "topics": topics}
    folder = {"path": str(out / "frames"), "out": str(out / "results.jsonl")}
    redis = {"url": arguments.redis, "snapshot": str(out / "banks")}
    looked_at = settings.bank.model_dump(include={"region", "bit_depth"})
    document = {
        "line": name,
        "engine": settings.bank.engine.model_dump(mode="json"),
        "bank": {"redis": redis} if arguments.redis else {"file": {"path": str(out / "banks")}},
        "transport": {"kafka": kafka} if arguments.kafka else {"folder": folder},
        "overkill": settings.bank.overkill,
        "cameras": {camera_of(product): {"products": [product], **looked_at} for product in bank.products},
        "http": {"port": 0},
    }
    (out / "worker.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    return parse_settings(document, WorkerSettings, str(out / "worker.yaml"))


def _stream(worker: WorkerSettings, out: Path, truth: Mapping[str, TestPicture]) -> list[Result]:
    """The results of all frames, in the order in which they came."""
    config = out / "worker.yaml"
    if worker.transport.kafka is not None:
        stream = through_kafka(worker.transport.kafka, config, out / "frames", len(truth))
    else:
        assert worker.transport.folder is not None  # TransportSettings holds exactly one
        stream = through_folder(worker.transport.folder, config)
    return list(track(stream, "inspecting", total=len(truth)))


def _frames_per_s(results: Sequence[Result]) -> float:
    """By the times at which the verdicts were made; the first batch began before the first of them."""
    times = sorted(parse_time(result["creationTime"]) for result in results)
    later = sum(time > times[0] for time in times)
    return later / max((times[-1] - times[0]).total_seconds(), 1e-3)


def _evaluate(settings: DemoSettings, pictures: list[TestPicture]) -> Evaluation:
    """Train, build, fit and evaluate by `settings`, quietly and without a stream."""
    train(settings.train, progress=False, overkill=settings.bank.overkill)
    build(settings.build, progress=False)
    bank = fit_line(settings)
    with closing(open_engine(settings.bank.engine)) as engine:
        fit = settings.bank
        return evaluate(engine, bank, pictures, fit.overkill, region=fit.region, bit_depth=fit.bit_depth)
