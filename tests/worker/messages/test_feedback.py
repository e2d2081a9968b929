from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, ValidationError

from quarterturn.worker.contract.errors import DataError
from quarterturn.worker.messages.feedback import Feedback, event_of, read_feedback

SCHEMA = json.loads((Path(__file__).parents[3] / "docs" / "schemas" / "feedback.schema.json").read_text())
ID = "frames:7xzPKZ1HQPuVrZqCNFyXTQ:0:17"
LEAST = {"resultId": ID, "verdict": "good", "by": "Ilse", "at": "2026-01-02T03:04:05Z"}
REGION = {"x": 1, "y": 2, "width": 30, "height": 4}

names = st.text(min_size=1, max_size=40).filter(lambda text: text.isprintable() and bool(text.strip()))


def record(data: object, key: str | None = ID) -> tuple[bytes | None, bytes]:
    return key.encode() if key is not None else None, json.dumps(data).encode()


@pytest.mark.parametrize("more", [{}, {"product": "ring"}, {"region": REGION, "verdict": "bad"}, {"product": None}])
def test_what_the_schema_allows_is_read(more: dict[str, Any]) -> None:
    Draft202012Validator(SCHEMA).validate(LEAST | more)
    feedback = read_feedback(*record(LEAST | more))
    assert feedback.result_id == ID
    assert feedback.verdict == (LEAST | more)["verdict"]
    assert (feedback.region is None) == ("region" not in more)


@pytest.mark.parametrize(
    "more",
    [
        {"verdict": "perhaps"},
        {"by": ""},
        {"resultId": "frames"},
        {"resultId": 7},
        {"colour": "red"},
        {"product": ""},
        {"region": {"x": 1}},
        {"region": REGION | {"width": 0}},
    ],
)
def test_what_the_schema_refuses_is_no_feedback(more: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Draft202012Validator(SCHEMA).validate(LEAST | more)
    with pytest.raises(DataError, match=f"{next(iter(more))}.*feedback.schema.json"):
        read_feedback(*record(LEAST | more))


@pytest.mark.parametrize("missing", LEAST)
def test_what_is_needed(missing: str) -> None:
    least = {name: value for name, value in LEAST.items() if name != missing}
    with pytest.raises(ValidationError):
        Draft202012Validator(SCHEMA).validate(least)
    with pytest.raises(DataError, match=missing):
        read_feedback(*record(least))


@pytest.mark.parametrize(
    ("data", "key", "says"),
    [
        (LEAST | {"at": "yesterday"}, ID, "at: .*no time in ISO 8601"),
        (LEAST | {"by": "a\nb"}, ID, "by: .*cannot be printed"),
        (LEAST | {"by": " "}, ID, "by: .*cannot be printed"),
        (LEAST, None, "its key is not its resultId"),
        (LEAST, "frames:0:18", "its key is not its resultId"),
        ([], ID, "the record: "),
        ({"result_id": ID, **{n: v for n, v in LEAST.items() if n != "resultId"}}, ID, "resultId"),
    ],
)
def test_what_a_schema_cannot_say(data: object, key: str | None, says: str) -> None:
    with pytest.raises(DataError, match=says):
        read_feedback(*record(data, key))


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(value: bytes) -> None:
    with pytest.raises(DataError):
        read_feedback(ID.encode(), value)


@settings(derandomize=True, deadline=None)
@given(names, st.sampled_from(["good", "bad"]), st.none() | names)
def test_what_is_written_is_read_and_fits_the_schema(by: str, verdict: Any, product: str | None) -> None:
    feedback = Feedback(result_id=ID, verdict=verdict, by=by, at=LEAST["at"], product=product)
    event = event_of(feedback)
    Draft202012Validator(SCHEMA).validate(json.loads(event.value))
    assert read_feedback(event.key, event.value) == feedback
