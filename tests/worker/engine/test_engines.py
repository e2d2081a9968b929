from __future__ import annotations

import importlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest

from engine_build.build import build
from engine_build.config import BuildSettings
from tests.engine_build.models import SIDE, oracle, random_frames, save_random_model
from worker.contract.errors import ConfigError, DataError, MismatchError
from worker.contract.manifest import sha256
from worker.engine.base import Engine, EngineFolder, open_folder
from worker.engine.onnxruntime import OnnxRuntimeEngine
from worker.engine.openvino import OpenVinoEngine, native_precision

VIEWS: Literal[4] = 4
OPEN: dict[str, Callable[..., Engine]] = {"openvino": OpenVinoEngine, "onnxruntime": OnnxRuntimeEngine}
TOLERANCE = {"float32": 1e-5, "float16": 5e-3}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_model(tmp_path_factory.mktemp("plant") / "model", views=VIEWS)


@pytest.fixture(scope="module")
def folders(model: Path) -> dict[str, Path]:
    """An engine folder for each precision of ONNX Runtime; OpenVINO is in both."""
    return {
        precision: build(
            BuildSettings.model_validate(
                {
                    "model": model,
                    "out": model.parent / precision,
                    "targets": list(OPEN),
                    "precision": {"openvino": "float32", "onnxruntime": precision},
                }
            ),
            progress=False,
        )
        for precision in TOLERANCE
    }


@pytest.fixture(
    scope="module",
    params=[("openvino", "float32"), ("onnxruntime", "float32"), ("onnxruntime", "float16")],
    ids="-".join,
)
def case(request: pytest.FixtureRequest, folders: dict[str, Path]) -> tuple[EngineFolder, float]:
    """An engine folder for one target, and how far its embeddings may be from the definition's."""
    target, precision = request.param
    return open_folder(folders[precision], target), TOLERANCE[precision]


@pytest.fixture(scope="module")
def folder(case: tuple[EngineFolder, float]) -> EngineFolder:
    return case[0]


@pytest.fixture(scope="module")
def tolerance(case: tuple[EngineFolder, float]) -> float:
    return case[1]


@pytest.fixture(scope="module")
def engine(folder: EngineFolder) -> Iterator[Engine]:
    with closing(OPEN[folder.target](folder)) as opened:
        yield opened


def test_an_engine_says_what_it_is(engine: Engine, folder: EngineFolder) -> None:
    assert engine.spec == folder.manifest.spec
    assert engine.hash == folder.manifest.engine_hash(folder.target)
    assert engine.target == folder.target


def test_embeddings_are_those_of_the_definition(engine: Engine, model: Path, tolerance: float) -> None:
    frames = random_frames(3)
    np.testing.assert_allclose(engine.embed(frames), oracle(model, frames, VIEWS), atol=tolerance)


@pytest.mark.parametrize("batch", [0, 1, 2, 4, 5, 16])
def test_embeddings_have_unit_length_for_any_batch(engine: Engine, batch: int) -> None:
    embeddings = engine.embed(random_frames(batch))
    assert embeddings.shape == (batch, VIEWS, 1, 12)
    assert embeddings.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=-1), 1, atol=1e-5)


@pytest.mark.parametrize("batch", [1, 2, 3, 4, 5, 8, 16])
def test_a_frame_s_embedding_does_not_depend_on_its_batch(engine: Engine, tolerance: float, batch: int) -> None:
    frames, others = random_frames(batch), random_frames(batch, seed=1)
    alone = np.concatenate([engine.embed(frame[None]) for frame in frames])
    np.testing.assert_allclose(engine.embed(frames), alone, atol=tolerance)
    others[-1] = frames[-1]
    np.testing.assert_allclose(engine.embed(others)[-1], alone[-1], atol=tolerance)


def test_the_caller_keeps_the_embeddings(engine: Engine) -> None:
    first = engine.embed(random_frames(2))
    before = first.copy()
    engine.embed(random_frames(2, seed=1))
    np.testing.assert_array_equal(first, before)
    first[:] = 0  # theirs to write


def test_frames_may_be_any_view_into_memory(engine: Engine) -> None:
    frames = random_frames(6)
    wanted = engine.embed(frames)
    frames.setflags(write=False)
    np.testing.assert_array_equal(engine.embed(frames), wanted)
    np.testing.assert_array_equal(engine.embed(frames[::-1])[::-1], engine.embed(frames[::-1].copy())[::-1])
    columns_first = np.asfortranarray(frames)
    np.testing.assert_array_equal(engine.embed(columns_first), wanted)


@pytest.mark.parametrize(
    "frames",
    [
        np.zeros((1, SIDE, SIDE, 3), np.float32),
        np.zeros((SIDE, SIDE, 3), np.uint8),
        np.zeros((1, 3, SIDE, SIDE), np.uint8),
        np.zeros((2, SIDE, SIDE + 1, 3), np.uint8),
    ],
    ids=["float32", "one frame", "planes", "not square"],
)
def test_wrong_frames_are_refused_at_the_door(engine: Engine, frames: npt.NDArray[Any]) -> None:
    with pytest.raises(ValueError) as refusal:
        engine.embed(frames)
    assert str(refusal.value) == f"frames must be uint8 (B, {SIDE}, {SIDE}, 3), not {frames.dtype} {frames.shape}"


def test_close_may_be_called_twice(folder: EngineFolder) -> None:
    engine = OPEN[folder.target](folder)
    engine.close()
    engine.close()


def test_one_thread_gives_the_same(folder: EngineFolder, engine: Engine, tolerance: float) -> None:
    with closing(OPEN[folder.target](folder, threads=1)) as single:
        np.testing.assert_allclose(single.embed(random_frames(2)), engine.embed(random_frames(2)), atol=tolerance)


def test_a_flipped_bit_is_refused(folder: EngineFolder, tmp_path: Path) -> None:
    copy = shutil.copytree(folder.path, tmp_path / "engine")
    (graph,) = (copy / path.name for path in folder.files)
    content = bytearray(graph.read_bytes())
    content[len(content) // 2] ^= 1
    graph.write_bytes(content)
    found, said = sha256(bytes(content))[:12], folder.manifest.files[graph.name][:12]
    with pytest.raises(MismatchError, match=rf"{graph.name}: has hash {found}, but the manifest says {said}; "):
        open_folder(copy, folder.target)


def test_a_manifest_of_another_graph_is_refused(folder: EngineFolder, tmp_path: Path) -> None:
    copy = shutil.copytree(folder.path, tmp_path / "engine")
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["spec"]["dimensions"] = 99
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(MismatchError) as refusal:
        OPEN[folder.target](open_folder(copy, folder.target))
    for shape in (
        "the graph has",
        "(-1, 4, 1, 12)",
        "but the manifest says",
        "(-1, 4, 1, 99)",
        "build the engine again",
    ):
        assert shape in str(refusal.value)


def test_a_graph_that_cannot_be_loaded_is_one_sentence(folder: EngineFolder, tmp_path: Path) -> None:
    copy = shutil.copytree(folder.path, tmp_path / "engine")
    (name,) = folder.manifest.targets[folder.target].files
    (copy / name).write_bytes(b"no graph")
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["files"][name] = sha256(b"no graph")
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError) as fault:
        OPEN[folder.target](open_folder(copy, folder.target))
    assert str(fault.value).startswith(f"{copy / name}: O")
    assert str(fault.value).endswith("; build the engine on this machine")
    assert "cannot load it (" in str(fault.value)
    assert "\n" not in str(fault.value)


@pytest.mark.parametrize(("target", "extra"), [("openvino", "openvino"), ("onnxruntime", "onnx")])
def test_a_missing_package_is_one_sentence(target: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, f"worker.engine.{target}")
    monkeypatch.setitem(sys.modules, target, None)
    with pytest.raises(ConfigError) as fault:
        importlib.import_module(f"worker.engine.{target}")
    assert str(fault.value) == f"target '{target}' needs a package; run: pip install 'quarterturn[{extra}]'"


def test_two_openvino_workers_do_not_share_a_core(folders: dict[str, Path]) -> None:
    """Pinned, the single threads of two workers sit on the same core, and each has half of it."""
    with closing(OpenVinoEngine(open_folder(folders["float32"], "openvino"), threads=1)) as engine:
        model = engine._request.get_compiled_model()
        assert model.get_property("INFERENCE_NUM_THREADS") == 1
        assert model.get_property("ENABLE_CPU_PINNING") is False


def test_openvino_computes_in_the_manifest_s_precision_or_says_that_it_cannot(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    with closing(OpenVinoEngine(open_folder(folders["float32"], "openvino"))) as exact:
        wanted = exact.embed(random_frames(4))
    for precision in ("bfloat16", "float16"):
        folder = open_folder(as_precision(precision, folders["float32"], tmp_path / precision), "openvino")
        assert folder.hash != exact.hash
        if native_precision() == precision:
            with closing(OpenVinoEngine(folder)) as engine:
                assert 1e-5 < np.abs(engine.embed(random_frames(4)) - wanted).max() < 0.05
        else:
            text = (
                f"target 'openvino': the engine computes in {precision}, but this CPU in .+; build it on this machine"
            )
            with pytest.raises(MismatchError, match=text):
                OpenVinoEngine(folder)


def as_precision(precision: str, engine: Path, folder: Path) -> Path:
    """A copy of an engine folder whose manifest says another precision of OpenVINO."""
    shutil.copytree(engine, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["targets"]["openvino"]["precision"] = precision
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder
