from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from quarterturn.trainer.architecture import Architecture
from quarterturn.trainer.config import DataSettings, TrainSettings
from quarterturn.worker.contract.errors import ConfigError
from quarterturn.worker.contract.framing import Framing
from quarterturn.worker.contract.settings import load_settings

CONFIGS = Path(__file__).parents[2] / "configs"


def test_the_shipped_file_says_what_each_setting_means() -> None:
    """All but `std`, which is as the `mean` above it, and those whose section or name says it."""
    lines = (CONFIGS / "train.yaml").read_text(encoding="utf-8").splitlines()
    silent = {line.strip() for line in lines if line and not line.startswith("#") and "#" not in line}
    assert silent == {"data:", "architecture:", "head:", "std: null", "weight_decay: 0.001"}


def test_the_papers_recipe() -> None:
    """Every figure as in the authors' published code (its README, config and data loader)."""
    paper = load_settings(CONFIGS / "paper.yaml", TrainSettings)
    assert paper.architecture == Architecture(
        backbone="resnet34",
        stem="cifar",
        trained="all",
        depths={},
        hidden=2048,
        frame=128,
        head=False,
        mean=(0, 0, 0),
        std=(255, 255, 255),
    )
    assert (paper.weights, paper.data.side, paper.head.steps) == ("none", 32, 0)
    chosen = paper.projection
    assert (chosen.alpha, chosen.beta, chosen.tau, chosen.spa) == (0.05, 2, 0.2, 1)
    assert (paper.augment.crop, paper.augment.flip) == ((0.08, 1.0), 0.5)
    assert (paper.augment.jitter, paper.augment.jitter_share, paper.augment.grey) == (0.5, 0.8, 0.2)
    assert (chosen.batch * 4, chosen.steps) == (1024, 400 * (50_000 // 256))
    assert chosen.learning_rate == pytest.approx(0.3 * 1024 / 256)
    assert (paper.momentum, paper.weight_decay, paper.warmup) == (0.9, 1e-6, 0)
    assert (paper.precision, paper.optimiser) == ("float32", "sgd")


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("projection.alhpa=1", "projection.alhpa is unknown; did you mean 'alpha'?"),
        ("projection.tau=0", "projection.tau = 0: input should be greater than 0"),
        ("projection.variants=1", "projection.variants = 1: input should be greater than or equal to 2"),
        ("head.steps=-1", "head.steps = -1: input should be greater than or equal to 0"),
        ("data.holdout=0", "data.holdout = 0: input should be greater than 0"),
        ("data.side=100", "data.side = 100: input should be a multiple of 16"),
        ("data.tiles=2", "data: tiles = 2 has no effect with fit 'stretch'; set fit to 'tiles'"),
        ("augment.crop=[0.5,0.2]", "augment: crop must be [smallest, largest] with 0 < smallest <= largest <= 1"),
        ("paste.size=[8,4]", "paste: size must be [smallest, largest] with 1 <= smallest <= largest"),
        ("paste.size=[0.5,4]", "paste: size must be [smallest, largest] with 1 <= smallest <= largest"),
        ("precision=int8", "precision = 'int8': input should be 'auto', 'float32', 'bfloat16' or 'float16'"),
        ("optimiser=adam", "optimiser = 'adam': input should be 'adamw' or 'sgd'"),
    ],
)
def test_a_wrong_setting_is_one_sentence(override: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(CONFIGS / "train.yaml", TrainSettings, [override])
    place, _, said = str(caught.value).partition(": ")
    assert said == sentence
    assert place.endswith(f"--set {override.partition('=')[0]}")


def settings(**changes: Any) -> TrainSettings:
    return TrainSettings(data=DataSettings(path=Path("parts"), **changes.pop("data", {})), **changes)


def test_how_pictures_become_frames_is_what_the_worker_gets() -> None:
    data = DataSettings(path=Path("parts"), side=64, fit="tiles", tiles=3)
    assert data.framing == Framing(side=64, fit="tiles", tiles=3)


def test_a_head_that_would_not_be_trained_is_left_out() -> None:
    assert settings().completed == Architecture()
    assert settings(head={"steps": 0}).completed == Architecture(head=False)


def test_features_that_take_too_much_memory_are_refused() -> None:
    data = settings(data={"cache_gib": 0.5}).data
    data.require_room(2**29, "all", "something")
    wanted = "data.cache_gib: features of 600 frames take 1.5 GiB, more than 0.5; raise it, or lower head.frames"
    with pytest.raises(ConfigError, match=f"^{re.escape(wanted)}$"):
        data.require_room(3 * 2**29, "600 frames", "head.frames")


def test_the_recipe_holds_what_decides_the_weights() -> None:
    base = settings().recipe()
    assert base["projection.tau"] == 0.2
    assert base["data.region"] is None
    assert base["architecture.depths"] is None
    assert settings(architecture={"depths": {}}).recipe()["architecture.depths"] == {}
    assert base == settings(out=Path("elsewhere"), resume=True, checkpoint_every=1, data={"cache_gib": 0.1}).recipe()
    assert base != settings(seed=1).recipe()
    assert base != settings(data={"side": 64}).recipe()
    deep = {"layers": ["blocks.4"], "stride": 16}
    depths = ({"deep": deep}, {"deep": {**deep, "halved": ["blocks.5"]}})
    plain, halved = (settings(architecture={"depths": one}).recipe() for one in depths)
    assert {key for key in plain if plain[key] != halved[key]} == {"architecture.depths.deep.halved"}


def test_the_checkpoint_lies_beside_the_model() -> None:
    assert settings(out=Path("runs/model")).checkpoint == Path("runs/model.checkpoint")
