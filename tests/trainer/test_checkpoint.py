from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.amp import GradScaler
from torch.optim import SGD, AdamW, Optimizer

from trainer.checkpoint import Learner, load_checkpoint, load_model, save_checkpoint, save_model
from trainer.encoder import Architecture, Encoder
from worker.contract.errors import DataError, MismatchError
from worker.contract.framing import Framing
from worker.contract.manifest import ModelManifest, RotationReport

SMALL = Architecture(width=4, hidden=8, dimensions=4, stem="cifar")
LOCAL = Architecture(network="resnet10", width=8, hidden=8, dimensions=6, local=True, padding="reflect")
FRAMING = Framing(side=32, fit="tiles", tiles=2)
RECIPE = {"architecture.width": 4, "loss.tau": 0.2}


def write_model(folder: Path, encoder: Encoder | None = None) -> ModelManifest:
    return save_model(
        folder,
        encoder or Encoder(SMALL),
        framing=FRAMING,
        products=("ring",),
        views=4,
        holdout=0.3,
        rotations={"ring": RotationReport(accuracy=0.9, views=4, sentence="ring: fine")},
        training={"epochs": 1},
    )


def sgd(encoder: Encoder) -> Optimizer:
    return SGD(encoder.parameters(), lr=0.1, momentum=0.9, nesterov=True)


def adamw(encoder: Encoder) -> Optimizer:
    return AdamW([parameter for parameter in encoder.parameters() if parameter.requires_grad], lr=0.1)


def trained_learner(
    seed: int,
    steps: int = 2,
    architecture: Architecture = SMALL,
    scaling: bool = False,
    optimiser_of: Callable[[Encoder], Optimizer] = sgd,
) -> Learner:
    torch.manual_seed(seed)
    encoder = Encoder(architecture).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = optimiser_of(encoder)
    for _ in range(steps):
        torch.autograd.backward(encoder(torch.randn(4, 3, 32, 32)).square().mean())
        optimiser.step()
    return Learner(encoder, optimiser, GradScaler("cpu", init_scale=8.0 + seed, enabled=scaling))


def memory(learner: Learner) -> dict[str, dict[str, torch.Tensor]]:
    """What the optimiser remembers of each parameter."""
    return {name: dict(learner.optimiser.state[p]) for name, p in learner.encoder.named_parameters() if p.requires_grad}


def test_a_model_comes_back(tmp_path: Path) -> None:
    encoder = trained_learner(0).encoder
    written = write_model(tmp_path / "runs" / "model", encoder)
    found, manifest = load_model(tmp_path / "runs" / "model")
    assert manifest == written
    assert found.architecture == SMALL
    assert manifest.framing == FRAMING
    assert not found.training
    assert all(torch.equal(value, encoder.state_dict()[name]) for name, value in found.state_dict().items())


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
        ({**SMALL.model_dump(), "width": 8}, MismatchError, "model.safetensors: the weights do not fit .*width=8"),
        ({"network": "vit"}, DataError, "architecture: network = 'vit'.*; the model is from another version, train it"),
    ],
)
def test_a_manifest_of_another_architecture_is_refused(
    tmp_path: Path, architecture: dict[str, Any], kind: type[Exception], sentence: str
) -> None:
    write_model(tmp_path)
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "architecture": architecture}))
    with pytest.raises(kind, match=sentence) as caught:
        load_model(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("steps", [0, 2])
@pytest.mark.parametrize(
    ("optimiser_of", "architecture", "kinds"),
    [
        (sgd, SMALL, {"momentum_buffer"}),
        (adamw, SMALL, {"step", "exp_avg", "exp_avg_sq"}),
        (adamw, LOCAL, {"step", "exp_avg", "exp_avg_sq"}),
    ],
    ids=["sgd", "adamw", "adamw local"],
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
    assert all(torch.equal(v, saved.encoder.state_dict()[n]) for n, v in other.encoder.state_dict().items())
    assert other.scaler.get_scale() == 8
    if steps:
        before, after = memory(saved), memory(other)
        learned = {name for name in before if not (architecture.local and name.startswith("projection."))}
        assert {name for name, state in before.items() if state} == learned
        for name in learned:
            assert after[name].keys() == kinds
            assert all(torch.equal(before[name][kind], after[name][kind]) for kind in kinds)
        convolution = dict(other.encoder.named_parameters())["layer2.0.conv1.weight"]
        for kind in kinds - {"step"}:
            assert other.optimiser.state[convolution][kind].stride() == convolution.stride()
    assert [path.name for path in tmp_path.iterdir()] == ["model.checkpoint"]


def test_a_checkpoint_of_another_architecture_is_refused_before_anything_changes(tmp_path: Path) -> None:
    path = tmp_path / "model.checkpoint"
    save_checkpoint(path, trained_learner(0), 7, RECIPE)
    wider = trained_learner(0, 0, SMALL.model_copy(update={"width": 8}))
    before = {name: value.clone() for name, value in wider.encoder.state_dict().items()}
    with pytest.raises(MismatchError) as caught:
        load_checkpoint(path, wider, {"architecture.width": 8, "loss.tau": 0.2, "new": 1})
    assert str(caught.value) == (
        f"{path}: was made with other settings than this run's (architecture.width 4 against 8, new None against 1); "
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
