from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

import quarterturn.worker.fitting.embedder
import quarterturn.worker.fitting.normal
import quarterturn.worker.inspection.judge
import quarterturn.worker.inspection.scorer
import quarterturn.worker.inspection.scoring
from quarterturn.worker.contract.arrays import Array
from quarterturn.worker.contract.bank import Bank, Calibration, ScoringSettings
from quarterturn.worker.contract.embeddings import Embeddings
from quarterturn.worker.contract.errors import ConfigError, DataError, MismatchError
from quarterturn.worker.contract.framing import Framing
from quarterturn.worker.contract.picture import Region
from quarterturn.worker.contract.times import now
from quarterturn.worker.fitting.fit import fit_bank
from quarterturn.worker.fitting.split import split_pictures
from quarterturn.worker.inspection import heatmap
from quarterturn.worker.inspection.inspector import Inspector
from quarterturn.worker.inspection.scorer import Scorer
from quarterturn.worker.inspection.scoring import turn_ratio
from quarterturn.worker.inspection.search import places
from quarterturn.worker.messages.events import DeadLetter, DeadLetterData, Late, LateData, Outcome, Verdict
from quarterturn.worker.settings.worker import CameraSettings
from tests.parts import (
    SIDE,
    NumpyEngine,
    NumpyPlacesEngine,
    bank_of,
    embedded,
    frame,
    good_part,
    png,
    png_of_depth,
    scratched_part,
)

RNG = np.random.default_rng(7)


@pytest.fixture(scope="module")
def engine() -> NumpyEngine:
    return NumpyEngine()


UNGUARDED = {"top-01": CameraSettings(guard=False)}
"""For what scores alone say of pictures that the guard would stop."""


def inspector_of(
    engine: NumpyEngine, scoring: ScoringSettings | None = None, cameras: Mapping[str, CameraSettings] = {}
) -> Inspector:
    rings = {"rings": CameraSettings(products=("ring",))}
    made = Inspector(engine, "line-1", overkill=0.02, cameras={**rings, **cameras})
    made.use(bank_of(engine, ("ring", "bracket"), scoring=scoring))
    return made


@pytest.fixture(scope="module")
def inspector(engine: NumpyEngine) -> Inspector:
    return inspector_of(engine)


@pytest.fixture(scope="module")
def one_view_inspector() -> Inspector:
    return inspector_of(NumpyPlacesEngine(views=1))


@pytest.fixture(scope="module")
def places_inspector() -> Inspector:
    """By the frame as a whole and by all places."""
    return inspector_of(NumpyPlacesEngine())


def verdict(outcome: Outcome) -> Verdict:
    assert isinstance(outcome, Verdict), outcome
    return outcome


def scratched() -> npt.NDArray[np.uint8]:
    return scratched_part(RNG)


def test_good_parts_pass_and_say_what_they_were_judged_by(inspector: Inspector, engine: NumpyEngine) -> None:
    outcomes = inspector.inspect([frame(png(good_part(RNG)), n, product="ring", part_id=f"p{n}") for n in range(50)])
    datas = [verdict(outcome).data for outcome in outcomes]
    assert [data.frame.offset for data in datas] == list(range(50))
    assert [data.part_id for data in datas] == [f"p{n}" for n in range(50)]
    assert sum(data.alert is not None for data in datas) <= 4  # 2 % promised
    bank = bank_of(engine, ("ring", "bracket"))
    calibrated = bank.calibration[0].scores.tolist()
    for data in datas:
        assert data.internal_recipe_id == engine.hash
        assert data.internal_configuration_id == bank.version
        assert data.predicted_product == "ring"
        assert len(data.view_distances) == 4
        harmonic = 4 / sum(1 / distance for distance in data.view_distances)
        median, spread = bank.scales[0, 0].tolist()
        good = stats.logistic(median, spread)
        rare = good.logsf(harmonic) + stats.logistic(good.ppf(0.001), spread).logcdf(harmonic)
        assert data.score == pytest.approx(-rare / math.log(10), rel=1e-3)
        assert data.threshold == pytest.approx(sorted(calibrated)[118])  # rank 121 · 98 % of 120
        beyond = sum(score >= data.score for score in calibrated)
        assert data.p_value == pytest.approx((1 + beyond) / 121)
        assert (data.alert is None) == (data.score <= data.threshold)


def test_the_p_value_of_an_alert_is_small(inspector: Inspector) -> None:
    (outcome,) = inspector.inspect([frame(png(scratched()), 0, product="ring")])
    assert verdict(outcome).data.p_value == pytest.approx(1 / 121)


def test_a_part_is_judged_by_the_product_declared_whatever_it_looks_like(engine: NumpyEngine) -> None:
    """Score, threshold, p-value and heat are all of one product, the nearest one is only named."""
    bank = bank_of(engine, ("ring", "bracket"))
    fewer = Calibration(*(values[:60] for values in vars(bank.calibration[1]).values()))
    bank = replace(bank, calibration=(bank.calibration[0], fewer))
    inspector = Inspector(engine, "line-1", overkill=0.02)
    inspector.use(bank)
    for shown, declared, count in (("bracket", "ring", 120), ("ring", "bracket", 60)):
        (outcome,) = inspector.inspect([frame(png(good_part(RNG, shown)), product=declared)])
        data = verdict(outcome).data
        calibrated = bank.calibration[bank.products.index(declared)].scores
        assert data.p_value == pytest.approx(1 / (count + 1))
        assert data.threshold == pytest.approx(np.sort(calibrated)[math.ceil((count + 1) * 0.98) - 1])
        assert (data.alert, data.predicted_product, data.product_id) == ("wrong_product", shown, declared)
        assert verdict(outcome).heat[0, 0] == pytest.approx(data.score / data.threshold, rel=1e-5)


def test_places_are_compared_with_the_admissible_products_alone(
    places_inspector: Inspector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plant's bank knows many products, and each costs a search; other products are told by the whole frame."""
    asked: list[int] = []

    def note(detector: str, embeddings: Embeddings, *more: Any, **settings: Any) -> Array:
        if detector == "position":
            asked.append(len(embeddings["places.deep"]))
        return places(detector, embeddings, *more, **settings)

    monkeypatch.setattr(quarterturn.worker.inspection.scorer, "places", note)
    places_inspector.inspect([frame(png(good_part(RNG)), n, product="ring") for n in range(3)])
    assert asked == [3]
    places_inspector.inspect([frame(png(good_part(RNG, "bracket")), product="ring"), frame(png(good_part(RNG)))])
    assert asked[1:] == [2]  # the frame that may show either is so plainly a ring that no bracket is looked for


@pytest.mark.parametrize("fixture", ["inspector", "places_inspector"])
def test_kinds_of_alerts(fixture: str, request: pytest.FixtureRequest) -> None:
    ring, bracket = (good_part(np.random.default_rng(3), product) for product in ("ring", "bracket"))
    frames = [
        frame(png(scratched()), 0, product="ring"),
        frame(png(bracket), 1, product="ring"),
        frame(png(np.rot90(ring, 1)), 2, product="ring"),
        frame(png(bracket), 3, product="bracket"),
        frame(png(bracket), 4),  # nothing declared: any product will do
        frame(png(bracket), 5, camera="rings"),  # the camera's settings declare
    ]
    outcomes = request.getfixturevalue(fixture).inspect(frames)
    alerts = [verdict(outcome).data.alert for outcome in outcomes]
    assert alerts == ["defect", "wrong_product", "wrong_orientation", None, None, "wrong_product"]
    shown = [verdict(outcome).data.predicted_product for outcome in outcomes]
    assert shown == ["ring", "bracket", "ring", "bracket", "bracket", "bracket"]


def ground(rng: np.random.Generator, width: int = SIDE) -> npt.NDArray[np.uint8]:
    """What lies around a part, without any."""
    return rng.integers(90, 110, (SIDE, width, 3)).astype(np.uint8)


def foreign_frames() -> dict[str, npt.NDArray[np.uint8]]:
    """Frames that show no part, or none of ours."""

    def flat(level: int) -> npt.NDArray[np.uint8]:
        return np.full((SIDE, SIDE, 3), level, np.uint8)

    rng = np.random.default_rng(1)
    return {
        "black": flat(0),
        "white": flat(255),
        "grey": flat(128),
        "grey as the ground": flat(100),
        "no part": ground(rng),
        "noise": rng.integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8),
        "another thing": cv2.circle(flat(100), (16, 16), 9, (200, 60, 40), -1).astype(np.uint8),
    }


@pytest.mark.parametrize("detectors", ["auto", ["frame"], ["frame", "nearest.middle"], ["position"]], ids=str)
def test_a_frame_that_is_foreign_as_a_whole_is_an_alert(detectors: str | list[str]) -> None:
    """Though all its places may be alike: nothing is measured by what the frame itself looks like elsewhere."""
    scoring = ScoringSettings.model_validate({"detectors": detectors})
    inspector = inspector_of(NumpyPlacesEngine(), scoring, UNGUARDED)
    for name, picture in foreign_frames().items():
        for outcome in inspector.inspect([frame(png(picture), product="ring"), frame(png(picture))]):
            data = verdict(outcome).data
            assert data.alert == "defect", name
            assert data.score > 2 * data.threshold, name


@pytest.mark.parametrize(
    "votes",
    [
        {"frame": 0.05, "nearest.middle": 0.95},  # the least that weighing leaves it
        {"nearest.middle": 0.92, "nearest.deep": 0.03, "position": 0.05},
    ],
    ids=["a twentieth for the frame", "a twentieth for position"],
)
def test_a_foreign_frame_is_an_alert_though_what_misses_it_has_nearly_all_of_the_score(
    votes: dict[str, float],
) -> None:
    """The detector `nearest` takes the empty ground for a good place."""
    engine, scoring = NumpyPlacesEngine(), ScoringSettings(detectors=tuple(votes))
    inspector = Inspector(engine, "line-1", overkill=0.02, cameras=UNGUARDED)
    inspector.use(bank_of(engine, scoring=scoring, votes=votes))
    alerts = {name: verdict(*inspector.inspect([frame(png(one))])).data.alert for name, one in foreign_frames().items()}
    assert alerts == dict.fromkeys(foreign_frames(), "defect")
    inspector.use(bank_of(engine, scoring=ScoringSettings(detectors=("nearest.middle",))))
    (passed,) = inspector.inspect([frame(png(foreign_frames()["no part"]))])
    assert verdict(passed).data.alert is None


def auto_bank(engine: NumpyEngine, folder: Path, pictures: list[npt.NDArray[np.uint8]], worst: float = 0.02) -> Bank:
    """Fitted from files, half of them held out, with all detectors, weighed."""
    for number, picture in enumerate(pictures):
        (folder / f"{number:03}.png").write_bytes(png(picture))
    return fit_bank(engine, split_pictures(folder, None, 0.5), ScoringSettings(worst=worst), 0.06)


def test_a_blank_frame_is_an_alert_though_all_of_it_looks_better_than_any_good_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a product with a grain, as grey but smooth: only that so little is in it gives it away."""
    engine, rng = NumpyPlacesEngine(), np.random.default_rng(0)
    inspector = Inspector(engine, "line-1", overkill=0.06, cameras=UNGUARDED)
    inspector.use(auto_bank(engine, tmp_path, [ground(rng) for _ in range(140)], worst=1))
    blank = frame(png(foreign_frames()["grey as the ground"]))
    seen = verdict(*inspector.inspect([blank]))
    assert seen.data.alert == "defect"
    assert seen.heat.max() < 0.1  # no place of it is a defect
    monkeypatch.setattr(quarterturn.worker.inspection.scoring, "emptiness", lambda values, _: np.zeros_like(values))
    without = verdict(*inspector.inspect([blank])).data
    assert without.alert is None
    assert without.score < 0.1 * without.threshold


def specks(pictures: list[npt.NDArray[np.uint8]], seed: int) -> list[tuple[npt.NDArray[np.uint8], None]]:
    """In the place of `paste_all`: the smallest anomalies, brighter or darker, each in 2 by 2 pixels."""
    rng, pasted = np.random.default_rng(seed), []
    for picture in pictures:
        copy = picture.copy()
        y, x = (int(rng.integers(side - 2)) for side in picture.shape[:2])
        copy[y : y + 2, x : x + 2] += np.uint8(40) if picture[y, x].mean() < 128 else np.uint8(216)  # less 40
        pasted.append((copy, None))
    return pasted


@pytest.mark.parametrize("least", [0.05, 0.0])
def test_bare_ground_is_an_alert_by_the_least_share_of_the_frame_where_a_bank_has_no_positions(
    least: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of pictures in tiles. `frame` finds few of the smallest anomalies, but the others take ground for good places."""
    assert quarterturn.worker.fitting.normal._FRAME == 0.05
    monkeypatch.setattr(quarterturn.worker.fitting.normal, "_FRAME", least)
    monkeypatch.setattr(quarterturn.worker.fitting.embedder, "paste_all", specks)
    engine = NumpyPlacesEngine(dimensions=16, framing=Framing(side=SIDE, fit="tiles"))
    rng, width = np.random.default_rng(0), 48
    pictures = [ground(rng, width) for _ in range(200)]
    for picture in pictures:
        picture[:, 8:40] = good_part(rng)  # both tiles see of it
    bank = auto_bank(engine, tmp_path, pictures)
    assert bank.manifest.detectors == ("frame", "nearest.middle", "nearest.deep")
    share = bank.manifest.votes["frame"]
    assert share == pytest.approx(0.05) if least else share < 0.02
    inspector = Inspector(engine, "line-1", overkill=0.06, cameras=UNGUARDED)
    inspector.use(bank)
    outcomes = inspector.inspect([frame(png(ground(rng, width)), n) for n in range(20)])
    alerts = [verdict(outcome).data.alert for outcome in outcomes]
    assert alerts.count("defect") == 20 if least else alerts.count(None) > 10


@pytest.mark.parametrize("quarter_turns", [1, 2, 3])
@pytest.mark.parametrize("fixture", ["inspector", "places_inspector", "one_view_inspector"])
def test_parts_that_lie_the_wrong_way_are_told_from_defects(
    fixture: str, quarter_turns: int, request: pytest.FixtureRequest
) -> None:
    frames = [frame(png(np.rot90(good_part(RNG), quarter_turns)), n, product="ring") for n in range(10)]
    frames += [frame(png(scratched()), 10 + n, product="ring") for n in range(10)]
    outcomes = request.getfixturevalue(fixture).inspect(frames)
    alerts = [verdict(outcome).data.alert for outcome in outcomes]
    assert alerts == ["wrong_orientation"] * 10 + ["defect"] * 10


def test_a_product_that_looks_the_same_turned_has_no_orientation_verdict(engine: NumpyEngine) -> None:
    bank = bank_of(engine)
    rng = np.random.default_rng(3)
    # The same bank, but calibrated on parts without a mark: they lie any way round.
    scored = Scorer(bank).score(*embedded(engine, [ground(rng) for _ in range(120)]))
    unmarked = [turn_ratio(lies) for one in scored if (lies := one.orientations(0)) is not None]
    assert len(unmarked) == 120
    calibration = replace(bank.calibration[0], turn_ratios=np.array(unmarked, np.float32))
    inspector = Inspector(engine, "line-1", overkill=0.02)
    inspector.use(replace(bank, calibration=(calibration,)))
    (outcome,) = inspector.inspect([frame(png(np.rot90(good_part(RNG), 1)))])
    assert verdict(outcome).data.alert == "defect"


def test_a_bank_without_turn_ratios_has_no_orientation_verdict(engine: NumpyEngine) -> None:
    """As where good parts were longer than wide, so that none was calibrated."""
    bank = bank_of(engine)
    inspector = Inspector(engine, "line-1", overkill=0.02)
    inspector.use(replace(bank, calibration=(replace(bank.calibration[0], turn_ratios=np.empty(0, np.float32)),)))
    (outcome,) = inspector.inspect([frame(png(np.rot90(good_part(RNG), 1)), product="ring")])
    assert verdict(outcome).data.alert == "defect"


def grey_levels(data: str) -> npt.NDArray[np.uint8]:
    levels = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_UNCHANGED)
    return levels.astype(np.uint8)


def test_a_heat_map_says_where() -> None:
    """The scratch covers rows 12 to 28 and columns 16 to 28, of places of 8 by 8 pixels."""
    detectors = ("frame", "nearest.middle", "position")
    inspector = inspector_of(NumpyPlacesEngine(depths={"middle": 4}), ScoringSettings(detectors=detectors))
    rng = np.random.default_rng(7)
    bad, good = inspector.inspect(
        [frame(png(scratched()), 0, product="ring"), frame(png(good_part(rng)), 1, product="ring")]
    )
    heat = verdict(bad).heat
    assert (heat.shape, heat.dtype) == ((4, 4), np.float32)
    touched = np.zeros((4, 4), bool)
    touched[1:4, 2:4] = True
    assert heat[touched].min() > 1 > heat[~touched].max()
    assert verdict(good).heat.max() < 1.5
    for outcome in (bad, good):
        published = verdict(outcome).data.heat_map
        assert published is not None
        levels = grey_levels(published)
        np.testing.assert_allclose(levels, np.clip(verdict(outcome).heat * 64, 0, 255), atol=0.51)
        assert heatmap.encode(verdict(outcome).heat) == published


def test_a_heat_map_covers_all_tiles() -> None:
    """Two parts in one picture, 32 units wide: a red stain on the right one is hot there, and nowhere else."""
    engine = NumpyPlacesEngine(views=1, framing=Framing(side=SIDE, fit="tiles"))
    inspector = Inspector(engine, "line-1", overkill=0.02)
    inspector.use(bank_of(engine, scoring=ScoringSettings(detectors=("frame", "nearest.middle"))))
    rng = np.random.default_rng(5)
    clean = np.hstack([good_part(rng), good_part(rng)])
    stained = clean.copy()
    stained[16:24, 48:56] = (220, 20, 20)  # rows 8 to 12 and columns 24 to 28, in units
    without, with_stain = (verdict(one) for one in inspector.inspect([frame(png(clean), 0), frame(png(stained), 1)]))
    assert without.heat.shape == with_stain.heat.shape == (16, 32)
    risen = with_stain.heat - without.heat
    where = np.zeros((16, 32), bool)
    where[8:12, 24:28] = True
    assert risen[where].min() > 1
    assert risen[:, :16].max() < 1e-3
    assert np.unravel_index(with_stain.heat.argmax(), where.shape) in {tuple(place) for place in np.argwhere(where)}
    assert with_stain.data.score > without.data.score + 1


@pytest.mark.parametrize("engine", [NumpyEngine(), NumpyPlacesEngine()], ids=["engine of frames", "engine of places"])
def test_what_sees_the_frame_as_a_whole_has_no_heat_map(engine: NumpyEngine) -> None:
    inspector = inspector_of(engine, ScoringSettings(detectors=("frame",)))
    (outcome,) = inspector.inspect([frame(png(scratched()), 0, product="ring")])
    data = verdict(outcome).data
    assert data.heat_map is None
    assert verdict(outcome).heat.shape == (1, 1)
    assert verdict(outcome).heat[0, 0] == pytest.approx(data.score / data.threshold, rel=1e-5)


def test_every_bad_frame_becomes_one_dead_letter_in_its_place(inspector: Inspector) -> None:
    good = png(good_part(RNG))
    frames = [
        frame(good, 0),
        frame(b"", 1),
        frame(good[: len(good) // 2], 2, part_id="p2", product="ring", captured_at="2026-01-01T00:00:00Z"),
        frame(b"GIF89a not a picture", 3),
        frame(good, 4, product="washer"),
        frame(good, 5, width="32", height="32", pixel_format="Mono8"),
        frame(good, 6),
    ]
    outcomes = inspector.inspect(frames)
    assert [outcome.position.offset for outcome in outcomes] == list(range(7))
    reasons = {o.position.offset: o.data.reason for o in outcomes if isinstance(o, DeadLetter)}
    assert reasons == {1: "empty", 2: "truncated", 3: "undecodable", 4: "unknown_product", 5: "size_mismatch"}
    (unknown,) = [o for o in outcomes if isinstance(o, DeadLetter) and o.position.offset == 4]
    assert "washer" in unknown.data.message
    assert "ring, bracket" in unknown.data.message
    assert unknown.data.size == len(good)
    letters = [o.data for o in outcomes if isinstance(o, DeadLetter)]
    assert {letter.camera for letter in letters} == {"top-01"}
    cut = letters[1]
    assert (cut.part_id, cut.product_id, cut.frame.captured_at) == ("p2", "ring", "2026-01-01T00:00:00Z")


def test_a_picture_that_takes_too_many_tiles_is_a_dead_letter() -> None:
    engine = NumpyPlacesEngine(views=1, framing=Framing(side=SIDE, fit="tiles"))
    inspector = Inspector(engine, "line-1", overkill=0.02)
    inspector.use(bank_of(engine, count=60))
    strip = np.zeros((16, 2000, 3), np.uint8)
    outcomes = inspector.inspect([frame(png(good_part(RNG)), 0), frame(png(strip), 1), frame(png(good_part(RNG)), 2)])
    assert [isinstance(outcome, DeadLetter) for outcome in outcomes] == [False, True, False]
    assert outcomes[1].data.reason == "too_elongated"  # type: ignore[union-attr]


def test_frames_of_different_layouts_in_one_batch_are_judged_as_alone() -> None:
    engine = NumpyPlacesEngine(framing=Framing(side=SIDE, fit="tiles"))
    inspector = Inspector(engine, "line-1", overkill=0.02)
    inspector.use(bank_of(engine, count=60, scoring=ScoringSettings(detectors=("frame", "nearest.middle"))))
    pictures = [
        good_part(RNG),
        np.hstack([good_part(RNG), scratched()]),
        np.vstack([scratched(), good_part(RNG), good_part(RNG)]),
        np.rot90(good_part(RNG)),  # its tile is not the frame's number in the batch
        scratched(),
    ]
    frames = [frame(png(picture), n, product="ring") for n, picture in enumerate(pictures)]
    frames.insert(1, frame(b"broken", 9))
    together = [outcome for outcome in inspector.inspect(frames) if isinstance(outcome, Verdict)]
    assert [one.heat.shape for one in together] == [(4, 4), (16, 32), (48, 16), (4, 4), (4, 4)]
    assert [one.data.alert for one in together[3:]] == ["wrong_orientation", "defect"]
    for one in together:
        (alone,) = inspector.inspect([each for each in frames if each.position == one.position])
        assert verdict(alone).data.alert == one.data.alert
        assert verdict(alone).data.score == pytest.approx(one.data.score, rel=1e-3)
        assert verdict(alone).data.view_distances == pytest.approx(one.data.view_distances, rel=1e-3)
        np.testing.assert_allclose(verdict(alone).heat, one.heat, rtol=1e-2, atol=1e-3)


def test_a_batch_of_bad_frames_only(inspector: Inspector) -> None:
    assert all(isinstance(outcome, DeadLetter) for outcome in inspector.inspect([frame(b"x", n) for n in range(3)]))
    assert inspector.inspect([]) == []


def test_raw_pixels_score_as_the_same_picture_encoded(inspector: Inspector) -> None:
    picture = good_part(RNG)
    size = {"width": str(SIDE), "height": str(SIDE)}
    encoded, raw = inspector.inspect(
        [frame(png(picture), 0), frame(picture[..., ::-1].tobytes(), 1, pixel_format="BGR8", **size)]
    )
    assert verdict(encoded).data.score == verdict(raw).data.score


def test_region_is_cut_before_resizing(engine: NumpyEngine) -> None:
    picture = good_part(RNG)
    large = np.zeros((60, 70, 3), np.uint8)
    large[10 : 10 + SIDE, 20 : 20 + SIDE] = picture
    region = Region(x=20, y=10, width=SIDE, height=SIDE)
    inspector = Inspector(engine, "line-1", overkill=0.02, cameras={"cut": CameraSettings(region=region)})
    inspector.use(bank_of(engine))
    whole, cut = inspector.inspect([frame(png(picture), 0), frame(png(large), 1, camera="cut")])
    assert verdict(whole).data.score == verdict(cut).data.score
    (outside,) = inspector.inspect([frame(png(picture), 2, camera="cut")])
    assert isinstance(outside, DeadLetter)
    assert outside.data.reason == "region_outside"


def test_a_camera_has_the_depth_that_is_said(engine: NumpyEngine, caplog: pytest.LogCaptureFixture) -> None:
    picture = good_part(RNG)
    cameras = {f"{bits} bits": CameraSettings(bit_depth=bits) for bits in (10, 12, 14, 16)}
    inspector = Inspector(engine, "line-1", overkill=0.02, cameras=cameras)
    inspector.use(bank_of(engine))
    (expected,) = inspector.inspect([frame(png(picture))])
    for camera, settings in cameras.items():
        assert settings.bit_depth is not None
        samples = picture[..., 0].astype("<u2") << settings.bit_depth - 8
        size = {"width": str(SIDE), "height": str(SIDE)}
        deep, grey, known, beyond = inspector.inspect(
            [
                frame(png_of_depth(picture, settings.bit_depth), camera=camera),
                frame(samples.tobytes(), camera=camera, pixel_format="Mono16", **size),
                frame(picture[..., 0].tobytes(), camera="any", pixel_format="Mono8", **size),
                frame(png_of_depth(picture, 16), camera=camera),
            ]
        )
        assert verdict(deep).data.score == verdict(expected).data.score
        assert verdict(grey).data.score == verdict(known).data.score
        if settings.bit_depth < 16:
            assert isinstance(beyond, DeadLetter)
            assert beyond.data.reason == "bad_bit_depth"
    assert not caplog.records


def test_a_depth_that_is_not_the_cameras_is_noticed(engine: NumpyEngine) -> None:
    picture = good_part(RNG)
    inspector = Inspector(engine, "line-1", overkill=0.02, cameras={"deep": CameraSettings(bit_depth=12)})
    inspector.use(bank_of(engine))
    frames = [
        frame(png_of_depth(picture, 10), camera="unset"),
        frame(png(picture), camera="deep"),
        frame(png(picture), camera="plain"),
    ]
    unset, deep, plain = (verdict(outcome).notices for outcome in inspector.inspect(frames))
    assert unset.keys() == {"depth_in_doubt", "picture_depth"}
    assert unset["depth_in_doubt"].startswith("no sample of 16 bits is above 963")
    assert deep.keys() == {"depth_in_doubt"}
    assert deep["depth_in_doubt"].startswith("samples have 8 bits, bit_depth says 12; take the setting away")
    assert plain == {}


def test_a_frame_that_is_too_old_is_late_and_nobody_looks_at_it(engine: NumpyEngine) -> None:
    inspector = Inspector(engine, "line-1", overkill=0.02, cameras={"gate": CameraSettings(max_age_ms=60_000)})
    inspector.use(bank_of(engine))
    ancient, present = "2026-01-01T00:00:00Z", now()
    frames = [
        frame(png(good_part(RNG)), 0, camera="gate", captured_at=present),
        frame(b"not even a picture", 1, camera="gate", captured_at=ancient, part_id="p1", product="ring"),
        frame(png(good_part(RNG)), 2, camera="gate", captured_at="9999-01-01T00:00:00Z"),
        frame(png(good_part(RNG)), 3, camera="other", captured_at=ancient),
        frame(png(good_part(RNG)), 4, camera="gate"),
    ]
    outcomes = inspector.inspect(frames)
    assert [type(outcome) for outcome in outcomes] == [Verdict, Late, Verdict, Verdict, DeadLetter]
    late = outcomes[1].data
    assert isinstance(late, LateData)
    assert (late.camera, late.part_id, late.product_id, late.max_age_ms) == ("gate", "p1", "ring", 60_000)
    assert late.age_ms > 60_000
    assert late.frame.captured_at == ancient
    assert isinstance(outcomes[4].data, DeadLetterData)
    assert outcomes[4].data.reason == "bad_header"


def test_a_batch_is_judged_by_the_bank_it_began_with(engine: NumpyEngine) -> None:
    inspector = Inspector(engine, "line-1", overkill=0.02)
    with pytest.raises(ConfigError, match="quarterturn bank push"):
        inspector.inspect([frame(png(good_part(RNG)))])
    banks = [bank_of(engine, seed=seed) for seed in (1, 2)]
    versions = set()
    for bank in banks:
        inspector.use(bank)
        outcomes = inspector.inspect([frame(png(good_part(RNG)), n) for n in range(4)])
        used = {verdict(outcome).data.internal_configuration_id for outcome in outcomes}
        assert used == {bank.version}
        versions |= used
    assert len(versions) == 2


def test_banks_that_do_not_fit_are_refused_with_both_values(engine: NumpyEngine) -> None:
    inspector = Inspector(engine, "line-1", overkill=0.02)
    with pytest.raises(MismatchError, match=r"frame 8 against 6"):
        inspector.use(bank_of(NumpyEngine(dimensions=6)))
    with pytest.raises(MismatchError, match=r"made by engine other-engine .* but the engine here is numpy-engine"):
        inspector.use(bank_of(NumpyEngine(name="other-engine")))
    with pytest.raises(DataError, match=r"needs 9999 calibration pictures, but there are 120"):
        Inspector(engine, "line-1", overkill=0.0001).use(bank_of(engine))


def test_configured_products_must_be_in_the_bank(engine: NumpyEngine) -> None:
    cameras = {"top-01": CameraSettings(products=("nut",))}
    with pytest.raises(ConfigError, match=r"cameras.top-01.products: 'nut' is not in bank \w+ \(ring\)"):
        Inspector(engine, "line-1", 0.02, cameras).use(bank_of(engine))
    with pytest.raises(ConfigError, match="thresholds: 'nut' is no product of the bank"):
        Inspector(engine, "line-1", 0.02, thresholds={"nut": 1.0}).use(bank_of(engine))


def test_a_fixed_threshold_replaces_the_calibrated_one(engine: NumpyEngine) -> None:
    inspector = Inspector(engine, "line-1", 0.02, thresholds={"ring": 1e6})
    inspector.use(bank_of(engine))
    (outcome,) = inspector.inspect([frame(png(scratched()))])
    assert verdict(outcome).data.alert is None
    assert verdict(outcome).data.threshold == 1e6
