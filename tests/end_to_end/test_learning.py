"""What people say of results, by the commands: a real Kafka and Redis, a worker as a process of its own."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from jsonschema import Draft202012Validator

from quarterturn.worker.commands.main import main
from quarterturn.worker.settings.worker import Topics
from tests.conftest import CreateTopics
from tests.end_to_end.test_stream import stop, wait_until, worker
from tests.lines import MadeLine, quarterturn
from tests.parts import good_part, png, scratched_part
from tests.worker.learning.plant import glossy_part
from tests.worker.transport import librdkafka

pytestmark = pytest.mark.timeout(600)

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "schemas" / "feedback.schema.json").read_text())
Said = Callable[..., str]


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    """What a command prints."""

    def run(*arguments: str) -> str:
        capsys.readouterr()
        quarterturn(*arguments)
        return capsys.readouterr().out

    return run


class Line:
    """Settings of a line, and its parts and results."""

    def __init__(self, made: MadeLine, bootstrap: str, redis: str, topics: Topics, folder: Path) -> None:
        self._bootstrap, self.topics = bootstrap, topics
        self._rng = np.random.default_rng(3)
        self.config, self.fit = folder / "worker.yaml", folder / "bank.yaml"
        kafka = {"bootstrap_servers": bootstrap, "group": folder.name, "topics": topics.model_dump()}
        engine = {"path": str(made.engine), "threads": 1}
        worker = {
            "line": folder.name,
            "engine": engine,
            "bank": {"redis": {"url": redis, "snapshot": str(folder / "banks")}},
            "transport": {"kafka": kafka},
            "overkill": 0.05,
            "http": None,
        }
        bank = {
            "data": str(made.root / "parts"),
            "engine": engine,
            "overkill": 0.05,
            "scoring": {"detectors": ["frame", "nearest.deep"]},
            "learned": str(folder / "learned"),
        }
        self.config.write_text(yaml.safe_dump(worker))
        self.fit.write_text(yaml.safe_dump(bank))
        quarterturn("bank", "push", str(made.banks[0]), *self.worker)

    @property
    def worker(self) -> tuple[str, str]:
        return "--config", str(self.config)

    @property
    def both(self) -> tuple[str, ...]:
        return (*self.worker, "--fit", str(self.fit))

    def come(self, make: Any, count: int) -> list[dict[str, Any]]:
        before = len(librdkafka.values(self._bootstrap, self.topics.verdicts))
        producer = librdkafka.producer(self._bootstrap)
        for _ in range(count):
            headers = [("camera", b"top-01"), ("product", b"ring")]
            producer.produce(self.topics.frames, png(make(self._rng)), b"top-01", headers=headers)
        assert producer.flush(20) == 0
        found: list[dict[str, Any]] = []

        def all_came() -> bool:
            found[:] = librdkafka.values(self._bootstrap, self.topics.verdicts)[before:]
            return len(found) == count

        wait_until(all_came, "the verdicts")
        return found

    def await_version(self, number: int) -> None:
        log = self.config.with_name("worker.log")
        wait_until(lambda: log.read_text().count("is in service") == number, f"the worker to take version {number}")

    def write(self, result: dict[str, Any], verdict: str) -> None:
        """As a client of somebody else."""
        word = {"resultId": result["resultId"], "verdict": verdict, "by": "MES", "at": "2026-01-02T03:04:05Z"}
        Draft202012Validator(SCHEMA).validate(word)
        producer = librdkafka.producer(self._bootstrap)
        producer.produce(self.topics.feedback, json.dumps(word).encode(), result["resultId"].encode())
        assert producer.flush(20) == 0


@pytest.fixture
def taught(line: MadeLine, kafka_bootstrap: str, redis_url: str, create_topics: CreateTopics, tmp_path: Path) -> Line:
    return Line(line, kafka_bootstrap, redis_url, create_topics(1), tmp_path)


def test_from_a_word_to_a_version_and_back(taught: Line, said: Said) -> None:
    with worker(taught.config, "worker") as process:
        defects, glossy = taught.come(scratched_part, 2), taught.come(glossy_part, 30)
        taught.come(good_part, 5)
        assert all(one["alert"] for one in (*defects, *glossy)), "this line knows no gloss"
        first = glossy[0]["internalConfigurationId"]
        taught.write(defects[0], "bad")
        region = ("--by", "Ömer", "--region", "16,12,12,16")
        assert "bad, says Ömer" in said("feedback", defects[1]["resultId"], "bad", *region, *taught.worker)
        for one in glossy[:24]:
            said("feedback", one["resultId"], "good", "--by", "Ilse", "--product", "ring", *taught.worker)

        listed = said("feedback", "list", *taught.worker)
        assert listed.count("Ilse") == 24
        assert "MES" in listed
        assert "16,12,12,16" in listed
        disagreements = said("feedback", "disagreements", *taught.both)
        assert disagreements.count("Ilse") == 24
        assert "MES" not in disagreements

        assert "nothing is published (--dry-run)" in said("bank", "learn", "--dry-run", *taught.both)
        assert said("bank", "list", *taught.worker).count("active") == 1
        learned = said("bank", "learn", *taught.both)
        assert "with 24 good and 2 bad parts by Ilse, MES, Ömer" in learned
        assert "all 2 confirmed defects that the version in service finds are found" in learned
        found = re.search(
            r"bank (\w{12}) is active .* frames were embedded, \d+ remembered \([\d.]+ [kM]B on disk\)", learned
        )
        assert found
        assert "nothing new to learn" in said("bank", "learn", *taught.both)

        wait_until(lambda: found[1] in process_log(taught), "the worker to take the version")
        later = taught.come(glossy_part, 8)
        assert {one["internalConfigurationId"][:12] for one in later} == {found[1]}
        assert np.median([one["score"] for one in later]) < np.median([one["score"] for one in glossy]) / 2
        listed = said("bank", "list", *taught.worker)
        assert re.search(rf"{found[1]} .*Z .*active +{first[:12]} +26\b", listed), listed
        assert "with 24 good and 2 bad parts by Ilse, MES, Ömer" in said("bank", "show", *taught.worker)

        diff = said("bank", "diff", *taught.worker)
        assert f"from bank {first[:12]} to bank {found[1]}" in diff
        assert re.search(r"of 45 recorded results, \d+ alerts would pass and \d+ that passed would be alerts", diff), (
            diff
        )
        assert "decided by their pictures: 45; by the recorded score, as the picture is gone: 0" in diff

        said("bank", "rollback", *taught.worker)
        assert "rolled back, and are left out" in said("bank", "learn", *taught.both)
        listed = said("bank", "list", *taught.worker)
        assert re.search(rf"{first[:12]}.*active", listed)
        assert re.search(rf"{found[1]} .*Z .* {first[:12]} +26\b", listed), "its history is kept"
        stop(process)


def process_log(taught: Line) -> str:
    return taught.config.with_name("worker.log").read_text()


def test_a_word_reaches_the_workers_while_the_command_follows(taught: Line) -> None:
    log = taught.config.with_name("learn.log")
    command = [sys.executable, "-m", "quarterturn", "bank", "learn", "--follow", *taught.both]
    with worker(taught.config, "worker") as process, log.open("wb") as output:
        glossy = taught.come(glossy_part, 4)
        following = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            wait_until(lambda: "nothing new to learn" in log.read_text(), "the command to follow")
            taught.write(glossy[0], "good")
            taught.await_version(2)
            taught.write(glossy[1], "good")  # every second one is kept to calibrate with
            taught.write(glossy[2], "good")
            taught.await_version(3)
            following.send_signal(signal.SIGINT)
            assert following.wait(30) == 128 + signal.SIGINT
        finally:
            following.kill()
            print(log.read_text())
        stop(process)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("other:0:1", "good"), "is a result of the topic 'other', but this line's frames are in 'frames'"),
        (("no id", "good"), "'no id' is no id of a result"),
        (("frames:0:1",), "say whether the part is good or bad"),
        (("frames:0:1", "bad", "--region", "1,2,3"), "write it as x,y,width,height in pixels"),
        (("frames:0:1", "bad", "--region", "1,2,0,4"), "--region: width = 0: "),
        (("frames:0:1", "bad", "--by", "a\nb"), "it cannot be printed"),
    ],
)
def test_words_that_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], says: str
) -> None:
    config = tmp_path / "worker.yaml"
    config.write_text("{line: l, engine: {path: e}, bank: {file: {path: b}}, transport: {kafka: {}}}")
    assert main(["feedback", *arguments, "--config", str(config)]) == 1
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("command", [("feedback", "list"), ("bank", "learn")])
def test_a_line_without_kafka_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    config, fit = tmp_path / "worker.yaml", tmp_path / "bank.yaml"
    config.write_text("{line: l, engine: {path: e}, bank: {file: {path: b}}, transport: {folder: {path: p, out: o}}}")
    fit.write_text("{data: d, engine: {path: e}}")
    assert main([*command, "--config", str(config), "--fit", str(fit)]) == 1
    assert "transport.kafka is missing; what people say of results goes through Kafka" in capsys.readouterr().err
