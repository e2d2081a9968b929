"""kafka-python's fetching, without a pause that it makes by mistake."""

from __future__ import annotations

from typing import Any

from kafka import KafkaConsumer


def look_twice(consumer: KafkaConsumer) -> None:
    """Let `consumer` look for records once more before it sleeps because nothing is on its way.

    kafka-python 3.0 looks, then asks for more, then waits for what it asked for. An answer that comes between the first
    two is neither found nor waited for, and no more is asked for while it lies there: poll sleeps for
    `retry_backoff_ms`, a tenth of a second, beside a frame that is there.
    """
    fetcher = consumer._fetcher
    fetch = fetcher.fetch_records

    def fetch_records(max_records: int | None = None, **how: Any) -> tuple[Any, bool]:
        records, idle = fetch(max_records, **how)
        if not idle or not fetcher._completed_fetches:
            return records, idle
        return fetcher.fetched_records(max_records, how.get("update_offsets", True))[0], False

    fetcher.fetch_records = fetch_records
