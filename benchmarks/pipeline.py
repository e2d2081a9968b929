"""How much of the bare engine's speed reaches the alert topic: the engine alone against the whole worker on Kafka.

    python -m tests.services run -- python -m benchmarks.pipeline --engine out/demo/engine --bank out/demo/line.bank \
        --data out/demo/parts

Publishes the pictures as frames, runs the engine alone and `quarterturn run` in turn, and prints frames/s, their
ratio, the latency and the worker's largest resident memory. Both see the same pictures in batches of the same size.
The engine alone gets decoded frames; the worker also decodes, scores and commits one transaction a batch, on the same
cores as the broker.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

import numpy as np
import yaml
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from quarterturn.worker.contract.bank import read_bank
from quarterturn.worker.pictures.read import read_frames
from quarterturn.worker.pictures.sets import list_pictures
from quarterturn.worker.runtime.assemble import open_engine
from quarterturn.worker.runtime.memory import keep_freed_memory
from quarterturn.worker.settings.worker import EngineSettings, Topics

CAMERAS = 2


def main() -> None:
    keep_freed_memory()
    arguments = parse()
    pictures = list_pictures(arguments.data)[: arguments.pictures]
    encoded = [path.read_bytes() for path in pictures]
    bank = read_bank(arguments.bank.read_bytes(), str(arguments.bank))
    rounds = []
    for number in range(arguments.rounds):
        bare = bare_engine(arguments, pictures)
        worker, latency_ms, rss_mb = through_kafka(arguments, encoded, bank.products[0])
        rounds.append((bare, worker, latency_ms, rss_mb))
        print(f"round {number + 1}: engine {bare:.0f}, worker {worker:.0f} frames/s ({worker / bare:.0%})", flush=True)
    bare, worker, latency_ms, rss_mb = (np.array(column) for column in zip(*rounds, strict=True))
    print(f"\n{arguments.frames} frames of {np.mean([len(e) for e in encoded]) / 1024:.0f} KiB, batches of at most")
    print(f"{arguments.batch}, {arguments.target}, {os.cpu_count()} cores, {arguments.rounds} rounds\n")
    print("| | median | range |\n|---|---|---|")
    for name, values, unit in (
        ("engine alone", bare, "frames/s"),
        ("worker through Kafka", worker, "frames/s"),
        ("share of the engine's speed", 100 * worker / bare, "%"),
        ("decode to verdict, full batches, median", latency_ms, "ms"),
        ("worker's resident memory, peak", rss_mb, "MB"),
    ):
        print(f"| {name} | {np.median(values):.0f} {unit} | {values.min():.0f}-{values.max():.0f} |")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--engine", type=Path, required=True)
    parser.add_argument("--bank", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="any folder of pictures")
    parser.add_argument("--target", default="openvino")
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--frames", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


def bare_engine(arguments: argparse.Namespace, pictures: list[Path]) -> float:
    """Frames per second of the engine alone, on decoded frames."""
    engine = open_engine(EngineSettings(path=arguments.engine, target=arguments.target))
    frames = np.concatenate([read_frames(path, engine.spec.framing) for path in pictures])
    batches = [frames[i : i + arguments.batch] for i in range(0, len(frames) - arguments.batch, arguments.batch)]
    engine.embed(batches[0])
    count, start = 0, time.perf_counter()
    while count < arguments.frames:
        for batch in batches:
            engine.embed(batch)
            count += len(batch)
    seconds = time.perf_counter() - start
    engine.close()
    return count / seconds


def through_kafka(arguments: argparse.Namespace, encoded: list[bytes], product: str) -> tuple[float, float, float]:
    """Frames per second, median latency in ms and peak resident MB of a worker that finds all frames waiting."""
    bootstrap = os.environ["KAFKA_BOOTSTRAP_SERVERS"]
    suffix = uuid.uuid4().hex[:8]
    topics = Topics(**{kind: f"{name}-{suffix}" for kind, name in Topics().model_dump().items()})
    admin = AdminClient({"bootstrap.servers": bootstrap})
    partitions = dict.fromkeys(topics.model_dump().values(), 1) | {topics.frames: CAMERAS}
    for future in admin.create_topics([NewTopic(name, count) for name, count in partitions.items()]).values():
        future.result()
    publish(bootstrap, topics.frames, arguments.frames, encoded, product)
    with tempfile.TemporaryDirectory() as folder:
        config = write_config(Path(folder), arguments, bootstrap, topics, suffix)
        process = subprocess.Popen(
            [sys.executable, "-m", "quarterturn", "--log-level", "warning", "run", "--config", config]
        )
        try:
            arrivals, latencies = follow(bootstrap, topics.verdicts, arguments.frames)
            status = Path(f"/proc/{process.pid}/status").read_text()
            peak_kb = int(status.split("VmHWM:")[1].split()[0])
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()
    # From the first verdict to the last: start-up is not part of the speed.
    return (len(arrivals) - 1) / (arrivals[-1] - arrivals[0]), float(np.median(latencies)), peak_kb / 1024


def publish(bootstrap: str, topic: str, count: int, encoded: list[bytes], product: str) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "queue.buffering.max.kbytes": 1 << 20})
    for n in range(count):
        camera = f"cam-{n % CAMERAS}"
        producer.produce(
            topic,
            encoded[n % len(encoded)],
            key=camera,
            partition=n % CAMERAS,
            headers={"camera": camera, "product": product},
        )
        producer.poll(0)
    producer.flush()


def write_config(folder: Path, arguments: argparse.Namespace, bootstrap: str, topics: Topics, group: str) -> str:
    settings = {
        "line": "benchmark",
        "engine": {"path": str(arguments.engine.resolve()), "target": arguments.target},
        "bank": {"file": {"path": str(folder / "banks")}},
        "transport": {"kafka": {"bootstrap_servers": bootstrap, "group": group, "topics": topics.model_dump()}},
        "overkill": 0.1,
        "batch": {"max_frames": arguments.batch},
        "http": None,
    }
    config = folder / "worker.yaml"
    config.write_text(yaml.safe_dump(settings))
    push = [sys.executable, "-m", "quarterturn", "--log-level", "warning", "bank", "push", str(arguments.bank)]
    subprocess.run([*push, "--config", str(config)], check=True, stdout=subprocess.DEVNULL)
    return str(config)


def follow(bootstrap: str, topic: str, count: int) -> tuple[list[float], list[float]]:
    """When each verdict arrived, in seconds, and its `totalMs`."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "benchmark", "isolation.level": "read_committed"})
    consumer.assign([TopicPartition(topic, 0, 0)])
    arrivals: list[float] = []
    latencies: list[float] = []
    while len(arrivals) < count:
        for message in consumer.consume(500, timeout=0.5):
            arrivals.append(time.perf_counter())
            latencies.append(json.loads(message.value())["processingTimes"]["totalMs"])
    consumer.close()
    return arrivals, latencies


if __name__ == "__main__":
    main()
