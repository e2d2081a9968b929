"""The head learns to tell places with a pasted anomaly from others, on features that are computed once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from quarterturn.trainer.config import TrainSettings
from quarterturn.trainer.data import Plan, seeded
from quarterturn.trainer.encoder import Encoder
from quarterturn.trainer.loss import pasted_loss
from quarterturn.trainer.paste import paste, relight, visible
from quarterturn.worker.contract.views import ROTATIONS

_CLEAN = 0.1  # of the frames
_LEAST_DEVIATION = 8.0  # grey levels: what is flatter is not blown up


@dataclass(frozen=True)
class Examples:
    """Features of frames with pasted anomalies: of each layer (n, C, H, W) float16, and (n, G, G) where they show."""

    features: tuple[Tensor, ...]
    targets: Tensor


@dataclass(frozen=True)
class HeadStage:
    """The stage that trains the head."""

    encoder: Encoder
    examples: Examples
    plan: Plan
    settings: TrainSettings

    def losses(self, step: int) -> dict[str, Tensor]:
        """The loss of `step`, to be minimised."""
        _, indices = self.plan.pictures_of(step)
        which = torch.from_numpy(indices)
        assert self.encoder.head is not None
        device = next(self.encoder.head.parameters()).device
        features = tuple(layer[which].to(device, torch.float32) for layer in self.examples.features)
        targets = self.examples.targets[which].to(device)
        return {"loss": pasted_loss(self.encoder.head(features), targets, self.settings.head.positive)}

    def finish(self) -> None:
        """The head is ready as it is."""


@torch.no_grad()
def draw_examples(encoder: Encoder, batches: Iterable[Tensor], count: int, settings: TrainSettings) -> Examples:
    """Paste anomalies into good frames, turned and mirrored at random and in changing light, and keep their features.

    Args:
        encoder: its backbone does not change any more, and it has a head.
        batches: (b, 3, S, S) uint8 frames of good parts.
        count: of all of them.
        settings: what is pasted.

    Returns:
        An example for each frame.

    Raises:
        ConfigError: they take more than `data.cache_gib`.
    """
    numbers = sum(c * grid**2 for c, grid in zip(encoder.backbone.channels, encoder.backbone.grids, strict=True))
    settings.data.require_room(2 * count * numbers, f"{count} frames with anomalies", "head.frames")
    encoder.eval()
    assert encoder.head is not None
    kept, targets = [], []
    for number, frames in enumerate(batches):
        generator = seeded(settings.seed, 4, number)
        pixels, seen = _with_anomalies(frames, encoder.side // encoder.head.grid, settings, generator)
        features = encoder.features(encoder.normalise(pixels).contiguous(memory_format=torch.channels_last))
        kept.append([layer.to("cpu", torch.float16) for layer in features])
        targets.append(seen.cpu())
    return Examples(tuple(torch.cat(layers) for layers in zip(*kept, strict=True)), torch.cat(targets))


def _with_anomalies(
    frames: Tensor, cell: int, settings: TrainSettings, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """(b, 3, S, S) uint8 -> the same as float pixels with anomalies, and (b, S / cell, S / cell) where they show."""
    levels = _turned(frames.float(), generator)
    mean = levels.mean(dim=(1, 2, 3), keepdim=True)
    deviation = (levels - mean).square().mean(dim=(1, 2, 3), keepdim=True).sqrt().clamp_min(_LEAST_DEVIATION)
    good = (levels - mean) / deviation  # pastes are drawn in standard deviations of their picture
    pasted = good.clone()
    chosen = torch.rand(len(good), generator=generator) >= _CLEAN
    if chosen.any():
        pasted[chosen] = paste(good[chosen], settings.paste, generator)
    pixels = relight(pasted, generator) * deviation + mean
    return pixels.clamp(0, 255), visible(good, pasted, cell)


def _turned(frames: Tensor, generator: torch.Generator) -> Tensor:
    turns = torch.randint(ROTATIONS, (len(frames),), generator=generator).tolist()
    mirrored = (torch.rand(len(frames), generator=generator) < 0.5).tolist()
    return torch.stack(
        [
            torch.rot90(frame.flip(-1) if flip else frame, turn, dims=(-2, -1))
            for frame, turn, flip in zip(frames, turns, mirrored, strict=True)
        ]
    )
