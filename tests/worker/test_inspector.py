from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.parts import SIDE, NumpyEngine, bank_of, frame, good_part, png
from worker.config import CameraSettings
from worker.contract.errors import ConfigError, DataError, MismatchError
from worker.contract.preprocess import Region
from worker.contract.scoring import turn_ratios
from worker.events import DeadLetter, Outcome, Verdict
from worker.inspector import Inspector

RNG = np.random.default_rng(7)


@pytest.fixture(scope="module")
def engine() -> NumpyEngine:
    return NumpyEngine()


@pytest.fixture(scope="module")
def inspector(engine: NumpyEngine) -> Inspector:
    made = Inspector(engine, "line-1", overkill=0.02, cameras={"rings": CameraSettings(products=("ring",))})
    made.use(bank_of(engine, ("ring", "bracket")))
    return made


def verdict(outcome: Outcome) -> Verdict:
    assert isinstance(outcome, Verdict), outcome
    return outcome


def scratched() -> np.ndarray:
    picture = good_part(RNG)
    picture[6:14, 8:14] = 250
    return picture


def test_good_parts_pass_and_say_what_they_were_judged_by(inspector: Inspector, engine: NumpyEngine) -> None:
    outcomes = inspector.inspect([frame(png(good_part(RNG)), n, product="ring", part_id=f"p{n}") for n in range(50)])
    datas = [verdict(outcome).data for outcome in outcomes]
    assert [data.frame.offset for data in datas] == list(range(50))
    assert [data.part_id for data in datas] == [f"p{n}" for n in range(50)]
    assert sum(data.alert is not None for data in datas) <= 4  # 2 % promised
    first = datas[0]
    assert first.internal_recipe_id == engine.hash
    assert first.internal_configuration_id == bank_of(engine, ("ring", "bracket")).version
    assert first.predicted_product == "ring"
    assert len(first.view_distances) == 4
    harmonic = 4 / sum(1 / distance for distance in first.view_distances)
    assert first.score == pytest.approx(harmonic, rel=1e-5)


def test_kinds_of_alerts(inspector: Inspector) -> None:
    frames = [
        frame(png(scratched()), 0, product="ring"),
        frame(png(good_part(RNG, "bracket")), 1, product="ring"),
        frame(png(np.rot90(good_part(RNG), 1)), 2, product="ring"),
        frame(png(good_part(RNG, "bracket")), 3, product="bracket"),
        frame(png(good_part(RNG, "bracket")), 4),  # nothing declared: any product will do
        frame(png(good_part(RNG, "bracket")), 5, camera="rings"),  # the camera's settings declare
    ]
    alerts = [verdict(outcome).data.alert for outcome in inspector.inspect(frames)]
    assert alerts == ["defect", "wrong_product", "wrong_orientation", None, None, "wrong_product"]


def test_a_product_that_looks_the_same_turned_has_no_orientation_verdict(engine: NumpyEngine) -> None:
    def symmetric(rng: np.random.Generator) -> np.ndarray:
        return rng.integers(90, 110, (SIDE, SIDE, 3)).astype(np.uint8)

    bank = bank_of(engine)
    rng = np.random.default_rng(3)
    # The same bank, but calibrated on parts without a mark: they lie any way round.
    unmarked = engine.embed(np.array([symmetric(rng) for _ in range(120)]))
    calibration = replace(bank.calibration[0], turn_ratios=turn_ratios(unmarked, bank, 0))
    inspector = Inspector(engine, "line-1", overkill=0.02)
    inspector.use(replace(bank, calibration=(calibration,)))
    (outcome,) = inspector.inspect([frame(png(np.rot90(good_part(RNG), 1)))])
    assert verdict(outcome).data.alert == "defect"


def test_every_bad_frame_becomes_one_dead_letter_in_its_place(inspector: Inspector) -> None:
    good = png(good_part(RNG))
    frames = [
        frame(good, 0),
        frame(b"", 1),
        frame(good[: len(good) // 2], 2),
        frame(b"GIF89a not a picture", 3),
        frame(good, 4, product="washer"),
        frame(good, 5, width="16", height="16", pixel_format="Mono8"),
        frame(good, 6),
    ]
    outcomes = inspector.inspect(frames)
    assert [outcome.position.offset for outcome in outcomes] == list(range(7))
    reasons = {o.position.offset: o.data.reason for o in outcomes if isinstance(o, DeadLetter)}
    assert reasons == {1: "empty", 2: "truncated", 3: "undecodable", 4: "unknown_product", 5: "size_mismatch"}
    (unknown,) = [o for o in outcomes if isinstance(o, DeadLetter) and o.position.offset == 4]
    assert "washer" in unknown.data.message
    assert "ring, bracket" in unknown.data.message
    assert unknown.data.camera == "top-01"
    assert unknown.data.size == len(good)


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
    large = np.zeros((40, 50, 3), np.uint8)
    large[10 : 10 + SIDE, 20 : 20 + SIDE] = picture
    region = Region(x=20, y=10, width=SIDE, height=SIDE)
    inspector = Inspector(engine, "line-1", overkill=0.02, cameras={"cut": CameraSettings(region=region)})
    inspector.use(bank_of(engine))
    whole, cut = inspector.inspect([frame(png(picture), 0), frame(png(large), 1, camera="cut")])
    assert verdict(whole).data.score == verdict(cut).data.score
    (outside,) = inspector.inspect([frame(png(picture), 2, camera="cut")])
    assert isinstance(outside, DeadLetter)
    assert outside.data.reason == "region_outside"


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
    with pytest.raises(MismatchError, match=r"dimensions 8 against 6"):
        inspector.use(bank_of(NumpyEngine(dimensions=6)))
    with pytest.raises(MismatchError, match=r"made by engine other-engine .* but the engine here is numpy-engine"):
        inspector.use(bank_of(NumpyEngine(name="other-engine")))
    with pytest.raises(DataError, match="needs 9999 held-out good pictures, but there are 120; add 9879"):
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
