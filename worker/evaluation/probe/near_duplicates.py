"""Near-duplicates: the same part in the same place on two pictures, under whatever exposure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from quarterturn.worker.contract.arrays import Array

SIMILARITY = 0.7  # from here on two pictures are near-duplicates; docs/evaluation.md says why
_FIT = 1000  # pictures that the whitening is fitted on, at most
_SHARE = 0.2  # of the directions are whitened, the others are left as they are
_TINY = 1e-6
_CHUNK = 1024


@dataclass(frozen=True, slots=True)
class NearDuplicate:
    """A test picture that is nearly a training picture; `similarity` is 1 for the same picture."""

    test: Path
    train: Path
    similarity: float
    is_good: bool


def nearest(train: Sequence[npt.NDArray[np.uint8]], test: Sequence[npt.NDArray[np.uint8]]) -> tuple[Array, list[int]]:
    """For each test thumbnail (S, S) its largest similarity, -1 to 1, to a training thumbnail, and that one's index.

    The similarity is the cosine of the fine details after whitening: what most of the training pictures share (the
    outline of the part, where it may lie) counts little, what two pictures alone have in common counts much. A pair
    needs the same place; turned, mirrored or shifted by more than a pixel of the thumbnail it is not found.

    Raises:
        ValueError: either is empty.
    """
    known, asked = _details(train), _details(test)
    mean, directions, gains = _whitening(known[:: -(-len(known) // _FIT)])

    def whiten(details: Array) -> Array:
        centred = details - mean
        return _unit(centred + ((centred @ directions.T) * gains) @ directions)

    whitened = whiten(known)
    similarities, indices = [], []
    for start in range(0, len(asked), _CHUNK):
        found = whiten(asked[start : start + _CHUNK]) @ whitened.T
        similarities.append(found.max(axis=1))
        indices += found.argmax(axis=1).tolist()
    return np.concatenate(similarities), indices


def _details(thumbnails: Sequence[npt.NDArray[np.uint8]]) -> Array:
    """The fine details (n, S·S), of unit length: a band-pass, with its local strength evened out.

    The band-pass drops the level of light and its slow changes, the evening and the unit length drop its gain.
    """
    rows = []
    for thumbnail in thumbnails:
        grey = thumbnail.astype(np.float32)
        band = cv2.GaussianBlur(grey, (0, 0), 0.7) - cv2.GaussianBlur(grey, (0, 0), 3)
        strength = np.sqrt(cv2.GaussianBlur(band * band, (0, 0), 6))
        rows.append((band / (strength + 1)).ravel())  # the 1, a grey level, keeps noise in flat regions down
    return _unit(np.stack(rows))


def _whitening(details: Array) -> tuple[Array, Array, Array]:
    """The mean (S·S), the principal directions (k, S·S), and what to add to 1 to get each direction's gain (k).

    A direction of variance v is divided by √(v + w), with w the variance at `_SHARE` of the ranks; all is relative to
    the gain 1/√w of the directions in which the pictures do not vary.
    """
    mean = details.mean(axis=0)
    _, deviations, directions = np.linalg.svd(details - mean, full_matrices=False)
    floor = max(deviations[int(_SHARE * len(deviations))], _TINY)
    return mean, directions, floor / np.sqrt(deviations**2 + floor**2) - 1


def _unit(rows: Array) -> Array:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), _TINY), np.float32)
