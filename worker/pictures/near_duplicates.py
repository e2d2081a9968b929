"""Near-duplicates: the same part in the same place on two pictures, under whatever exposure."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from quarterturn.worker.contract.arrays import Array
from quarterturn.worker.contract.errors import DataError
from quarterturn.worker.contract.picture import BitDepth, Region
from quarterturn.worker.pictures.read import read_picture

THUMBNAIL_PX = 64
SIMILARITY = 0.7  # from here on two pictures are near-duplicates; docs/evaluation.md says why
SAME = 0.9  # from here on they are one photograph, stored anew or taken twice; docs/decisions/0032-copies.md says why
_ROUNDING = 1  # grey level
_FIT = 1000  # pictures that the whitening is fitted on, at most
_SHARE = 0.2  # of the directions are whitened, the others are left as they are
_TINY = 1e-6
_CHUNK = 1024

Grey = npt.NDArray[np.uint8]


def thumbnail(grey: Grey) -> Grey:
    """A grey picture (H, W) as (64, 64) uint8, whatever its aspect ratio."""
    small = cv2.resize(grey, (THUMBNAIL_PX, THUMBNAIL_PX), interpolation=cv2.INTER_AREA)
    return small.astype(np.uint8, copy=False)


def read_thumbnails(
    pictures: Sequence[Path], region: Region | None = None, bit_depth: BitDepth | None = None
) -> list[Grey]:
    """The thumbnail of each picture file, cut to `region`; `bit_depth` as `decode` takes it.

    Raises:
        DataError: a picture cannot be read; the text names it.
    """

    def read(path: Path) -> Grey:
        return thumbnail(np.asarray(cv2.cvtColor(read_picture(path, region, bit_depth), cv2.COLOR_RGB2GRAY), np.uint8))

    with ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="thumbnails") as pool:
        return list(pool.map(read, pictures))


def require_variety(product: str, thumbnails: Sequence[Grey]) -> None:
    """Refuse good pictures that all look the same, or show nothing: how good parts differ cannot be learned from them.

    Raises:
        DataError: says which.
    """
    lowest = np.minimum.reduce(thumbnails).astype(np.int16)
    if (np.maximum.reduce(thumbnails) - lowest).max() <= _ROUNDING:
        raise DataError(
            f"product '{product}': all {len(thumbnails)} good pictures look the same, so nothing can be learned of how "
            "good parts differ; take pictures of many parts, as they come along the line"
        )
    if all(np.ptp(one) <= _ROUNDING for one in thumbnails):
        raise DataError(
            f"product '{product}': all {len(thumbnails)} good pictures are plain grey and show no part; check the "
            "camera, and 'region' if it is set"
        )


def nearest(train: Sequence[Grey], test: Sequence[Grey]) -> tuple[Array, list[int]]:
    """For each test thumbnail (S, S) its largest similarity, -1 to 1, to a training thumbnail, and that one's index.

    The similarity is the cosine of the fine details after whitening: what most of the training pictures share (the
    outline of the part, where it may lie) counts little, what two pictures alone have in common counts much. A pair
    needs the same place; turned, mirrored or shifted by more than a pixel of the thumbnail it is not found.

    Raises:
        ValueError: either is empty.
    """
    known, asked = _whitened(train, test)
    similarities, indices = [], []
    for start in range(0, len(asked), _CHUNK):
        found = asked[start : start + _CHUNK] @ known.T
        similarities.append(found.max(axis=1))
        indices += found.argmax(axis=1).tolist()
    return np.concatenate(similarities), indices


def nearest_before(first: Sequence[Grey], then: Sequence[Grey]) -> tuple[Array, list[int]]:
    """As `nearest`, where each of `then` is compared with all of `first` and with those of `then` before it.

    The index counts over both.

    Raises:
        ValueError: either is empty.
    """
    known, asked = _whitened(first, then)
    every = np.concatenate([known, asked])
    similarities, indices = [], []
    for start in range(0, len(asked), _CHUNK):
        chunk = asked[start : start + _CHUNK]
        before = len(known) + start
        found = chunk @ every[: before + len(chunk)].T
        found[:, before:][np.triu_indices(len(chunk))] = -1  # itself, and those after it
        similarities.append(found.max(axis=1))
        indices += found.argmax(axis=1).tolist()
    return np.concatenate(similarities), indices


def pairs(first: Sequence[Grey], then: Sequence[Grey], least: float) -> list[tuple[int, int, float]]:
    """As `nearest_before`, all pairs of a similarity from `least` on: the later one's index, the earlier one's, and it.

    What many of `then` share counts little, too: they may be parts of a new kind.

    Raises:
        ValueError: either is empty.
    """
    every, _ = _whitened([*first, *then], then)
    found = []
    for index in range(len(first), len(every)):
        alike = every[:index] @ every[index]
        found += [(index, int(other), float(alike[other])) for other in np.flatnonzero(alike >= least)]
    return found


def _whitened(train: Sequence[Grey], test: Sequence[Grey]) -> tuple[Array, Array]:
    """The details of both (n, S·S), of unit length, whitened by how those of `train` vary."""
    known, asked = _details(train), _details(test)
    mean, directions, gains = _whitening(known[:: -(-len(known) // _FIT)])

    def whiten(details: Array) -> Array:
        centred = details - mean
        return _unit(centred + ((centred @ directions.T) * gains) @ directions)

    return whiten(known), whiten(asked)


def _details(thumbnails: Sequence[Grey]) -> Array:
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
