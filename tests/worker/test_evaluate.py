from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from tests.parts import NumpyEngine, bank_of
from tests.worker.dataset import write_product
from worker import assemble, evaluate
from worker.bankstore.file import FileBankStore
from worker.contract.bank import Bank
from worker.contract.errors import ConfigError, DataError, MismatchError
from worker.contract.pictures import test_pictures as labelled_pictures
from worker.contract.preprocess import Region, read_frame
from worker.contract.scoring import distances, scores
from worker.figures import Evaluation
from worker.fit import write_bank_file


@pytest.fixture(scope="module")
def engine() -> NumpyEngine:
    return NumpyEngine()


@pytest.fixture(scope="module")
def bank(engine: NumpyEngine) -> Bank:
    return bank_of(engine, ("bracket", "ring"))


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("plant")
    for product in ("bracket", "ring"):
        write_product(root / product, product, train=1)
    return root


@pytest.fixture(scope="module")
def evaluation(engine: NumpyEngine, bank: Bank, plant: Path) -> Evaluation:
    return evaluate.evaluate(engine, bank, labelled_pictures(plant), 0.02)


def test_every_picture_is_scored_as_on_the_line(evaluation: Evaluation, engine: NumpyEngine, bank: Bank) -> None:
    assert len(evaluation.inspected) == 2 * (12 + 8 + 8)
    for one in evaluation.inspected:
        embedding = engine.embed(read_frame(one.path, engine.spec.side)[None])
        own = scores(distances(embedding, bank)[:, bank.products.index(one.product)], bank.manifest.scoring)
        assert one.score == pytest.approx(own[0], rel=1e-4)
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
    assert evaluation.identified == 1.0


def test_a_bank_of_one_product_has_no_wrong_ones(engine: NumpyEngine, plant: Path) -> None:
    alone = evaluate.evaluate(engine, bank_of(engine), labelled_pictures(plant / "ring"), 0.02)
    assert alone.swapped is None
    assert list(alone.by_product) == ["ring"]


def test_a_product_unknown_to_the_bank_is_judged_by_all(engine: NumpyEngine, bank: Bank, tmp_path: Path) -> None:
    write_product(tmp_path / "line3", "ring", train=1)
    found = evaluate.evaluate(engine, bank, labelled_pictures(tmp_path / "line3"), 0.02)
    assert {one.nearest for one in found.inspected if one.is_good} == {"ring"}
    assert not found.unreadable
    assert found.swapped is None


def test_an_unreadable_picture_is_listed_and_the_others_go_on(engine: NumpyEngine, bank: Bank, tmp_path: Path) -> None:
    write_product(tmp_path / "ring", train=1)
    broken = tmp_path / "ring" / "test" / "scratch" / "003.png"
    broken.write_bytes(b"no picture")
    found = evaluate.evaluate(engine, bank, labelled_pictures(tmp_path / "ring"), 0.02)
    assert [one.path for one in found.unreadable] == [broken]
    assert "no JPEG" in found.unreadable[0].reason
    assert found.by_defect["ring", "scratch"].bad == 7


def test_fixed_thresholds_and_regions_are_used(engine: NumpyEngine, bank: Bank, plant: Path) -> None:
    pictures = labelled_pictures(plant / "ring")
    fixed = evaluate.evaluate(engine, bank, pictures, 0.02, thresholds={"ring": 1e6})
    assert (fixed.total.overkill, fixed.total.escape) == (0.0, 1.0)
    assert list(fixed.promises) == ["bracket"]
    whole = evaluate.evaluate(engine, bank, pictures, 0.02)
    part = evaluate.evaluate(engine, bank, pictures, 0.02, region=Region(x=0, y=0, width=8, height=8))
    assert not np.allclose([one.score for one in part.inspected], [one.score for one in whole.inspected])


def test_a_bank_of_another_engine_is_refused(bank: Bank, plant: Path) -> None:
    with pytest.raises(MismatchError):
        evaluate.evaluate(NumpyEngine(name="another"), bank, labelled_pictures(plant), 0.02)


def test_progress_ends_at_its_total(engine: NumpyEngine, bank: Bank, plant: Path) -> None:
    seen: list[tuple[int, int]] = []
    evaluate.evaluate(
        engine, bank, labelled_pictures(plant), 0.02, on_progress=lambda done, total: seen.append((done, total))
    )
    assert seen[-1] == (80, 80)  # 56 pictures, and the 24 good ones again as another product
    assert seen == sorted(seen)


@pytest.fixture
def config(tmp_path: Path, engine: NumpyEngine, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(assemble, "open_engine", lambda _: engine)
    path = tmp_path / "worker.yaml"
    path.write_text(
        f"""
line: line-1
engine: {{path: {tmp_path}/engine}}
bank: {{file: {{path: {tmp_path}/banks}}}}
transport: {{folder: {{path: pictures, out: out.jsonl}}}}
overkill: 0.02
cameras:
  top: {{region: {{x: 0, y: 0, width: 8, height: 8}}}}
"""
    )
    return path


def run(*arguments: object) -> None:
    parser = argparse.ArgumentParser()
    evaluate.add_arguments(parser)
    parsed = parser.parse_args([str(argument) for argument in arguments])
    parsed.run(parsed)


def test_the_command_prints_a_table_and_writes_the_report(
    config: Path, bank: Bank, plant: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    FileBankStore(tmp_path / "banks").publish("line-1", bank)
    run("--config", config, "--data", plant, "--out", tmp_path / "out" / "report.html")
    printed = capsys.readouterr().out
    assert re.search(r"ring scratch +12 +8 +1\.000 +1\.000 +\d", printed)
    assert "ring: at most 2.00% of good parts are rejected on average, guaranteed from 120" in printed
    assert "of 24 good parts declared as another product, 100.0% raised an alert" in printed
    said = "no trivial cue separates good from bad"
    assert f"probe: {said}" in printed
    report = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert bank.version in report
    assert said in report


def test_the_command_prints_json(
    config: Path, bank: Bank, plant: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_bank_file(tmp_path / "bank.safetensors", bank)
    run("--config", config, "--data", plant, "--bank", tmp_path / "bank.safetensors", "--json")
    document = json.loads(capsys.readouterr().out)
    assert document["bank"] == bank.version
    assert document["total"]["good"] == 24
    assert set(document["total"]["recall_at"]) == {"0.01", "0.05"}
    assert {"product": "ring", "defect": "scratch"}.items() <= document["defects"][2].items()
    assert len(document["pictures"]) == 56
    assert document["swapped"]["parts"] == 24
    assert document["promises"]["ring"].startswith("at most 2.00% of good parts are rejected")
    assert [one["product"] for one in document["probe"]["products"]] == ["bracket", "ring"]


def test_the_probe_can_be_left_out(
    config: Path, bank: Bank, plant: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_bank_file(tmp_path / "bank.safetensors", bank)
    run("--config", config, "--data", plant, "--bank", tmp_path / "bank.safetensors", "--json", "--no-probe")
    assert json.loads(capsys.readouterr().out)["probe"] is None


def test_the_command_says_what_is_missing(config: Path, plant: Path, bank: Bank, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="line 'line-1' has no bank; push one with"):
        run("--config", config, "--data", plant)
    write_bank_file(tmp_path / "bank.safetensors", bank)
    with pytest.raises(ConfigError, match=r"--camera side: is not listed under cameras \(top\)"):
        run("--config", config, "--data", plant, "--bank", tmp_path / "bank.safetensors", "--camera", "side")
    with pytest.raises(DataError, match="nowhere: there is no such folder; check the path"):
        run("--config", config, "--data", tmp_path / "nowhere")
