from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats
from sklearn.covariance import OAS
from sklearn.metrics import roc_auc_score

from quarterturn.worker.contract.arrays import Array
from quarterturn.worker.contract.bank import Bank, BankManifest, ScoringSettings
from quarterturn.worker.contract.calibration import conformal_threshold
from quarterturn.worker.contract.detectors import Coreset, Normal, samples_of, supported
from quarterturn.worker.contract.embeddings import Embeddings, join
from quarterturn.worker.contract.errors import ConfigError, DataError
from quarterturn.worker.contract.framing import WHOLE, Framing, resize
from quarterturn.worker.contract.gaussians import Gaussian
from quarterturn.worker.contract.picture import Region
from quarterturn.worker.contract.settings import load_settings
from quarterturn.worker.fitting.bank_file import read_bank_file, write_bank_file
from quarterturn.worker.fitting.embedder import PASTED, Embedder
from quarterturn.worker.fitting.fit import fit_bank
from quarterturn.worker.fitting.normal import NormalFit, weigh
from quarterturn.worker.fitting.split import Split, split_pictures
from quarterturn.worker.inspection.scorer import Scorer
from quarterturn.worker.inspection.scoring import combine, fit_scale, read
from quarterturn.worker.pictures.read import read_picture
from quarterturn.worker.settings.bank import FitSettings
from tests.parts import SIDE, NumpyEngine, NumpyPlacesEngine, deepen, embedded, png
from tests.worker.dataset import write_product

Doubles = npt.NDArray[np.float64]


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
    return len(split.normal[product]), len(split.weighing[product]), len(split.calibration[product])


def test_the_pictures_that_training_held_out_weigh_and_calibrate(plant: Path) -> None:
    split = split_pictures(plant, None, 0.4)
    assert {product: counts(split, product) for product in split.normal} == {
        "bracket": (36, 6, 18),
        "ring": (36, 6, 18),
    }


@pytest.mark.parametrize("holdout", [0.01, 0.1, 0.25, 0.5, 0.9])
def test_no_picture_is_in_two_parts_and_none_is_lost(plant: Path, holdout: float) -> None:
    split = split_pictures(plant, None, holdout)
    for product in ("bracket", "ring"):
        three = [set(part[product]) for part in (split.normal, split.weighing, split.calibration)]
        assert set.union(*three) == set((plant / product / "train" / "good").iterdir())
        assert sum(len(part) for part in three) == 60
        assert len(three[1]) + len(three[2]) == math.ceil(60 * holdout)
        assert sum(counts(split, product)) == 60
    assert split_pictures(plant, None, holdout) == split


def test_with_a_folder_to_calibrate_by_all_pictures_become_the_bank(plant: Path) -> None:
    split = split_pictures(plant / "ring", plant / "ring" / "test" / "good", 0.25)
    assert counts(split, "ring") == (60, 3, 9)
    assert {path.parent for path in split.normal["ring"]} == {plant / "ring" / "train" / "good"}
    held_out = {*split.weighing["ring"], *split.calibration["ring"]}
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


def seen(engine: NumpyEngine, paths: Sequence[Path], region: Region | None = None) -> Embeddings:
    """The embeddings of pictures, picture by picture, of an engine that takes them whole."""
    return join([embedded(engine, [read_picture(path, region)])[0] for path in paths])


def fitted(engine: NumpyEngine, paths: Sequence[Path]) -> Normal:
    fit = NormalFit(engine.spec, len(paths), 1000)
    fit.add(seen(engine, paths), [WHOLE] * len(paths))
    return fit.build()


def raw(engine: NumpyEngine, paths: Sequence[Path], normal: Normal, manifest: BankManifest) -> Doubles:
    """(n, K) the distances of pictures by the bank's detectors."""
    embeddings, layouts = seen(engine, paths), [WHOLE] * len(paths)
    readings = read(embeddings, layouts, [normal], manifest.scoring, manifest.detectors)
    return np.array([reading.raw[0] for reading in readings], np.float64)


FRAME_ONLY, PLACES = NumpyEngine(dimensions=4), NumpyPlacesEngine(logits=True)


@pytest.mark.parametrize(
    ("engine", "detectors"),
    [
        (FRAME_ONLY, "auto"),
        (PLACES, ["frame", "position"]),
        (PLACES, ["nearest.middle", "learned"]),
        (PLACES, ["nearest.deep", "position"]),
        (PLACES, "auto"),
    ],
    ids=lambda value: "" if isinstance(value, NumpyEngine) else str(value),
)
def test_each_part_of_the_pictures_has_its_own_use(
    engine: NumpyEngine, plant: Path, detectors: list[str] | str
) -> None:
    """The first two parts are the good ones, the second one's scales are by the first alone, the third calibrates."""
    split = split_pictures(plant, None, 0.4)
    bank = fit_bank(engine, split, ScoringSettings.model_validate({"detectors": detectors}), 0.06)
    assert bank.products == ("bracket", "ring")
    assert (bank.manifest.engine, bank.manifest.target, bank.manifest.spec) == (engine.hash, "numpy", engine.spec)
    for c, product in enumerate(bank.products):
        check_normal(bank, c, seen(engine, [*split.normal[product], *split.weighing[product]]))

        before = raw(engine, split.weighing[product], fitted(engine, split.normal[product]), bank.manifest)
        for k in range(before.shape[1]):
            median, high = np.percentile(before[:, k], [50, 90])
            if high > median:  # no part glares, so to `learned` all are alike
                scaled = stats.logistic(*bank.scales[c, k])
                assert scaled.cdf([median, high]) == pytest.approx([0.5, 0.9], abs=0.01)

        calibration, alone = bank.calibration[c], bank.of_products([c])
        for n, path in enumerate(split.calibration[product]):
            embeddings = seen(engine, [path])
            (scored,) = Scorer(alone).score(embeddings, [WHOLE])
            (score,), whole, lies = scored.scores, scored.appearance, scored.orientations(0)
            assert lies is not None
            assert calibration.scores[n] == pytest.approx(score, rel=5e-3, abs=1e-4)
            assert calibration.distances[n] == pytest.approx(whole.distance[0], rel=1e-3)
            expected = lies[0] / min(lies[1:])
            assert calibration.turn_ratios[n] == pytest.approx(expected, rel=1e-3)
        assert {len(values) for values in vars(calibration).values()} == {len(split.calibration[product])}


def check_normal(bank: Bank, product: int, embeddings: Embeddings) -> None:
    """Of all these parts and of no other: every place is a member, and Gaussians are scikit-learn's."""
    normal, detectors = bank.normals[product], set(bank.manifest.detectors)
    assert set(normal) == {"frame"} | detectors - {"learned"}
    for detector, model in normal.items():
        samples = samples_of(detector, embeddings)
        for v in range(samples.shape[1]):
            if isinstance(model, Coreset):
                places = samples[:, v].reshape(-1, samples.shape[-1]).astype(np.float16).astype(np.float32)
                assert sorted(model.members[v].tolist()) == sorted(places.tolist())
                continue
            for p in range(samples.shape[2]):
                oracle = OAS().fit(samples[:, v, p].astype(np.float64))
                np.testing.assert_allclose(model.mean[v, p], oracle.location_, atol=1e-5)
                whitening = model.whitening[v, p].astype(np.float64)
                if oracle.covariance_.max() > 1e-6:  # a place that does not vary is as stiff as the floor allows
                    whitened = whitening @ oracle.covariance_ @ whitening.T
                    np.testing.assert_allclose(whitened, np.eye(samples.shape[-1]), atol=2e-2)


def test_a_region_is_cut_out_before_the_engine(engine: NumpyEngine, plant: Path) -> None:
    split, region = split_pictures(plant / "ring", None, 0.4), Region(x=4, y=0, width=8, height=16)
    bank = fit_bank(engine, split, ScoringSettings(detectors=("frame",)), 0.06, region=region)
    check_normal(bank, 0, seen(engine, [*split.normal["ring"], *split.weighing["ring"]], region))


def test_a_bank_of_deep_pictures_is_that_of_plain_ones(
    engine: NumpyEngine, plant: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(plant / "ring", tmp_path / "ring")
    plain, deep = split_pictures(plant / "ring", None, 0.4), split_pictures(tmp_path / "ring", None, 0.4)
    deepen(tmp_path, 12)
    scoring = ScoringSettings(detectors=("frame",))
    banks = [fit_bank(engine, plain, scoring, 0.06), fit_bank(engine, deep, scoring, 0.06, bit_depth=12)]
    np.testing.assert_array_equal(*(bank.calibration[0].scores for bank in banks))
    assert not caplog.records
    fit_bank(engine, deep, scoring, 0.06)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert f"{deep.normal['ring'][0]}: no sample of 16 bits is above" in record.getMessage()


@pytest.mark.parametrize(("detectors", "pasted"), [("auto", PASTED), (["frame"], 0)])
def test_progress_ends_at_the_total(plant: Path, detectors: str | list[str], pasted: int) -> None:
    """Pictures to weigh by are measured, then join the bank; anomalies are pasted only where something is weighed."""
    scoring = ScoringSettings.model_validate({"detectors": detectors})
    engine, split, done = NumpyEngine(dimensions=4), split_pictures(plant, None, 0.4), list[int]()
    fit_bank(engine, split, scoring, 0.06, on_progress=done.append)
    assert sum(done) == split.total(scoring) == 2 * (36 + 6 * (2 + pasted) + 18)


def test_detectors_are_weighed_by_anomalies_pasted_into_the_second_part(plant: Path) -> None:
    """Before that joins the good ones; all of them vote, and what each found is in the manifest."""
    engine, split = NumpyPlacesEngine(logits=True), split_pictures(plant, None, 0.4)
    bank = fit_bank(engine, split, ScoringSettings(), 0.06)
    every = supported(engine.spec)
    assert bank.manifest.detectors == tuple(bank.manifest.found) == every
    assert bank.scales.shape == (2, len(every), 2)

    one = Embedder(engine.spec, engine.embed)

    def found(detector: str, parts: Sequence[str]) -> float:
        """By the good parts of some of the three parts."""
        each = []
        for product in bank.products:
            normal = fitted(engine, [path for part in parts for path in getattr(split, part)[product]])
            good, bad = (
                one.distances(batches, normal, bank.manifest.scoring, (detector,))[:, 0]
                for batches in (one.read(split.weighing[product]), one.pasted(split.weighing[product]))
            )
            assert len(bad) == PASTED * len(good)
            each.append(roc_auc_score([0] * len(good) + [1] * len(bad), [*good, *bad]))
        return sum(each) / len(each)

    table = {detector: found(detector, ["normal"]) for detector in every}
    assert bank.manifest.found == pytest.approx(table, abs=1e-4)
    counts = {one: 1 / (1.02 + 0.05 * (one == "learned") - value) ** 2 for one, value in table.items()}
    assert counts.pop("frame") < 0.05 * sum(counts.values())  # it finds little, so it has the least share
    expected = {"frame": 0.05} | {one: 0.95 * count / sum(counts.values()) for one, count in counts.items()}
    assert bank.manifest.votes == pytest.approx(expected)
    # A picture is its own nearest neighbour: had they joined before, every anomaly would have been found.
    assert table["nearest.deep"] < found("nearest.deep", ["normal", "weighing"]) - 0.02


def test_detectors_set_by_hand_are_taken_as_they_are_and_count_alike(plant: Path) -> None:
    split = split_pictures(plant / "ring", None, 0.4)
    asked = ("nearest.deep", "position", "nearest.middle", "nearest.deep")
    bank = fit_bank(NumpyPlacesEngine(), split, ScoringSettings(detectors=asked), 0.06)
    assert list(bank.manifest.votes.items()) == [
        ("nearest.middle", 1 / 3),
        ("nearest.deep", 1 / 3),
        ("position", 1 / 3),
    ]
    assert bank.manifest.found == {}
    assert bank.scales.shape == (1, 3, 2)
    assert set(bank.normals[0]) == {"frame", "nearest.middle", "nearest.deep", "position"}


LETTERBOX = Framing(side=SIDE, fit="letterbox")


@pytest.mark.parametrize(
    ("engine", "asked", "offered"),
    [
        (NumpyEngine(), "nearest.middle", "frame"),
        (NumpyEngine(), "learned", "frame"),
        (NumpyEngine(), "mahalanobis", "frame"),
        (NumpyPlacesEngine(depths={"deep": 2}), "nearest.middle", "frame, nearest.deep, position"),
        (NumpyPlacesEngine(depths={"deep": 2}), "learned", "frame, nearest.deep, position"),
        (NumpyPlacesEngine(), "pooled", "frame, nearest.middle, nearest.deep, position"),
        (NumpyPlacesEngine(), "position.deep", "frame, nearest.middle, nearest.deep, position"),
        (NumpyPlacesEngine(framing=LETTERBOX), "position", "frame, nearest.middle, nearest.deep"),
        (
            NumpyPlacesEngine(framing=LETTERBOX, logits=True),
            "position",
            "frame, nearest.middle, nearest.deep, learned",
        ),
    ],
)
def test_a_detector_that_is_not_to_be_had_is_refused(
    engine: NumpyEngine, asked: str, offered: str, tmp_path: Path
) -> None:
    split = split_pictures(good_folder(tmp_path / "ring", 40, width=2 * SIDE), None, 0.6)
    with pytest.raises(ConfigError) as caught:
        fit_bank(engine, split, ScoringSettings(detectors=("frame", asked)), 0.06)
    assert str(caught.value) == (
        f"scoring.detectors: this engine and framing offer {offered}, not {asked}; "
        "take it out, or build an engine of a model that has it"
    )


def test_a_misspelt_detector_is_refused_before_a_picture_is_embedded(
    engine: NumpyEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = split_pictures(good_folder(tmp_path / "ring", 40, width=2 * SIDE), None, 0.6)
    monkeypatch.setattr(NumpyEngine, "embed", lambda *_: pytest.fail("a picture was embedded"))
    with pytest.raises(ConfigError, match=r"this engine and framing offer .*, not fraem"):
        fit_bank(engine, split, ScoringSettings(detectors=("fraem",)), 0.06)


def test_a_product_photographed_in_another_shape_takes_the_detector_position_from_all(tmp_path: Path) -> None:
    """Square pictures have their positions in common, longer ones are cut another way; the bank is read again."""
    good_folder(tmp_path / "plant" / "nut", 40)
    good_folder(tmp_path / "plant" / "rod", 40, width=2 * SIDE)
    engine = NumpyPlacesEngine(framing=Framing(side=SIDE, fit="tiles"))
    bank = fit_bank(engine, split_pictures(tmp_path / "plant", None, 0.6), ScoringSettings(), 0.06)
    assert bank.manifest.detectors == ("frame", "nearest.middle", "nearest.deep")
    write_bank_file(tmp_path / "bank.safetensors", bank)
    again = read_bank_file(tmp_path / "bank.safetensors")
    assert again.version == bank.version
    assert [set(normal) for normal in again.normals] == [{"frame", *bank.manifest.detectors}] * 2
    assert [len(calibration.turn_ratios) for calibration in bank.calibration] == [18, 0]


def test_a_picture_to_weigh_by_of_another_shape_takes_the_detector_position_too(tmp_path: Path) -> None:
    """It joins the bank, in which a position is then not the same place of every part."""
    split = split_pictures(good_folder(tmp_path / "ring", 40), None, 0.6)
    longer = sorted(good_folder(tmp_path / "long", 2, width=2 * SIDE).iterdir())
    split = replace(split, weighing={"ring": [*split.weighing["ring"], *longer]})
    engine = NumpyPlacesEngine(framing=Framing(side=SIDE, fit="tiles"))
    bank = fit_bank(engine, split, ScoringSettings(), 0.06)
    assert bank.manifest.detectors == ("frame", "nearest.middle", "nearest.deep")
    assert set(bank.normals[0]) == set(bank.manifest.detectors)
    with pytest.raises(ConfigError, match=r"offer frame, nearest\.middle, nearest\.deep, not position; "):
        fit_bank(engine, split, ScoringSettings(detectors=("frame", "position")), 0.06)


def test_a_bank_scores_the_same_after_it_was_read(plant: Path, tmp_path: Path) -> None:
    """Half precision is in the file alone."""
    engine, split = NumpyPlacesEngine(), split_pictures(plant / "ring", None, 0.4)
    bank = fit_bank(engine, split, ScoringSettings(detectors=("nearest.middle", "position")), 0.06)
    write_bank_file(tmp_path / "bank.safetensors", bank)
    again = read_bank_file(tmp_path / "bank.safetensors")
    embeddings = seen(engine, split.calibration["ring"])
    layouts = [WHOLE] * len(split.calibration["ring"])
    np.testing.assert_array_equal(
        [one.scores for one in Scorer(again).score(embeddings, layouts)],
        [one.scores for one in Scorer(bank).score(embeddings, layouts)],
    )


THREE = ("frame", "position", "nearest.middle")


def good_and_pasted(rng: np.random.Generator, good: int, pasted: int) -> tuple[Array, Array]:
    """Distances of three detectors, of heavy and unlike tails and hanging together; defects raise two of them a bit."""
    shared = rng.normal(size=(good + pasted, 1))
    raw = np.exp(np.array([0.5, 1.0, 0.2]) * (shared + rng.standard_t(4, size=(good + pasted, 3))))
    raw[good:, 0] += 0.7 * rng.random(pasted)
    raw[good:, 2] += 0.3 * rng.random(pasted)
    return raw[:good].astype(np.float32), raw[good:].astype(np.float32)


def test_the_promise_holds_for_detectors_weighed_by_a_part_of_the_held_out_pictures() -> None:
    """In many plants, each with its own votes and scale; all its good parts and calibration are exchangeable."""
    rng = np.random.default_rng(0)
    plants, calibrating, fresh, overkill = 800, 59, 40, 0.05
    rejected = np.zeros(plants)
    votes = np.empty((plants, 3))
    for plant in range(plants):
        good, pasted = good_and_pasted(rng, 20 + calibrating + fresh, 40)
        clean, held_out, new = np.split(good, [20, 20 + calibrating])
        shares, _ = weigh(THREE, [clean], [pasted])
        votes[plant] = [shares[one] for one in THREE]
        scale = fit_scale(clean)
        threshold = conformal_threshold(combine(held_out, scale, votes[plant]), overkill)
        rejected[plant] = (combine(new, scale, votes[plant]) > threshold).mean()
    assert (votes.max(axis=0) > 2 * votes.min(axis=0)).all()  # they do follow the pictures
    error = 3 * rejected.std() / math.sqrt(plants)
    assert error < 0.006
    assert overkill - 1 / (calibrating + 1) - error < rejected.mean() < overkill + error


def test_the_file_that_ships_scores_as_the_defaults_do() -> None:
    shipped = load_settings(Path(__file__).parents[3] / "configs" / "bank.yaml", FitSettings)
    assert shipped.scoring == ScoringSettings()


@pytest.mark.parametrize("views", [1, 2])
def test_few_views_know_good_parts_in_four_orientations(plant: Path, views: int, tmp_path: Path) -> None:
    """As if the pictures were turned on disk, each of both parts that become the bank."""
    engine, split = NumpyEngine(views=views), split_pictures(plant / "ring", None, 0.4)
    bank = fit_bank(engine, split, ScoringSettings(), 0.06)
    model = bank.normals[0]["frame"]
    assert isinstance(model, Gaussian)
    assert model.mean.shape[0] == 4
    for turns in range(4):
        learned = [*split.normal["ring"], *split.weighing["ring"]]
        frames = np.stack([np.rot90(resize(read_picture(path), SIDE, SIDE), turns) for path in learned])
        expected = engine.embed(frames)["frame"][:, 0].mean(axis=0)
        np.testing.assert_allclose(model.mean[turns, 0], expected, atol=1e-5)
    assert {len(values) for values in vars(bank.calibration[0]).values()} == {18}
    write_bank_file(tmp_path / "bank.safetensors", bank)
    assert read_bank_file(tmp_path / "bank.safetensors").version == bank.version


def test_too_few_pictures_are_refused_before_the_engine_runs(plant: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = NumpyEngine()
    monkeypatch.setattr(engine, "embed", None)
    with pytest.raises(DataError) as caught:
        fit_bank(engine, split_pictures(plant, None, 0.4), ScoringSettings(), 0.005)
    assert str(caught.value) == (
        "product 'bracket': an overkill of 0.500% needs 199 calibration pictures, but there are 18; add 601 good "
        "pictures, of which 40% are held out, and train again, or name a folder of 265 others with 'calibration', or "
        "set overkill: 0.0527 in bank.yaml"
    )
    with pytest.raises(DataError, match=r"there are 9; add 253 good pictures to the folder that 'calibration' names"):
        fit_bank(engine, split_pictures(plant / "ring", plant / "ring" / "test" / "good", 0), ScoringSettings(), 0.005)


def test_one_picture_held_out_is_not_enough_to_weigh_and_calibrate(engine: NumpyEngine, plant: Path) -> None:
    missing = r"^product 'bracket': .* there are 0; add 41 .* a folder of 2 others with 'calibration'$"
    with pytest.raises(DataError, match=missing):
        fit_bank(engine, split_pictures(plant, None, 0.01), ScoringSettings(), 0.5)


def test_a_bank_file_is_written_whole_or_not_at_all(engine: NumpyEngine, plant: Path, tmp_path: Path) -> None:
    bank = fit_bank(engine, split_pictures(plant / "ring", None, 0.4), ScoringSettings(), 0.06)
    path = tmp_path / "new" / "bank.safetensors"
    write_bank_file(path, bank)
    assert read_bank_file(path).version == bank.version
    assert [file.name for file in path.parent.iterdir()] == ["bank.safetensors"]
    with pytest.raises(DataError, match=r"cannot be written .*choose another 'out'"):
        write_bank_file(path / "below-a-file", bank)


def test_a_bank_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot be read .*make a bank with 'quarterturn bank fit'"):
        read_bank_file(tmp_path / "bank.safetensors")
