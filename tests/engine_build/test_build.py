from __future__ import annotations

import hashlib
import re
import shutil
import time
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
import onnx
import pytest
import safetensors.numpy

import quarterturn.engine_build.build
import quarterturn.engine_build.openvino
from quarterturn.engine_build.build import build, seconds_of
from quarterturn.engine_build.config import BuildSettings
from quarterturn.engine_build.golden import parity
from quarterturn.trainer.architecture import Architecture
from quarterturn.worker.contract.embeddings import Embeddings, rows
from quarterturn.worker.contract.errors import ConfigError, DataError, MismatchError
from quarterturn.worker.contract.known_pictures import KnownPictures
from quarterturn.worker.contract.manifest import CONTRACT, EngineManifest, read_manifest
from quarterturn.worker.contract.settings import load_settings
from quarterturn.worker.engine.base import EngineFolder, open_folder
from quarterturn.worker.engine.onnxruntime import OnnxRuntimeEngine
from quarterturn.worker.engine.openvino import OpenVinoEngine
from tests.engine_build.models import (
    CONVOLUTIONAL,
    HALVED,
    SIDE,
    TRANSFORMER,
    WHOLE,
    oracle,
    random_frames,
    save_random_model,
)

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
    """The real engine, but as if it computed every third number of one output too small."""

    output = "places.middle"

    def embed(self, frames: npt.NDArray[np.uint8]) -> Embeddings:
        embeddings = super().embed(frames)
        embeddings[self.output][..., ::3] *= np.float32(0.9)
        return embeddings


def test_the_manifest_says_what_the_engine_was_made_from(model: Path, engine: Path) -> None:
    manifest = manifest_of(engine)
    assert manifest.model == hashlib.sha256((model / "model.safetensors").read_bytes()).hexdigest()
    assert manifest.products == ("ring", "nut")
    assert manifest.holdout == 0.25
    assert manifest.group == "folder"
    assert manifest.pictures == {"ring": KnownPictures(learned="0" * 32)}
    assert manifest.spec.model_dump() == {
        "contract": CONTRACT,
        "framing": {"side": SIDE, "fit": "stretch", "tiles": 1},
        "views": 2,
        "frame": 12,
        "places": {
            "shallow": {"grid": 4, "dimensions": 20},
            "middle": {"grid": 4, "dimensions": 20},
            "deep": {"grid": 2, "dimensions": 20},
        },
        "logits": 8,
    }
    assert {name: part.precision for name, part in manifest.targets.items()} == dict.fromkeys(BOTH, "float32")
    assert all(part.parity > 0.9999999 for part in manifest.targets.values())
    assert all(part.details.keys() == {name} for name, part in manifest.targets.items())
    assert {path.name for path in engine.iterdir()} == {"manifest.json", *manifest.files}


def test_openvino_takes_the_graph_of_one_view(engine: Path) -> None:
    manifest = manifest_of(engine)
    assert {name: part.files for name, part in manifest.targets.items()} == {
        "openvino": ("view.float32.onnx",),
        "onnxruntime": ("model.float32.onnx",),
    }
    views = {"view.float32.onnx": 1, "model.float32.onnx": 2}
    for name, count in views.items():
        outputs = onnx.load(engine / name).graph.output
        assert {value.type.tensor_type.shape.dim[1].dim_value for value in outputs} == {count}


def test_targets_share_the_graph_of_a_single_view_but_not_the_hash(model: Path, tmp_path: Path) -> None:
    manifest = manifest_of(build(settings(model, tmp_path / "engine", views=1), progress=False))
    assert {part.files for part in manifest.targets.values()} == {("model.float32.onnx",)}
    assert manifest.engine_hash("openvino") != manifest.engine_hash("onnxruntime")


def golden_of(engine: Path) -> tuple[npt.NDArray[np.uint8], Embeddings]:
    tensors = safetensors.numpy.load_file(engine / "golden.safetensors")
    return tensors.pop("frames"), tensors


def assert_close(found: Embeddings, wanted: Embeddings, tolerance: float) -> None:
    """All outputs, each within this share of its largest number."""
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        np.testing.assert_allclose(found[name], values, atol=tolerance * np.abs(values).max(), rtol=0, err_msg=name)


def test_golden_embeddings_are_the_definition_s(model: Path, engine: Path) -> None:
    frames, embeddings = golden_of(engine)
    assert frames.shape == (8, SIDE, SIDE, 3)
    assert embeddings.keys() == manifest_of(engine).spec.outputs.keys()
    assert_close(embeddings, oracle(model, frames, 2), 1e-5)


@pytest.mark.parametrize(
    ("architecture", "views", "outputs"),
    [
        (CONVOLUTIONAL, 1, {"frame", "places.shallow", "places.middle", "places.deep", "logits"}),
        (CONVOLUTIONAL, 8, {"frame", "places.shallow", "places.middle", "places.deep", "logits"}),
        (HALVED, 4, {"frame", "places.middle", "places.deep", "logits"}),
        (TRANSFORMER, 4, {"frame", "places.shallow", "places.middle", "places.deep", "logits"}),
        (WHOLE, 4, {"frame"}),
    ],
    ids=["one view", "eight views", "halved", "transformer", "whole frames"],
)
def test_engines_agree_with_the_definition(
    tmp_path: Path, architecture: Architecture, views: Literal[1, 4, 8], outputs: set[str]
) -> None:
    model = save_random_model(tmp_path / "model", views, architecture=architecture)
    built = build(settings(model, tmp_path / "engine", golden_frames=3), progress=False)
    manifest = manifest_of(built)
    assert manifest.spec.views == views
    assert manifest.spec.outputs.keys() == outputs
    assert all(part.parity >= 0.9999 for part in manifest.targets.values())
    frames, embeddings = golden_of(built)
    assert_close(embeddings, oracle(model, frames, views), 1e-4)

    frames = random_frames(3, seed=9)
    frames[1] = frames[1] // 4 + 100  # in other light
    frames[2] = 30  # nothing to be seen
    wanted = oracle(model, frames, views)
    engines = (OpenVinoEngine(open_folder(built, "openvino")), OnnxRuntimeEngine(open_folder(built, "onnxruntime")))
    for engine in engines:
        found = engine.embed(frames)
        assert_close(found, wanted, 1e-4)
        assert parity(found, wanted) >= 0.9999
        assert parity(rows(found, [0]), rows(wanted, [1])) < 0.9999, "the comparison tells frames apart"
        engine.close()


def test_an_engine_of_sixteen_bits_is_close_enough(tmp_path: Path) -> None:
    model = save_random_model(tmp_path / "model", architecture=HALVED)
    changes = {"targets": ["onnxruntime"], "precision": {"onnxruntime": "float16"}, "golden_frames": 3}
    built = build(settings(model, tmp_path / "engine", **changes), progress=False)
    part = manifest_of(built).targets["onnxruntime"]
    assert part.precision == "float16"
    assert 0.999 <= part.parity < 0.9999999, "close, and yet not computed in float32"


@pytest.mark.parametrize(("source", "views", "text"), [("model", 1, "1 view"), ("engine", 2, "2 views")])
def test_the_build_says_what_the_engine_gives(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    source: str,
    views: int,
    text: str,
) -> None:
    folder = request.getfixturevalue(source)
    build(settings(folder, tmp_path / "engine", views=views, targets=["openvino"], golden_frames=1))
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"{tmp_path}/engine: {text} of 64x64 pixels; each gives frame 12, places.shallow 16x20, places.middle 16x20, "
        "places.deep 4x20, logits 64"
    )


def test_the_engine_needs_nothing_of_the_model_folder(engine: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(engine, tmp_path / "elsewhere")
    assert OpenVinoEngine(open_folder(moved, "openvino")).embed(random_frames(2))["places.deep"].shape == (2, 2, 4, 20)


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
    frames, embeddings = golden_of(built)
    assert frames.shape == (6, SIDE, SIDE, 3)
    assert {values.shape[:2] for values in embeddings.values()} == {(6, 8)}


@pytest.mark.parametrize("output", ["frame", "places.shallow", "places.deep", "logits"])
def test_a_deviating_target_is_refused_and_nothing_is_left(
    engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    monkeypatch.setattr(Deviating, "output", output)
    monkeypatch.setattr(quarterturn.engine_build.openvino, "open_engine", Deviating)
    with pytest.raises(MismatchError) as refusal:
        build(settings(engine, tmp_path / "engine"), progress=False)
    said = re.fullmatch(
        r"target 'openvino': its embeddings of the golden frames differ from the model's "
        r"\(float32: cosine (-?[\d.]+) found, 0\.9999 needed\), so no engine was written; "
        r"set precision\.openvino to float32, update its package, or leave the target out",
        str(refusal.value),
    )
    assert said
    assert float(said[1]) < 0.9999
    assert list(tmp_path.iterdir()) == []


class AsFloat32(OpenVinoEngine):
    """The real engine, which computes in float32 whatever it is asked for: not every CPU has bfloat16."""

    def __init__(self, folder: EngineFolder) -> None:
        part = folder.manifest.targets["openvino"]
        self.coarse = part.precision == "bfloat16"
        exact = folder.manifest.model_copy(
            update={"targets": {"openvino": part.model_copy(update={"precision": "float32"})}}
        )
        super().__init__(EngineFolder(folder.path, exact, "openvino"))


class CoarseInBfloat16(AsFloat32):
    """Which float32 serves well and bfloat16 does not."""

    def embed(self, frames: npt.NDArray[np.uint8]) -> Embeddings:
        embeddings = super().embed(frames)
        if self.coarse:
            embeddings["places.deep"] = np.round(embeddings["places.deep"])
        return embeddings


@pytest.mark.parametrize(
    ("fastest", "seconds", "coarse", "chosen"),
    [
        ("bfloat16", {"float32": 2.0, "bfloat16": 1.0}, False, "bfloat16"),
        ("bfloat16", {"float32": 2.0, "bfloat16": 1.0}, True, "float32"),  # too coarse
        ("bfloat16", {"float32": 2.0, "bfloat16": 1.9}, False, "float32"),  # by chance
        ("bfloat16", {"float32": 1.0, "bfloat16": 2.0}, False, "float32"),
        ("float32", {"float32": 1.0}, False, "float32"),
    ],
)
def test_auto_takes_another_precision_where_it_is_exact_enough_and_clearly_faster(
    engine: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *,
    fastest: str,
    seconds: dict[str, float],
    coarse: bool,
    chosen: str,
) -> None:
    order = iter(seconds.values())  # float32 comes first
    monkeypatch.setattr(quarterturn.engine_build.build, "seconds_of", lambda work: (work(), next(order))[1])
    monkeypatch.setattr(quarterturn.engine_build.openvino, "available_threads", lambda: 1)
    monkeypatch.setattr(quarterturn.engine_build.openvino, "fastest", lambda: fastest)
    monkeypatch.setattr(quarterturn.engine_build.openvino, "open_engine", CoarseInBfloat16 if coarse else AsFloat32)
    built = build(settings(engine, tmp_path / "engine", targets=["openvino"], precision={}))
    assert manifest_of(built).targets["openvino"].precision == chosen
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("openvino")]
    assert len(said) == len(seconds)
    assert said[0] == f"openvino float32: cosine 1.0000000 found, 0.9999 needed; {8 / seconds['float32']:.0f} frames/s"
    assert all(
        re.fullmatch(r"openvino bfloat16: cosine [01]\.\d+ found, 0\.9999 needed; \d frames/s", one) for one in said[1:]
    )


@pytest.mark.parametrize(("alone", "abreast", "chosen"), [(1.0, 2.0, 1), (2.0, 1.0, 3)])
def test_as_many_frames_go_side_by_side_as_are_the_fastest(
    engine: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    alone: float,
    abreast: float,
    chosen: int,
) -> None:
    order = iter((alone, abreast))
    monkeypatch.setattr(quarterturn.engine_build.build, "seconds_of", lambda work: (work(), next(order))[1])
    monkeypatch.setattr(quarterturn.engine_build.openvino, "available_threads", lambda: 3)
    built = build(settings(engine, tmp_path / "engine", targets=["openvino"]))
    assert manifest_of(built).targets["openvino"].streams == chosen
    assert ("8 frames/s, 3 side by side" in capsys.readouterr().err) == (chosen > 1)


def test_the_shortest_run_counts() -> None:
    waits = iter((0.03, 0.001, 0.03))
    assert 0.001 <= seconds_of(lambda: time.sleep(next(waits))) < 0.03


def test_a_precision_that_was_asked_for_is_not_replaced(
    engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quarterturn.engine_build.openvino, "open_engine", CoarseInBfloat16)
    wanted = settings(engine, tmp_path / "engine", targets=["openvino"], precision={"openvino": "bfloat16"})
    with pytest.raises(MismatchError, match=r"bfloat16: cosine 0\.\d+ found, 0\.97 needed\), so no engine was written"):
        build(wanted, progress=False)


class NearlyRight(AsFloat32):
    """Which makes of each number what bfloat16 makes of it after some layers: an error of a tenth, a cosine of .995."""

    def embed(self, frames: npt.NDArray[np.uint8]) -> Embeddings:
        embeddings = super().embed(frames)
        if self.coarse:
            embeddings["places.deep"][..., ::2] *= np.float32(1.1)
            embeddings["places.deep"][..., 1::2] *= np.float32(0.9)
        return embeddings


def test_what_costs_some_accuracy_has_to_be_asked_for(
    engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quarterturn.engine_build.openvino, "fastest", lambda: "bfloat16")
    monkeypatch.setattr(quarterturn.engine_build.openvino, "open_engine", NearlyRight)
    seconds = iter((2.0, 1.0, 1.0))  # float32 and bfloat16 by auto, then bfloat16 alone
    monkeypatch.setattr(quarterturn.engine_build.build, "seconds_of", lambda work: (work(), next(seconds))[1])
    monkeypatch.setattr(quarterturn.engine_build.openvino, "available_threads", lambda: 1)
    for precision, chosen in (("auto", "float32"), ("bfloat16", "bfloat16")):
        built = build(settings(engine, tmp_path / precision, targets=["openvino"], precision={"openvino": precision}))
        part = manifest_of(built).targets["openvino"]
        assert part.precision == chosen
    assert 0.99 < part.parity < 0.999


def test_a_failed_build_keeps_the_engine_that_is_there(
    engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = shutil.copytree(engine, tmp_path / "engine")
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    monkeypatch.setattr(quarterturn.engine_build.openvino, "open_engine", Deviating)
    with pytest.raises(MismatchError):
        build(settings(engine, out), progress=False)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert list(tmp_path.iterdir()) == [out]


def test_a_build_replaces_an_engine_and_nothing_else(engine: Path, tmp_path: Path) -> None:
    out = shutil.copytree(engine, tmp_path / "engine")
    (out / "notes.txt").touch()
    with pytest.raises(DataError, match=r"engine: holds something besides an engine, which would be lost; set 'out'"):
        build(settings(engine, out, targets=["openvino"]), progress=False)
    (out / "notes.txt").unlink()
    build(settings(engine, out, targets=["openvino"]), progress=False)
    assert {path.name for path in out.iterdir()} == {"manifest.json", "view.float32.onnx", "golden.safetensors"}

    other = tmp_path / "thesis"
    other.mkdir()
    (other / "chapter.txt").touch()
    with pytest.raises(DataError, match=r"thesis: holds something besides an engine, which would be lost; set 'out'"):
        build(settings(engine, other), progress=False)


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
