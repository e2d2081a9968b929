from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import trainer.objective
from tests.trainer.conftest import LOCAL, MakeSettings
from trainer.config import TrainSettings
from trainer.crops import draw_crops
from trainer.encoder import Encoder, normalise_each
from trainer.objective import Batch, frame_losses, local_losses


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch_of(products: list[int], count: int, side: int = 64) -> Batch:
    """Frames of coarse structure and fine, a picture of each product named."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 200, (len(products), side // 8, side // 8, 3)).repeat(8, axis=1).repeat(8, axis=2)
    frames = (coarse + rng.integers(0, 56, coarse.shape)).astype(np.uint8)
    return Batch.of(frames, np.array(products), np.full(count, 4), torch.device("cpu"))


def encoder_of(settings: TrainSettings) -> Encoder:
    torch.manual_seed(0)
    return Encoder(settings.architecture)


class Spy:
    """Notes what a function of the objective was called with, and what it gave."""

    def __init__(self, patch: pytest.MonkeyPatch, name: str) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.results: list[Any] = []
        original = getattr(trainer.objective, name)

        def note(*arguments: Any, **keywords: Any) -> Any:
            self.calls.append(arguments)
            self.results.append(original(*arguments, **keywords))
            return self.results[-1]

        patch.setattr(trainer.objective, name, note)


def drawn(batch: Batch, settings: TrainSettings, turns: list[int]) -> Tensor:
    """(B, K, 3, s, s): the crops that a step with the same seed begins with, turned by `turns`."""
    return draw_crops(batch.pictures, torch.tensor([turns] * len(batch.pictures)), settings.crops, seeded())


def changed(good: Tensor, spoiled: Tensor) -> list[list[bool]]:
    """For each view and sample, whether anything was pasted: (B, 2 · 4) good crops, (2 · B · 4) spoiled ones."""
    in_order = good.unflatten(1, (2, 4)).transpose(0, 1).flatten(0, 2)
    return np.array([not torch.equal(*pair) for pair in zip(in_order, spoiled, strict=True)]).reshape(2, -1).tolist()


@pytest.mark.parametrize("products", [1, 2, 6])
def test_pasted_crops_are_classes_of_their_own(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, products: int
) -> None:
    settings = make_settings(**{**LOCAL, "paste.share": 0.5})
    order = [*range(products), 0]
    batch = batch_of(order, products)
    relighting, contrast = Spy(monkeypatch, "relight"), Spy(monkeypatch, "masked_contrastive_loss")
    local_losses(encoder_of(settings), batch, settings, seeded())
    good = drawn(batch, settings, [0, 1, 2, 3] * 2)
    one, other = changed(good, relighting.calls[0][0])
    assert one == other, "both views of a sample, or none"
    assert True in one
    assert False in one
    projections, labels, of_products, _ = contrast.calls[0]
    assert projections.shape == (2, 4 * len(order), settings.architecture.dimensions)
    classes = [(order[n // 4] + (products if pasted else 0), n % 4) for n, pasted in enumerate(one)]
    assert of_products.tolist() == [product for product, _ in classes]
    assert labels.tolist() == [turn * 2 * products + product for product, turn in classes]


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_share_decides_how_many_samples_are_pasted(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    settings = make_settings(**{**LOCAL, "paste.share": share})
    batch = batch_of([0, 1], 2)
    relighting, dense = Spy(monkeypatch, "relight"), Spy(monkeypatch, "pasted_loss")
    local_losses(encoder_of(settings), batch, settings, seeded())
    good = drawn(batch, settings, [0, 1, 2, 3] * 2)
    assert changed(good, relighting.calls[0][0]) == [[share == 1] * 8] * 2
    logits, targets, positive = dense.calls[0]
    assert logits.shape == targets.shape == (16, 8, 8)
    assert positive == settings.loss.positive
    assert bool((targets == 1).any()) == (share == 1)
    assert bool((targets == 0).any())


def test_the_loss_is_the_sum_of_its_weighted_terms(make_settings: MakeSettings) -> None:
    settings = make_settings(**{**LOCAL, "loss": {"dense": 0.7, "contrast": 1.3, "spa": 0.4}})
    losses = local_losses(encoder_of(settings), batch_of([0, 1, 0], 2), settings, seeded())
    assert set(losses) == {"loss", "dense", "ccm", "spa"}
    dense, ccm, spa = (losses[name].item() for name in ("dense", "ccm", "spa"))
    assert min(dense, ccm, spa) > 0
    assert losses["loss"].item() == pytest.approx(0.7 * dense + 1.3 * (ccm + 0.4 * spa), rel=1e-5)


def gradients(encoder: Encoder, loss: Tensor) -> set[str]:
    """The parts of the encoder that the loss changes."""
    loss.backward()
    named = encoder.named_parameters()
    return {name.split(".")[0] for name, one in named if one.grad is not None and bool(one.grad.any())}


def test_without_contrast_there_is_none(make_settings: MakeSettings) -> None:
    settings = make_settings(**{**LOCAL, "loss.contrast": 0.0})
    encoder = encoder_of(settings)
    losses = local_losses(encoder, batch_of([0, 1], 2), settings, seeded())
    assert set(losses) == {"loss", "dense"}
    assert losses["loss"].item() == pytest.approx(losses["dense"].item())
    assert gradients(encoder, losses["loss"]) == {"conv1", "bn1", "layer1", "layer2", "layer3", "local"}


def test_without_contrast_a_picture_gives_one_crop_turned_at_random(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    paste, crops = {"share": 0.5}, {"side": 64, "flip": 0}
    settings = make_settings(**{**LOCAL, "loss.contrast": 0.0, "paste": paste, "crops": crops})
    relighting = Spy(monkeypatch, "relight")
    batch = batch_of([0] * 40, 1)
    local_losses(encoder_of(settings), batch, settings, seeded())
    shown = relighting.calls[0][0]
    assert shown.shape == (40, 3, 64, 64)
    frames = normalise_each(batch.pictures)  # as large as a crop, so a crop is a turned frame
    turns = [
        next((r for r in range(4) if torch.allclose(crop, frame.rot90(r, dims=(-2, -1)), atol=1e-5)), None)
        for crop, frame in zip(shown, frames, strict=True)
    ]
    assert set(turns) == {None, 0, 1, 2, 3}, "None: with pastes"
    assert settings.views_of_each == 1


def test_without_dense_the_contrast_alone_counts(make_settings: MakeSettings) -> None:
    settings = make_settings(**{**LOCAL, "loss.dense": 0.0})
    encoder = encoder_of(settings)
    losses = local_losses(encoder, batch_of([0, 1], 2), settings, seeded())
    assert losses["loss"].item() == pytest.approx((losses["ccm"] + losses["spa"]).item(), rel=1e-6)
    assert gradients(encoder, losses["loss"]) == {"conv1", "bn1", "layer1", "layer2", "layer3", "projection"}


def test_the_generator_alone_decides(make_settings: MakeSettings) -> None:
    settings = make_settings(**LOCAL)
    batch = batch_of([0, 1], 2)

    def loss(seed: int) -> float:
        return local_losses(encoder_of(settings), batch, settings, seeded(seed))["loss"].item()

    first = loss(1)
    torch.rand(3)
    assert loss(1) == first
    assert loss(2) != first


def test_under_autocast_crops_stay_float32_and_losses_too(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_settings(**LOCAL)
    relighting = Spy(monkeypatch, "relight")
    with torch.autocast("cpu", torch.bfloat16):
        losses = local_losses(encoder_of(settings), batch_of([0, 1], 2), settings, seeded())
    assert relighting.calls[0][0].dtype == relighting.results[0].dtype == torch.float32
    assert {loss.dtype for loss in losses.values()} == {torch.float32}
    plain = local_losses(encoder_of(settings), batch_of([0, 1], 2), settings, seeded())
    assert losses["loss"].item() == pytest.approx(plain["loss"].item(), rel=0.05)


def test_whole_frames_have_the_published_loss_alone(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_settings(**{"architecture.width": 8, "loss.spa": 0.4})
    contrast = Spy(monkeypatch, "masked_contrastive_loss")
    losses = frame_losses(encoder_of(settings), batch_of([1, 0, 1], 2, side=32), settings, seeded())
    assert set(losses) == {"loss", "ccm", "spa"}
    assert losses["loss"].item() == pytest.approx((losses["ccm"] + 0.4 * losses["spa"]).item(), rel=1e-6)
    projections, labels, products, _ = contrast.calls[0]
    assert projections.shape == (2, 12, settings.architecture.dimensions)
    assert products.tolist() == [1] * 4 + [0] * 4 + [1] * 4
    assert labels.tolist() == [1, 3, 5, 7, 0, 2, 4, 6, 1, 3, 5, 7]
