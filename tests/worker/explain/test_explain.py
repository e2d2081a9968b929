from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from quarterturn.worker.contract.bank import Bank, ScoringSettings
from quarterturn.worker.contract.errors import FrameError, MismatchError
from quarterturn.worker.contract.framing import Framing
from quarterturn.worker.contract.picture import Region
from quarterturn.worker.explain.explain import PAST, explain
from quarterturn.worker.explain.explanation import Explanation
from quarterturn.worker.inspection import heatmap
from quarterturn.worker.inspection.inspector import Inspector
from quarterturn.worker.messages.events import ResultData, Verdict
from quarterturn.worker.messages.frames import Frame
from quarterturn.worker.pictures.decode import decode_picture
from quarterturn.worker.settings.worker import CameraSettings
from tests.parts import SIDE, NumpyEngine, NumpyPlacesEngine, bank_of, frame, good_part, png, scratched_part

Picture = npt.NDArray[np.uint8]
ENGINES: dict[str, Callable[[], NumpyEngine]] = {
    "whole alone": NumpyEngine,
    "places": NumpyPlacesEngine,
    "one view": lambda: NumpyPlacesEngine(views=1, logits=True),
    "eight views": lambda: NumpyPlacesEngine(views=8),
    "logits": lambda: NumpyPlacesEngine(logits=True),
    "letterbox": lambda: NumpyPlacesEngine(framing=Framing(side=SIDE, fit="letterbox"), logits=True),
    "tiles": lambda: NumpyPlacesEngine(framing=Framing(side=SIDE, fit="tiles", tiles=2), logits=True),
}
PARTS: dict[str, Callable[[np.random.Generator], Picture]] = {
    "good": good_part,
    "scratched": scratched_part,
    "another product": lambda rng: good_part(rng, "bracket"),
    "turned": lambda rng: np.ascontiguousarray(np.rot90(good_part(rng), 2)),
    "dark": lambda rng: good_part(rng) // 8,
    "black": lambda rng: good_part(rng) * 0,
}
OVERKILL = 0.02


@pytest.fixture(scope="module")
def lines() -> dict[str, tuple[NumpyEngine, Bank]]:
    made = {}
    for name, make in ENGINES.items():
        engine = make()
        detectors: Any = "auto" if engine.spec.framing.fit == "stretch" else ("frame", "nearest.deep", "learned")
        scoring = ScoringSettings(coreset=50, detectors=detectors)
        made[name] = engine, bank_of(engine, ("ring", "bracket"), count=60, scoring=scoring)
    return made


def verdict_of(engine: NumpyEngine, bank: Bank, shown: Frame, camera: CameraSettings | None = None) -> ResultData:
    """As a worker would publish it."""
    inspector = Inspector(engine, "line-1", OVERKILL, {"top-01": camera} if camera else None)
    inspector.use(bank)
    (outcome,) = inspector.inspect([shown])
    inspector.close()
    assert isinstance(outcome, Verdict)
    return ResultData.model_validate_json(outcome.data.model_dump_json(by_alias=True))


@pytest.mark.parametrize("line", ENGINES)
@pytest.mark.parametrize("part", PARTS)
def test_an_explanation_is_of_the_verdict_and_its_parts_sum_to_the_score(
    lines: dict[str, tuple[NumpyEngine, Bank]], line: str, part: str
) -> None:
    engine, bank = lines[line]
    shown = frame(png(PARTS[part](np.random.default_rng(5))), product="ring", part_id="SN-1")
    recorded = verdict_of(engine, bank, shown)
    found = explain(engine, bank, shown, OVERKILL, recorded=recorded)
    assert found.same_score is True
    assert found.notes == ()
    assert (found.alert, found.product if found.alert != "wrong_product" else found.looks_like, found.reason) == (
        recorded.alert,
        recorded.predicted_product,
        recorded.reason,
    )
    assert found.score == pytest.approx(recorded.score, rel=1e-5)
    assert (found.threshold, found.p_value) == pytest.approx((recorded.threshold, recorded.p_value))
    assert found.views == pytest.approx(recorded.view_distances, rel=1e-4)
    assert (found.engine, found.bank, found.result_id) == (engine.hash, bank.version, recorded.result_id)
    assert (found.camera, found.part_id) == ("top-01", "SN-1")

    assert sum(one.points for one in found.parts) + found.emptiness == pytest.approx(found.score, rel=1e-4, abs=1e-6)
    assert [one.detector for one in found.parts] == list(bank.manifest.detectors)
    for one in found.parts:
        assert one.points == pytest.approx(one.vote * one.evidence)
        assert one.vote == bank.manifest.votes[one.detector]
        assert (one.heat is None) == (one.detector == "frame")
    assert found.emptiest in bank.manifest.detectors
    told = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert told["sentence"].startswith("PASSED" if recorded.alert is None else "ALERT")
    assert sum(one["points"] for one in told["parts"]) + told["emptiness"] == pytest.approx(told["score"], rel=1e-4)


@pytest.fixture(scope="module")
def places(lines: dict[str, tuple[NumpyEngine, Bank]]) -> Callable[..., Explanation]:
    engine, bank = lines["logits"]

    def told(picture: Picture, **given: Any) -> Explanation:
        return explain(engine, bank, frame(png(picture), product="ring"), OVERKILL, **given)

    return told


def test_the_map_of_a_detector_is_hot_where_its_worst_place_is(places: Callable[..., Explanation]) -> None:
    """And there is the scratch: right of the middle."""
    found = places(scratched_part(np.random.default_rng(5)))
    assert [place.detector for place in found.places] == [one.detector for one in found.parts if one.heat is not None]
    for place in found.places:
        heat = next(one.heat for one in found.parts if one.detector == place.detector)
        assert heat is not None
        row, column = np.unravel_index(heat.argmax(), heat.shape)
        assert place.thresholds == pytest.approx(heat.max())
        assert place.box.top <= (row + 0.5) / heat.shape[0] <= place.box.top + place.box.height
        assert place.box.left <= (column + 0.5) / heat.shape[1] <= place.box.left + place.box.width
        assert place.box.left + place.box.width > 0.5
    assert found.sentence.startswith("ALERT, defect of ring: it scores ")


@pytest.mark.parametrize(
    ("part", "sentence"),
    [
        ("good", "PASSED as ring: it scores "),
        ("scratched", "ALERT, defect of ring: it scores "),
        ("another product", "ALERT, wrong product: as a whole it looks like bracket ("),
        ("turned", "ALERT, wrong orientation: it looks like a good ring turned 180° (distance "),
        ("dark", "ALERT, unusable picture: too dark: brightness "),
    ],
)
def test_the_verdict_comes_first_in_one_sentence(places: Callable[..., Explanation], part: str, sentence: str) -> None:
    told = places(PARTS[part](np.random.default_rng(5))).sentence
    assert told.startswith(sentence)
    assert "\n" not in told
    assert told.endswith(".")


def test_a_wrong_product_is_shown_beside_all(places: Callable[..., Explanation]) -> None:
    found = places(good_part(np.random.default_rng(5), "bracket"))
    ring, bracket = found.products
    assert (ring.product, ring.admissible, bracket.product, bracket.admissible) == ("ring", True, "bracket", False)
    assert ring.distance > 3 * ring.limit
    assert bracket.distance < 2 * bracket.limit


def test_a_turned_part_is_shown_as_if_it_lay_otherwise(places: Callable[..., Explanation]) -> None:
    found = places(PARTS["turned"](np.random.default_rng(5)))
    assert found.orientations is not None
    assert found.turn_limit is not None
    assert int(np.argmin(found.orientations)) == 2
    assert found.orientations[0] > found.turn_limit * found.orientations[2]


def test_an_unusable_picture_names_the_measure_and_its_limits(places: Callable[..., Explanation]) -> None:
    found = places(PARTS["dark"](np.random.default_rng(5)))
    outside = {one.name: one for one in found.measures if not one.fits}
    brightness = outside["brightness"]
    assert brightness.value < brightness.low < brightness.high
    assert f"brightness {brightness.value:.3g} of {brightness.low:.3g} to {brightness.high:.3g}" in found.sentence
    assert found.turning is None  # no threshold lets it pass
    assert places(good_part(np.random.default_rng(5)), camera=CameraSettings(guard=False)).measures == ()


def test_what_only_the_frames_before_tell_is_taken_from_the_record(lines: dict[str, tuple[NumpyEngine, Bank]]) -> None:
    """Such as that a camera froze: in this frame alone it is not seen."""
    engine, bank = lines["places"]
    shown = frame(png(good_part(np.random.default_rng(5))), product="ring")
    frozen = "the camera has sent the same picture 5 times in a row"
    recorded = verdict_of(engine, bank, shown).model_copy(update={"alert": "unusable_picture", "reason": frozen})
    found = explain(engine, bank, shown, OVERKILL, recorded=recorded)
    assert (found.alert, found.reason, found.notes, found.same_score) == ("unusable_picture", frozen, (), True)
    assert frozen in found.sentence


@pytest.mark.parametrize(
    ("change", "same_score", "said"),
    [
        ({"score": 1.5}, False, "WARNING: the score is 0."),
        ({"threshold": 7.0}, True, "but was 7 then; 'overkill' or 'thresholds' were changed since"),
        ({"alert": "defect"}, True, "within its threshold by the settings here, but was an alert of the kind defect"),
        ({"predicted_product": "bracket"}, True, "it looks like ring now, but was recorded as bracket"),
    ],
    ids=str,
)
def test_what_differs_from_the_record_is_said(
    lines: dict[str, tuple[NumpyEngine, Bank]], change: dict[str, Any], same_score: bool, said: str
) -> None:
    engine, bank = lines["places"]
    shown = frame(png(good_part(np.random.default_rng(5))), product="ring")
    recorded = verdict_of(engine, bank, shown).model_copy(update=change)
    found = explain(engine, bank, shown, OVERKILL, recorded=recorded)
    assert found.same_score is same_score
    (note,) = found.notes
    assert said in note


def test_a_camera_whose_region_was_changed_since_is_told_by_its_score(
    lines: dict[str, tuple[NumpyEngine, Bank]],
) -> None:
    engine, bank = lines["places"]
    shown = frame(png(scratched_part(np.random.default_rng(5))), product="ring")
    region = CameraSettings(region=Region(x=0, y=0, width=24, height=24))
    recorded = verdict_of(engine, bank, shown, region)
    assert explain(engine, bank, shown, OVERKILL, camera=region, recorded=recorded).same_score is True
    assert explain(engine, bank, shown, OVERKILL, camera=region).picture.shape == (24, 24, 3)
    found = explain(engine, bank, shown, OVERKILL, recorded=recorded)
    assert found.same_score is False
    assert "give the camera the region and bit_depth that it had then" in found.notes[0]


def test_another_engine_and_a_frame_that_is_none_are_refused(lines: dict[str, tuple[NumpyEngine, Bank]]) -> None:
    _, bank = lines["places"]
    with pytest.raises(MismatchError, match="was made by engine numpy-places"):
        explain(NumpyPlacesEngine(name="another"), bank, frame(b""), OVERKILL)
    engine, _ = lines["places"]
    with pytest.raises(FrameError, match="the frame has no bytes"):
        explain(engine, bank, frame(b""), OVERKILL)
    with pytest.raises(FrameError, match="product nut is not in the bank"):
        explain(engine, bank, frame(png(good_part(np.random.default_rng(5))), product="nut"), OVERKILL)


def test_only_verdicts_of_the_same_product_and_bank_count_and_only_the_newest(
    places: Callable[..., Explanation], lines: dict[str, tuple[NumpyEngine, Bank]]
) -> None:
    engine, bank = lines["logits"]
    picture = good_part(np.random.default_rng(5))
    one = verdict_of(engine, bank, frame(png(picture), product="ring"))

    def at(second: int, **changes: Any) -> ResultData:
        return one.model_copy(update={"creation_time": f"2026-01-01T00:{second // 60:02}:{second % 60:02}Z", **changes})

    others = [
        at(3000, product_id="bracket", score=9.0),
        at(3001, product_id=None, predicted_product="bracket", score=9.0),
        at(3002, internal_configuration_id="0" * 64, score=9.0),
    ]
    own = [at(n, score=0.0 if n % 2 else 9.0) for n in range(PAST + 500)]
    turning = places(picture, past=[*others, *own]).turning
    assert turning is not None
    assert turning.past is not None
    assert (turning.past.frames, turning.past.then) == (PAST, PAST // 2)
    assert (turning.past.oldest, turning.past.newest) == (own[500].creation_time, own[-1].creation_time)
    nothing = places(picture, past=others).turning
    assert nothing is not None
    assert nothing.past is None


def test_json_carries_what_a_page_shows(places: Callable[..., Explanation]) -> None:
    found = places(scratched_part(np.random.default_rng(5)))
    told = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert told["picture"] == {"height": SIDE, "width": SIDE}
    np.testing.assert_allclose(heatmap.decode(told["heat_map"]), np.minimum(found.heat, 255 / 64), atol=1 / 128)
    for one, part in zip(told["parts"], found.parts, strict=True):
        assert (one["heat_map"] is None) == (part.heat is None)
        if part.heat is not None:
            assert heatmap.decode(one["heat_map"]).shape == part.heat.shape
    near = [near for place in told["places"] for near in place["nearest"]]
    assert near
    for one in near:
        shown = decode_picture(base64.b64decode(one["picture"]["jpeg"]))
        assert max(shown.shape[:2]) <= 160
        assert one["picture"]["name"].startswith("ring-")
        assert set(one["box"]) == {"left", "top", "width", "height"}


def test_of_an_engine_that_sees_no_places_there_is_no_map_and_no_place(
    lines: dict[str, tuple[NumpyEngine, Bank]],
) -> None:
    engine, bank = lines["whole alone"]
    found = explain(engine, bank, frame(png(scratched_part(np.random.default_rng(5))), product="ring"), OVERKILL)
    assert found.places == ()
    told = found.to_json()
    assert told["heat_map"] is None
    assert told["places"] == []
    assert bank.gallery == ((), ())


def test_a_fixed_threshold_is_the_one_that_counts(lines: dict[str, tuple[NumpyEngine, Bank]]) -> None:
    """The threshold that is offered turns the verdict where it is set, and for no other reason."""
    engine, bank = lines["logits"]
    for part in ("good", "scratched"):
        shown = frame(png(PARTS[part](np.random.default_rng(5))), product="ring")
        before = explain(engine, bank, shown, OVERKILL)
        assert before.turning is not None
        after = explain(engine, bank, shown, OVERKILL, thresholds={"ring": before.turning.threshold})
        assert (before.alert is None) != (after.alert is None) == before.turning.passes
        assert replace(after, sentence="", turning=None).score == before.score
