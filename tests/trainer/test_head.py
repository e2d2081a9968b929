from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

import quarterturn.trainer.head
from quarterturn.trainer.config import TrainSettings
from quarterturn.trainer.data import Plan
from quarterturn.trainer.encoder import Encoder
from quarterturn.trainer.head import Examples, HeadStage, draw_examples
from quarterturn.trainer.paste import paste
from quarterturn.worker.contract.errors import ConfigError
from tests.trainer.conftest import SIDE, MakeSettings

Frames = npt.NDArray[np.uint8]

CELL = 8  # pixels of a place of test_resnet's finest layer used


def encoder_of(settings: TrainSettings) -> Encoder:
    torch.manual_seed(0)
    return Encoder(settings.architecture, settings.data.side)


def good_frames(count: int, seed: int = 0) -> Frames:
    """Plain parts on a plain ground, a little noisy, in places of their own."""
    rng = np.random.default_rng(seed)
    frames = np.full((count, SIDE, SIDE, 3), 90, np.uint8)
    for frame in frames:
        left, top = rng.integers(4, 16, 2).tolist()
        cv2.rectangle(frame, (left, top), (left + 40, top + 26), (150, 140, 120), cv2.FILLED)
    return np.clip(frames + rng.normal(0, 2, frames.shape), 0, 255).astype(np.uint8)


def batches(frames: Frames, size: int = 16) -> Iterator[Tensor]:
    yield from torch.from_numpy(frames).permute(0, 3, 1, 2).split(size)


def examples_of(encoder: Encoder, frames: Frames, settings: TrainSettings) -> Examples:
    return draw_examples(encoder, batches(frames), len(frames), settings)


def seen(encoder: Encoder, frames: Frames, settings: TrainSettings, patch: pytest.MonkeyPatch) -> tuple[Any, Examples]:
    """(N, S, S, 3): the pixels that the backbone gets to see, and the examples made of them."""
    pixels: list[Tensor] = []
    normalise = encoder.normalise
    patch.setattr(encoder, "normalise", lambda one: (pixels.append(one), normalise(one))[1])
    found = examples_of(encoder, frames, settings)
    return torch.cat(pixels).permute(0, 2, 3, 1).numpy(), found


def same_light(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(quarterturn.trainer.head, "relight", lambda pictures, _: pictures)


def original_of(picture: npt.NDArray[np.float32], frame: Frames) -> tuple[Frames, bool, int]:
    """The frame turned and mirrored as in `picture`, whether it is mirrored, and by how many quarter turns."""
    ways = [(flip, turn) for flip in (False, True) for turn in range(4)]
    looks = [np.rot90(np.fliplr(frame) if flip else frame, turn) for flip, turn in ways]
    nearest = int(np.argmin([np.median(np.abs(picture - look)) for look in looks]))
    return looks[nearest], *ways[nearest]


def test_examples_are_features_of_the_pictures_and_where_something_shows(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_settings()
    encoder = encoder_of(settings).train()
    pixels, found = seen(encoder, good_frames(20), settings, monkeypatch)
    assert not encoder.training
    assert pixels.dtype == np.float32
    assert pixels.min() >= 0
    assert pixels.max() <= 255
    wanted = encoder.features(encoder.normalise(torch.from_numpy(pixels).permute(0, 3, 1, 2)))
    for layer, expected in zip(found.features, wanted, strict=True):
        assert layer.dtype == torch.float16
        torch.testing.assert_close(layer.float(), expected, atol=1e-3, rtol=2e-3)
    assert found.targets.shape == (20, SIDE // CELL, SIDE // CELL)
    assert found.targets.dtype == torch.float32
    assert set(found.targets.unique().tolist()) == {-1, 0, 1}


def test_targets_lie_where_pixels_changed_and_clean_frames_have_none(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    same_light(monkeypatch)
    frames, settings = good_frames(160), make_settings()
    pixels, found = seen(encoder_of(settings), frames, settings, monkeypatch)
    clean, strong = 0, []
    for picture, frame, target in zip(pixels, frames, found.targets.numpy(), strict=True):
        original, _, _ = original_of(picture, frame)
        change = np.abs(picture - original).max(axis=2)
        largest = change.reshape(SIDE // CELL, CELL, SIDE // CELL, CELL).max(axis=(1, 3))
        assert largest[target == 1].min(initial=255) > 2
        assert (target[largest < 0.1] == 0).all()
        strong.extend(target[largest > 40] == 1)
        clean += change.max() < 0.01
    assert 5 <= clean <= 30, "about a tenth"
    assert len(strong) > 100
    assert np.mean(strong) > 0.9


def test_frames_are_turned_and_mirrored_at_random(make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    same_light(monkeypatch)
    frames, settings = good_frames(160), make_settings(**{"paste.rounds": 1, "paste.size": [3, 6]})
    pixels, _ = seen(encoder_of(settings), frames, settings, monkeypatch)
    ways = [original_of(picture, frame)[1:] for picture, frame in zip(pixels, frames, strict=True)]
    counts = [ways.count((flip, turn)) for flip in (False, True) for turn in range(4)]
    assert min(counts) >= 8


def test_pastes_are_drawn_in_standard_deviations_of_their_picture_and_the_light_changes(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a faint picture gets faint anomalies; what is nearly flat counts as having a deviation of 8 levels."""
    pasted: list[Tensor] = []
    monkeypatch.setattr(
        quarterturn.trainer.head, "paste", lambda good, *rest: (pasted.append(good), paste(good, *rest))[1]
    )
    frames = np.concatenate([good_frames(16), np.full((16, SIDE, SIDE, 3), 120, np.uint8)])
    settings = make_settings()
    pixels, _ = seen(encoder_of(settings), frames, settings, monkeypatch)
    ordinary, flat = pasted
    np.testing.assert_allclose(ordinary.mean(dim=(1, 2, 3)), 0, atol=1e-4)
    np.testing.assert_allclose(ordinary.std(dim=(1, 2, 3)), 1, atol=1e-3)
    assert not flat.any()
    assert np.isfinite(pixels).all()
    assert 0 < np.abs(pixels[16:] - 120).max() < 10 * 8
    for picture, frame in zip(pixels, frames, strict=True):
        assert np.median(np.abs(picture - original_of(picture, frame)[0])) > 0.1, "the light of each is another"


def test_the_seed_decides_and_each_batch_draws_anew(make_settings: MakeSettings) -> None:
    frames = np.repeat(good_frames(1), 32, axis=0)  # two batches
    encoder = encoder_of(make_settings())
    found = examples_of(encoder, frames, make_settings())
    torch.manual_seed(5)
    again = examples_of(encoder, frames, make_settings())
    other = examples_of(encoder, frames, make_settings(seed=1))
    assert torch.equal(found.targets, again.targets)
    assert all(torch.equal(*pair) for pair in zip(found.features, again.features, strict=True))
    assert not torch.equal(found.targets, other.targets)
    assert not torch.equal(found.targets[:16], found.targets[16:])


def test_examples_beyond_the_memory_are_refused(make_settings: MakeSettings) -> None:
    encoder, frames = encoder_of(make_settings()), good_frames(4)
    size = sum(layer.numel() * 2 for layer in examples_of(encoder, frames, make_settings()).features) / 2**30
    examples_of(encoder, frames, make_settings(**{"data.cache_gib": size}))
    wanted = "data.cache_gib: features of 4 frames with anomalies take "
    with pytest.raises(ConfigError, match=f"^{re.escape(wanted)}") as caught:
        examples_of(encoder, frames, make_settings(**{"data.cache_gib": 0.99 * size}))
    assert str(caught.value).endswith("raise it, or lower head.frames")


def stage_of(settings: TrainSettings, count: int = 6) -> HeadStage:
    encoder = encoder_of(settings)
    plan = Plan.of(count, settings.head.batch, settings.head.steps, seed=3)
    return HeadStage(encoder, examples_of(encoder, good_frames(count), settings), plan, settings)


def test_the_loss_is_that_of_this_steps_places(make_settings: MakeSettings) -> None:
    stage = stage_of(make_settings(**{"head.positive": 2.5}))
    head = stage.encoder.head
    assert head is not None
    indices = stage.plan.pictures_of(1)[1].tolist()
    logits = head(tuple(layer[indices].float() for layer in stage.examples.features)).flatten().tolist()
    total = weights = 0.0
    for logit, target in zip(logits, stage.examples.targets[indices].flatten().tolist(), strict=True):
        if target >= 0:
            weight = 2.5 if target == 1 else 1.0
            total += weight * math.log1p(math.exp(-logit if target == 1 else logit))
            weights += weight
    found = stage.losses(1)
    assert list(found) == ["loss"]
    assert found["loss"].item() == pytest.approx(total / weights, rel=1e-4)


def test_only_the_head_learns(make_settings: MakeSettings) -> None:
    stage = stage_of(make_settings(**{"architecture.trained": "all"}))
    stage.encoder.train()
    stage.losses(0)["loss"].backward()
    reached = {name.partition(".")[0] for name, one in stage.encoder.named_parameters() if one.grad is not None}
    assert reached == {"head"}


def test_steps_are_taken_on_the_heads_device(make_settings: MakeSettings) -> None:
    """Features are kept in the CPU's memory; `meta` stands for a GPU."""
    stage = stage_of(make_settings())
    stage.encoder.to("meta")
    assert stage.losses(0)["loss"].device.type == "meta"


def test_a_head_learns_to_find_what_is_pasted(make_settings: MakeSettings) -> None:
    """On pictures and anomalies that it has not learned from."""
    settings = make_settings(**{"head.batch": 32, "head.steps": 120})
    stage = stage_of(settings, 256)
    unseen = examples_of(stage.encoder, good_frames(64, 1), make_settings(seed=1))
    head = stage.encoder.head
    assert head is not None

    def found() -> float:
        counted = unseen.targets >= 0
        with torch.inference_mode():
            logits = head.eval()(tuple(layer.float() for layer in unseen.features))
        return float(roc_auc_score(unseen.targets[counted], logits[counted]))

    before = found()
    optimiser = torch.optim.AdamW(head.parameters(), lr=0.01)
    stage.encoder.train()
    for step in range(settings.head.steps):
        optimiser.zero_grad()
        stage.losses(step)["loss"].backward()
        optimiser.step()
    stage.finish()
    assert before < 0.7
    assert found() > 0.75
