"""Frames that others were given in between are told, and those that come again are not taken for such."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

import pytest

from quarterturn.worker.messages.history import History
from quarterturn.worker.settings.worker import Topics
from quarterturn.worker.transport.base import RewoundError
from quarterturn.worker.transport.kafka.transport import KafkaTransport
from tests.worker.transport import librdkafka
from tests.worker.transport.workers import outcomes, poll, settings_for

CreateTopics = Callable[[int], Topics]


@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once"])
def test_what_is_known_of_a_camera_ends_where_others_were_given_its_frames(
    kafka_bootstrap: str, create_topics: CreateTopics, delivery: str
) -> None:
    topics = create_topics(1)
    settings = settings_for(kafka_bootstrap, topics, delivery=delivery)
    history: History[int] = History()

    rewinds = 0

    def inspected(transport: KafkaTransport) -> tuple[int, int | None]:
        """The offset of the first frame of the next batch, and what was known before it; the state is the offset."""
        nonlocal rewinds
        while True:
            frames = poll(transport)
            known = [history.before("top-01", frame.position) for frame in frames]
            for frame in frames:
                history.put("top-01", frame.position, frame.position.offset)
            try:
                transport.deliver(outcomes(frames))
            except RewoundError:
                rewinds += 1
            else:
                return frames[0].position.offset, known[0]

    def publish() -> None:
        librdkafka.produce(kafka_bootstrap, topics.frames, [b"good", b"good"])

    with closing(KafkaTransport(settings)) as transport:
        publish()
        assert inspected(transport) == (0, None)
        publish()
        assert inspected(transport) == (2, 1)
        publish()
        transport.leave()  # as a member that hung for too long
        assert inspected(transport) == (4, 3), "nobody was given them"
        assert rewinds > 0

        transport.leave()
        publish()
        with closing(KafkaTransport(settings)) as other:
            other.deliver(outcomes(poll(other)))
        publish()
        assert inspected(transport) == (8, None), "somebody was given the two before"
