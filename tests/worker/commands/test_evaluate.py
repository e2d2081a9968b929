from __future__ import annotations

import argparse
import base64
import html
import importlib.metadata
import json
import re
import shutil
from pathlib import Path

import pytest
from scipy import stats

from quarterturn.worker.bankstore.file import FileBankStore
from quarterturn.worker.commands import evaluate as command
from quarterturn.worker.contract.bank import Bank
from quarterturn.worker.contract.calibration import Promise
from quarterturn.worker.contract.errors import ConfigError, DataError
from quarterturn.worker.contract.manifest import EngineManifest, TargetManifest, write_manifest
from quarterturn.worker.evaluation import report
from quarterturn.worker.evaluation.probe.probe import probe
from quarterturn.worker.fitting.bank_file import write_bank_file
from quarterturn.worker.pictures.decode import decode_picture
from tests.parts import NumpyEngine, NumpyPlacesEngine, deepen
from tests.worker.commands.settings import worker_yaml


@pytest.fixture
def config(tmp_path: Path, engine: NumpyEngine, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(command, "open_engine", lambda _: engine)
    (tmp_path / "engine").mkdir()
    manifest = EngineManifest(
        spec=engine.spec,
        model="m",
        products=("ring",),
        holdout=0.4,
        targets={"openvino": TargetManifest(precision="bfloat16", files=("model.xml",), parity=1.0)},
        files={"model.xml": "0" * 64},
        created_at="2026-01-01T00:00:00Z",
    )
    write_manifest(tmp_path / "engine", manifest)
    return worker_yaml(
        tmp_path,
        """
overkill: 0.02
cameras:
  top: {region: {x: 0, y: 0, width: 8, height: 8}}
  deep: {bit_depth: 12}
""",
    )


def run(*arguments: object) -> None:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    parsed = parser.parse_args([str(argument) for argument in arguments])
    parsed.run(parsed)


def test_the_command_prints_a_table_and_writes_the_report(
    config: Path, bank: Bank, plant: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    FileBankStore(tmp_path / "banks").publish("line-1", bank)
    run("--config", config, "--data", plant, "--out", tmp_path / "out" / "report.html")
    printed = capsys.readouterr().out
    assert re.search(r"ring scratch +12 +8 +1\.000 +1\.000 +\d", printed)
    assert f"ring: {Promise.of(120, 0.02).sentence}" in printed
    assert re.search(r"ring: [01] of 12 good parts were rejected; with a promise of 2% .* up to 1 are", printed)
    assert re.search(r"(26\.5|38\.5)% +0\.0–36\.9%", printed)  # of 0 or 1 of 12 good parts, and of 0 of 8 bad ones
    assert "of 24 good parts declared as another product, 100.0% raised an alert" in printed
    said = probe(plant).findings[0].sentence
    assert f"probe: {said}" in printed
    report = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert bank.version in report
    assert html.escape(said) in report


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
    promise = document["promises"]["ring"]
    assert (promise["pictures"], promise["asked"], promise["average"]) == (120, 0.02, 2 / 121)
    assert promise["bound"] == pytest.approx(stats.beta(2, 119).ppf(0.95))
    assert promise["sentence"] == Promise.of(120, 0.02).sentence
    rejected = sum(one["defect"] == "good" and one["alert"] is not None for one in document["pictures"][:28])
    assert document["kept"][0] == {
        "product": "bracket",
        "good": 12,
        "rejected": rejected,
        "most_by_chance": int(stats.betabinom(12, 2, 119).ppf(0.975)),  # two products share the 5%
        "within_chance": True,
        "sentence": document["kept"][0]["sentence"],
    }
    total = document["total"]
    exact = stats.binomtest(round(24 * total["overkill"]), 24).proportion_ci(method="exact")
    assert total["overkill_between"] == pytest.approx([exact.low, exact.high])
    assert [one["product"] for one in document["probe"]["products"]] == ["bracket", "ring"]
    assert document["localisation"] is None
    assert "heat" not in document["pictures"][0]


def test_the_depth_is_that_of_the_camera(
    config: Path, bank: Bank, plant: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the verdicts, in the probe, and in what the report shows."""
    write_bank_file(tmp_path / "bank.safetensors", bank)
    shutil.copytree(plant, tmp_path / "deep")
    arguments = ("--config", config, "--bank", tmp_path / "bank.safetensors", "--json")
    run(*arguments, "--data", tmp_path / "deep")
    plain = json.loads(capsys.readouterr().out)
    deepen(tmp_path / "deep", 12)
    report = tmp_path / "report.html"
    run(*arguments, "--data", tmp_path / "deep", "--camera", "deep", "--out", report)
    deep = json.loads(capsys.readouterr().out)
    assert [one["score"] for one in deep["pictures"]] == [one["score"] for one in plain["pictures"]]
    brightness = [
        [one for one in found["probe"]["products"][0]["bad"]["confounders"] if one["confounder"] == "brightness"]
        for found in (plain, deep)
    ]
    assert brightness[0] == brightness[1]
    shown = re.search(r'src="data:image/jpeg;base64,([^"]+)"', report.read_text(encoding="utf-8"))
    assert shown is not None
    assert decode_picture(base64.b64decode(shown[1])).mean() > 60  # 16 times darker without


@pytest.fixture
def places_config(config: Path, places: tuple[NumpyPlacesEngine, Bank], monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(command, "open_engine", lambda _: places[0])
    write_bank_file(config.with_name("bank.safetensors"), places[1])
    return config


def test_the_command_says_how_well_defects_are_found(
    places_config: Path, masked: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bank = places_config.with_name("bank.safetensors")
    arguments = ("--config", places_config, "--data", masked, "--bank", bank, "--no-probe")
    run(*arguments, "--json")
    figures = json.loads(capsys.readouterr().out)["localisation"]
    assert (figures["masks"], figures["good"]) == (7, 12)
    run(*arguments)
    said = capsys.readouterr().out
    assert f"where: in {figures['peak_in_mask']:.1%} of 7 bad pictures with masks, the heat map's peak" in said
    assert f"pixel AUROC {figures['pixel_auroc']:.3f}, AUPRO up to 30% false positives {figures['aupro']:.3f}" in said


def test_what_was_run_is_in_the_report_and_the_json(
    config: Path, bank: Bank, plant: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_bank_file(tmp_path / "bank.safetensors", bank)
    arguments = ("--config", config, "--data", plant, "--bank", tmp_path / "bank.safetensors", "--camera", "top")
    run(*arguments, "--no-probe", "--json", "--out", tmp_path / "report.html", "--set", "thresholds={ring: 7.5}")
    ran = json.loads(capsys.readouterr().out)["ran"]
    assert (
        ran.items()
        >= {
            "engine from": str(tmp_path / "engine"),
            "precision": "bfloat16",
            "votes of the detectors": "frame 100%",
            "overkill asked": "2%",
            "fixed thresholds": "ring 7.5",
            "camera": "top",
            "region": "8x8 px at (0, 0)",
            "pictures from": str(plant),
            "Quarterturn": importlib.metadata.version("quarterturn"),
            "bank made at": bank.manifest.created_at,
        }.items()
    )
    report = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert all(html.escape(value) in report for value in ran.values())


def test_a_place_that_cannot_be_written_is_said_before_anything_is_inspected(
    config: Path, bank: Bank, plant: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_bank_file(tmp_path / "bank.safetensors", bank)
    monkeypatch.setattr(command, "evaluate", lambda *_, **__: pytest.fail("inspected"))
    arguments = ("--config", config, "--data", plant, "--bank", tmp_path / "bank.safetensors")
    for place in (config / "report.html", tmp_path, Path("/proc/report.html")):
        with pytest.raises(DataError, match=re.escape(str(place)) + ": (cannot be written|is a folder)"):
            run(*arguments, "--out", place)


@pytest.mark.parametrize("as_json", [True, False])
def test_a_report_that_fails_leaves_the_figures_and_no_file(
    *,
    as_json: bool,
    config: Path,
    bank: Bank,
    plant: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(one: object, *_: object) -> None:
        raise DataError("a picture cannot be read any more")

    write_bank_file(tmp_path / "bank.safetensors", bank)
    monkeypatch.setattr(report, "show", refuse)
    arguments = ("--config", config, "--data", plant, "--bank", tmp_path / "bank.safetensors", "--no-probe")
    with pytest.raises(DataError, match="cannot be read any more"):
        run(*arguments, "--out", tmp_path / "out" / "report.html", *(["--json"] if as_json else []))
    assert list((tmp_path / "out").iterdir()) == []
    printed = capsys.readouterr().out
    assert json.loads(printed)["bank"] == bank.version if as_json else "ring scratch" in printed


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
    with pytest.raises(ConfigError, match=r"camera side: is not listed under cameras \(top, deep\)"):
        run("--config", config, "--data", plant, "--bank", tmp_path / "bank.safetensors", "--camera", "side")
    with pytest.raises(DataError, match="nowhere: there is no such folder; check the path"):
        run("--config", config, "--data", tmp_path / "nowhere")


def test_a_product_that_the_bank_does_not_hold_is_said(
    config: Path, bank: Bank, plant: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_bank_file(tmp_path / "bank.safetensors", bank)
    shutil.copytree(plant / "ring", tmp_path / "Ring")
    asked = ("--config", config, "--data", tmp_path / "Ring", "--bank", tmp_path / "bank.safetensors", "--no-probe")
    run(*asked, "--out", tmp_path / "report.html")
    said = (
        "the bank holds bracket, ring, and no 'Ring': its pictures were judged as any of those; if they are of 'ring'"
    )
    assert f"warning: {said}" in capsys.readouterr().out
    assert said in html.unescape((tmp_path / "report.html").read_text(encoding="utf-8"))
    run(*asked, "--json")
    (warning,) = json.loads(capsys.readouterr().out)["warnings"]
    assert warning.startswith(said)


def test_a_camera_that_looks_otherwise_than_the_bank_is_said(
    config: Path, bank: Bank, plant: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_bank_file(tmp_path / "bank.safetensors", bank)
    asked = ("--config", config, "--data", plant, "--bank", tmp_path / "bank.safetensors", "--no-probe")
    run(*asked, "--camera", "top")
    assert "warning: cameras.top.region is 8x8 pixels at (0, 0), but the bank was fitted with the whole picture" in (
        capsys.readouterr().out
    )
    run(*asked)
    assert "warning" not in capsys.readouterr().out


def test_where_no_picture_can_be_read_there_are_no_figures(
    config: Path, bank: Bank, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_bank_file(tmp_path / "bank.safetensors", bank)
    for kind in ("good", "scratch"):
        (tmp_path / "ring" / "test" / kind).mkdir(parents=True)
        (tmp_path / "ring" / "test" / kind / "0.jpg").write_text("no picture")
    with pytest.raises(DataError, match=r"none of 2 pictures could be inspected; the first, .*0\.jpg: "):
        run("--config", config, "--data", tmp_path / "ring", "--bank", tmp_path / "bank.safetensors")
    assert capsys.readouterr().out == ""
