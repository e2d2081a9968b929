from __future__ import annotations

import pytest


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Kafka that is not there is given up after half a second."""
    monkeypatch.setattr("quarterturn.worker.transport.kafka.connection.ANSWER_S", 0.5)
