"""The command as a user or a script sees it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from quarterturn.worker.bankstore.redis import RedisBankStore
from quarterturn.worker.commands.main import main
from quarterturn.worker.doctor import line
from quarterturn.worker.settings.worker import RedisStoreSettings
from tests.conftest import CreateTopics
from tests.parts import NumpyEngine, bank_of


@pytest.fixture
def config(
    tmp_path: Path, kafka_bootstrap: str, redis_url: str, create_topics: CreateTopics, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Settings of a line that can run: services, topics and a bank are there."""
    engine = NumpyEngine()
    monkeypatch.setattr(line, "open_engine", lambda _: engine)
    topics = create_topics(1)
    RedisBankStore(RedisStoreSettings(url=redis_url)).publish(topics.frames, bank_of(engine))
    document: dict[str, Any] = {
        "line": topics.frames,
        "engine": {"path": "engine"},
        "bank": {"redis": {"url": redis_url, "snapshot": str(tmp_path / "banks")}},
        "transport": {"kafka": {"bootstrap_servers": kafka_bootstrap, "topics": topics.model_dump()}},
        "overkill": 0.02,
        "http": {"port": 0},
    }
    path = tmp_path / "worker.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def test_a_line_that_can_run(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--config", str(config)]) == 0
    printed = capsys.readouterr().out.splitlines()
    names = ["settings", "Python", "disk", "http", "GPU", "engine", "Redis", "bank", "promise", "checksums", "Kafka"]
    names += ["topics", "frame size", "compression"]
    assert [line[:9].strip() for line in printed[:-1]] == ["skipped" if n == "GPU" else "ok" for n in names]
    assert [re.split(r"\s{2,}", line[9:])[0] for line in printed[:-1]] == names
    assert printed[-1] == "this machine can run the line"


def test_a_line_that_cannot(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["doctor", "--config", str(config), "--set", "transport.kafka.topics.frames=no-frames"])
    printed = capsys.readouterr().out
    assert code == 1
    assert re.search(
        r"^failure  topics +there is no no-frames\n +-> kafka-topics.sh .* --topic no-frames", printed, re.M
    )
    assert printed.endswith("this machine cannot run the line yet: 1 failure\n")


def test_a_warning_does_not_stop_a_script(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["doctor", "--config", str(config), "--set", "transport.kafka.max_frame_bytes=40000000"])
    printed = capsys.readouterr().out
    assert code == 0
    assert "\nwarning  frame size  " in printed
    assert printed.endswith("this machine can run the line: 1 warning\n")


def test_for_scripts(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--config", str(config), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["ready"] is True
    assert document["checks"][0] == {
        "name": "settings",
        "status": "ok",
        "found": f"{config}, line {yaml.safe_load(config.read_text())['line']}",
        "fix": "",
    }
    assert main(["doctor", "--config", str(config), "--json", "--set", "line=another"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["ready"] is False
    (failed,) = (check for check in document["checks"] if check["status"] == "failure")
    assert failed["name"] == "bank"


def test_settings_that_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "worker.yaml"
    config.write_text(
        "line: line-1\nbank: {redis: {url: [redis://me:secret@plant:6379]}}\n"  # pragma: allowlist secret
    )
    assert main(["doctor", "--config", str(config)]) == 1
    printed = capsys.readouterr().out
    assert printed.startswith(f"failure  settings  {config}: ")
    assert "engine is missing; add it" in printed
    assert "redis://***@plant:6379" in printed
    assert "secret" not in printed
    assert "\nok       Python    " in printed
