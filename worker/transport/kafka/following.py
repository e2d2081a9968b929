"""Following the results of a line outside any group, from where an earlier reading ended."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from quarterturn.worker.settings.worker import KafkaSettings
from quarterturn.worker.transport.kafka.reading import Reading
from quarterturn.worker.transport.kafka.results import json_of


class ResultFollower:
    """Gives verdicts, late frames, dead letters and alerts, as they are committed. One thread uses it.

    Args:
        settings: where they are.
        last: begin at most so many records before the end of each partition.
        places: up to where they were read before, as `places` gave them.

    Raises:
        UnavailableError: the broker does not answer.
        ConfigError: a topic does not exist.
    """

    def __init__(self, settings: KafkaSettings, last: int, places: Mapping[str, int]) -> None:
        topics = settings.topics
        self._frames = topics.frames
        self._reading = Reading(settings, (topics.verdicts, topics.dead_letters, topics.alerts), last)
        self._reading.go_on(places)

    def poll(self, timeout_s: float) -> list[object]:
        """What came in, read from JSON; None for a record that is none. Waits at most `timeout_s` for the first.

        Raises:
            UnavailableError: the broker refuses.
        """
        return [json_of(record) for record in self._reading.poll(timeout_s)]

    def places(self) -> dict[str, int]:
        """Up to where each partition was given, by a name that tells a topic from one made anew."""
        return self._reading.places()

    def knows_any_of(self, places: Iterable[str]) -> bool:
        """Whether `places` has a partition that is read here."""
        return not self.places().keys().isdisjoint(places)

    def behind(self) -> int:
        """How many records are still to be given.

        Raises:
            UnavailableError: the broker does not answer.
        """
        return self._reading.behind()

    def frames(self) -> dict[int, int]:
        """The end of each partition of the frames topic: the offset that the next frame gets.

        Raises:
            UnavailableError: the broker does not answer.
        """
        return self._reading.ends(self._frames)

    def close(self) -> None:
        """Release the connection; may be called twice."""
        self._reading.close()
