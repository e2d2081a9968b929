"""`quarterturn console` as a process of its own, and what it refuses with one sentence."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from quarterturn.worker.commands.main import main
from quarterturn.worker.settings.worker import Topics
from quarterturn.worker.transport.kafka import connection

ROOT = Path(__file__).parents[3]
KAFKA = {"kafka": {"bootstrap_servers": "127.0.0.1:9"}}


def config(folder: Path, console: dict[str, Any], transport: dict[str, Any] = KAFKA) -> Path:
    document = {
        "line": "line-1",
        "engine": {"path": "engine"},
        "bank": {"file": {"path": str(folder / "banks")}},
        "transport": transport,
        "console": {"port": 0, "state": str(folder / "state"), **console},
    }
    path = folder / "worker.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


def refusal(capsys: pytest.CaptureFixture[str], path: Path) -> str:
    assert main(["console", "--config", str(path)]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    return error


def test_it_serves_until_it_is_told_to_stop(
    kafka_bootstrap: str, create_topics: Callable[[int], Topics], tmp_path: Path
) -> None:
    kafka = {"bootstrap_servers": kafka_bootstrap, "topics": create_topics(1).model_dump()}
    path = config(tmp_path, {}, {"kafka": kafka})
    command = [sys.executable, "-m", "quarterturn", "console", "--config", str(path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stderr is not None
        said = next(line for line in process.stderr if "the page is at" in line)
        url = said.split()[-1]
        with urllib.request.urlopen(f"{url}/", timeout=20) as page:
            assert b"<title>Quarterturn</title>" in page.read()
        stream = urllib.request.urlopen(f"{url}/api/events", timeout=20)
        assert stream.readline() == b"event: state\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0, "also while somebody listens"
        stream.close()
        assert "Traceback" not in process.stderr.read()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "line-pc"])
def test_another_address_without_a_token_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, host: str
) -> None:
    error = refusal(capsys, config(tmp_path, {"host": host}))
    assert f"on {host} others could reach the page without a token; set 'reviewers', or host: 127.0.0.1" in error


@pytest.mark.parametrize(
    ("console", "transport", "sentence"),
    [
        ({"reviewers": {"anna": {"env": "NO_SUCH_TOKEN"}}}, KAFKA, "NO_SUCH_TOKEN should hold a secret, but is empty"),
        ({"reviewers": {"anna": {"env": "SHORT"}}}, KAFKA, "the token of 'anna' has fewer than 16 characters"),
        ({"reviewers": {"anna": {"env": "LONG"}, "bert": {"env": "LONG"}}}, KAFKA, "two people have the same token"),
        ({"reviewers": {"anna": "the-token-itself-is-here"}}, KAFKA, "write where the secret is"),
        ({"reviewers": {"an\nna": {"env": "LONG"}}}, KAFKA, "is no name"),
        ({"certificate": "cert.pem"}, KAFKA, "'certificate' and 'key' go together"),
        ({"certificate": "none.pem", "key": "none.pem"}, KAFKA, "console.certificate, console.key: cannot be used"),
        ({"workers": ["line-1:9600"]}, KAFKA, "write it as http://HOST:PORT"),
        ({"state": "/dev/null/state"}, KAFKA, "console.state: /dev/null/state cannot be used"),
        (
            {},
            {"folder": {"path": "in", "out": "out.jsonl"}},
            "transport.kafka is missing; the console reads the topics",
        ),
    ],
    ids=["no token", "short", "same", "not its place", "name", "no key", "no file", "worker", "folder", "no Kafka"],
)
def test_what_does_not_fit_is_one_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    console: dict[str, Any], transport: dict[str, Any], sentence: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(connection, "ANSWER_S", 0.5)  # nobody is at KAFKA
    monkeypatch.setenv("SHORT", "short")
    monkeypatch.setenv("LONG", "a-token-that-is-long-enough")
    error = refusal(capsys, config(tmp_path, console, transport))
    assert sentence in error
    assert "the-token-itself" not in error


def test_an_address_that_is_taken_is_said(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        error = refusal(capsys, config(tmp_path, {"port": port}))
    assert re.search(rf"cannot listen on 127\.0\.0\.1:{port} .*; set another console\.port", error)


@pytest.mark.parametrize("package", ["starlette", "uvicorn"])
def test_a_missing_extra_says_how_to_install_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, package: str
) -> None:
    for name in [module for module in sys.modules if module.startswith(("quarterturn.worker.console", package))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    error = refusal(capsys, config(tmp_path, {}))
    assert f"needs the package '{package}" in error
    assert "pip install 'quarterturn[console]'" in error
