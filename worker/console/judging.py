"""From what the page sends to what stands in the feedback topic."""

from __future__ import annotations

import threading
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from quarterturn.worker.console.faults import ConsoleError
from quarterturn.worker.console.index import Index
from quarterturn.worker.console.pictures import Pictures
from quarterturn.worker.console.rows import Row
from quarterturn.worker.console.shown import shown
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

    def __init__(self, settings: KafkaSettings, index: Index, pictures: Pictures) -> None:
        self._settings, self._index, self._pictures = settings, index, pictures
        self._topic: FeedbackTopic | None = None
        self._lock = threading.Lock()

    def judge(self, body: bytes, by: str) -> int:
        """Publish what the page sent in the name of `by`; how many results it is about.

        Raises:
            DataError: it is no judgement, of results that the index does not hold, or its region is not in the picture.
            UnavailableError: the broker does not answer; some of it may be stored, and it may be sent again.
        """
        said = _read(body, by)
        for one in said:
            row = self._index.get(one.result_id)
            if row is None:
                raise ConsoleError("unknown", result=one.result_id)
            if one.region is not None:
                self._require_inside(one.region, row)
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

    def _require_inside(self, region: Region, row: Row) -> None:
        """The frame may be gone by now: what already stands in the record is not looked at again."""
        if shown(row)["region"] == region.model_dump():
            return
        extent = self._pictures.extent(row).result()
        if region.x + region.width > extent.width or region.y + region.height > extent.height:
            raise ConsoleError("outside", width=extent.width, height=extent.height)

    def _publish(self, feedback: Feedback) -> None:
        if self._topic is None:
            self._topic = FeedbackTopic(self._settings)
        self._topic.publish(feedback)


def _read(body: bytes, by: str) -> list[Feedback]:
    """What is to be published, for each result once.

    Raises:
        DataError: it is no judgement; the text names what is wrong with it.
    """
    try:
        judgement = Judgement.model_validate_json(body)
        at, ids = now(), list(dict.fromkeys(judgement.ids))
        given = judgement.model_dump(exclude={"ids"})
        said = [Feedback(result_id=one, by=by, at=at, **given) for one in ids]
    except ValidationError as error:
        fault = error.errors()[0]
        place = str(fault["loc"][0]) if fault["loc"] else ""
        if place in ("region", "product"):
            raise ConsoleError(place) from None
        raise ConsoleError("judgement", why=f"{place}: {fault['msg']}") from None
    if judgement.region is not None and len(ids) > 1:
        raise ConsoleError("one")
    return said
