from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from quarterturn.worker.contract.bank import Bank
from quarterturn.worker.contract.errors import MismatchError
from quarterturn.worker.contract.picture import BitDepth, Region
from quarterturn.worker.evaluation.evaluate import evaluate
from quarterturn.worker.evaluation.result import Evaluation
from quarterturn.worker.inspection.scorer import Scorer
from quarterturn.worker.pictures.read import read_picture
from quarterturn.worker.pictures.sets import test_pictures as labelled_pictures
from tests.parts import NumpyEngine, NumpyPlacesEngine, bank_of, deepen, embedded
from tests.worker.dataset import write_product


@pytest.fixture(scope="module")
def evaluation(engine: NumpyEngine, bank: Bank, plant: Path) -> Evaluation:
    return evaluate(engine, bank, labelled_pictures(plant), 0.02)


def test_every_picture_is_scored_as_on_the_line(evaluation: Evaluation, engine: NumpyEngine, bank: Bank) -> None:
    assert len(evaluation.inspected) == 2 * (12 + 8 + 8)
    for one in evaluation.inspected:
        (scored,) = Scorer(bank).score(*embedded(engine, [read_picture(one.path)]))
        own = scored.scores[bank.products.index(one.product)]
        assert one.score == pytest.approx(own, rel=1e-4)
        assert one.heat is None
        assert one.nearest == one.product


def test_figures_of_an_easy_and_an_impossible_defect(evaluation: Evaluation) -> None:
    assert evaluation.by_defect["ring", "scratch"].auroc == 1.0
    assert evaluation.by_defect["ring", "scratch"].escape == 0.0
    assert evaluation.by_defect["ring", "wear"].escape > 0.8
    assert evaluation.total.overkill <= 0.1
    ratios = [one.score / one.threshold for one in evaluation.inspected]
    labels = [one.defect != "good" for one in evaluation.inspected]
    assert evaluation.total.auroc == pytest.approx(roc_auc_score(labels, ratios))


def test_wrong_products_are_tried(evaluation: Evaluation) -> None:
    assert evaluation.swapped is not None
    assert (evaluation.swapped.parts, evaluation.swapped.alerted) == (24, 1.0)
    assert evaluation.swapped.named >= 0.9


def test_a_bank_of_one_product_has_no_wrong_ones(engine: NumpyEngine, plant: Path) -> None:
    alone = evaluate(engine, bank_of(engine), labelled_pictures(plant / "ring"), 0.02)
    assert alone.swapped is None
    assert list(alone.by_product) == ["ring"]


def test_a_product_unknown_to_the_bank_is_judged_by_all(engine: NumpyEngine, bank: Bank, tmp_path: Path) -> None:
    write_product(tmp_path / "line3", "ring", train=1)
    found = evaluate(engine, bank, labelled_pictures(tmp_path / "line3"), 0.02)
    assert {one.nearest for one in found.inspected if one.is_good} == {"ring"}
    assert not found.unreadable
    assert found.swapped is None


def test_an_unreadable_picture_is_listed_and_the_others_go_on(engine: NumpyEngine, bank: Bank, tmp_path: Path) -> None:
    write_product(tmp_path / "ring", train=1)
    broken = tmp_path / "ring" / "test" / "scratch" / "003.png"
    broken.write_bytes(b"no picture")
    found = evaluate(engine, bank, labelled_pictures(tmp_path / "ring"), 0.02)
    assert [one.path for one in found.unreadable] == [broken]
    assert "no JPEG" in found.unreadable[0].reason
    assert found.by_defect["ring", "scratch"].bad == 7


def test_fixed_thresholds_and_regions_are_used(engine: NumpyEngine, bank: Bank, plant: Path) -> None:
    pictures = labelled_pictures(plant / "ring")
    fixed = evaluate(engine, bank, pictures, 0.02, thresholds={"ring": 1e6})
    assert (fixed.total.overkill, fixed.total.escape) == (0.0, 1.0)
    assert list(fixed.promises) == ["bracket"]
    whole = evaluate(engine, bank, pictures, 0.02)
    part = evaluate(engine, bank, pictures, 0.02, region=Region(x=0, y=0, width=8, height=8))
    assert not np.allclose([one.score for one in part.inspected], [one.score for one in whole.inspected])


def test_the_depth_that_is_said_is_used(engine: NumpyEngine, bank: Bank, plant: Path, tmp_path: Path) -> None:
    shutil.copytree(plant / "ring", tmp_path / "ring")
    expected = evaluate(engine, bank, labelled_pictures(plant / "ring"), 0.02)
    deepen(tmp_path, 12)
    found = evaluate(engine, bank, labelled_pictures(tmp_path / "ring"), 0.02, bit_depth=12)
    assert [one.score for one in found.inspected] == [one.score for one in expected.inspected]
    assert found.bit_depth == 12  # the report shows the pictures by it


def test_a_bank_of_another_engine_is_refused(bank: Bank, plant: Path) -> None:
    with pytest.raises(MismatchError):
        evaluate(NumpyEngine(name="another"), bank, labelled_pictures(plant), 0.02)


def test_progress_ends_at_its_total(engine: NumpyEngine, bank: Bank, plant: Path) -> None:
    seen: list[tuple[int, int]] = []
    evaluate(engine, bank, labelled_pictures(plant), 0.02, on_progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (80, 80)  # 56 pictures, and the 24 good ones again as another product
    assert seen == sorted(seen)


def enlarged(heat: np.ndarray, side: int) -> np.ndarray:
    """Bilinear, with the centres of cells where those of their pixels are."""
    centres = (np.arange(side) + 0.5) * len(heat) / side - 0.5
    rows = np.array([np.interp(centres, np.arange(len(heat)), row) for row in heat])
    return np.array([np.interp(centres, np.arange(len(heat)), column) for column in rows.T]).T


def test_heat_maps_are_compared_with_masks(places: tuple[NumpyPlacesEngine, Bank], masked: Path) -> None:
    found = evaluate(*places, labelled_pictures(masked), 0.02, data=masked)
    assert found.localisation is not None
    marked = {*(f"scratch/{n:03}" for n in (1, 2, 4, 5, 6, 7)), "wear/002"}
    truth, heat, peaks = [], [], []
    for one in found.inspected:
        assert one.heat is not None
        name = f"{one.defect}/{one.path.stem}"
        if one.is_good or name in marked:
            mask = np.zeros((32, 32), bool)
            mask[12:28, 16:28] = name in marked
            truth.append(mask.ravel())
            heat.append(enlarged(one.heat, 32).ravel())
        if name in marked:
            row, column = divmod(int(one.heat.argmax()), 4)  # cells of 8 pixels; the mask begins amid a cell
            peaks.append(1 <= row <= 3 and 2 <= column <= 3)
    assert (found.localisation.masks, found.localisation.good) == (7, 12)
    assert found.localisation.peak_in_mask == pytest.approx(np.mean(peaks))
    assert 0.8 < np.mean(peaks) <= 1
    labels, values = np.concatenate(truth), np.concatenate(heat).astype(np.float32)
    assert found.localisation.pixel_auroc == pytest.approx(roc_auc_score(labels, values), abs=1e-4)
    false, overlap, _ = roc_curve(labels, values, drop_intermediate=False)  # all regions are of one size
    rates = np.linspace(0, 0.3, 30_001)
    area = np.trapezoid(np.interp(rates, false, overlap), rates) / 0.3
    assert found.localisation.aupro == pytest.approx(area, abs=1e-3)


def test_several_files_of_one_mask_count_together(
    places: tuple[NumpyPlacesEngine, Bank], masked: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """As in MVTec LOCO: the two halves of a mask, each in a file of its own."""
    in_parts = tmp_path_factory.mktemp("parts") / masked.name
    shutil.copytree(masked, in_parts)
    for path in sorted((in_parts / "ground_truth").rglob("*.png")):
        mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        path.unlink()
        parts = path.with_name(path.stem.removesuffix("_mask"))
        parts.mkdir()
        for number, columns in enumerate((slice(0, 20), slice(20, None))):
            half = np.zeros_like(mask)
            half[:, columns] = mask[:, columns]
            cv2.imwrite(str(parts / f"{number:03}.png"), half)
    whole, found = (evaluate(*places, labelled_pictures(data), 0.02, data=data) for data in (masked, in_parts))
    assert found.localisation == whole.localisation


def test_the_region_is_that_of_the_bank_unless_another_is_named(
    places: tuple[NumpyPlacesEngine, Bank], masked: Path
) -> None:
    engine, bank = places
    region = Region(x=0, y=0, width=16, height=16)
    fitted = replace(bank, manifest=bank.manifest.model_copy(update={"region": region}))

    def scores(bank: Bank, region: Region | None) -> list[float]:
        found = evaluate(engine, bank, labelled_pictures(masked), 0.02, region=region)
        return [one.score for one in found.inspected]

    assert scores(fitted, None) == scores(bank, region) == scores(fitted, region) != scores(bank, None)


def test_the_depth_is_that_of_the_bank_unless_another_is_named(
    places: tuple[NumpyPlacesEngine, Bank], masked: Path, tmp_path: Path
) -> None:
    engine, bank = places
    deep = tmp_path / masked.name
    shutil.copytree(masked, deep)
    deepen(deep, 12)
    fitted = replace(bank, manifest=bank.manifest.model_copy(update={"bit_depth": 12}))

    def scores(bank: Bank, bit_depth: BitDepth | None) -> list[float]:
        found = evaluate(engine, bank, labelled_pictures(deep), 0.02, bit_depth=bit_depth)
        return [one.score for one in found.inspected]

    assert scores(fitted, None) == scores(bank, 12) != scores(bank, None)


def test_a_folder_may_hold_a_picture_twice(places: tuple[NumpyPlacesEngine, Bank], masked: Path) -> None:
    """No camera froze: files are no camera's."""
    found = evaluate(*places, [labelled_pictures(masked)[0]] * 20, 0.02)
    assert len({one.alert for one in found.inspected}) == 1


def test_only_what_the_region_shows_of_a_mask_counts(places: tuple[NumpyPlacesEngine, Bank], masked: Path) -> None:
    def localised(region: Region) -> int | None:
        found = evaluate(*places, labelled_pictures(masked), 0.02, data=masked, region=region).localisation
        return found.masks if found else None

    assert localised(Region(x=0, y=0, width=16, height=12)) is None  # ends right before the scratch
    assert localised(Region(x=0, y=0, width=17, height=13)) == 7


def test_without_masks_or_maps_nothing_is_localised(
    places: tuple[NumpyPlacesEngine, Bank], engine: NumpyEngine, masked: Path, plant: Path
) -> None:
    ring, other = labelled_pictures(plant / "ring"), labelled_pictures(masked)
    assert evaluate(*places, ring, 0.02, data=plant / "ring").localisation is None
    assert evaluate(engine, bank_of(engine), other, 0.02, data=masked).localisation is None  # no detector sees places
    assert evaluate(*places, other, 0.02).localisation is None


def test_faults_of_masks_are_told_and_the_run_goes_on(
    places: tuple[NumpyPlacesEngine, Bank], masked: Path, tmp_path: Path
) -> None:
    told = evaluate(*places, labelled_pictures(masked), 0.02, data=masked).mask_faults
    assert [fault.partition(":")[0] for fault in told] == [
        "bad pictures without a mask, though others have one (8)",
        "masks that are all black, though their pictures count as bad (1)",
    ]
    write_product(tmp_path / "ring", train=1)
    (tmp_path / "ring" / "ground_truth" / "wear").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "ring" / "ground_truth" / "wear" / "000.png"), np.ones((16, 32), np.uint8))
    found = evaluate(*places, labelled_pictures(tmp_path / "ring"), 0.02, data=tmp_path / "ring")
    assert found.localisation is None
    assert "wear/000.png: the mask is 32x16, but its picture is 32x32" in found.mask_faults[1]


def test_pictures_know_their_masks(places: tuple[NumpyPlacesEngine, Bank], masked: Path) -> None:
    found = evaluate(*places, labelled_pictures(masked), 0.02, data=masked)
    masks = {f"{one.defect}/{one.path.stem}": [path.name for path in one.masks] for one in found.inspected if one.masks}
    assert masks == {
        **{f"scratch/00{n}": [f"00{n}.png"] for n in (1, 2, 4, 5, 6)},
        "scratch/007": ["007_mask.png"],
        "wear/002": ["002.png"],
    }
