"""Reading the results, as they are committed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from kafka.consumer.fetcher import ConsumerRecord

from quarterturn.worker.settings.worker import KafkaSettings
from quarterturn.worker.transport.kafka.reading import Reading


class ResultReader:
    """Reads verdicts, late frames and dead letters as they are committed, from all partitions.

    Records that hold no JSON object are none of these and are left out: others may write to a topic, too.

    Args:
        settings: where they are.
        last: begin so many records before the end of each partition; the marks of transactions count as records.
            0: at the end, None: at the beginning.

    Raises:
        UnavailableError: the broker does not answer.
        ConfigError: a topic does not exist.
    """

    def __init__(self, settings: KafkaSettings, last: int | None = 0) -> None:
        self._reading = Reading(settings, (settings.topics.verdicts, settings.topics.dead_letters), last)

    def poll(self, timeout_s: float) -> list[dict[str, Any]]:
        """The data of the results that came in; waits at most `timeout_s` for the first.

        Raises:
            UnavailableError: the broker refuses.
        """
        return list(_results(self._reading.poll(timeout_s)))

    def until_now(self) -> Iterator[dict[str, Any]]:
        """The data of the results up to those that are the last ones now.

        Raises:
            UnavailableError: the broker refuses, or falls silent.
        """
        yield from _results(self._reading.until_now())

    def close(self) -> None:
        """Release the connection; may be called twice."""
        self._reading.close()


def json_of(record: ConsumerRecord) -> object:
    """What a record holds, read from JSON; None where it holds none."""
    try:
        return json.loads(record.value or b"")
    except (ValueError, RecursionError):
        return None


def _results(records: Iterable[ConsumerRecord]) -> Iterator[dict[str, Any]]:
    for record in records:
        if isinstance(data := json_of(record), dict):
            yield data
