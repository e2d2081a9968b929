from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
from cloudevents.core.bindings.kafka import KafkaMessage, from_binary
from cloudevents.core.formats.json import JSONFormat
from jsonschema import Draft202012Validator, FormatChecker, ValidationError

from quarterturn.worker.messages.parts import event_of
from quarterturn.worker.parts.part import part_data
from quarterturn.worker.parts.seen import Seen
from tests.worker.parts.frames import SIDE, TOP, seen

BOTH = (TOP, SIDE)
SCHEMA = json.loads((Path(__file__).parents[3] / "docs" / "schemas" / "part.schema.json").read_text())


@pytest.mark.parametrize(
    ("top", "side", "verdict", "alert", "worst"),
    [
        ({}, {}, "good", None, TOP),
        ({}, {"ratio": 0.9}, "good", None, SIDE),
        ({}, {"alert": "defect", "ratio": 1.1}, "bad", "defect", SIDE),
        ({"alert": "defect", "ratio": 3}, {"alert": "wrong_product", "ratio": 2}, "bad", "defect", TOP),
        ({"alert": "defect", "ratio": 1.1}, {"alert": "unusable_picture", "ratio": 9}, "bad", "defect", TOP),
        ({"ratio": 0.9}, {"alert": "unusable_picture", "ratio": 0}, "not_inspected", "unusable_picture", SIDE),
        ({}, {"ratio": None}, "not_inspected", None, TOP),
        ({"alert": "defect", "ratio": 1.1}, {"ratio": None}, "bad", "defect", TOP),
        ({}, None, "not_inspected", None, TOP),
        ({"alert": "wrong_orientation", "ratio": 2}, None, "bad", "wrong_orientation", TOP),
        ({"ratio": None}, {"ratio": None}, "not_inspected", None, None),
    ],
)
def test_the_worst_frame_counts_and_what_not_all_have_seen_is_never_good(
    top: dict[str, object], side: dict[str, object] | None, verdict: str, alert: str | None, worst: str | None
) -> None:
    frames = [seen("p", TOP, 1, "b", **top)] + ([seen("p", SIDE, 2, "a", **side)] if side is not None else [])  # type: ignore[arg-type]
    for order in itertools.permutations(frames):
        part = part_data(order, BOTH, "complete" if side is not None else "timed_out")
        assert (part.verdict, part.alert) == (verdict, alert)
        assert (part.worst.camera if part.worst else None) == worst
        assert part.missing == ([] if side is not None else [SIDE])
        assert part.late == [one.camera for one in sorted(frames, key=lambda one: one.camera) if one.ratio is None]
        assert part.result_id == "b", "the id of the first, in whatever order they come"


def test_its_frames_stand_there_by_camera_in_order_of_time() -> None:
    frames = [seen("p", TOP, 3, "c"), seen("p", SIDE, 1, "a"), seen("p", TOP, 2, "b"), seen("p", TOP, 2, "a2")]
    part = part_data(frames, BOTH, "complete")
    assert part.frames == {SIDE: ["a"], TOP: ["a2", "b", "c"]}
    assert (part.result_id, part.began_at) == ("a", "1970-01-01T00:00:01.000Z")


FRAMES: dict[str, list[Seen]] = {
    "good": [seen("p", TOP), seen("p", SIDE)],
    "bad": [seen("p", TOP, alert="defect", ratio=2.5), seen("p", SIDE)],
    "late": [seen("p", TOP, ratio=None)],
    "any text": [seen("Teil \u00e4\u2028\x00\n:%", TOP, simulated=True, product=None)],
}


@pytest.mark.parametrize("frames", FRAMES.values(), ids=FRAMES.keys())
def test_it_is_a_cloudevent_that_fits_its_schema(frames: list[Seen]) -> None:
    part = part_data(frames, BOTH, "timed_out")
    event = event_of(part)
    read = from_binary(KafkaMessage(dict(event.headers), event.key, event.value), JSONFormat())
    assert read.get_type() == "quarterturn.part.v1"
    assert read.get_id() == f"part:{part.result_id}"
    assert read.get_source() == "/quarterturn/line-1/parts"
    assert event.key == frames[0].part_id.encode()
    data = json.loads(event.value)
    assert read.get_data() == data
    assert data["partId"] == frames[0].part_id
    validator = Draft202012Validator(SCHEMA, format_checker=FormatChecker())
    validator.validate(data)
    for wrong in (data | {"colour": "red"}, data | {"verdict": "perhaps"}, data | {"missing": None}):
        with pytest.raises(ValidationError):
            validator.validate(wrong)
