from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.parts import SIDE, NumpyEngine, png
from tests.worker.dataset import write_product
from worker.contract.bank import ScoringSettings
from worker.contract.errors import DataError
from worker.contract.pictures import list_pictures
from worker.contract.preprocess import Region, read_frame
from worker.contract.scoring import distances, scores, turn_ratios
from worker.fit import embed_pictures, fit_bank, read_bank_file, split_pictures, write_bank_file


@pytest.fixture(scope="module")
def engine() -> NumpyEngine:
    return NumpyEngine(dimensions=4)


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("plant")
    for product in ("bracket", "ring"):
        write_product(root / product, product)
    return root


def good_folder(path: Path, count: int) -> Path:
    path.mkdir(parents=True)
    rng = np.random.default_rng(count)
    for number in range(count):
        (path / f"{number}.png").write_bytes(png(rng.integers(0, 255, (SIDE, SIDE, 3)).astype(np.uint8)))
    return path


def test_the_pictures_that_training_held_out_calibrate(plant: Path) -> None:
    split = split_pictures(plant, None, 0.25)
    assert {product: len(paths) for product, paths in split.normal.items()} == {"bracket": 45, "ring": 45}
    assert {product: len(paths) for product, paths in split.calibration.items()} == {"bracket": 15, "ring": 15}
    assert split.total == 120
    for product in split.normal:
        assert not set(split.normal[product]) & set(split.calibration[product])
        assert {path.parent for path in split.normal[product]} == {plant / product / "train" / "good"}


def test_another_folder_calibrates_and_all_pictures_become_the_bank(plant: Path) -> None:
    split = split_pictures(plant / "ring", plant / "ring" / "test" / "good", 0.25)
    assert {product: len(paths) for product, paths in split.normal.items()} == {"ring": 60}
    assert {product: len(paths) for product, paths in split.calibration.items()} == {"ring": 12}


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


@pytest.mark.parametrize("batch", [1, 7, 100])
def test_embeddings_come_in_the_order_of_the_files(engine: NumpyEngine, tmp_path: Path, batch: int) -> None:
    paths = list_pictures(good_folder(tmp_path / "parts", 25))
    done: list[int] = []
    embeddings = embed_pictures(engine, paths, batch=batch, on_progress=done.append)
    expected = np.concatenate([engine.embed(read_frame(path, SIDE)[None]) for path in paths])
    np.testing.assert_allclose(embeddings, expected, atol=1e-6)
    assert sum(done) == 25
    assert embed_pictures(engine, []).shape == (0, 4, 1, 4)


def test_a_region_is_cut_out_before_the_engine(engine: NumpyEngine, tmp_path: Path) -> None:
    paths = list_pictures(good_folder(tmp_path / "parts", 2))
    region = Region(x=4, y=0, width=8, height=16)
    expected = np.concatenate([engine.embed(read_frame(path, SIDE, region)[None]) for path in paths])
    np.testing.assert_allclose(embed_pictures(engine, paths, region), expected, atol=1e-6)


def test_an_unreadable_picture_is_named(engine: NumpyEngine, tmp_path: Path) -> None:
    folder = good_folder(tmp_path / "parts", 40)
    (folder / "5.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"5\.png: .*no JPEG.*replace or remove the file"):
        embed_pictures(engine, list_pictures(folder))


@pytest.mark.parametrize("method", ["mahalanobis", "knn"])
def test_a_bank_is_calibrated_with_scores_of_pictures_it_does_not_hold(
    engine: NumpyEngine, plant: Path, method: str
) -> None:
    split = split_pictures(plant, None, 0.3)
    scoring = ScoringSettings(method=method)
    bank = fit_bank(engine, split, scoring, 0.06)
    assert bank.products == ("bracket", "ring")
    assert (bank.manifest.engine, bank.manifest.target, bank.manifest.spec) == (engine.hash, "numpy", engine.spec)
    assert bank.manifest.trained_holdout
    for index, product in enumerate(bank.products):
        held_out = one_by_one(engine, split.calibration[product])
        np.testing.assert_allclose(bank.embeddings[index], one_by_one(engine, split.normal[product]), atol=1e-6)
        own = [scores(distances(one[None], bank)[:, index], scoring)[0] for one in held_out]
        np.testing.assert_allclose(bank.calibration[index].scores, own, rtol=1e-3)
        ratios = [turn_ratios(one[None], bank, index)[0] for one in held_out]
        np.testing.assert_allclose(bank.calibration[index].turn_ratios, ratios, rtol=1e-3)


def one_by_one(engine: NumpyEngine, paths: Sequence[Path]) -> np.ndarray:
    return np.concatenate([engine.embed(read_frame(path, SIDE)[None]) for path in paths])


def test_without_turns_there_are_no_turn_ratios(plant: Path) -> None:
    bank = fit_bank(NumpyEngine(views=1), split_pictures(plant / "ring", None, 0.3), ScoringSettings(), 0.06)
    assert bank.calibration[0].turn_ratios.shape == (0,)


def test_too_few_pictures_are_refused_before_the_engine_runs(plant: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = NumpyEngine()
    monkeypatch.setattr(engine, "embed", None)
    with pytest.raises(
        DataError, match=r"^product 'bracket': an overkill of 0.500% needs 199 .* there are 18; add 181"
    ):
        fit_bank(engine, split_pictures(plant, None, 0.3), ScoringSettings(), 0.005)


def test_a_bank_file_is_written_whole_or_not_at_all(engine: NumpyEngine, plant: Path, tmp_path: Path) -> None:
    bank = fit_bank(engine, split_pictures(plant / "ring", None, 0.3), ScoringSettings(), 0.06)
    path = tmp_path / "new" / "bank.safetensors"
    write_bank_file(path, bank)
    assert read_bank_file(path).version == bank.version
    assert [file.name for file in path.parent.iterdir()] == ["bank.safetensors"]
    with pytest.raises(DataError, match=r"cannot be written .*choose another place with 'out'"):
        write_bank_file(path / "below-a-file", bank)


def test_a_bank_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot be read .*make a bank with 'quarterturn bank fit'"):
        read_bank_file(tmp_path / "bank.safetensors")
