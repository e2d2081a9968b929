"""The services' own command line and its advice. That they work is what every other test of Kafka and Redis shows."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests import services


def test_runs_a_command_beside_the_services(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(services.KAFKA_VARIABLE, "broker:9092")
    monkeypatch.setenv(services.REDIS_VARIABLE, "redis://server")
    seen = tmp_path / "seen"
    names = f"{services.KAFKA_VARIABLE!r}, {services.REDIS_VARIABLE!r}"
    script = f"import os, pathlib; pathlib.Path({str(seen)!r}).write_text(' '.join(map(os.getenv, ({names})))); exit(7)"

    assert services.main(["run", "--", sys.executable, "-c", script]) == 7
    assert seen.read_text() == "broker:9092 redis://server"


@pytest.mark.parametrize("arguments", [[], ["run"], ["run", "--"], ["start", "--", "true"]])
def test_explains_its_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert services.main(arguments) == 2
    assert "usage: python -m tests.services run -- COMMAND ..." in capsys.readouterr().err


def test_says_what_to_install_or_to_set(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv(services.KAFKA_VARIABLE, raising=False)
    monkeypatch.delenv(services.REDIS_VARIABLE, raising=False)
    monkeypatch.setattr(services.shutil, "which", lambda _: None)
    monkeypatch.setattr(services.os, "geteuid", lambda: 1000)

    assert services.main(["run", "--", "true"]) == 1
    assert capsys.readouterr().err == (
        "Java 17 or newer is missing: install it (apt-get install openjdk-17-jre-headless), "
        "or set KAFKA_BOOTSTRAP_SERVERS to a running server\n"
    )
    with pytest.raises(
        services.ServiceError, match=r"redis-server is missing: .* or set REDIS_URL to a running server"
    ):
        services.install_redis()
    with pytest.raises(services.ServiceError) as advice:
        services.need(False, "A C compiler", ("gcc",))
    assert str(advice.value) == "A C compiler is missing: install it (apt-get install gcc)"


def test_a_server_that_dies_shows_its_log(tmp_path: Path) -> None:
    command = (sys.executable, "-c", "print('no room left'); exit(3)")
    with pytest.raises(services.ServiceError, match=r"did not start \(exit code 3\); its log ends with:\nno room left"):
        services.start(command, tmp_path / "log", 1, lambda: True)
