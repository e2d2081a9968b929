"""An installation that lost the fast checksum says so, since kafka-python does not."""

from __future__ import annotations

import logging
import subprocess
import sys
from contextlib import closing

import pytest

from quarterturn.worker.transport.kafka.producer import FramePublisher
from quarterturn.worker.transport.kafka.transport import KafkaTransport
from tests.conftest import CreateTopics
from tests.worker.transport.workers import settings_for


@pytest.mark.parametrize("installed", [True, False])
@pytest.mark.parametrize("opening", [KafkaTransport, FramePublisher])
def test_a_start_without_the_package_is_told_of_once(
    *,
    opening: type[KafkaTransport | FramePublisher],
    installed: bool,
    kafka_bootstrap: str,
    create_topics: CreateTopics,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    if not installed:
        monkeypatch.setitem(sys.modules, "crc32c", None)
    with caplog.at_level(logging.WARNING), closing(opening(settings_for(kafka_bootstrap, create_topics(1)))):
        pass
    said = "Kafka: package 'crc32c' is missing, so each MiB of frames costs 0.2 to 0.6 s of CPU instead of less than "
    said += "1 ms; run: pip install crc32c"
    assert caplog.messages == ([] if installed else [said])


def test_the_package_is_the_one_that_kafka_python_takes() -> None:
    """Else its absence would mean nothing."""
    script = """
import sys, types
sys.modules["crc32c"] = fake = types.ModuleType("crc32c")
fake.crc32c = lambda data: 7
from kafka.record.util import calc_crc32c
print(calc_crc32c(b"frame"))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "7\n"
