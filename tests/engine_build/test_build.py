from __future__ import annotations

import hashlib
import re
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import safetensors.numpy

import engine_build.openvino
from engine_build.build import build
from engine_build.config import BuildSettings
from engine_build.golden import smallest_cosine
from tests.engine_build.models import (
    LOCAL,
    LOCAL_SIDE,
    SIDE,
    local_oracle,
    oracle,
    random_frames,
    save_random_model,
)
from worker.contract.errors import ConfigError, DataError, MismatchError
from worker.contract.manifest import CONTRACT, EngineManifest, read_manifest
from worker.contract.settings import load_settings
from worker.engine.base import EngineFolder, open_folder
from worker.engine.onnxruntime import OnnxRuntimeEngine
from worker.engine.openvino import OpenVinoEngine

BOTH = ("openvino", "onnxruntime")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_model(tmp_path_factory.mktemp("plant") / "model", views=2)


@pytest.fixture(scope="module")
def engine(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(settings(model, tmp_path_factory.mktemp("plant") / "engine"), progress=False)


def settings(model: Path, out: Path, **changes: Any) -> BuildSettings:
    document = {"model": model, "out": out, "targets": BOTH, "precision": {"openvino": "float32"}, **changes}
    return BuildSettings.model_validate(document)


def manifest_of(engine: Path) -> EngineManifest:
    return read_manifest(engine, EngineManifest, "quarterturn build")


class Deviating(OpenVinoEngine):
    """The real engine, but as if it computed every third number of an embedding too coarsely."""

    def embed(self, frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        embeddings = super().embed(frames)
        embeddings[..., ::3] = np.round(embeddings[..., ::3], 1)
        return embeddings


def test_the_manifest_says_what_the_engine_was_made_from(model: Path, engine: Path) -> None:
    manifest = manifest_of(engine)
    assert manifest.model == hashlib.sha256((model / "model.safetensors").read_bytes()).hexdigest()
    assert manifest.products == ("ring", "nut")
    assert manifest.holdout == 0.25
    assert manifest.spec.model_dump() == {
        "contract": CONTRACT,
        "framing": {"side": SIDE, "fit": "stretch", "tiles": 1},
        "views": 2,
        "positions": 1,
        "dimensions": 12,
        "learned": False,
    }
    assert {name: part.precision for name, part in manifest.targets.items()} == dict.fromkeys(BOTH, "float32")
    assert all(part.parity > 0.9999999 for part in manifest.targets.values())
    assert all(part.details.keys() == {name} for name, part in manifest.targets.items())
    assert {path.name for path in engine.iterdir()} == {"manifest.json", *manifest.files}


def test_targets_share_the_graph_but_not_the_hash(engine: Path) -> None:
    manifest = manifest_of(engine)
    assert {part.files for part in manifest.targets.values()} == {("model.float32.onnx",)}
    assert manifest.engine_hash("openvino") != manifest.engine_hash("onnxruntime")


def test_golden_embeddings_are_the_definition_s(model: Path, engine: Path) -> None:
    golden = safetensors.numpy.load_file(engine / "golden.safetensors")
    assert golden["frames"].shape == (8, SIDE, SIDE, 3)
    np.testing.assert_allclose(golden["embeddings"], oracle(model, golden["frames"], 2), atol=1e-5)


@pytest.fixture(scope="module")
def local_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_model(tmp_path_factory.mktemp("local") / "model", views=8, architecture=LOCAL)


@pytest.mark.parametrize("views", [1, 8])
def test_local_engines_agree_with_the_definition(local_model: Path, tmp_path: Path, views: int) -> None:
    built = build(settings(local_model, tmp_path / "engine", views=views, golden_frames=3), progress=False)
    manifest = manifest_of(built)
    assert manifest.spec.model_dump() == {
        "contract": CONTRACT,
        "framing": {"side": LOCAL_SIDE, "fit": "stretch", "tiles": 1},
        "views": views,
        "positions": 64,
        "dimensions": 12,
        "learned": True,
    }
    assert all(part.parity >= 0.9999 for part in manifest.targets.values())
    golden = safetensors.numpy.load_file(built / "golden.safetensors")
    np.testing.assert_allclose(golden["embeddings"], local_oracle(local_model, golden["frames"], views), atol=1e-4)

    frames = random_frames(3, seed=9, side=LOCAL_SIDE)
    frames[1] = frames[1] // 4 + 100  # in other light
    frames[2] = 30  # nothing to be seen
    wanted = local_oracle(local_model, frames, views)
    engines = (OpenVinoEngine(open_folder(built, "openvino")), OnnxRuntimeEngine(open_folder(built, "onnxruntime")))
    for engine in engines:
        found = engine.embed(frames)
        assert found.shape == (3, views, 64, 12)
        np.testing.assert_allclose(found, wanted, atol=1e-4)
        assert smallest_cosine(found, wanted) >= 0.9999
        assert smallest_cosine(found[:1], wanted[1:2]) < 0.9999, "the comparison tells frames apart"
        engine.close()


def test_a_local_engine_of_sixteen_bits_is_close_enough(local_model: Path, tmp_path: Path) -> None:
    changes = {"targets": ["onnxruntime"], "precision": {"onnxruntime": "float16"}, "views": 4, "golden_frames": 3}
    built = build(settings(local_model, tmp_path / "engine", **changes), progress=False)
    part = manifest_of(built).targets["onnxruntime"]
    assert part.precision == "float16"
    assert 0.999 <= part.parity < 0.9999999, "close, and yet not computed in float32"


def test_the_engine_needs_nothing_of_the_model_folder(engine: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(engine, tmp_path / "elsewhere")
    assert OpenVinoEngine(open_folder(moved, "openvino")).embed(random_frames(2)).shape == (2, 2, 1, 12)


def test_the_same_model_gives_the_same_engine(model: Path, engine: Path, tmp_path: Path) -> None:
    again = build(settings(model, tmp_path / "engine"), progress=False)
    for target in BOTH:
        assert manifest_of(again).engine_hash(target) == manifest_of(engine).engine_hash(target)


def test_views_and_pictures_can_be_given(model: Path, tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    grey = np.random.default_rng(5).integers(0, 256, (50, 40), dtype=np.uint8)
    for name in "abcd":
        cv2.imwrite(str(pictures / f"{name}.png"), grey)
    built = build(settings(model, tmp_path / "engine", views=8, golden_frames=3, pictures=pictures), progress=False)
    assert manifest_of(built).spec.views == 8
    assert safetensors.numpy.load_file(built / "golden.safetensors")["frames"].shape == (6, SIDE, SIDE, 3)


def test_a_deviating_target_is_refused_and_nothing_is_left(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_build.openvino, "open_engine", Deviating)
    with pytest.raises(MismatchError) as refusal:
        build(settings(model, tmp_path / "engine"), progress=False)
    said = re.fullmatch(
        r"target 'openvino': its embeddings of the golden frames differ from the model's "
        r"\(float32: cosine (-?[\d.]+) found, 0\.9999 needed\), so no engine was written; "
        r"set precision\.openvino to float32, update its package, or leave the target out",
        str(refusal.value),
    )
    assert said
    assert float(said[1]) < 0.9999
    assert list(tmp_path.iterdir()) == []


class CoarseInBfloat16(OpenVinoEngine):
    """The real engine, which float32 serves well and bfloat16 does not."""

    def __init__(self, folder: EngineFolder) -> None:
        part = folder.manifest.targets["openvino"]
        self.coarse = part.precision == "bfloat16"
        exact = folder.manifest.model_copy(
            update={"targets": {"openvino": part.model_copy(update={"precision": "float32"})}}
        )
        super().__init__(EngineFolder(folder.path, exact, "openvino"))

    def embed(self, frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        embeddings = super().embed(frames)
        return np.round(embeddings, 1) if self.coarse else embeddings


def test_auto_takes_the_fastest_precision_that_is_exact_enough(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(engine_build.openvino, "fastest", lambda: "bfloat16")
    monkeypatch.setattr(engine_build.openvino, "open_engine", CoarseInBfloat16)
    wanted = settings(model, tmp_path / "engine", targets=["openvino"], precision={})
    built = build(wanted)
    assert manifest_of(built).targets["openvino"].precision == "float32"
    bfloat16, float32 = (line for line in capsys.readouterr().err.splitlines() if line.startswith("openvino"))
    assert re.fullmatch(r"openvino bfloat16: cosine 0\.[\d]+ found, 0\.999 needed", bfloat16)
    assert re.fullmatch(r"openvino float32: cosine 1\.0000000 found, 0\.9999 needed", float32)

    monkeypatch.setattr(engine_build.openvino, "fastest", lambda: "float32")
    assert manifest_of(build(wanted, progress=False)).targets["openvino"].precision == "float32"


def test_a_precision_that_was_asked_for_is_not_replaced(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_build.openvino, "open_engine", CoarseInBfloat16)
    wanted = settings(model, tmp_path / "engine", targets=["openvino"], precision={"openvino": "bfloat16"})
    with pytest.raises(
        MismatchError, match=r"bfloat16: cosine 0\.\d+ found, 0\.999 needed\), so no engine was written"
    ):
        build(wanted, progress=False)


def test_a_failed_build_keeps_the_engine_that_is_there(
    model: Path, engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = shutil.copytree(engine, tmp_path / "engine")
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    monkeypatch.setattr(engine_build.openvino, "open_engine", Deviating)
    with pytest.raises(MismatchError):
        build(settings(model, out), progress=False)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert list(tmp_path.iterdir()) == [out]


def test_a_build_replaces_an_engine_and_nothing_else(model: Path, engine: Path, tmp_path: Path) -> None:
    out = shutil.copytree(engine, tmp_path / "engine")
    (out / "left-over").touch()
    build(settings(model, out, targets=["openvino"], golden_frames=2), progress=False)
    assert {path.name for path in out.iterdir()} == {"manifest.json", "model.float32.onnx", "golden.safetensors"}

    other = tmp_path / "thesis"
    other.mkdir()
    (other / "chapter.txt").touch()
    with pytest.raises(DataError, match=r"thesis: exists and is no engine, so it will not be replaced; set 'out'"):
        build(settings(model, other), progress=False)


def test_a_folder_that_cannot_be_written_is_one_sentence(model: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"file/engine: cannot be written \(.+\); set 'out' to another folder"):
        build(settings(model, tmp_path / "file" / "engine"), progress=False)


def test_a_missing_model_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"model/manifest\.json: cannot be read .*make the folder with 'quarterturn train'"
    ):
        build(settings(tmp_path / "model", tmp_path / "engine"), progress=False)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("target: [openvino]", "target is unknown; did you mean 'targets'?"),
        ("targets: []", "targets = []: name at least one target, and each once"),
        (
            "targets: [openvino, openvino]",
            "targets = ['openvino', 'openvino']: name at least one target, and each once",
        ),
        ("targets: [tensorflow]", "targets.0 = 'tensorflow': input should be 'openvino', 'onnxruntime' or 'tensorrt'"),
        (
            "tensorrt: {opt_frames: 9, max_frames: 8}",
            "tensorrt: opt_frames = 9 is more than max_frames = 8",
        ),
        ("views: 3", "views = 3: input should be 1, 2, 4 or 8"),
        (
            "precision: {onnxruntime: bfloat16}",
            "precision.onnxruntime = 'bfloat16': input should be 'auto', 'float32' or 'float16'",
        ),
        ("precision: {openvno: float32}", "precision.openvno is unknown; did you mean 'openvino'?"),
    ],
)
def test_a_wrong_setting_is_one_sentence(line: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / "build.yaml"
    path.write_text(line)
    with pytest.raises(ConfigError) as fault:
        load_settings(path, BuildSettings)
    assert str(fault.value) == f"{path}: {text}"


def test_the_example_configuration_is_the_default() -> None:
    assert load_settings(Path(__file__).parents[2] / "configs" / "build.yaml", BuildSettings) == BuildSettings()
