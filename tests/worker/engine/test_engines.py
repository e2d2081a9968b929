"""The engines of the CPU, on graphs written by hand (tests/worker/engine/graphs.py)."""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import openvino
import pytest

from quarterturn.worker.contract.embeddings import Embeddings, join
from quarterturn.worker.contract.errors import ConfigError, DataError, MismatchError
from quarterturn.worker.contract.manifest import Depth, EmbeddingSpec, sha256
from quarterturn.worker.engine.base import Engine, EngineFolder, open_folder
from quarterturn.worker.engine.onnxruntime import OnnxRuntimeEngine
from quarterturn.worker.engine.openvino import OpenVinoEngine, native_precision
from tests.worker.engine.graphs import SHAPES, SIDE, SPEC, graph_of, oracle, random_frames, write_engine

OPEN: dict[str, Callable[..., Engine]] = {"openvino": OpenVinoEngine, "onnxruntime": OnnxRuntimeEngine}
TOLERANCE = {"float32": 1e-5, "float16": 5e-3}
SEVERAL_RUNS = 300  # frames of 32 pixels and four views; an engine takes at most 128 at once


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An engine folder for each precision."""
    plant = tmp_path_factory.mktemp("plant")
    return {
        "float32": write_engine(plant / "float32"),
        "float16": write_engine(plant / "float16", "float16", ["onnxruntime"]),
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


def assert_close(found: Embeddings, wanted: Embeddings, tolerance: float = 0) -> None:
    """All outputs, in the same order, and of the same numbers."""
    assert list(found) == list(wanted)
    for name, values in wanted.items():
        np.testing.assert_allclose(found[name], values, atol=tolerance, rtol=0, err_msg=name)


def test_an_engine_says_what_it_is(engine: Engine, folder: EngineFolder) -> None:
    assert engine.spec == folder.manifest.spec
    assert engine.hash == folder.manifest.engine_hash(folder.target)
    assert engine.target == folder.target


@pytest.mark.parametrize("batch", [3, SEVERAL_RUNS])
def test_embeddings_are_those_of_the_definition(engine: Engine, tolerance: float, batch: int) -> None:
    frames = random_frames(batch)
    assert_close(engine.embed(frames), oracle(frames), tolerance)


@pytest.mark.parametrize("batch", [0, 1, 2, 4, 5, 16, 128, SEVERAL_RUNS])
def test_there_are_all_outputs_in_their_order_for_any_batch(engine: Engine, batch: int) -> None:
    embeddings = engine.embed(random_frames(batch))
    assert [(name, values.shape) for name, values in embeddings.items()] == [
        (name, (batch, *shape)) for name, shape in SHAPES.items()
    ]
    assert {values.dtype for values in embeddings.values()} == {np.dtype(np.float32)}
    np.testing.assert_allclose(np.linalg.norm(embeddings["frame"], axis=-1), 1, atol=1e-5)


def test_outputs_are_found_by_their_names(folder: EngineFolder, tmp_path: Path, tolerance: float) -> None:
    """Two of them have the same shape; the graph lists them the other way round."""
    precision = "float16" if folder.manifest.targets[folder.target].precision == "float16" else "float32"
    other = write_engine(tmp_path / "engine", precision, [folder.target], list(reversed(SHAPES)))
    frames = random_frames(2)
    with closing(OPEN[folder.target](open_folder(other, folder.target))) as engine:
        assert_close(engine.embed(frames), oracle(frames), tolerance)


@pytest.mark.parametrize("batch", [1, 2, 3, 4, 5, 8, 16, SEVERAL_RUNS])
def test_a_frame_s_embedding_does_not_depend_on_its_batch(engine: Engine, tolerance: float, batch: int) -> None:
    frames, others = random_frames(batch), random_frames(batch, seed=1)
    alone = join([engine.embed(frame[None]) for frame in frames])
    assert_close(engine.embed(frames), alone, tolerance)
    others[-1] = frames[-1]
    for name, values in engine.embed(others).items():
        np.testing.assert_allclose(values[-1], alone[name][-1], atol=tolerance)


def test_the_caller_keeps_the_embeddings(engine: Engine) -> None:
    first = engine.embed(random_frames(2))
    before = {name: values.copy() for name, values in first.items()}
    engine.embed(random_frames(2, seed=1))
    assert_close(first, before)
    for values in first.values():
        values[:] = 0  # theirs to write
    assert_close(engine.embed(random_frames(2)), before)


def test_frames_may_be_any_view_into_memory(engine: Engine) -> None:
    frames = random_frames(6)
    wanted = engine.embed(frames)
    frames.setflags(write=False)
    assert_close(engine.embed(frames), wanted)
    assert_close(engine.embed(frames[::-1]), engine.embed(frames[::-1].copy()))
    columns_first = np.asfortranarray(frames)
    assert_close(engine.embed(columns_first), wanted)


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
        assert_close(single.embed(random_frames(2)), engine.embed(random_frames(2)), tolerance)


def with_streams(path: Path, streams: int, spec: EmbeddingSpec = SPEC) -> EngineFolder:
    folder = open_folder(path, "openvino")
    part = folder.manifest.targets["openvino"].model_copy(update={"streams": streams})
    changed = folder.manifest.model_copy(update={"targets": {"openvino": part}, "spec": spec})
    return EngineFolder(path, changed, "openvino")


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 7, SEVERAL_RUNS])
@pytest.mark.parametrize("streams", [2, 3, 5])
def test_frames_side_by_side_are_embedded_as_one_by_one(folders: dict[str, Path], streams: int, count: int) -> None:
    several = with_streams(folders["float32"], streams)
    assert several.hash == open_folder(folders["float32"], "openvino").hash, "a bank serves both"
    with closing(OpenVinoEngine(several, threads=streams)) as engine:
        frames = random_frames(count)
        assert_close(engine.embed(frames), oracle(frames), TOLERANCE["float32"])
        assert_close(engine.embed(frames[::-1].copy()), oracle(frames[::-1]), TOLERANCE["float32"])


@pytest.mark.parametrize(
    ("threads", "views", "abreast", "alone"), [(1, 1, 1, 0), (2, 1, 2, 1), (2, 4, 2, 0), (4, 4, 4, 0), (5, 4, 5, 1)]
)
def test_there_are_no_more_streams_than_threads_and_a_second_graph_only_where_a_frame_does_not_fill_them(
    folders: dict[str, Path], threads: int, views: Literal[1, 4], abreast: int, alone: int
) -> None:
    many = with_streams(folders["float32"], 64, SPEC.model_copy(update={"views": views}))
    with closing(OpenVinoEngine(many, threads=threads)) as engine:
        waiting = 2
        assert len(engine._abreast) == abreast + waiting
        assert len(engine._alone) == (alone and alone + waiting)
        frames = random_frames(3)
        wanted = {name: values[:, :views] for name, values in oracle(frames).items()}
        assert_close(engine.embed(frames), wanted, TOLERANCE["float32"])


def test_a_flipped_bit_is_refused(folder: EngineFolder, tmp_path: Path) -> None:
    copy = shutil.copytree(folder.path, tmp_path / "engine")
    (graph,) = (copy / path.name for path in folder.files)
    content = bytearray(graph.read_bytes())
    content[len(content) // 2] ^= 1
    graph.write_bytes(content)
    found, said = sha256(bytes(content))[:12], folder.manifest.files[graph.name][:12]
    with pytest.raises(MismatchError, match=rf"{graph.name}: has hash {found}, but the manifest says {said}; "):
        open_folder(copy, folder.target)


SHALLOW, DEEP = Depth(grid=4, dimensions=5), Depth(grid=2, dimensions=7)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"frame": 99}, "frame is float32 (-1, 4, 12) in the graph, float32 (-1, 4, 99) in the manifest"),
        (
            {"framing": {"side": 48}},
            "frames is uint8 (-1, 32, 32, 3) in the graph, uint8 (-1, 48, 48, 3) in the manifest",
        ),
        ({"logits": None}, "logits is float32 (-1, 4, 64) in the graph, missing in the manifest"),
        (
            {"places": {"shallow": SHALLOW, "middle": SHALLOW, "deep": SHALLOW, "top": DEEP}},
            (
                "places.deep is float32 (-1, 4, 4, 7) in the graph, float32 (-1, 4, 16, 5) in the manifest, "
                "places.top is missing in the graph, float32 (-1, 4, 4, 7) in the manifest"
            ),
        ),
    ],
    ids=["length", "side", "one less", "another shape, and one more"],
)
def test_a_manifest_of_another_graph_is_refused(
    folder: EngineFolder, tmp_path: Path, changes: dict[str, Any], text: str
) -> None:
    spec = SPEC.model_validate({**SPEC.model_dump(), **changes})
    precision = "float16" if folder.manifest.targets[folder.target].precision == "float16" else "float32"
    copy = write_engine(tmp_path / "engine", precision, [folder.target], spec=spec)
    with pytest.raises(MismatchError) as refusal:
        OPEN[folder.target](open_folder(copy, folder.target))
    said = str(refusal.value).replace("_logits.result", "logits")  # OpenVINO's word for what the manifest does not know
    name, views = graph_of(folder.target, precision)
    text = text.replace("(-1, 4, ", f"(-1, {views}, ")
    assert said == f"{copy}/{name}: the graph does not fit the manifest: {text}; build the engine again"


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
    monkeypatch.delitem(sys.modules, f"quarterturn.worker.engine.{target}")
    monkeypatch.setitem(sys.modules, target, None)
    with pytest.raises(ConfigError) as fault:
        importlib.import_module(f"quarterturn.worker.engine.{target}")
    assert str(fault.value) == f"target '{target}' needs a package; run: pip install 'quarterturn[{extra}]'"


def test_two_openvino_workers_do_not_share_a_core(folders: dict[str, Path]) -> None:
    """Pinned, the single threads of two workers sit on the same core, and each has half of it."""
    with closing(OpenVinoEngine(open_folder(folders["float32"], "openvino"), threads=1)) as engine:
        model = engine._abreast[0].get_compiled_model()
        assert model.get_property("INFERENCE_NUM_THREADS") == 1
        assert model.get_property("ENABLE_CPU_PINNING") is False


def test_openvino_computes_in_the_manifest_s_precision_or_says_that_it_cannot(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    with closing(OpenVinoEngine(open_folder(folders["float32"], "openvino"))) as exact:
        wanted = exact.embed(random_frames(4))
    offered = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    for precision, word in (("bfloat16", "BF16"), ("float16", "FP16")):
        folder = open_folder(as_precision(precision, folders["float32"], tmp_path / precision), "openvino")
        assert folder.hash != exact.hash
        if word in offered:
            with closing(OpenVinoEngine(folder)) as engine:
                for name, values in engine.embed(random_frames(4)).items():
                    assert 1e-5 < np.abs(values - wanted[name]).max() < 0.05, name
        else:
            text = (
                f"target 'openvino': the engine computes in {precision}, but this CPU in .+; build it on this machine"
            )
            with pytest.raises(MismatchError, match=text):
                OpenVinoEngine(folder)
    OpenVinoEngine(open_folder(as_precision(native_precision(), folders["float32"], tmp_path / "own"), "openvino"))


def as_precision(precision: str, engine: Path, folder: Path) -> Path:
    """A copy of an engine folder whose manifest says another precision of OpenVINO."""
    shutil.copytree(engine, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["targets"]["openvino"]["precision"] = precision
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


ENGINES_THAT_COME_AND_GO = """
import os, signal, sys
from pathlib import Path
import numpy as np
from quarterturn.worker.engine.base import open_folder
from quarterturn.worker.engine.openvino import OpenVinoEngine, native_precision
heard = []
signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
native_precision()
engines = [OpenVinoEngine(open_folder(Path(sys.argv[1]), "openvino")) for _ in range(3)]
while engines:
    engines.pop(0).close()
os.kill(os.getpid(), signal.SIGTERM)
print(len(heard))
"""


def test_a_signal_is_heard_after_engines_have_come_and_gone(folders: dict[str, Path]) -> None:
    """OpenVINO's CPU plugin changes the stack that signals are handled on."""
    command = [sys.executable, "-X", "faulthandler", "-c", ENGINES_THAT_COME_AND_GO, str(folders["float32"])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "1"), done.stderr
