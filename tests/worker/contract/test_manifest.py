from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from quarterturn.worker.contract.errors import DataError, MismatchError
from quarterturn.worker.contract.framing import Framing
from quarterturn.worker.contract.manifest import (
    CONTRACT,
    Depth,
    EmbeddingSpec,
    EngineManifest,
    ModelManifest,
    TargetManifest,
    hash_files,
    read_manifest,
    require_same_spec,
    sha256,
    verify_files,
    write_manifest,
)

SPEC = EmbeddingSpec(
    framing=Framing(side=64), views=4, frame=32, places={"middle": Depth(grid=4, dimensions=24)}, logits=8
)


@pytest.fixture
def manifest() -> EngineManifest:
    return EngineManifest(
        spec=SPEC,
        model="m" * 64,
        products=("ring",),
        holdout=0.2,
        targets={
            "openvino": TargetManifest(precision="float32", files=("model.xml", "model.bin"), parity=0.9999),
            "onnxruntime": TargetManifest(precision="float32", files=("model.onnx",), parity=1.0),
        },
        files={"model.xml": "a" * 64, "model.bin": "b" * 64, "model.onnx": "c" * 64},
        created_at="2026-01-01T00:00:00Z",
    )


def test_a_manifest_comes_back_as_it_was(tmp_path: Path, manifest: EngineManifest) -> None:
    write_manifest(tmp_path, manifest)
    assert read_manifest(tmp_path, EngineManifest, "quarterturn build") == manifest


def test_manifests_that_cannot_be_used(tmp_path: Path, manifest: EngineManifest) -> None:
    def fault(text: str | None) -> str:
        path = tmp_path / "manifest.json"
        path.unlink(missing_ok=True)
        if text is not None:
            path.write_text(text)
        with pytest.raises(DataError) as caught:
            read_manifest(tmp_path, EngineManifest, "quarterturn build")
        return str(caught.value).removeprefix(str(path))

    whole = manifest.model_dump(mode="json")
    assert fault(None) == ": cannot be read (No such file or directory); make the folder with 'quarterturn build'"
    assert fault("{").startswith(": is damaged (")
    assert fault("[]") == ": is no quarterturn-engine manifest; make one with 'quarterturn build'"
    assert fault(json.dumps({**whole, "kind": "quarterturn-model"})).startswith(": is no quarterturn-engine manifest")
    assert fault(json.dumps({**whole, "holdut": 1})) == ": holdut is unknown; did you mean 'holdout'?"
    assert fault("[" * 100_000).startswith(": is damaged (")
    newer = {**whole, "spec": {**whole["spec"], "contract": 99}}
    assert fault(json.dumps(newer)) == (
        f": spec.contract = 99: made under contract 99, but this quarterturn has {CONTRACT}; make it again with this"
    )
    without_files = {**whole["targets"]["openvino"], "files": []}
    assert fault(json.dumps({**whole, "targets": {"openvino": without_files}})).startswith(
        ": targets.openvino.files = []: "
    )
    assert fault(json.dumps({**whole, "holdout": 1.0})) == ": holdout = 1.0: input should be less than 1"


def test_every_flipped_bit_and_every_cut_of_an_engines_file_is_refused(tmp_path: Path) -> None:
    content = b"a small engine"
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    hashes = hash_files(tmp_path, [path.name])
    flipped = [content[:n] + bytes([content[n] ^ 1 << bit]) + content[n + 1 :] for n in range(14) for bit in range(8)]
    for damaged in (*flipped, *(content[:length] for length in range(14)), content + b"\0"):
        path.write_bytes(damaged)
        with pytest.raises(MismatchError, match=r"model.onnx: has hash .*damaged, build the folder again$"):
            verify_files(tmp_path, hashes, [path.name])


def test_the_two_kinds_of_manifest_are_told_apart(tmp_path: Path, manifest: EngineManifest) -> None:
    write_manifest(tmp_path, manifest)
    with pytest.raises(DataError, match="is no quarterturn-model manifest; make one with 'quarterturn train'"):
        read_manifest(tmp_path, ModelManifest, "quarterturn train")


def test_files_are_verified(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"abc")
    (tmp_path / "b.bin").write_bytes(b"def")
    hashes = hash_files(tmp_path, ["b.bin", "a.bin"])
    assert hashes == {name: hashlib.sha256(data).hexdigest() for name, data in (("a.bin", b"abc"), ("b.bin", b"def"))}
    verify_files(tmp_path, hashes, ["a.bin", "b.bin"])

    (tmp_path / "a.bin").write_bytes(b"abd")
    with pytest.raises(
        MismatchError, match=f"a.bin: has hash {sha256(b'abd')[:12]}, but the manifest says {sha256(b'abc')[:12]}"
    ):
        verify_files(tmp_path, hashes, ["a.bin"])
    verify_files(tmp_path, hashes, ["b.bin"])  # only what is asked for
    with pytest.raises(MismatchError, match="but the manifest says nothing"):
        verify_files(tmp_path, {}, ["b.bin"])
    (tmp_path / "a.bin").unlink()
    with pytest.raises(DataError, match=r"a\.bin: is missing, though the manifest lists it; build the folder again"):
        verify_files(tmp_path, hashes, ["a.bin"])


def test_the_engine_hash_covers_what_the_embeddings_depend_on(manifest: EngineManifest) -> None:
    openvino = manifest.targets["openvino"]
    changes = {
        "a shorter embedding": {"spec": SPEC.model_copy(update={"frame": 16})},
        "fewer views": {"spec": SPEC.model_copy(update={"views": 2})},
        "no places": {"spec": SPEC.model_copy(update={"places": {}})},
        "another depth": {"spec": SPEC.model_copy(update={"places": {"deep": Depth(grid=4, dimensions=24)}})},
        "another grid": {"spec": SPEC.model_copy(update={"places": {"middle": Depth(grid=2, dimensions=24)}})},
        "fewer features": {"spec": SPEC.model_copy(update={"places": {"middle": Depth(grid=4, dimensions=23)}})},
        "no logits": {"spec": SPEC.model_copy(update={"logits": None})},
        "another contract": {"spec": SPEC.model_copy(update={"contract": SPEC.contract + 1})},
        "another side": {"spec": SPEC.model_copy(update={"framing": Framing(side=128)})},
        "another fit": {"spec": SPEC.model_copy(update={"framing": Framing(side=64, fit="letterbox")})},
        "tiles": {"spec": SPEC.model_copy(update={"framing": Framing(side=64, fit="tiles")})},
        "more tiles": {"spec": SPEC.model_copy(update={"framing": Framing(side=64, fit="tiles", tiles=2)})},
        "another file": {"files": {**manifest.files, "model.bin": "d" * 64}},
        "another precision": {
            "targets": {**manifest.targets, "openvino": openvino.model_copy(update={"precision": "float16"})}
        },
    }
    hashes = {name: manifest.model_copy(update=change).engine_hash("openvino") for name, change in changes.items()}
    hashes["as it is"] = manifest.engine_hash("openvino")
    hashes["another target"] = manifest.engine_hash("onnxruntime")
    assert len(set(hashes.values())) == len(hashes)
    same = manifest.model_copy(
        update={"created_at": "later", "files": {**manifest.files, "model.onnx": "d" * 64}, "products": ("nut",)}
    )
    assert same.engine_hash("openvino") == hashes["as it is"]


def test_two_specs_that_differ_are_refused_with_both_values() -> None:
    require_same_spec(SPEC, SPEC, "the engine", "the bank")
    other = SPEC.model_copy(update={"views": 8, "frame": 16})
    with pytest.raises(MismatchError) as caught:
        require_same_spec(SPEC, other, "the engine", "the bank")
    assert str(caught.value) == (
        "the bank does not fit the engine: views 4 against 8, frame 32 against 16; make both from one model"
    )
    tiled = SPEC.model_copy(update={"framing": Framing(side=64, fit="tiles", tiles=2), "logits": None})
    with pytest.raises(
        MismatchError, match=r"framing side=64 fit='stretch'.* against .*tiles=2, logits 8 against None"
    ):
        require_same_spec(SPEC, tiled, "the engine", "the bank")


def test_the_side_of_a_spec_is_that_of_its_framing() -> None:
    assert SPEC.side == 64
    again = EmbeddingSpec.model_validate_json(SPEC.model_dump_json())
    assert (again, again.side) == (SPEC, 64)
    assert "side" not in json.loads(SPEC.model_dump_json())  # said once, by the framing


def test_a_spec_says_every_output_and_its_shape() -> None:
    deep = SPEC.model_copy(update={"places": {**SPEC.places, "deep": Depth(grid=2, dimensions=48)}})
    assert list(deep.outputs.items()) == [
        ("frame", (4, 32)),
        ("places.middle", (4, 16, 24)),
        ("places.deep", (4, 4, 48)),
        ("logits", (4, 64)),
    ]
    assert list(SPEC.model_copy(update={"places": {}, "logits": None, "views": 1}).outputs.items()) == [
        ("frame", (1, 32))
    ]


@pytest.mark.parametrize("grid", [3, 6, 12, 20, 24])
def test_a_grid_that_no_tile_takes_is_refused(grid: int) -> None:
    """Of places as of logits: cells of overlapping tiles would not coincide."""
    for part in ({"logits": grid}, {"places": {"deep": {"grid": grid, "dimensions": 4}}}):
        for fit in ("letterbox", "tiles"):
            tiled = {**SPEC.model_dump(), **part, "framing": {"side": SPEC.side, "fit": fit}}
            with pytest.raises(ValueError, match=f"a grid of {grid} x {grid} places .* as fit '{fit}' needs"):
                EmbeddingSpec.model_validate(tiled)
        EmbeddingSpec.model_validate({**SPEC.model_dump(), **part})
