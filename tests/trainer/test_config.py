from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from trainer.config import DataSettings, TrainSettings
from trainer.encoder import Architecture
from worker.contract.errors import ConfigError
from worker.contract.framing import Framing
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
    assert paper.optimiser == "sgd"
    assert paper.loss.contrast == 1


@pytest.mark.parametrize("name", ["train.yaml", "paper.yaml"])
def test_a_shipped_file_names_every_setting(name: str) -> None:
    text = (CONFIGS / name).read_text(encoding="utf-8")
    settings = load_settings(CONFIGS / name, TrainSettings)
    for key in TrainSettings.model_fields:
        assert f"\n{key}:" in text, key
    for section in (
        *(settings.data, settings.architecture, settings.augment, settings.crops, settings.paste, settings.loss),
    ):
        for key in type(section).model_fields:
            assert f"\n  {key}:" in text, key


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("loss.alhpa=1", "loss.alhpa is unknown; did you mean 'alpha'?"),
        ("loss.tau=0", "loss.tau = 0: input should be greater than 0"),
        ("data.holdout=0", "data.holdout = 0: input should be greater than 0"),
        ("augment.crop=[0.5,0.2]", "augment: crop must be [smallest, largest] with 0 < smallest <= largest <= 1"),
        ("paste.size=[8,4]", "paste: size must be [smallest, largest] with 1 <= smallest <= largest"),
        ("paste.size=[0.5,4]", "paste: size must be [smallest, largest] with 1 <= smallest <= largest"),
        ("crops.side=100", "crops.side = 100: input should be a multiple of 8"),
        ("precision=int8", "precision = 'int8': input should be 'auto', 'float32', 'bfloat16' or 'float16'"),
        ("optimiser=adam", "optimiser = 'adam': input should be 'sgd' or 'adamw'"),
    ],
)
def test_a_wrong_setting_is_one_sentence(override: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(CONFIGS / "train.yaml", TrainSettings, [override])
    assert str(caught.value) == f"{CONFIGS / 'train.yaml'}: {sentence}"


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["data.side=192"], "data.side = 192: local embeddings need 64 or a multiple of 128"),
        (["data.side=32"], "data.side = 32: local embeddings need 64 or a multiple of 128"),
        (["data.side=64", "crops.side=72"], "crops.side = 72 is larger than data.side = 64; lower it"),
        (["architecture.stem=cifar"], "architecture: local embeddings need stem 'imagenet'"),
        (["architecture.dimensions=59"], "architecture: local embeddings of width 8 have 3 to 58 dimensions"),
        (["data.tiles=2"], "data: tiles = 2 has no effect with fit 'stretch'; set fit to 'tiles'"),
    ],
)
def test_what_does_not_go_together_is_one_sentence(tmp_path: Path, overrides: list[str], sentence: str) -> None:
    path = tmp_path / "train.yaml"
    path.write_text("data: {path: parts}\narchitecture: {local: true, width: 8, dimensions: 49}\ncrops: {side: 64}\n")
    with pytest.raises(ConfigError) as caught:
        load_settings(path, TrainSettings, overrides)
    assert str(caught.value) == f"{path}: {sentence}"
    for fitting in (["data.side=64"], ["data.side=128", "crops.side=128"], ["data.side=384"]):
        load_settings(path, TrainSettings, fitting)


def test_sides_and_crops_are_free_for_whole_frames() -> None:
    for side in (32, 192):
        settings = TrainSettings(data=DataSettings(path=Path("parts"), side=side))
        assert (settings.data.side, settings.crops.side) == (side, 128)


def test_how_pictures_become_frames_is_what_the_worker_gets() -> None:
    settings = DataSettings(path=Path("parts"), side=64, fit="tiles", tiles=3)
    assert settings.framing == Framing(side=64, fit="tiles", tiles=3)


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
