from __future__ import annotations

import argparse
import re
import shutil
from pathlib import Path

import pytest

from quarterturn.worker.bankstore.file import FileBankStore
from quarterturn.worker.commands import bank
from quarterturn.worker.contract.calibration import Promise
from quarterturn.worker.contract.errors import DataError, MismatchError
from quarterturn.worker.contract.known_pictures import KnownPictures, Side, hash_pictures
from quarterturn.worker.contract.manifest import EngineManifest, TargetManifest, read_manifest, sha256, write_manifest
from quarterturn.worker.fitting.bank_file import read_bank_file, write_bank_file
from tests.parts import NumpyPlacesEngine, bank_of
from tests.worker.commands.settings import worker_yaml
from tests.worker.dataset import write_product


@pytest.fixture
def engine(tmp_path: Path) -> NumpyPlacesEngine:
    """An engine whose folder has a manifest, as far as the commands look at it."""
    engine = NumpyPlacesEngine(depths={"deep": 2})
    manifest = EngineManifest(
        spec=engine.spec,
        model="m",
        products=("ring",),
        holdout=0.4,
        targets={"openvino": TargetManifest(precision="float32", files=("model.xml",), parity=1.0)},
        files={"model.xml": sha256(b"graph")},
        created_at="2026-01-01T00:00:00Z",
    )
    (tmp_path / "engine").mkdir()
    (tmp_path / "engine" / "model.xml").write_bytes(b"graph")
    write_manifest(tmp_path / "engine", manifest)
    engine.hash, engine.target = manifest.engine_hash("openvino"), "openvino"
    return engine


@pytest.fixture
def configs(tmp_path: Path, engine: NumpyPlacesEngine, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(bank, "open_engine", lambda _: engine)
    write_product(tmp_path / "ring")
    (tmp_path / "bank.yaml").write_text(
        f"""
data: {tmp_path}/ring
engine: {{path: {tmp_path}/engine}}
overkill: 0.06
out: {tmp_path}/bank.safetensors
"""
    )
    worker_yaml(tmp_path, "overkill: 0.06")
    return tmp_path


@pytest.fixture
def store(configs: Path) -> FileBankStore:
    return FileBankStore(configs / "banks")


def run(*arguments: object) -> None:
    parser = argparse.ArgumentParser()
    bank.add_arguments(parser)
    parsed = parser.parse_args([str(argument) for argument in arguments])
    parsed.run(parsed)


def test_from_pictures_to_a_bank_in_service_and_back(
    configs: Path, store: FileBankStore, capsys: pytest.CaptureFixture[str]
) -> None:
    worker = ("--config", configs / "worker.yaml")
    run("fit", "--config", configs / "bank.yaml")
    printed = capsys.readouterr().out
    assert re.search(r"ring +18 +[\d.]+ +is told apart", printed)
    assert f"ring: {Promise.of(18, 0.06).sentence}" in printed
    first = read_bank_file(configs / "bank.safetensors")
    said = re.search(r"anomalies pasted into good pictures found \(AUROC\): (.*)", printed)
    assert said
    listed = re.findall(r"(\S+) ([\d.]+) \(vote (\d+)%\)(?:, |$)", said[1])
    assert {name for name, _, _ in listed} == {"frame", "nearest.deep", "position"}
    found = [first.manifest.found[name] for name, _, _ in listed]
    assert found == sorted(found, reverse=True)
    assert [float(value) for _, value, _ in listed] == pytest.approx(found, abs=6e-4)
    assert [int(vote) for *_, vote in listed] == pytest.approx(
        [100 * first.manifest.votes[name] for name, _, _ in listed], abs=0.51
    )
    assert f"wrote {configs}/bank.safetensors" in printed

    run("push", configs / "bank.safetensors", *worker)
    run(
        "fit",
        "--config",
        configs / "bank.yaml",
        "--set",
        "scoring.detectors=[nearest.deep, frame]",
        "--set",
        f"out={configs}/other.safetensors",
    )
    run("push", configs / "other.safetensors", *worker)
    second = read_bank_file(configs / "other.safetensors")
    capsys.readouterr()

    run("list", *worker)
    rows = [line for line in capsys.readouterr().out.splitlines() if " MB" in line or " kB" in line]
    assert [second.version[:12] in rows[0], "active" in rows[0]] == [True, True]
    assert [first.version[:12] in rows[1], "active" in rows[1]] == [True, False]

    run("show", *worker)
    shown = capsys.readouterr().out
    assert "; frame + nearest.deep over 4 views" in shown
    assert "pasted" not in shown  # nothing was weighed
    run("show", first.version[:8], *worker)
    shown = capsys.readouterr().out
    assert f"; {' + '.join(first.manifest.detectors)} over 4 views" in shown
    assert "anomalies pasted into good pictures found (AUROC): " in shown

    run("rollback", *worker)
    assert f"bank {first.version[:12]}" in capsys.readouterr().out
    active = store.current("line-1")
    assert active is not None
    assert active.version == first.version
    with pytest.raises(DataError, match="no bank older than the active one"):
        run("rollback", *worker)
    run("rollback", second.version[:8], *worker)
    with pytest.raises(DataError, match=f"bank {second.version[:12]} is the active one already"):
        run("rollback", second.version[:8], *worker)
    active = store.current("line-1")
    assert active is not None
    assert active.version == second.version

    current = next(configs.rglob("line-1/current"))
    for damage in (lambda: current.write_bytes(b""), current.unlink):
        damage()
        with pytest.raises(DataError, match=r"rollback VERSION|push one|has no bank"):
            run("rollback", *worker)
        run("rollback", first.version[:8], *worker)
        said = " ".join(capsys.readouterr().out.split())
        assert said.endswith("is active")
        active = store.current("line-1")
        assert active is not None
        assert active.version == first.version


def test_fit_says_where_the_engine_does_not_know_its_pictures(
    configs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("fit", "--config", configs / "bank.yaml")
    said = "the engine does not say which pictures training saw, so whether they are these was not checked"
    assert said in capsys.readouterr().out


@pytest.mark.parametrize("group", [None, r"^(\d)"])
def test_fit_calibrates_with_what_its_engine_never_saw(
    configs: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str], group: str | None
) -> None:
    """As if training had held out the last pictures, which the names' hashes would not, and one had been added."""
    pictures = sorted((configs / "ring" / "train" / "good").iterdir())
    sides: dict[Side, list[Path]] = {
        "learned": pictures[:36],
        "chosen_by": pictures[36:40],
        "held_out": pictures[40:60],
    }
    known = KnownPictures.of(sides, hash_pictures(pictures))
    manifest = read_manifest(configs / "engine", EngineManifest, "")
    write_manifest(
        configs / "engine", manifest.model_copy(update={"pictures": {"ring": known}, "group": group, "holdout": 0.1})
    )
    if group:  # what was added is of a part that is known
        for number, path in enumerate(pictures):
            path.rename(path.with_name(f"{number // 12}-{number}.png"))
        shutil.copy(configs / "ring" / "test" / "good" / "000.png", pictures[0].with_name("4-100.png"))
        run("fit", "--config", configs / "bank.yaml", "--set", "overkill=0.4")
    else:
        shutil.copy(configs / "ring" / "test" / "good" / "000.png", pictures[0].with_name("100.png"))
        run("fit", "--config", configs / "bank.yaml")
    assert caplog.messages == [
        (
            "ring: the pictures are not those of training (1 are new); those that it knew stay on their side, so that "
            "none it learned from calibrates"
        )
    ]
    fitted = read_bank_file(configs / "bank.safetensors")
    assert len(fitted.calibration[0].scores) == (2 if group else 20)
    assert "the engine does not say" not in capsys.readouterr().out


def test_push_refuses_what_the_worker_would_refuse(
    configs: Path, store: FileBankStore, engine: NumpyPlacesEngine
) -> None:
    worker = ("--config", configs / "worker.yaml")
    write_bank_file(configs / "other.safetensors", bank_of(NumpyPlacesEngine(depths={"deep": 2}, name="other")))
    with pytest.raises(MismatchError, match=f"was made by engine other .* the engine here is {engine.hash[:12]}"):
        run("push", configs / "other.safetensors", *worker)
    write_bank_file(configs / "small.safetensors", bank_of(engine, count=15))
    with pytest.raises(DataError, match=r"product 'ring': an overkill of 6.000% needs 16 calibration pictures"):
        run("push", configs / "small.safetensors", *worker)
    assert store.versions("line-1") == []


def test_push_from_a_machine_without_the_engine(
    configs: Path, store: FileBankStore, engine: NumpyPlacesEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    write_bank_file(configs / "bank.safetensors", bank_of(engine))
    run("push", configs / "bank.safetensors", "--config", configs / "worker.yaml", "--set", "engine.path=/nowhere")
    assert "not checked whether the bank fits the engine, the workers will: /nowhere" in capsys.readouterr().out
    assert len(store.versions("line-1")) == 1


def test_a_fixed_threshold_is_shown_as_such(
    configs: Path, engine: NumpyPlacesEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    worker = ("--config", configs / "worker.yaml", "--set", "thresholds={ring: 1.25}")
    write_bank_file(configs / "bank.safetensors", bank_of(engine))
    run("push", configs / "bank.safetensors", *worker)
    run("show", *worker)
    shown = capsys.readouterr().out
    assert re.search(r"ring +120 +1\.25 \(fixed\) +is told apart", shown)
    assert "at most" not in shown  # no promise


def test_what_the_bank_and_the_settings_say_differently_is_said(
    configs: Path, engine: NumpyPlacesEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    write_bank_file(configs / "bank.safetensors", bank_of(engine))
    run("push", configs / "bank.safetensors", "--config", configs / "worker.yaml")
    assert "warning: overkill is 0.06, but the bank was fitted for 0.02" in capsys.readouterr().out
    run("show", "--config", configs / "worker.yaml")
    shown = capsys.readouterr().out
    assert "warning: overkill is 0.06, but the bank was fitted for 0.02" in shown
    assert "learned from pictures of 32x32 pixels, 8 bits, in colour" in shown
    assert re.search(r"ring: brightness [\d.]+ to [\d.]+, contrast [\d.]+ to", shown)
    assert re.search(r"ring: a camera that moves (is seen by x, y|cannot be seen)", shown)
    run("show", "--config", configs / "worker.yaml", "--set", "overkill=0.02")
    assert "mind" not in capsys.readouterr().out


def test_an_empty_line_is_said_so(configs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    worker = ("--config", configs / "worker.yaml")
    run("list", *worker)
    assert "line line-1 has no bank; push one with 'quarterturn bank push'" in capsys.readouterr().out
    for command in ("show", "rollback"):
        with pytest.raises(DataError, match="line 'line-1' has no bank; push one"):
            run(command, *worker)


def test_fit_needs_an_engine_and_enough_pictures(configs: Path) -> None:
    config = ("--config", configs / "bank.yaml")
    with pytest.raises(DataError, match=r"manifest\.json: cannot be read .*'quarterturn build'"):
        run("fit", *config, "--set", "engine.path=/nowhere")
    with pytest.raises(DataError, match=r"product 'ring': an overkill of 0.500% needs 199 .* there are 18"):
        run("fit", *config, "--set", "overkill=0.005")
    assert not (configs / "bank.safetensors").exists()
