"""From what the page sends to what stands in the feedback topic."""

from __future__ import annotations

import threading
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from quarterturn.worker.console.index import Index
from quarterturn.worker.contract.errors import DataError
from quarterturn.worker.contract.picture import Region
from quarterturn.worker.contract.times import now
from quarterturn.worker.messages.feedback import Feedback
from quarterturn.worker.settings.worker import KafkaSettings
from quarterturn.worker.transport.kafka.feedback import FeedbackTopic

MAX_AT_ONCE = 500
MAX_BYTES = 2**18


class Judgement(BaseModel):
    """One word on some results."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ids: Annotated[list[Annotated[str, Field(max_length=500)]], Field(min_length=1, max_length=MAX_AT_ONCE)]
    verdict: Literal["good", "bad"]
    product: str | None = None
    region: Region | None = None


class Judging:
    """Publishes judgements, and shows them at once. Thread-safe."""

    def __init__(self, settings: KafkaSettings, index: Index) -> None:
        self._settings, self._index = settings, index
        self._topic: FeedbackTopic | None = None
        self._lock = threading.Lock()

    def judge(self, body: bytes, by: str) -> int:
        """Publish what the page sent in the name of `by`; how many results it is about.

        Raises:
            DataError: it is no judgement, or of results that the index does not hold.
            UnavailableError: the broker does not answer; some of it may be stored, and it may be sent again.
        """
        try:
            judgement = Judgement.model_validate_json(body)
            at = now()
            said = [
                Feedback(
                    result_id=one, verdict=judgement.verdict, by=by, at=at, product=judgement.product,
                    region=judgement.region,
                )
                for one in dict.fromkeys(judgement.ids)
            ]  # fmt: skip
        except ValidationError as error:
            fault = error.errors()[0]
            raise DataError(f"{'.'.join(str(step) for step in fault['loc'])}: {fault['msg']}") from None
        for one in said:
            if self._index.get(one.result_id) is None:
                raise DataError(f"{one.result_id} is not among the recent results; reload the page")
        with self._lock:
            for one in said:
                self._publish(one)
                self._index.judge([one])
        return len(said)

    def close(self) -> None:
        """Release the connection; may be called twice."""
        if self._topic is not None:
            self._topic.close()
            self._topic = None

    def _publish(self, feedback: Feedback) -> None:
        if self._topic is None:
            self._topic = FeedbackTopic(self._settings)
        self._topic.publish(feedback)
