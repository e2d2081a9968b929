"""The fixed change of basis of local embeddings: features along their principal axes, fitted to good parts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from trainer.encoder import Encoder, normalise_each

_SMALLEST_DEVIATION = 1e-3

Frames = npt.NDArray[np.uint8]


@torch.no_grad()
def settle(encoder: Encoder, batches: Iterable[Frames]) -> None:
    """Let the batch normalisations of an untrained encoder see (N, S, S, 3) frames; else its features are noise."""
    norms = [module for module in encoder.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over all batches
    encoder.train()
    for pictures in _prepared(encoder, batches):
        encoder(pictures)
    for norm in norms:
        norm.momentum = 0.1
    encoder.eval()


@torch.no_grad()
def fit_basis(encoder: Encoder, batches: Iterable[Frames]) -> None:
    """Set the basis of a local encoder from (N, S, S, 3) frames of good parts.

    Features are standardised, taken along their principal axes, and brought to a mean square length of 1. Leaves
    `encoder` in evaluation mode.
    """
    encoder.eval()
    count, channels = 0, encoder.local.basis.in_channels
    total, squares = torch.zeros(channels).double(), torch.zeros(channels, channels).double()
    for pictures in _prepared(encoder, batches):
        rows = encoder.local.features(encoder.stages(pictures)).permute(0, 2, 3, 1).flatten(0, 2).double().cpu()
        count, total, squares = count + len(rows), total + rows.sum(dim=0), squares + rows.T @ rows
    mean = total / count
    covariance = squares / count - mean[:, None] * mean
    deviation = covariance.diagonal().clamp_min(_SMALLEST_DEVIATION**2).sqrt()
    variances, axes = torch.linalg.eigh(covariance / (deviation[:, None] * deviation))  # sorted upwards
    count = encoder.local.basis.out_channels
    kept, length = axes.flip(1)[:, :count], variances.flip(0)[:count].sum().clamp_min(1e-12).sqrt()
    kept = kept * torch.where(kept.sum(dim=0) < 0, -1.0, 1.0)  # an axis has no sign; take the same one everywhere
    weight = (kept / deviation[:, None]).T / length
    basis = encoder.local.basis
    basis.weight.copy_(weight[:, :, None, None])
    assert basis.bias is not None
    basis.bias.copy_(-weight @ mean)


def _prepared(encoder: Encoder, batches: Iterable[Frames]) -> Iterator[Tensor]:
    device = next(encoder.parameters()).device
    for frames in batches:
        pictures = normalise_each(torch.from_numpy(frames).to(device).permute(0, 3, 1, 2))
        yield pictures.contiguous(memory_format=torch.channels_last)
