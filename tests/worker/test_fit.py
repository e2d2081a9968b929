from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats
from sklearn.covariance import OAS
from sklearn.metrics import roc_auc_score

from tests.parts import SIDE, NumpyEngine, NumpyLocalEngine, png
from tests.worker.dataset import write_product
from worker.contract.bank import Bank, ScoringSettings
from worker.contract.calibration import conformal_threshold
from worker.contract.detectors import Detector
from worker.contract.embedder import SPOILED, Embedder
from worker.contract.errors import ConfigError, DataError
from worker.contract.fitting import choose_detectors
from worker.contract.framing import Framing, cut
from worker.contract.preprocess import Region, read_picture
from worker.contract.scoring import Reading, by_orientation, combine, fit_scale, frame_scores, read_frames
from worker.fit import Split, fit_bank, read_bank_file, split_pictures, write_bank_file

Array = npt.NDArray[np.float32]
AnyEngine = NumpyEngine | NumpyLocalEngine


@pytest.fixture(scope="module")
def engine() -> NumpyEngine:
    return NumpyEngine(dimensions=4)


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("plant")
    for product in ("bracket", "ring"):
        write_product(root / product, product)
    return root


def good_folder(path: Path, count: int, width: int = SIDE) -> Path:
    path.mkdir(parents=True)
    rng = np.random.default_rng(count)
    for number in range(count):
        (path / f"{number}.png").write_bytes(png(rng.integers(0, 255, (SIDE, width, 3)).astype(np.uint8)))
    return path


def counts(split: Split, product: str) -> tuple[int, int, int]:
    return len(split.normal[product]), len(split.choice[product]), len(split.calibration[product])


def test_the_pictures_that_training_held_out_choose_and_calibrate(plant: Path) -> None:
    split = split_pictures(plant, None, 0.4)
    assert {product: counts(split, product) for product in split.normal} == {
        "bracket": (36, 6, 18),
        "ring": (36, 6, 18),
    }
    assert split.total == 2 * (36 + 6 * (1 + SPOILED) + 18)


@pytest.mark.parametrize("holdout", [0.01, 0.1, 0.25, 0.5, 0.9])
def test_no_picture_is_in_two_parts_and_none_is_lost(plant: Path, holdout: float) -> None:
    split = split_pictures(plant, None, holdout)
    for product in ("bracket", "ring"):
        three = [set(part[product]) for part in (split.normal, split.choice, split.calibration)]
        assert set.union(*three) == set((plant / product / "train" / "good").iterdir())
        assert sum(len(part) for part in three) == 60
        assert len(three[1]) + len(three[2]) == math.ceil(60 * holdout)
        assert sum(counts(split, product)) == 60
    assert split_pictures(plant, None, holdout) == split


def test_another_folder_chooses_and_calibrates_and_all_pictures_become_the_bank(plant: Path) -> None:
    split = split_pictures(plant / "ring", plant / "ring" / "test" / "good", 0.25)
    assert counts(split, "ring") == (60, 3, 9)
    assert {path.parent for path in split.normal["ring"]} == {plant / "ring" / "train" / "good"}
    held_out = {*split.choice["ring"], *split.calibration["ring"]}
    assert held_out == set((plant / "ring" / "test" / "good").iterdir())


def test_calibration_folders_that_do_not_fit_are_refused(plant: Path, tmp_path: Path) -> None:
    good_folder(tmp_path / "more" / "ring", 3)
    good_folder(tmp_path / "more" / "washer", 3)
    with pytest.raises(DataError, match=r"more: product 'bracket' is only in one of this folder and .*lay both out"):
        split_pictures(plant, tmp_path / "more", 0.25)
    with pytest.raises(DataError, match=r"000\.png: is in both the bank and its calibration"):
        split_pictures(plant / "ring", plant / "ring" / "train", 0.25)


def test_nothing_held_out_says_what_to_do(plant: Path) -> None:
    with pytest.raises(DataError, match=r"holdout: 0.*another folder of good pictures with 'calibration'"):
        split_pictures(plant, None, 0.0)


def embedded(engine: AnyEngine, paths: Sequence[Path], region: Region | None = None) -> Array:
    """(n, V, P, D), picture by picture, of an engine that takes whole pictures."""
    return np.concatenate([engine.embed(cut(read_picture(path, region), engine.spec.framing)[0]) for path in paths])


def reading(engine: AnyEngine, bank: Bank, path: Path) -> Reading:
    frames, layout = cut(read_picture(path), engine.spec.framing)
    (found,) = read_frames(engine.embed(frames), [layout], bank)
    return found


ENGINES: dict[str, AnyEngine] = {"one place": NumpyEngine(dimensions=4), "sixteen places": NumpyLocalEngine()}


@pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES.keys())
@pytest.mark.parametrize("detectors", [("mahalanobis",), ("knn", "mahalanobis"), "auto"], ids=str)
def test_each_part_of_the_pictures_has_its_own_use(
    engine: AnyEngine, plant: Path, detectors: tuple[Detector, ...] | str
) -> None:
    """Gaussians and neighbours come from the first part, scales from the second, scores from the third."""
    split = split_pictures(plant, None, 0.4)
    bank = fit_bank(engine, split, ScoringSettings.model_validate({"detectors": detectors}), 0.06)
    assert bank.products == ("bracket", "ring")
    assert (bank.manifest.engine, bank.manifest.target, bank.manifest.spec) == (engine.hash, "numpy", engine.spec)
    for c, product in enumerate(bank.products):
        check_normal(bank, c, embedded(engine, split.normal[product]))
        raw = np.array([reading(engine, bank, path).raw[c] for path in split.choice[product]], np.float64)
        for k in range(raw.shape[1]):
            fitted = stats.logistic(*bank.scales[c, k])
            assert fitted.cdf(np.percentile(raw[:, k], [50, 90])) == pytest.approx([0.5, 0.9], abs=0.01)
        own, ratios = [], []
        for path in split.calibration[product]:
            frames, layout = cut(read_picture(path), engine.spec.framing)
            embeddings = engine.embed(frames)
            own.append(frame_scores(read_frames(embeddings, [layout], bank), bank)[0, c])
            turned = by_orientation(embeddings, layout, bank, c)
            assert turned is not None
            ratios.append(turned[0] / min(turned[1:]))
        np.testing.assert_allclose(bank.calibration[c].scores, own, rtol=5e-3, atol=1e-4)
        np.testing.assert_allclose(bank.calibration[c].turn_ratios, ratios, rtol=5e-3, atol=1e-4)


def check_normal(bank: Bank, product: int, embeddings: Array) -> None:
    normal = bank.normals[product]
    assert normal.neighbours.shape[1] == math.prod(embeddings.shape[::2])  # fewer than the coreset takes: all of them
    for v in range(embeddings.shape[1]):
        seen = embeddings[:, v].reshape(-1, embeddings.shape[-1]).astype(np.float64)
        oracle = OAS().fit(seen)
        np.testing.assert_allclose(normal.everywhere.mean[v], oracle.location_, atol=1e-5)
        whitening = normal.everywhere.whitening[v].astype(np.float64)
        np.testing.assert_allclose(whitening @ oracle.covariance_ @ whitening.T, np.eye(seen.shape[1]), atol=5e-3)
        back = normal.neighbours[v] @ np.linalg.inv(whitening).T + oracle.location_
        for one in seen[::5]:
            assert np.abs(back - one).max(axis=1).min() < 1e-3


def test_a_region_is_cut_out_before_the_engine(engine: NumpyEngine, plant: Path) -> None:
    split, region = split_pictures(plant / "ring", None, 0.4), Region(x=4, y=0, width=8, height=16)
    bank = fit_bank(engine, split, ScoringSettings(detectors=("mahalanobis",)), 0.06, region=region)
    check_normal(bank, 0, embedded(engine, split.normal["ring"], region))


def test_progress_ends_at_the_total(engine: NumpyEngine, plant: Path) -> None:
    split, done = split_pictures(plant, None, 0.4), []
    fit_bank(engine, split, ScoringSettings(), 0.06, on_progress=done.append)
    assert sum(done) == split.total


def test_detectors_are_chosen_by_defects_pasted_into_the_second_part(plant: Path) -> None:
    """And what each combination found is in the manifest."""
    engine, split = NumpyLocalEngine(learned=True), split_pictures(plant, None, 0.4)
    bank = fit_bank(engine, split, ScoringSettings(), 0.06)
    four: tuple[Detector, ...] = ("mahalanobis", "position", "knn", "learned")
    assert len(bank.manifest.choice) == 15
    assert set(bank.manifest.detectors) <= set(four)
    assert [name for name in four if name in bank.manifest.detectors] == list(bank.manifest.detectors)
    taken = bank.manifest.choice["+".join(bank.manifest.detectors)]
    assert taken >= max(bank.manifest.choice.values()) - 0.0301

    one = Embedder(engine.spec, engine.embed)
    for alone in ("mahalanobis", "learned"):
        each = []
        for c, product in enumerate(bank.products):
            good, bad = (
                one.distances(batches, bank.normals[c], bank.manifest.scoring, (alone,))[:, 0]
                for batches in (one.read(split.choice[product]), one.spoiled(split.choice[product]))
            )
            assert len(bad) == SPOILED * len(good)
            each.append(roc_auc_score([0] * len(good) + [1] * len(bad), [*good, *bad]))
        assert bank.manifest.choice[alone] == pytest.approx(sum(each) / 2, abs=0.01)


def test_detectors_set_by_hand_are_taken_as_they_are(plant: Path) -> None:
    split = split_pictures(plant / "ring", None, 0.4)
    bank = fit_bank(NumpyLocalEngine(), split, ScoringSettings(detectors=("knn", "position", "knn")), 0.06)
    assert bank.manifest.detectors == ("position", "knn")
    assert bank.manifest.choice == {}
    assert bank.scales.shape == (1, 2, 2)


LETTERBOX = Framing(side=SIDE, fit="letterbox")


@pytest.mark.parametrize(
    ("engine", "asked", "offered"),
    [
        (NumpyEngine(), "position", "mahalanobis, knn"),
        (NumpyEngine(), "learned", "mahalanobis, knn"),
        (NumpyLocalEngine(), "learned", "mahalanobis, position, knn"),
        (NumpyLocalEngine(framing=LETTERBOX), "position", "mahalanobis, knn"),
        (NumpyLocalEngine(framing=LETTERBOX, learned=True), "position", "mahalanobis, knn, learned"),
    ],
)
def test_a_detector_that_is_not_to_be_had_is_refused(
    engine: AnyEngine, asked: Detector, offered: str, tmp_path: Path
) -> None:
    split = split_pictures(good_folder(tmp_path / "ring", 40, width=2 * SIDE), None, 0.6)
    with pytest.raises(ConfigError) as caught:
        fit_bank(engine, split, ScoringSettings(detectors=("knn", asked)), 0.06)
    assert str(caught.value) == (
        f"scoring.detectors: this engine and framing offer {offered}, not {asked}; "
        "take it out, or build an engine of a model that has it"
    )


def test_a_product_photographed_in_another_shape_takes_the_position_detector_from_all(tmp_path: Path) -> None:
    """Square pictures have their positions in common, longer ones are cut another way; the bank is read again."""
    good_folder(tmp_path / "plant" / "nut", 40)
    good_folder(tmp_path / "plant" / "rod", 40, width=2 * SIDE)
    engine = NumpyLocalEngine(framing=Framing(side=SIDE, fit="tiles"))
    bank = fit_bank(engine, split_pictures(tmp_path / "plant", None, 0.6), ScoringSettings(), 0.06)
    assert [normal.places is None for normal in bank.normals] == [False, True]
    assert "position" not in "".join(bank.manifest.choice)
    write_bank_file(tmp_path / "bank.safetensors", bank)
    again = read_bank_file(tmp_path / "bank.safetensors")
    assert again.version == bank.version
    assert [normal.places is None for normal in again.normals] == [False, True]
    assert [len(calibration.turn_ratios) for calibration in bank.calibration] == [18, 0]


def good_and_spoiled(rng: np.random.Generator, good: int, spoiled: int) -> tuple[Array, Array]:
    """Distances of three detectors, of heavy and unlike tails and hanging together; defects raise two of them a bit."""
    shared = rng.normal(size=(good + spoiled, 1))
    raw = np.exp(np.array([0.5, 1.0, 0.2]) * (shared + rng.standard_t(4, size=(good + spoiled, 3))))
    raw[good:, 0] += 0.7 * rng.random(spoiled)
    raw[good:, 2] += 0.3 * rng.random(spoiled)
    return raw[:good].astype(np.float32), raw[good:].astype(np.float32)


def test_the_promise_holds_for_detectors_chosen_by_a_part_of_the_held_out_pictures() -> None:
    """In many plants, each with its own choice and scale; all its good parts and calibration are exchangeable."""
    rng = np.random.default_rng(0)
    plants, calibrating, fresh, overkill = 800, 59, 40, 0.05
    rejected = np.zeros(plants)
    combinations = set()
    for plant in range(plants):
        good, spoiled = good_and_spoiled(rng, 20 + calibrating + fresh, 40)
        clean, held_out, new = np.split(good, [20, 20 + calibrating])
        chosen, _ = choose_detectors(("mahalanobis", "position", "knn"), [clean], [spoiled])
        columns = [("mahalanobis", "position", "knn").index(one) for one in chosen]
        scale = fit_scale(clean[:, columns])
        threshold = conformal_threshold(combine(held_out[:, columns], scale, chosen), overkill)
        rejected[plant] = (combine(new[:, columns], scale, chosen) > threshold).mean()
        combinations.add(chosen)
    assert len(combinations) >= 4  # the choice does follow the pictures
    error = 3 * rejected.std() / math.sqrt(plants)
    assert error < 0.006
    assert overkill - 1 / (calibrating + 1) - error < rejected.mean() < overkill + error


def test_without_turns_there_are_no_turn_ratios(plant: Path) -> None:
    bank = fit_bank(NumpyEngine(views=1), split_pictures(plant / "ring", None, 0.4), ScoringSettings(), 0.06)
    assert bank.calibration[0].turn_ratios.shape == (0,)


def test_too_few_pictures_are_refused_before_the_engine_runs(plant: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = NumpyEngine()
    monkeypatch.setattr(engine, "embed", None)
    with pytest.raises(
        DataError, match=r"^product 'bracket': an overkill of 0.500% needs 199 .* there are 18; add 181"
    ):
        fit_bank(engine, split_pictures(plant, None, 0.4), ScoringSettings(), 0.005)


def test_one_picture_held_out_is_not_enough_to_choose_and_calibrate(engine: NumpyEngine, plant: Path) -> None:
    with pytest.raises(DataError, match=r"^product 'bracket': .* there are 0; add 1 or allow an overkill of 100.00%"):
        fit_bank(engine, split_pictures(plant, None, 0.01), ScoringSettings(), 0.5)


def test_a_bank_file_is_written_whole_or_not_at_all(engine: NumpyEngine, plant: Path, tmp_path: Path) -> None:
    bank = fit_bank(engine, split_pictures(plant / "ring", None, 0.4), ScoringSettings(), 0.06)
    path = tmp_path / "new" / "bank.safetensors"
    write_bank_file(path, bank)
    assert read_bank_file(path).version == bank.version
    assert [file.name for file in path.parent.iterdir()] == ["bank.safetensors"]
    with pytest.raises(DataError, match=r"cannot be written .*choose another place with 'out'"):
        write_bank_file(path / "below-a-file", bank)


def test_a_bank_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot be read .*make a bank with 'quarterturn bank fit'"):
        read_bank_file(tmp_path / "bank.safetensors")
