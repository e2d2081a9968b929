"""The fixed changes of basis of place features: standardised and along their principal axes, fitted to good parts."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from quarterturn.trainer.encoder import Encoder
from quarterturn.worker.contract.arrays import Frames

_SMALLEST_SHARE = 0.01  # of the median deviation: a channel that is nearly still on good parts is not blown up
_SMALLEST = 1e-6


@torch.no_grad()
def fit_bases(encoder: Encoder, batches: Iterable[Frames]) -> None:
    """Set the basis of each depth from (N, S, S, 3) frames of good parts.

    Channels are standardised and taken along their principal axes, in falling variance. Axes are orthonormal, and all
    is divided by the square root of the number of channels: so without a cut Euclidean distances are those of the
    standardised features, and a place has a mean square length of 1. Leaves `encoder` in evaluation mode.
    """
    encoder.eval()
    moments = {depth: _Moments(basis) for depth, basis in encoder.bases.items()}
    device = next(encoder.parameters()).device
    for frames in batches:
        pictures = encoder.normalise(torch.from_numpy(frames).to(device).permute(0, 3, 1, 2))
        pictures = pictures.contiguous(memory_format=torch.channels_last)
        features, halves = encoder.features(pictures), encoder.halves(pictures)
        for depth, seen in moments.items():
            seen.add(encoder.joined(features, halves, depth))
    for seen in moments.values():
        seen.set_basis()


class _Moments:
    """Mean and covariance of the channels of maps, gathered in double precision for one basis."""

    def __init__(self, basis: nn.Module) -> None:
        assert isinstance(basis, nn.Conv2d)
        self._basis = basis
        self._count = 0
        self._total = torch.zeros(basis.in_channels).double()
        self._squares = torch.zeros(basis.in_channels, basis.in_channels).double()

    def add(self, maps: Tensor) -> None:
        """(N, C, G, G)."""
        rows = maps.permute(0, 2, 3, 1).flatten(0, 2).double().cpu()
        self._count += len(rows)
        self._total += rows.sum(dim=0)
        self._squares += rows.T @ rows

    def set_basis(self) -> None:
        """Let the basis standardise and turn."""
        mean = self._total / self._count
        covariance = self._squares / self._count - mean[:, None] * mean
        deviation = covariance.diagonal().clamp_min(0).sqrt()
        deviation = deviation.clamp_min(max(_SMALLEST_SHARE * float(deviation.median()), _SMALLEST))
        _, axes = torch.linalg.eigh(covariance / (deviation[:, None] * deviation))  # in rising variance
        kept = axes.flip(1)[:, : self._basis.out_channels]
        kept = kept * torch.where(kept.sum(dim=0) < 0, -1.0, 1.0)  # an axis has no sign; take the same one everywhere
        weight = (kept / deviation[:, None]).T / len(mean) ** 0.5
        assert self._basis.bias is not None
        self._basis.weight.copy_(weight[:, :, None, None])
        self._basis.bias.copy_(-weight @ mean)
