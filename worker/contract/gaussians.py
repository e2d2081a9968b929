"""Gaussians: what samples of good parts spread like, and how far another lies from them.

Shapes: D dimensions, N samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from quarterturn.worker.contract.arrays import Array

_ROWS = 32  # of a whitening in one block
_COVARIANCE_FLOOR = 1e-9  # as in the method's published code; keeps a constant embedding invertible


@dataclass(frozen=True)
class Gaussian:
    """One Gaussian, or one for each leading index: its mean (..., D) and its whitening W, WᵀW = Σ⁻¹.

    W is lower triangular. `blocks` hold 32 of its rows each, as far as they are not zero: (..., 32, 32), (..., 32, 64)
    and so on. Of 128 dimensions that is five eighths of the numbers, to keep and to multiply with.
    """

    mean: Array
    blocks: tuple[Array, ...]

    @classmethod
    def of(cls, mean: Array, whitening: Array) -> Gaussian:
        """From the mean (..., D) and W (..., D, D), of which only the lower triangle counts; copies."""
        spans = spans_of(whitening.shape[-1])
        return cls(mean, tuple(np.array(whitening[..., rows, : rows.stop], np.float32) for rows in spans))

    @property
    def whitening(self) -> Array:
        """W (..., D, D), made anew."""
        whitening = np.zeros((*self.mean.shape, self.mean.shape[-1]), np.float32)
        for rows, block in zip(spans_of(self.mean.shape[-1]), self.blocks, strict=True):
            whitening[..., rows, : rows.stop] = block
        return whitening

    def __getitem__(self, which: Any) -> Gaussian:
        """Those at some of the leading indices."""
        return Gaussian(self.mean[which], tuple(block[which] for block in self.blocks))

    def distances(self, samples: Array) -> Array:
        """(..., N, D) samples -> (..., N): ‖W(x − μ)‖₂, one matrix product a Gaussian and block."""
        away = np.ascontiguousarray(samples - self.mean[..., np.newaxis, :], np.float32)
        whitened = np.empty_like(away)
        for rows, block in zip(spans_of(away.shape[-1]), self.blocks, strict=True):
            np.matmul(away[..., : rows.stop], block.swapaxes(-1, -2), out=whitened[..., rows])
        return np.asarray(np.sqrt(np.einsum("...d,...d->...", whitened, whitened)), np.float32)


class Moments:
    """Sums from which Gaussians are fitted, one for each index of `shape`; takes samples batch by batch."""

    def __init__(self, *shape: int, dimensions: int) -> None:
        self.count = 0
        self._sum = np.zeros((*shape, dimensions))
        self._squares = np.zeros((*shape, dimensions, dimensions))

    def add(self, samples: Array) -> None:
        """Add samples (n, *shape, D)."""
        rows = np.moveaxis(samples, 0, -2).astype(np.float64)  # (*shape, n, D)
        self.count += len(samples)
        self._sum += rows.sum(axis=-2)
        self._squares += rows.swapaxes(-1, -2) @ rows

    def gaussian(self) -> Gaussian:
        """The Gaussians of all samples added, with their covariance shrunk towards a multiple of the identity.

        By OAS (Chen, Wiesel, Eldar, Hero 2010, IEEE TSP 58(10), eq. 23), which stays invertible with fewer samples
        than dimensions. W is the inverse of the Cholesky factor L of Σ = LLᵀ.
        """
        mean = self._sum / self.count
        empirical = self._squares / self.count - mean[..., :, None] * mean[..., None, :]
        dimensions = mean.shape[-1]
        scale = np.trace(empirical, axis1=-2, axis2=-1) / dimensions
        mean_square = np.mean(empirical**2, axis=(-2, -1))
        denominator = (self.count + 1) * (mean_square - scale**2 / dimensions)
        with np.errstate(divide="ignore", invalid="ignore"):
            shrinkage = np.minimum(1.0, (mean_square + scale**2) / denominator)
        shrinkage = np.where(denominator <= 0, 1.0, shrinkage)[..., None, None]
        diagonal = shrinkage * scale[..., None, None] + _COVARIANCE_FLOOR
        covariance = (1 - shrinkage) * empirical + diagonal * np.eye(dimensions)
        whitening = np.linalg.inv(np.linalg.cholesky(covariance))
        return Gaussian.of(mean.astype(np.float32), whitening.astype(np.float32))


def stacked(gaussians: Sequence[Gaussian]) -> Gaussian:
    """One Gaussian for each index (C, ...) of those of C products, a copy."""
    blocks = zip(*(one.blocks for one in gaussians), strict=True)
    return Gaussian(np.stack([one.mean for one in gaussians]), tuple(np.stack(several) for several in blocks))


def spans_of(dimensions: int) -> list[slice]:
    """The rows of a whitening that each of its blocks holds."""
    return [slice(start, min(start + _ROWS, dimensions)) for start in range(0, dimensions, _ROWS)]
