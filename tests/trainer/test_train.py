from __future__ import annotations

import logging
import math
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import trainer.train
from tests.parts import SIDE
from tests.trainer.conftest import MakeSettings
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


def break_at(step: int, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Send Ctrl-C to the run, or let it crash, in its step number `step`."""
    original, calls = trainer.train.augment, iter(range(1000))

    def breaking(*arguments: Any) -> torch.Tensor:
        if next(calls) == step:
            if how == "crash":
                raise MemoryError
            os.kill(os.getpid(), signal.SIGINT)
        return original(*arguments)

    monkeypatch.setattr(trainer.train, "augment", breaking)


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


def test_training_lowers_the_loss_and_tells_turns_and_products_apart(
    make_settings: MakeSettings, tmp_path: Path
) -> None:
    last = [
        load_model(train(make_settings(epochs=epochs, out=tmp_path / str(epochs)), progress=False))[1]
        for epochs in (1, 40)
    ]
    losses = [manifest.training["last_loss"] for manifest in last]
    assert losses[1] < 0.8 * losses[0]
    assert min(report.accuracy for report in last[1].rotations.values()) > 0.95


def test_one_product_alone_does_not_collapse(make_settings: MakeSettings, parts_folder: Path) -> None:
    settings = make_settings(**{"data.path": parts_folder / "train" / "ring", "epochs": 40})
    encoder, _ = load_model(train(settings, progress=False))
    turns = embed_turns(encoder, find_good_parts(settings.data).held_out[0], settings.data)[:, :, 0]
    cosines = np.einsum("nvd,nwd->vw", turns, turns) / len(turns)
    assert cosines[np.triu_indices(4, 1)].max() < 0.9


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize(("how", "step"), [("signal", 4), ("crash", 10)])
def test_a_resumed_run_ends_with_the_same_weights(
    make_settings: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str, how: str, step: int
) -> None:
    changes = {"epochs": 4, "checkpoint_every": 1, "precision": precision, "batch": 8}
    straight = weights(train(make_settings(**changes, out=tmp_path / "straight"), progress=False))
    broken = make_settings(**changes)
    with monkeypatch.context() as patch, pytest.raises((QuarterturnError, MemoryError)) as caught:
        break_at(step, how, patch)
        train(broken, progress=False)
    if how == "signal":
        assert str(caught.value) == (
            f"{broken.checkpoint}: training was stopped after 5 of 12 steps; go on with the same command and "
            "'--set resume=true'"
        )
    assert not broken.out.exists()
    assert same(weights(train(broken.model_copy(update={"resume": True}), progress=False)), straight)
    assert not broken.checkpoint.exists()


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
    with pytest.raises(DataError, match="exists and is no model"):
        train(make_settings(out=tmp_path.parent))
    with pytest.raises(DataError, match="there is no such folder"):
        train(make_settings(**{"data.path": tmp_path / "nothing"}))
    with pytest.raises(DataError, match="model.checkpoint: there is no checkpoint to resume from"):
        train(make_settings(resume=True))
    with pytest.raises(DataError, match=r"weights.pth: cannot be read"):
        train(make_settings(init=tmp_path / "weights.pth"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="device: 'cuda' is set, but torch finds no NVIDIA GPU"):
        train(make_settings(device="cuda"))


def test_a_checkpoint_of_another_architecture_is_refused(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(QuarterturnError, match="training was stopped after 1 of 8"):
        break_at(0, "signal", patch)
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
