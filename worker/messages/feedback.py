"""What a person says of a result: that the part is good after all, or really bad."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import quote

from pydantic import AfterValidator, Field, ValidationError

from quarterturn.worker.contract.errors import DataError
from quarterturn.worker.contract.picture import Region
from quarterturn.worker.contract.times import parse_time
from quarterturn.worker.messages.data import Data, fault_of
from quarterturn.worker.messages.events import RESULT_ID, Event, cloud_event

MAX_NAME = 200


def _time(text: str) -> str:
    parse_time(text)
    return text


def _printable(text: str) -> str:
    if not text.isprintable() or not text.strip():
        raise ValueError("it cannot be printed; write a name")
    return text


class Feedback(Data):
    """The last word on a result is the one that counts. The key of its record is the result's id."""

    result_id: str = Field(pattern=RESULT_ID, max_length=500, description="of the verdict, as it stands there")
    verdict: Literal["good", "bad"] = Field(description="what the part is, by whoever looked at it")
    by: Annotated[str, Field(min_length=1, max_length=MAX_NAME, description="who says so"), AfterValidator(_printable)]
    at: Annotated[str, Field(description="when, in ISO 8601", max_length=64), AfterValidator(_time)]
    product: Annotated[str, Field(min_length=1, max_length=MAX_NAME), AfterValidator(_printable)] | None = Field(
        default=None, description="what the part really is, where that is not what the verdict says"
    )
    region: Region | None = Field(default=None, description="where the defect is, in pixels of the picture as it came")


def event_of(feedback: Feedback) -> Event:
    """The CloudEvent that publishes it."""
    who, key = quote(feedback.by, safe=""), feedback.result_id.encode("utf-8")
    identity = f"feedback:{feedback.result_id}:{feedback.at}"
    return cloud_event("feedback", key, feedback, identity=identity, source=f"people/{who}", time=feedback.at)


def read_feedback(key: bytes | None, value: bytes) -> Feedback:
    """What a record says.

    Raises:
        DataError: it is no feedback, in one sentence.
    """
    try:
        feedback = Feedback.model_validate_json(value, by_alias=True, by_name=False)
    except ValidationError as error:
        raise DataError(f"{fault_of(error)}; write it by docs/schemas/feedback.schema.json") from None
    if key != feedback.result_id.encode("utf-8"):
        raise DataError("its key is not its resultId, by which the topic is compacted; write it with that key")
    return feedback
