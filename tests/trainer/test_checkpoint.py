from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch.amp import GradScaler
from torch.optim import SGD, AdamW, Optimizer

from quarterturn.trainer.architecture import Architecture
from quarterturn.trainer.checkpoint import Learner, load_checkpoint, load_model, save_checkpoint, save_model
from quarterturn.trainer.depths import DepthSettings
from quarterturn.trainer.encoder import Encoder
from quarterturn.worker.contract.errors import DataError, MismatchError
from quarterturn.worker.contract.framing import Framing
from quarterturn.worker.contract.manifest import ModelManifest, RotationReport

SIDE = 32
SMALL = Architecture(backbone="test_efficientnet", hidden=8, frame=4, dimensions=6)
TRAINED = SMALL.model_copy(update={"backbone": "test_resnet", "trained": "all", "depths": {}, "head": False})
TRANSFORMER = SMALL.model_copy(update={"backbone": "test_vit"})
DEEP = DepthSettings(layers=("blocks.3",), halved=("blocks.2", "blocks.3"), stride=16)
HALVED = SMALL.model_copy(update={"depths": {"deep": DEEP}})
FRAMING = Framing(side=SIDE, fit="tiles", tiles=2)
RECIPE = {"architecture.hidden": 8, "loss.tau": 0.2}


def write_model(folder: Path, encoder: Encoder | None = None) -> ModelManifest:
    return save_model(
        folder,
        encoder or Encoder(SMALL, SIDE),
        framing=FRAMING,
        products=("ring",),
        views=4,
        holdout=0.3,
        group=None,
        pictures={},
        rotations={"ring": RotationReport(accuracy=0.9, views=4, sentence="ring: fine")},
        training={"epochs": 1},
    )


def sgd(encoder: Encoder) -> Optimizer:
    return SGD([one for one in encoder.parameters() if one.requires_grad], lr=0.1, momentum=0.9, nesterov=True)


def adamw(encoder: Encoder) -> Optimizer:
    return AdamW([one for one in encoder.parameters() if one.requires_grad], lr=0.1)


def trained_learner(
    seed: int,
    steps: int = 2,
    architecture: Architecture = SMALL,
    scaling: bool = False,
    optimiser_of: Callable[[Encoder], Optimizer] = sgd,
) -> Learner:
    torch.manual_seed(seed)
    encoder = Encoder(architecture, SIDE).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = optimiser_of(encoder)
    for _ in range(steps):
        losses = [values.square().mean() for values in encoder.train()(torch.randn(4, 3, SIDE, SIDE)).values()]
        torch.autograd.backward(torch.stack(losses).sum())
        optimiser.step()
    return Learner(encoder, optimiser, GradScaler("cpu", init_scale=8.0 + seed, enabled=scaling))


def memory(learner: Learner) -> dict[str, dict[str, torch.Tensor]]:
    """What the optimiser remembers of each parameter."""
    return {name: dict(learner.optimiser.state[p]) for name, p in learner.encoder.named_parameters() if p.requires_grad}


@pytest.mark.parametrize(
    "architecture", [SMALL, TRAINED, TRANSFORMER, HALVED], ids=["frozen", "trained", "transformer", "halved"]
)
def test_a_model_comes_back_with_its_backbone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, architecture: Architecture
) -> None:
    encoder = trained_learner(0, architecture=architecture).encoder.eval()
    written = write_model(tmp_path / "runs" / "model", encoder)
    monkeypatch.setattr(socket, "socket", None)  # nothing is looked up
    found, manifest = load_model(tmp_path / "runs" / "model")
    assert manifest == written
    assert found.architecture == encoder.architecture
    assert found.architecture.mean is not None
    assert manifest.framing == FRAMING
    assert not found.training
    state = found.state_dict()
    stored = safetensors.torch.load_file(tmp_path / "runs" / "model" / "model.safetensors")
    assert stored.keys() == {name for name in state if not name.endswith("num_batches_tracked")}
    assert [name for name in stored if name.startswith("backbone.network.")]
    for name, value in encoder.state_dict().items():
        assert name.endswith("num_batches_tracked") or torch.equal(state[name], value), name
    pictures = torch.randn(2, 3, SIDE, SIDE)
    for name, values in encoder(pictures).items():
        torch.testing.assert_close(found(pictures)[name], values)


def test_halved_layers_are_in_the_manifest_as_they_are_set(tmp_path: Path) -> None:
    """And from there in the encoder, in their order."""
    write_model(tmp_path, Encoder(HALVED, SIDE))
    document = json.loads((tmp_path / "manifest.json").read_text())
    assert document["architecture"]["depths"] == {
        "deep": {"layers": ["blocks.3"], "halved": ["blocks.2", "blocks.3"], "stride": 16}
    }
    assert load_model(tmp_path)[0].depths == HALVED.depths


def test_a_model_from_before_has_no_halved_layers(tmp_path: Path) -> None:
    """Its manifest does not speak of them, and the default that has some came later."""
    encoder = Encoder(SMALL, SIDE).eval()
    write_model(tmp_path, encoder)
    path = tmp_path / "manifest.json"
    document = json.loads(path.read_text())
    assert [depth.pop("halved") for depth in document["architecture"]["depths"].values()] == [[], [], []]
    path.write_text(json.dumps(document))
    found, pictures = load_model(tmp_path)[0], torch.randn(2, 3, SIDE, SIDE)
    assert found.architecture == encoder.architecture
    for name, values in encoder(pictures).items():
        torch.testing.assert_close(found(pictures)[name], values)


@pytest.mark.parametrize(
    ("halved", "kind", "sentence"),
    [
        (
            ["blocks.3"],
            MismatchError,
            "model.safetensors: bases.deep.weight does not fit the model's architecture; tra",
        ),
        ([], MismatchError, "model.safetensors: bases.deep.weight does not fit the model's architecture; train the mo"),
        (["blocks.9"], DataError, "the backbone has no layer 'blocks.9'; .*; the model is from another version, train"),
        ("blocks.3", DataError, "depths.deep.halved = 'blocks.3': .*; the model is from another version, train it ag"),
    ],
)
def test_a_manifest_of_other_halved_layers_is_refused(
    tmp_path: Path, halved: Any, kind: type[Exception], sentence: str
) -> None:
    write_model(tmp_path, Encoder(HALVED, SIDE))
    path = tmp_path / "manifest.json"
    document = json.loads(path.read_text())
    document["architecture"]["depths"]["deep"]["halved"] = halved
    path.write_text(json.dumps(document))
    with pytest.raises(kind, match=sentence) as caught:
        load_model(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_model_is_replaced_whole_and_leaves_nothing_behind(tmp_path: Path) -> None:
    write_model(tmp_path / "model")
    second = write_model(tmp_path / "model")
    assert load_model(tmp_path / "model")[1] == second
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")) == [
        "model",
        "model/manifest.json",
        "model/model.safetensors",
    ]


def test_what_is_no_model_is_not_replaced(tmp_path: Path) -> None:
    write_model(tmp_path / "model")
    precious = tmp_path / "model" / "notes.txt"
    precious.write_text("precious")
    with pytest.raises(DataError, match="model: holds something besides a model, which would be lost; set 'out' to an"):
        write_model(tmp_path / "model")
    with pytest.raises(DataError, match=r"notes.txt: holds something besides a model"):
        write_model(precious)
    with pytest.raises(DataError, match=r"notes.txt/model: cannot be written \(.*\); set 'out' to another folder"):
        write_model(precious / "model")
    assert precious.read_text() == "precious"


def test_a_flipped_bit_in_a_model_is_refused(tmp_path: Path) -> None:
    write_model(tmp_path)
    weights = tmp_path / "model.safetensors"
    damaged = bytearray(weights.read_bytes())
    damaged[-1] ^= 1
    weights.write_bytes(damaged)
    with pytest.raises(MismatchError, match=r"model.safetensors: has hash [0-9a-f]{12}, but the manifest says"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("architecture", "kind", "sentence"),
    [
        (
            {"frame": 8},
            MismatchError,
            "model.safetensors: projection.2.weight does not fit the model's architecture; t",
        ),
        ({"head": False}, MismatchError, "model.safetensors: head.logit.bias does not fit the model's architecture"),
        (
            {"backbone": "vit"},
            DataError,
            "architecture: backbone = 'vit': .*; the model is from another version, train",
        ),
        ({"backbone": "resnet18"}, DataError, "the backbone has no layer .*; the model is from another version, train"),
        (
            {"local": True},
            DataError,
            "architecture: local is unknown.*; the model is from another version, train it ag",
        ),
    ],
)
def test_a_manifest_of_another_architecture_is_refused(
    tmp_path: Path, architecture: dict[str, Any], kind: type[Exception], sentence: str
) -> None:
    write_model(tmp_path)
    path = tmp_path / "manifest.json"
    document = json.loads(path.read_text())
    document["architecture"] |= architecture
    path.write_text(json.dumps(document))
    with pytest.raises(kind, match=sentence) as caught:
        load_model(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("steps", [0, 2])
@pytest.mark.parametrize(
    ("optimiser_of", "architecture", "kinds"),
    [
        (sgd, SMALL, {"momentum_buffer"}),
        (adamw, SMALL, {"step", "exp_avg", "exp_avg_sq"}),
        (adamw, TRAINED, {"step", "exp_avg", "exp_avg_sq"}),
    ],
    ids=["sgd", "adamw", "adamw, all trained"],
)
def test_a_checkpoint_restores_weights_memory_and_scale(
    tmp_path: Path,
    steps: int,
    optimiser_of: Callable[[Encoder], Optimizer],
    architecture: Architecture,
    kinds: set[str],
) -> None:
    saved = trained_learner(0, steps, architecture, scaling=True, optimiser_of=optimiser_of)
    other = trained_learner(1, 0, architecture, scaling=True, optimiser_of=optimiser_of)
    save_checkpoint(tmp_path / "model.checkpoint", saved, 7, RECIPE)
    assert load_checkpoint(tmp_path / "model.checkpoint", other, RECIPE) == 7
    for name, value in other.encoder.state_dict().items():
        assert name.endswith("num_batches_tracked") or torch.equal(value, saved.encoder.state_dict()[name]), name
    assert other.scaler.get_scale() == 8
    if steps:
        before, after = memory(saved), memory(other)
        assert all(before.values())
        for name in before:
            assert after[name].keys() == kinds
            assert all(torch.equal(before[name][kind], after[name][kind]) for kind in kinds)
        parameters = dict(other.encoder.named_parameters())
        convolution = parameters["head.squeeze.0.weight" if architecture.head else "backbone.network.conv1.3.weight"]
        for kind in kinds - {"step"}:
            assert other.optimiser.state[convolution][kind].stride() == convolution.stride()
    assert [path.name for path in tmp_path.iterdir()] == ["model.checkpoint"]


def test_a_checkpoint_of_another_architecture_is_refused_before_anything_changes(tmp_path: Path) -> None:
    path = tmp_path / "model.checkpoint"
    save_checkpoint(path, trained_learner(0), 7, RECIPE)
    wider = trained_learner(0, 0, SMALL.model_copy(update={"hidden": 9}))
    before = {name: value.clone() for name, value in wider.encoder.state_dict().items()}
    with pytest.raises(MismatchError) as caught:
        load_checkpoint(path, wider, {"architecture.hidden": 9, "loss.tau": 0.2, "new": 1})
    assert str(caught.value) == (
        f"{path}: was made with other settings than this run's (architecture.hidden 8 against 9, new None against 1); "
        "set them back, or train anew with 'resume: false'"
    )
    assert all(torch.equal(value, before[name]) for name, value in wider.encoder.state_dict().items())


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "there is no checkpoint to resume from; train with 'resume: false'"),
        (b"", "is no checkpoint"),
        (b"something else entirely", "is no checkpoint"),
        ("weights", "is no checkpoint"),
        ("cut", "is no checkpoint"),
    ],
)
def test_what_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes | str | None, sentence: str) -> None:
    path = tmp_path / "model.checkpoint"
    if content == "weights":
        write_model(tmp_path / "model")
        path.write_bytes((tmp_path / "model" / "model.safetensors").read_bytes())
    elif content == "cut":
        save_checkpoint(path, trained_learner(0), 7, RECIPE)
        path.write_bytes(path.read_bytes()[:-10])
    elif isinstance(content, bytes):
        path.write_bytes(content)
    with pytest.raises(DataError, match=f"^{re.escape(str(path))}: {sentence}"):
        load_checkpoint(path, trained_learner(1), RECIPE)
