from __future__ import annotations

import contextlib
import itertools
import logging
import math
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import trainer.train
from tests.parts import good_part, png
from tests.trainer.conftest import LOCAL, SIDE, MakeSettings
from trainer.checkpoint import load_model
from trainer.config import TrainSettings
from trainer.data import Plan, find_good_parts, seeded
from trainer.encoder import Encoder
from trainer.objective import Batch
from trainer.rotations import embed_turns
from trainer.train import learning_rate, train
from worker.contract.errors import ConfigError, DataError, MismatchError, QuarterturnError
from worker.contract.framing import Framing


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@contextlib.contextmanager
def at_step(step: int, happening: Callable[[], None]) -> Iterator[None]:
    """Let `happening` befall the run in its step number `step`, from 0."""
    original, calls = trainer.train._step, itertools.count()

    def take_step(*arguments: Any) -> dict[str, torch.Tensor]:
        if next(calls) == step:
            happening()
        return original(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer.train, "_step", take_step)
        yield


def prefer(patch: pytest.MonkeyPatch, winner: str) -> list[Encoder]:
    """Let the trained or the untrained encoder be worth more; returns the list of those that are measured."""
    measured: list[Encoder] = []

    def measure(encoder: Encoder, *_: Any) -> float:
        measured.append(encoder)
        return 0.9 if (len(measured) % 2 == 1) == (winner == "trained") else 0.4

    patch.setattr(trainer.train, "measure_worth", measure)
    return measured


def ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def crash() -> None:
    raise MemoryError


def test_a_model_is_written_with_all_it_was_made_from(
    make_settings: MakeSettings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    settings = make_settings()
    assert train(settings, progress=False) == settings.out
    encoder, manifest = load_model(settings.out)
    assert encoder.architecture == settings.architecture
    assert manifest.framing == Framing(side=SIDE)
    assert (manifest.products, manifest.holdout) == (("bracket", "ring"), 0.3)
    assert manifest.views == 4
    assert manifest.training["loss.tau"] == 0.2
    assert manifest.training["pictures"] == find_good_parts(settings.data).fingerprint
    assert [report.sentence for report in manifest.rotations.values()] == caplog.messages
    assert [path.name for path in settings.out.parent.iterdir()] == ["model"]


def cosines(settings: TrainSettings, model: Path) -> np.ndarray:
    """(C · 4, C · 4) mean cosines between the labels (product, turn) of the held-out pictures."""
    encoder, _ = load_model(model)
    held_out = find_good_parts(settings.data).held_out
    turns = np.concatenate([embed_turns(encoder, paths, settings.data) for paths in held_out], axis=1)
    return np.einsum("nvd,mwd->vw", turns, turns) / len(turns) ** 2


def test_training_draws_products_and_turns_apart(make_settings: MakeSettings) -> None:
    settings = make_settings(epochs=80)
    found = cosines(settings, train(settings, progress=False))
    assert found.diagonal().min() > 0.9
    assert found[~np.eye(8, dtype=bool)].mean() < 0.5


def test_the_turns_of_one_product_alone_do_not_collapse(make_settings: MakeSettings, parts_folder: Path) -> None:
    settings = make_settings(**{"data.path": parts_folder / "train" / "ring", "epochs": 80})
    found = cosines(settings, train(settings, progress=False))
    assert found.diagonal().min() > 0.9
    assert found[~np.eye(4, dtype=bool)].mean() < 0.5


PUBLISHED: dict[str, Any] = {}


@pytest.mark.parametrize(
    ("recipe", "precision"),
    [
        *((PUBLISHED, precision) for precision in ("float32", "bfloat16", "float16")),
        ({"optimiser": "adamw", "learning_rate": 0.01}, "float16"),
        *((LOCAL, precision) for precision in ("float32", "bfloat16")),
    ],
    ids=["published", "bfloat16", "float16", "adamw float16", "local", "local bfloat16"],
)
def test_an_interrupted_run_goes_on_to_the_same_weights(
    make_settings: MakeSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    recipe: dict[str, Any],
    precision: str,
) -> None:
    prefer(monkeypatch, "trained")
    settings = make_settings(**{**recipe, "epochs": 4, "batch": 8, "precision": precision})
    straight = weights(train(settings.model_copy(update={"out": tmp_path / "straight"}), progress=False))
    with pytest.raises(QuarterturnError) as stopped, at_step(4, ctrl_c):
        train(settings, progress=False)
    assert str(stopped.value) == (
        f"{settings.checkpoint}: training was stopped after 5 of 12 steps; go on with the same command and "
        "'--set resume=true'"
    )
    assert not settings.out.exists()
    assert same(weights(train(settings.model_copy(update={"resume": True}), progress=False)), straight)
    assert not settings.checkpoint.exists()


def test_a_crashed_run_goes_on_from_its_last_checkpoint(make_settings: MakeSettings, tmp_path: Path) -> None:
    settings = make_settings(epochs=4, batch=8, checkpoint_every=2)
    straight = weights(train(settings.model_copy(update={"out": tmp_path / "straight"}), progress=False))
    with pytest.raises(MemoryError), at_step(10, crash):
        train(settings, progress=False)
    assert same(weights(train(settings.model_copy(update={"resume": True}), progress=False)), straight)


def test_the_seed_decides_and_nothing_else_does(make_settings: MakeSettings, tmp_path: Path) -> None:
    first = weights(train(make_settings(), progress=False))
    torch.manual_seed(123)
    again = weights(train(make_settings(**{"data.cache_gib": 0.0, "checkpoint_every": 1}), progress=False))
    other = weights(train(make_settings(seed=1), progress=False))
    assert same(first, again)
    assert not same(first, other)


def test_no_epochs_save_the_untrained_encoder(make_settings: MakeSettings) -> None:
    settings = make_settings(epochs=0)
    encoder, manifest = load_model(train(settings, progress=False))
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        expected = Encoder(settings.architecture).state_dict()
    assert same(encoder.state_dict(), expected)
    assert manifest.training["last_loss"] is None
    assert set(manifest.rotations) == {"bracket", "ring"}


def test_training_begins_with_the_weights_given(make_settings: MakeSettings, tmp_path: Path) -> None:
    given = {n: torch.randn_like(v) if v.is_floating_point() else v for n, v in _backbone(make_settings()).items()}
    torch.save({**given, "fc.weight": torch.ones(3, 3)}, tmp_path / "weights.pth")
    found = weights(train(make_settings(epochs=0, init=tmp_path / "weights.pth"), progress=False))
    assert same({name: found[name] for name in given}, given)


def _backbone(settings: TrainSettings) -> dict[str, torch.Tensor]:
    state = Encoder(settings.architecture).state_dict()
    return {name: value for name, value in state.items() if not name.startswith(("projection.", "local."))}


def of_torchvision(settings: TrainSettings, path: Path) -> Path:
    """Published weights for the encoder of `settings`, with what torchvision's have beside them."""
    whole = settings.model_copy(update={"architecture": settings.architecture.model_copy(update={"local": False})})
    torch.manual_seed(7)
    torch.save({**_backbone(whole), "fc.weight": torch.ones(3, 3)}, path)
    return path


def test_a_local_run_writes_a_model_that_is_worth_more_than_an_untrained_one(
    make_settings: MakeSettings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    settings = make_settings(**{**LOCAL, "epochs": 8})
    encoder, manifest = load_model(train(settings, progress=False))
    assert encoder.architecture == settings.architecture
    assert manifest.framing == Framing(side=64)
    assert set(manifest.rotations) == {"bracket", "ring"}
    assert manifest.training["optimiser"] == "adamw"
    assert manifest.training["last_loss"] > 0
    trained, untrained = manifest.training["worth.trained"], manifest.training["worth.untrained"]
    assert 0.5 < untrained <= 1
    assert 0.5 < trained <= 1
    paid = 1 - trained < 0.75 * (1 - untrained)
    kept = "" if paid else "; training did not help enough, so the untrained one is kept"
    said = (
        f"of defects pasted into held-out good pictures the trained encoder finds {trained:.3f}, an untrained one "
        f"{untrained:.3f} (AUROC){kept}"
    )
    assert caplog.messages == [
        *(f"{product}: 4 of 4 quarter turns become classes of the contrastive loss" for product in ("bracket", "ring")),
        said,
        *(report.sentence for report in manifest.rotations.values()),
    ]
    assert [path.name for path in settings.out.parent.iterdir()] == ["model"]


@pytest.mark.parametrize(
    ("changes", "wanted"), [(LOCAL, [1, 4]), ({**LOCAL, "loss.contrast": 0.0}, [4, 4]), ({}, [4, 4])]
)
def test_only_turns_that_look_different_become_classes_of_local_embeddings(
    make_settings: MakeSettings,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    changes: dict[str, Any],
    wanted: list[int],
) -> None:
    rng = np.random.default_rng(0)
    for product in ("nut", "ring"):
        (tmp_path / "parts" / "train" / product).mkdir(parents=True)
    for n in range(18):
        nut = np.mean([np.rot90(good_part(rng), turn) for turn in range(4)], axis=0).astype(np.uint8)
        nut = np.maximum.reduce([np.rot90(nut, turn) for turn in range(4)])  # to the last pixel the same in all turns
        for product, picture in (("nut", nut), ("ring", good_part(rng))):
            (tmp_path / "parts" / "train" / product / f"{n:03}.png").write_bytes(png(picture))
    batches: list[Batch] = []
    original = trainer.train._step

    def take_step(*arguments: Any) -> dict[str, torch.Tensor]:
        batches.append(arguments[1])
        return original(*arguments)

    monkeypatch.setattr(trainer.train, "_step", take_step)
    train(make_settings(**{**changes, "epochs": 1, "data.path": tmp_path / "parts"}), progress=False)
    assert [batch.distinct.tolist() for batch in batches] == [wanted] * 4


def test_a_local_encoder_learns_to_see_what_is_pasted(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefer(monkeypatch, "trained")
    losses: list[float] = []
    original = trainer.train._step

    def take_step(*arguments: Any) -> dict[str, torch.Tensor]:
        found = original(*arguments)
        losses.append(found["dense"].item())
        return found

    monkeypatch.setattr(trainer.train, "_step", take_step)
    train(make_settings(**{**LOCAL, "epochs": 12, "loss.contrast": 0.0}), progress=False)
    assert len(losses) == 48
    assert np.mean(losses[-8:]) < 0.8 * np.mean(losses[:4])


@pytest.mark.parametrize("winner", ["trained", "untrained"])
def test_the_encoder_that_finds_more_is_kept(
    make_settings: MakeSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    winner: str,
) -> None:
    untrained = weights(train(make_settings(**{**LOCAL, "epochs": 0, "out": tmp_path / "untrained"}), progress=False))
    caplog.set_level(logging.INFO)
    caplog.clear()
    measured = prefer(monkeypatch, winner)
    settings = make_settings(**LOCAL)
    found = weights(train(settings, progress=False))
    assert len(measured) == 2
    first, second = ({name: value.cpu() for name, value in one.state_dict().items()} for one in measured)
    assert same(second, untrained)
    assert same(found, first if winner == "trained" else untrained)
    assert not torch.equal(first["conv1.weight"], untrained["conv1.weight"])
    training = load_model(settings.out)[1].training
    values = (0.9, 0.4) if winner == "trained" else (0.4, 0.9)
    assert (training["worth.trained"], training["worth.untrained"]) == values
    said = (
        f"of defects pasted into held-out good pictures the trained encoder finds {values[0]:.3f}, an untrained one "
        f"{values[1]:.3f} (AUROC)"
    )
    kept = "; training did not help enough, so the untrained one is kept"
    assert said + (kept if winner == "untrained" else "") in caplog.messages


def test_no_better_is_not_good_enough(make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[Encoder] = []
    monkeypatch.setattr(trainer.train, "measure_worth", lambda encoder, *_: (measured.append(encoder), 0.7)[1])
    found = weights(train(make_settings(**{**LOCAL, "epochs": 1}), progress=False))
    assert same(found, {name: value.cpu() for name, value in measured[1].state_dict().items()})


def test_no_epochs_save_the_untrained_local_encoder_ready_to_serve(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer.train, "measure_worth", lambda *_: pytest.fail("there is nothing to compare"))
    settings = make_settings(**{**LOCAL, "epochs": 0})
    encoder, manifest = load_model(train(settings, progress=False))
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        expected = dict(Encoder(settings.architecture).named_parameters())
    drawn = {name: value for name, value in encoder.named_parameters() if "basis" not in name and "logit" not in name}
    assert all(torch.equal(value, expected[name]) for name, value in drawn.items())
    assert not any(parameter.any() for parameter in encoder.local.logit.parameters()), "it has learned nothing to say"
    assert not torch.equal(encoder.local.basis.weight, expected["local.basis.weight"])
    assert not torch.equal(encoder.bn1.running_mean, torch.zeros(8))
    assert not any(key.startswith("worth") for key in manifest.training)
    assert manifest.training["last_loss"] is None


def test_a_local_run_begins_with_the_weights_given_and_compares_with_them(
    make_settings: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_settings(**{**LOCAL, "init": tmp_path / "weights.pth"})
    given = torch.load(of_torchvision(settings, tmp_path / "weights.pth"))
    measured = prefer(monkeypatch, "untrained")
    with pytest.raises(QuarterturnError, match="training was stopped"), at_step(2, ctrl_c):
        train(settings, progress=False)
    train(settings.model_copy(update={"resume": True}), progress=False)
    trained, untrained = (dict(one.named_parameters()) for one in measured)
    for name in ("conv1.weight", "layer3.0.conv2.weight"):
        assert torch.equal(untrained[name], given[name])
        assert not torch.equal(trained[name], given[name])


def test_large_gradients_are_cut_for_adamw(make_settings: MakeSettings) -> None:
    settings = make_settings(**{**LOCAL, "loss.dense": 1000.0, "precision": "float32"})
    learner = trainer.train._new_learner(settings)
    frames = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    batch = Batch.of(frames, np.array([0, 1]), np.array([4, 4]), torch.device("cpu"))
    trainer.train._step(learner, batch, settings, seeded(0))
    squares = [one.grad.square().sum().item() for one in learner.encoder.parameters() if one.grad is not None]
    assert math.sqrt(sum(squares)) == pytest.approx(2, rel=1e-3)


def test_adamw_lets_norms_and_biases_keep_their_size(make_settings: MakeSettings) -> None:
    settings = make_settings(**{**LOCAL, "weight_decay": 0.1})
    learner = trainer.train._new_learner(settings)
    decays = {id(one): group["weight_decay"] for group in learner.optimiser.param_groups for one in group["params"]}
    for name, parameter in learner.encoder.named_parameters():
        wanted = None if "basis" in name else 0.1 if parameter.dim() > 1 else 0.0
        assert decays.get(id(parameter)) == wanted, name


@pytest.mark.parametrize(
    ("has", "cuda", "precision"),
    [
        (True, False, "bfloat16"),
        (False, False, "float32"),
        (True, True, "bfloat16"),
        (False, True, "float16"),
    ],
)
def test_auto_is_what_the_device_computes_in(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, has: bool, cuda: bool, precision: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has and not including_emulation)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: has)
    assert trainer.train._precision(make_settings(device="auto")) == precision
    assert trainer.train._precision(make_settings(device="auto", precision="float16")) == "float16"


def test_the_recipe_says_which_precision_it_was(make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    _, manifest = load_model(train(make_settings(epochs=0), progress=False))
    assert manifest.training["precision"] == "float32"


def test_faults_are_found_before_training(
    make_settings: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer.train, "_learn", lambda *_, **__: pytest.fail("training began"))
    with pytest.raises(DataError, match="holds something besides a model"):
        train(make_settings(out=tmp_path.parent))
    with pytest.raises(DataError, match="there is no such folder"):
        train(make_settings(**{"data.path": tmp_path / "nothing"}))
    with pytest.raises(DataError, match=r"model.checkpoint: there is no checkpoint to resume from"):
        train(make_settings(resume=True))
    with pytest.raises(DataError, match=r"weights.pth: cannot be read"):
        train(make_settings(init=tmp_path / "weights.pth"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="device: 'cuda' is set, but torch finds no NVIDIA GPU"):
        train(make_settings(device="cuda"))


def test_a_checkpoint_of_another_architecture_is_refused(make_settings: MakeSettings) -> None:
    with pytest.raises(QuarterturnError, match="training was stopped after 1 of 8"), at_step(0, ctrl_c):
        train(make_settings(), progress=False)
    changed = make_settings(**{"architecture.width": 8, "resume": True})
    with pytest.raises(MismatchError, match=r"model.checkpoint: .* \(architecture.width 4 against 8\); set them back"):
        train(changed, progress=False)


def test_curves_are_written(make_settings: MakeSettings, tmp_path: Path) -> None:
    train(make_settings(tensorboard=tmp_path / "curves"), progress=False)
    assert any((tmp_path / "curves").iterdir())


def test_the_rate_rises_and_falls() -> None:
    settings = TrainSettings.model_validate({"data": {"path": "parts"}, "learning_rate": 0.4, "warmup": 0.1})
    plan = Plan(pictures=320, batch=32, epochs=10, seed=0)  # 100 steps, 128 turned pictures each
    rates = [learning_rate(step, plan, settings) for step in range(plan.steps)]
    assert rates[0] == pytest.approx(0.2 / 11)
    assert rates[9] == pytest.approx(0.2 * 10 / 11)
    assert rates[10] == pytest.approx(0.2)
    assert rates[55] == pytest.approx(0.1, rel=1e-3)
    assert 0.2 * 5e-4 < rates[99] < 0.2 * 1e-3
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert learning_rate(0, plan, settings.model_copy(update={"warmup": 0.0})) == pytest.approx(0.2)
    assert math.isfinite(learning_rate(99, plan, settings.model_copy(update={"warmup": 1.0})))
    for batch in (32, 256):  # AdamW's steps do not grow with the gradient, so the batch does not matter
        plan = Plan(pictures=320, batch=batch, epochs=10, seed=0)
        assert learning_rate(0, plan, settings.model_copy(update={"warmup": 0.0, "optimiser": "adamw"})) == 0.4
