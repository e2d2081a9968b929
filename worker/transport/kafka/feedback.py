"""The topic of what people say of results."""

from __future__ import annotations

from quarterturn.worker.messages.feedback import Feedback, event_of, read_feedback
from quarterturn.worker.settings.worker import KafkaSettings
from quarterturn.worker.transport.kafka.compacted import CompactedTopic


class FeedbackTopic(CompactedTopic[Feedback]):
    """Writes feedback, and reads what anybody wrote, see CompactedTopic."""

    def __init__(self, settings: KafkaSettings) -> None:
        super().__init__(settings, settings.topics.feedback, read_feedback)

    def publish(self, feedback: Feedback) -> None:
        """Returns when it is stored.

        Raises:
            UnavailableError: it is not.
        """
        event = event_of(feedback)
        self.write(event.key, event.value, event.headers)

    def read(self) -> dict[str, Feedback]:
        """The last word on each result, by the result's id, in the order of these words.

        Raises:
            UnavailableError: the broker refuses, or falls silent.
        """
        return {feedback.result_id: feedback for feedback in self.words()}
