from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from trainer.config import DataSettings, TrainSettings
from trainer.encoder import Architecture
from worker.contract.errors import ConfigError
from worker.contract.settings import load_settings

CONFIGS = Path(__file__).parents[2] / "configs"


def test_the_papers_recipe() -> None:
    """Every figure as in the authors' published code (its README, config and data loader)."""
    paper = load_settings(CONFIGS / "paper.yaml", TrainSettings)
    assert paper.architecture == Architecture(network="resnet34", stem="cifar", width=64, hidden=2048, dimensions=128)
    assert paper.init is None
    assert paper.data.side == 32
    assert (paper.loss.alpha, paper.loss.beta, paper.loss.tau, paper.loss.spa) == (0.05, 2, 0.2, 1)
    assert (paper.augment.crop, paper.augment.flip) == ((0.08, 1.0), 0.5)
    assert (paper.augment.jitter, paper.augment.jitter_share, paper.augment.grey) == (0.5, 0.8, 0.2)
    assert (paper.batch * 4, paper.epochs) == (1024, 400)
    assert (paper.learning_rate, paper.momentum, paper.weight_decay, paper.warmup) == (0.3, 0.9, 1e-6, 0)
    assert paper.precision == "float32"


@pytest.mark.parametrize("name", ["train.yaml", "paper.yaml"])
def test_a_shipped_file_names_every_setting(name: str) -> None:
    text = (CONFIGS / name).read_text(encoding="utf-8")
    settings = load_settings(CONFIGS / name, TrainSettings)
    for key in TrainSettings.model_fields:
        assert f"\n{key}:" in text, key
    for section in (settings.data, settings.architecture, settings.augment, settings.loss):
        for key in type(section).model_fields:
            assert f"\n  {key}:" in text, key


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("loss.alhpa=1", "loss.alhpa is unknown; did you mean 'alpha'?"),
        ("loss.tau=0", "loss.tau = 0: input should be greater than 0"),
        ("data.holdout=0", "data.holdout = 0: input should be greater than 0"),
        ("augment.crop=[0.5,0.2]", "augment: crop must be [smallest, largest] with 0 < smallest <= largest <= 1"),
        ("precision=int8", "precision = 'int8': input should be 'float32', 'bfloat16' or 'float16'"),
    ],
)
def test_a_wrong_setting_is_one_sentence(override: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(CONFIGS / "train.yaml", TrainSettings, [override])
    assert str(caught.value) == f"{CONFIGS / 'train.yaml'}: {sentence}"


def test_the_recipe_holds_what_decides_the_weights() -> None:
    def recipe(**changes: Any) -> dict[str, Any]:
        return TrainSettings(data=DataSettings(path=Path("parts"), **changes.pop("data", {})), **changes).recipe()

    base = recipe()
    assert base["loss.tau"] == 0.2
    assert base["data.region"] is None
    assert base == recipe(out=Path("elsewhere"), resume=True, checkpoint_every=1, data={"cache_gib": 0.1})
    assert base != recipe(seed=1)
    assert base != recipe(data={"side": 64})


def test_the_checkpoint_lies_beside_the_model() -> None:
    settings = TrainSettings(data=DataSettings(path=Path("parts")), out=Path("runs/model"))
    assert settings.checkpoint == Path("runs/model.checkpoint")
