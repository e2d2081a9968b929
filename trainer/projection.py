"""Masked contrastive learning of the frame's embedding: what a step of the projection minimises."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from quarterturn.trainer.augment import augment
from quarterturn.trainer.config import TrainSettings
from quarterturn.trainer.data import GoodParts, Pictures, Plan, Turns, seeded
from quarterturn.trainer.encoder import Encoder
from quarterturn.trainer.loss import draw_partners, masked_contrastive_loss
from quarterturn.worker.contract.arrays import Indices
from quarterturn.worker.contract.views import ROTATIONS

_PAIR = 2  # views of a turned picture that attract each other
_SMALLEST_DEVIATION = 1e-4
_SMALLEST_SIDE = 128  # px, of views that are halved
_AT_ONCE = 64  # views that features are computed of


class Views(Protocol):
    """Draws what a step learns from."""

    @property
    def moments(self) -> tuple[Tensor, Tensor]:
        """(F,) mean and (F,) standard deviation by which the features that it draws were standardised."""
        ...

    def draw(self, step: int) -> tuple[Indices, Tensor]:
        """(B,) numbers of pictures, and the (2, B · 4, F) pooled features of two views of each of their turns."""
        ...


@dataclass(frozen=True)
class Projection:
    """The stage that trains the projection, and the backbone with it where that is trained.

    `products` (n,) of the pictures; `distinct` (C,): how many quarter turns of each product look different.
    """

    encoder: Encoder
    views: Views
    products: Indices
    distinct: Indices
    settings: TrainSettings

    def losses(self, step: int) -> dict[str, Tensor]:
        """The losses of `step`, of which 'loss' is to be minimised; CCM and SPA as published."""
        indices, pooled = self.views.draw(step)
        turns, chosen = Turns.of_pictures(self.products[indices], self.distinct), self.settings.projection
        device = next(self.encoder.projection.parameters()).device
        ccm, spa = masked_contrastive_loss(
            self.encoder.project(pooled.to(device)),
            turns.labels.to(device),
            turns.products.to(device),
            draw_partners(turns.labels, seeded(self.settings.seed, 1, step)).to(device),
            alpha=chosen.alpha,
            beta=chosen.beta,
            tau=chosen.tau,
        )
        return {"loss": ccm + chosen.spa * spa, "ccm": ccm, "spa": spa}

    @torch.no_grad()
    def finish(self) -> None:
        """Let the projection standardise by itself: it learned on standardised features."""
        first = self.encoder.projection[0]
        assert isinstance(first, nn.Linear)
        mean, deviation = (values.to(first.weight.device) for values in self.views.moments)
        first.weight /= deviation
        first.bias.sub_(first.weight @ mean)


class KeptViews:
    """Views whose features a frozen backbone has computed once: A variants of each picture in each of its turns.

    Args:
        features: (n, A, 4, F) float32, on the CPU.
        plan: which pictures each step takes.
        seed: of the training.
    """

    def __init__(self, features: Tensor, plan: Plan, seed: int) -> None:
        flat = features.flatten(0, 2)
        self.moments = flat.mean(dim=0), flat.std(dim=0).clamp_min(_SMALLEST_DEVIATION)
        self._features: Tensor = (features - self.moments[0]) / self.moments[1]
        self._plan = plan
        self._seed = seed

    def draw(self, step: int) -> tuple[Indices, Tensor]:
        """See `Views`; the two views of a turn are different variants."""
        _, indices = self._plan.pictures_of(step)
        mine = self._features[torch.from_numpy(indices)].transpose(1, 2).flatten(0, 1)  # (B · 4, A, F)
        variants = torch.rand(mine.shape[:2], generator=seeded(self._seed, 2, step)).argsort(dim=1)[:, :_PAIR]
        pairs = torch.take_along_dim(mine, variants[..., None], dim=1)
        return indices, pairs.transpose(0, 1)


class FreshViews:
    """Views of pictures that are augmented anew in each step, for a backbone that is trained."""

    def __init__(self, encoder: Encoder, pictures: Pictures, plan: Plan, settings: TrainSettings, first: int) -> None:
        nothing = torch.zeros(encoder.pooled_width)
        self.moments = nothing, nothing + 1
        self._encoder = encoder
        self._settings = settings
        self._frames = pictures.stream(map(plan.pictures_of, range(first, plan.steps)))

    def draw(self, step: int) -> tuple[Indices, Tensor]:
        """See `Views`; steps must be drawn in order."""
        indices, frames = next(self._frames)
        device = next(self._encoder.parameters()).device
        pictures = torch.from_numpy(frames).to(device).permute(0, 3, 1, 2)
        views = augment(pictures, self._settings.augment, seeded(self._settings.seed, 2, step), _PAIR)
        pixels = self._encoder.normalise(views.flatten(0, 1)).contiguous(memory_format=torch.channels_last)
        pooled = self._encoder.pooled(self._encoder.features(pixels))
        return indices, pooled.view(_PAIR, -1, pooled.shape[1])


def choose_pictures(parts: GoodParts, most: int) -> tuple[list[int], Indices]:
    """At most `most` of the n pictures to learn from, evenly from all products: their numbers, and their products.

    But at least two of each product.
    """
    _, products = parts.to_learn
    of_each = max(2, most // len(parts.products))
    starts = [0]
    for paths in parts.learned:
        starts.append(starts[-1] + len(paths))
    chosen = [
        start + number * len(paths) // min(len(paths), of_each)
        for start, paths in zip(starts, parts.learned, strict=False)
        for number in range(min(len(paths), of_each))
    ]
    return chosen, products[chosen]


@torch.no_grad()
def view_features(encoder: Encoder, frames: Iterator[Tensor], count: int, settings: TrainSettings) -> Tensor:
    """The features of augmented, turned views of `count` pictures, which a frozen backbone computes once.

    A view, which shows a part of the frame, is drawn at half the side of a large frame: so structures keep about their
    size, and it takes a quarter of the time. Some backbones take frames of one side only; then views have that.

    Args:
        encoder: its backbone is frozen.
        frames: batches (b, 3, S, S) uint8.
        count: n, of all of them.
        settings: how many variants A, and how they differ.

    Returns:
        (n, A, 4, F) float32 on the CPU.

    Raises:
        ConfigError: they take more than `data.cache_gib`.
    """
    variants, width = settings.projection.variants, encoder.pooled_width
    settings.data.require_room(
        4 * count * variants * ROTATIONS * width,
        f"{variants} variants of {count} pictures",
        "projection.pictures or projection.variants",
    )
    half = encoder.side // 2
    side = half if half >= _SMALLEST_SIDE and encoder.backbone.takes(half) else encoder.side
    found = []
    for number, batch in enumerate(frames):
        views = augment(batch, settings.augment, seeded(settings.seed, 3, number), variants, side).flatten(0, 1)
        pixels = encoder.normalise(views).contiguous(memory_format=torch.channels_last)
        pooled = torch.cat([encoder.pooled(encoder.features(part)) for part in torch.split(pixels, _AT_ONCE)])
        found.append(pooled.view(variants, len(batch), ROTATIONS, width).transpose(0, 1).cpu())
    return torch.cat(found)
