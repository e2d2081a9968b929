"""What a step minimises: the published loss on whole frames, or on crops with pasted defects for local embeddings."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.augment import augment
from trainer.config import VIEWS, LossSettings, TrainSettings
from trainer.crops import draw_crops, relight
from trainer.data import Frames, Indices, Turns
from trainer.encoder import CELL, Encoder, normalise
from trainer.loss import draw_partners, masked_contrastive_loss, pasted_loss
from trainer.paste import paste, visible
from worker.contract.views import ROTATIONS


@dataclass(frozen=True)
class Batch:
    """Pictures of one step: (B, 3, S, S) uint8 RGB on the encoder's device, and (B,) their products.

    `distinct` (C,): how many quarter turns of each product look different.
    """

    pictures: Tensor
    products: Indices
    distinct: Indices

    @classmethod
    def of(cls, frames: Frames, products: Indices, distinct: Indices, device: torch.device) -> Batch:
        """From (B, S, S, 3) frames."""
        return cls(torch.from_numpy(frames).to(device).permute(0, 3, 1, 2), products, distinct)


def frame_losses(
    encoder: Encoder, batch: Batch, settings: TrainSettings, generator: torch.Generator
) -> dict[str, Tensor]:
    """The masked contrastive loss, as published, on two views of whole frames."""
    views = normalise(augment(batch.pictures, settings.augment, generator).flatten(0, 1))
    stages = encoder.stages(views.contiguous(memory_format=torch.channels_last))
    turns = Turns.of_pictures(batch.products, batch.distinct)
    ccm, spa = _contrast(encoder.project(stages), turns, settings.loss, generator)
    return {"loss": ccm + settings.loss.spa * spa, "ccm": ccm, "spa": spa}


def local_losses(
    encoder: Encoder, batch: Batch, settings: TrainSettings, generator: torch.Generator
) -> dict[str, Tensor]:
    """Crops with and without pasted defects: tell pasted positions from others, and pasted crops as classes apart.

    A crop with pastes belongs to another class of the mask than one without: product c becomes c + C.
    """
    with torch.autocast(batch.pictures.device.type, enabled=False):  # pixels in float32, whatever the encoder takes
        views, pasted, targets = _draw_views(batch.pictures, settings, generator)
    stages = encoder.stages(views.contiguous(memory_format=torch.channels_last))
    dense = pasted_loss(encoder.local.logits(stages)[:, 0], targets, settings.loss.positive)
    losses = {"loss": settings.loss.dense * dense, "dense": dense}
    if settings.loss.contrast > 0:
        turns = Turns.of_pictures(batch.products, batch.distinct, pasted)
        ccm, spa = _contrast(encoder.project(stages), turns, settings.loss, generator)
        contrast = settings.loss.contrast * (ccm + settings.loss.spa * spa)
        losses |= {"loss": losses["loss"] + contrast, "ccm": ccm, "spa": spa}
    return losses


def _draw_views(pictures: Tensor, settings: TrainSettings, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """The (A · N, 3, s, s) crops of N samples, (N,) whether a sample got pastes, and (A · N, G, G) where they show."""
    good = _draw_samples(pictures, settings, generator)
    pasted = torch.rand(good.shape[1], generator=generator) < settings.paste.share
    spoiled = good.clone()
    if pasted.any():
        pastes = paste(good[:, pasted].flatten(0, 1), settings.paste, generator)
        spoiled[:, pasted] = pastes.view(len(good), -1, *pastes.shape[1:])
    good, spoiled = good.flatten(0, 1), spoiled.flatten(0, 1)
    return relight(spoiled, settings.crops.light, generator), pasted, visible(good, spoiled, CELL)


def _draw_samples(pictures: Tensor, settings: TrainSettings, generator: torch.Generator) -> Tensor:
    """(A, N, 3, s, s) crops of B pictures.

    For the contrastive loss A = 2 crops of each of N = 4B turned pictures; else one of each, turned at random: as many
    crops show more pictures.
    """
    count = len(pictures)
    if settings.loss.contrast == 0:
        turns = torch.randint(ROTATIONS, (count, 1), generator=generator)
        return draw_crops(pictures, turns, settings.crops, generator).transpose(0, 1)
    turns = torch.arange(ROTATIONS).repeat(count, VIEWS)
    crops = draw_crops(pictures, turns, settings.crops, generator)
    pairs = crops.view(count, VIEWS, ROTATIONS, *crops.shape[2:])
    return pairs.transpose(0, 1).flatten(1, 2)


def _contrast(
    projections: Tensor, turns: Turns, settings: LossSettings, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    device = projections.device
    return masked_contrastive_loss(
        projections.view(VIEWS, -1, projections.shape[-1]),
        turns.labels.to(device),
        turns.products.to(device),
        draw_partners(turns.labels, generator).to(device),
        alpha=settings.alpha,
        beta=settings.beta,
        tau=settings.tau,
    )
