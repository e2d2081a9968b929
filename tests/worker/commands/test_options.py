from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from quarterturn.worker.commands.options import add_config, read_config
from quarterturn.worker.contract.errors import ConfigError
from quarterturn.worker.settings.worker import WorkerSettings

CONFIG = Path(__file__).parents[3] / "configs/worker.yaml"
SECRET = "hunter2"  # pragma: allowlist secret


def settings(*options: str) -> WorkerSettings:
    parser = argparse.ArgumentParser()
    add_config(parser, str(CONFIG))
    return read_config(parser.parse_args(options), WorkerSettings)


def test_the_file_under_the_environment_under_the_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUARTERTURN_OVERKILL", "0.03")
    monkeypatch.setenv("QUARTERTURN_DRAIN_S", "5")
    monkeypatch.setenv("QUARTERTURN_TRANSPORT__KAFKA__BOOTSTRAP_SERVERS", "kafka-1:9092,kafka-2:9092")
    found = settings("--set", "overkill=0.04")
    assert found.transport.kafka is not None
    assert found.transport.kafka.bootstrap_servers == "kafka-1:9092,kafka-2:9092"
    assert (found.overkill, found.drain_s, found.line) == (0.04, 5, "line-1")


def test_the_other_of_two_in_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUARTERTURN_BANK__FILE__PATH", "banks")
    with pytest.raises(ConfigError) as caught:
        settings()
    assert str(caught.value) == (
        f"{CONFIG} with QUARTERTURN_BANK__FILE__PATH: bank: set exactly one of 'file' and 'redis'"
    )
    monkeypatch.setenv("QUARTERTURN_BANK__REDIS", "")
    assert settings().bank.redis is None


def test_variables_that_a_setting_names_are_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("BANK_KEY", "REDIS_PASSWORD", "BANK_REDIS_PASSWORD", "KAFKA_SASL_PASSWORD")
    for name in names:
        monkeypatch.setenv(f"QUARTERTURN_{name}", SECRET)
    monkeypatch.setenv("QUARTERTURN_BANK__REDIS__PASSWORD__ENV", "QUARTERTURN_BANK_REDIS_PASSWORD")
    redis = settings("--set", "bank.redis.signing_key={env: QUARTERTURN_BANK_KEY}").bank.redis
    assert redis is not None
    assert redis.password is not None
    assert redis.signing_key is not None
    assert redis.password.read() == redis.signing_key.read() == SECRET


@pytest.mark.parametrize("value", [SECRET, f"[{SECRET}", f"*{SECRET}", f"!!{SECRET} 1", f"0x_{SECRET}: {{"])
def test_a_secret_in_the_place_of_its_name_is_not_repeated(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("QUARTERTURN_BANK__REDIS__PASSWORD", value)
    with pytest.raises(ConfigError, match=r"^QUARTERTURN_BANK__REDIS__PASSWORD: ") as caught:
        settings()
    assert SECRET not in str(caught.value)
