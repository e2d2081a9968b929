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
from tests.trainer.conftest import SIDE, MakeSettings
from trainer.checkpoint import load_model
from trainer.config import TrainSettings
from trainer.data import Plan, find_good_parts
from trainer.encoder import Encoder
from trainer.rotations import embed_turns
from trainer.train import learning_rate, train
from worker.contract.errors import ConfigError, DataError, MismatchError, QuarterturnError


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@contextlib.contextmanager
def at_step(step: int, happening: Callable[[], None]) -> Iterator[None]:
    """Let `happening` befall the run in its step number `step`, from 0."""
    original, calls = trainer.train.augment, itertools.count()

    def augment(*arguments: Any) -> torch.Tensor:
        if next(calls) == step:
            happening()
        return original(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer.train, "augment", augment)
        yield


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
    assert (manifest.side, manifest.products, manifest.holdout) == (SIDE, ("bracket", "ring"), 0.3)
    assert manifest.views == 4
    assert manifest.training["loss.tau"] == 0.2
    assert manifest.training["pictures"] == find_good_parts(settings.data).fingerprint
    assert [report.sentence for report in manifest.rotations.values()] == caplog.messages
    assert [path.name for path in settings.out.parent.iterdir()] == ["model"]


def cosines(settings: TrainSettings, model: Path) -> np.ndarray:
    """(C · 4, C · 4) mean cosines between the labels (product, turn) of the held-out pictures."""
    encoder, _ = load_model(model)
    held_out = find_good_parts(settings.data).held_out
    turns = np.concatenate([embed_turns(encoder, paths, settings.data)[:, :, 0] for paths in held_out], axis=1)
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


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_an_interrupted_run_goes_on_to_the_same_weights(
    make_settings: MakeSettings, tmp_path: Path, precision: str
) -> None:
    settings = make_settings(epochs=4, batch=8, precision=precision)
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
    return {name: value for name, value in state.items() if not name.startswith("projection.")}


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
