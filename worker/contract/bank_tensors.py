"""The tensors of a bank's file: how what good parts look like is written and read, and which shapes it must have.

Shapes: C products, V views, R orientations, P places, D dimensions, M members of a coreset, K detectors.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from quarterturn.worker.contract.arrays import Array, Indices, Mask
from quarterturn.worker.contract.detectors import (
    KEPT,
    LEARNED,
    NEAREST,
    POSITION,
    Coreset,
    Normal,
    shape_of,
    supported,
)
from quarterturn.worker.contract.embeddings import FRAME
from quarterturn.worker.contract.errors import DataError
from quarterturn.worker.contract.gallery import DTYPES, ORIGIN, SHAPES, gallery_fault
from quarterturn.worker.contract.gaussians import Gaussian, spans_of
from quarterturn.worker.contract.guard import MEASURES
from quarterturn.worker.contract.manifest import EmbeddingSpec
from quarterturn.worker.contract.registration import MOTIONS, SIDE
from quarterturn.worker.contract.views import orientations

CALIBRATION: dict[str, tuple[int | None, ...]] = {
    "scores": (None,),
    "distances": (None,),
    "turn_ratios": (None,),
    "measured": (None, len(MEASURES)),
    "motions": (None, len(MOTIONS)),
}
"""Of each product: the arrays of its calibration pictures, with their shapes."""

_SCORES = "calibration.scores"

REGISTRATION = {"picture": (SIDE, SIDE), "told": (len(MOTIONS),)}
"""Of each product: where its good parts lie."""


def tensors_of(normal: Normal) -> dict[str, Array | Indices]:
    """What good parts of one product look like, by the names of the file's tensors."""
    tensors: dict[str, Array | Indices] = {}
    for detector, model in normal.items():
        if isinstance(model, Coreset):
            tensors |= {f"{detector}.members": model.members, f"{detector}.origins": model.origins}
        else:
            tensors |= {f"{detector}.mean": model.mean, f"{detector}.whitening": _triangle(model)}
    return tensors


def normal_in(tensors: Mapping[str, npt.NDArray[Any]]) -> Normal:
    """The inverse of `tensors_of`."""
    normal: dict[str, Gaussian | Coreset] = {}
    for name, values in tensors.items():
        detector, _, field = name.rpartition(".")
        if field == "members":
            normal[detector] = Coreset(values, tensors[f"{detector}.origins"].astype(np.intp))
        elif field == "mean":
            normal[detector] = Gaussian(values, _blocks(tensors[f"{detector}.whitening"], values.shape[-1]))
    return normal


def _triangle(gaussian: Gaussian) -> Array:
    """Its whitening (..., D, D), without the zeros of a triangle -> (..., D (D + 1) / 2), row by row."""
    masks = _masks(gaussian.mean.shape[-1])
    parts = [block[..., mask] for block, mask in zip(gaussian.blocks, masks, strict=True)]
    return np.concatenate(parts, axis=-1)


def _blocks(triangle: npt.NDArray[np.floating], dimensions: int) -> tuple[Array, ...]:
    """The inverse of `_triangle`, for D = `dimensions`."""
    blocks, start = [], 0
    for mask in _masks(dimensions):
        block, end = np.zeros((*triangle.shape[:-1], *mask.shape), np.float32), start + int(mask.sum())
        block[..., mask], start = triangle[..., start:end], end
        blocks.append(block)
    return tuple(blocks)


def _masks(dimensions: int) -> list[Mask]:
    """Of each block of a whitening, where the triangle is."""
    return [np.tri(rows.stop - rows.start, rows.stop, rows.start, bool) for rows in spans_of(dimensions)]


def dtype_of(name: str) -> npt.DTypeLike:
    """The type in which the tensor `name` is written."""
    detector, _, field = name.rpartition(".")
    kept = field == "members" or (field == "whitening" and detector.endswith(POSITION))
    return KEPT if kept else DTYPES.get(field, np.float32)


def needed(detectors: Iterable[str]) -> list[str]:
    """What a bank must hold of good parts for these detectors: the frame's Gaussian always, as it tells the product."""
    return [FRAME, *(one for one in detectors if one not in (FRAME, LEARNED))]


def _expected_shapes(spec: EmbeddingSpec, detectors: Sequence[str], count: int) -> dict[str, tuple[int | None, ...]]:
    expected: dict[str, tuple[int | None, ...]] = {
        "scales": (count, len(detectors), 2),
        "guard": (count, len(MEASURES), 2),
    }
    shapes: dict[str, tuple[int | None, ...]] = {f"calibration.{name}": shape for name, shape in CALIBRATION.items()}
    shapes |= {f"registration.{name}": shape for name, shape in REGISTRATION.items()}
    shapes |= SHAPES
    for detector in needed(detectors):
        places, dimensions = shape_of(detector, spec)
        if detector.startswith(NEAREST):
            shapes[f"{detector}.members"] = (spec.views, None, dimensions)
            shapes[f"{detector}.origins"] = (spec.views, None, len(ORIGIN))
        else:
            views = orientations(spec.views) if detector == FRAME else spec.views
            shapes[f"{detector}.mean"] = (views, places, dimensions)
            shapes[f"{detector}.whitening"] = (views, places, dimensions * (dimensions + 1) // 2)
    return expected | {f"{c}.{name}": shape for c in range(count) for name, shape in shapes.items()}


def check_tensors(
    tensors: Mapping[str, npt.NDArray[Any]], spec: EmbeddingSpec, detectors: Sequence[str], products: int, where: str
) -> None:
    """Refuse tensors that are not those of a bank of so many products, by `detectors` on embeddings as `spec` says.

    Raises:
        DataError: names the first that is wrong.
    """
    known = supported(spec)
    unknown = sorted(set(detectors) - set(known))
    if unknown:
        raise DataError(
            f"{where}: names the detector '{unknown[0]}', but its engine has {', '.join(known)}; fit the bank again"
        )
    expected = _expected_shapes(spec, detectors, products)
    if tensors.keys() != expected.keys():
        missing, other = (sorted(names)[:5] for names in (expected.keys() - tensors.keys(), tensors.keys() - expected))
        raise DataError(f"{where}: lacks the tensors {missing} and has {other} instead; fit the bank again")
    for name, shape in expected.items():
        tensor, wanted = tensors[name], np.dtype(dtype_of(name))
        fits = tensor.ndim == len(shape) and all(w in (None, s) for w, s in zip(shape, tensor.shape, strict=True))
        if not fits or tensor.dtype != wanted:
            raise DataError(
                f"{where}: tensor {name} is {tensor.dtype}{list(tensor.shape)}, not {wanted}{list(shape)}; fit it again"
            )
        if tensor.size == 0 and name.endswith("members"):
            raise DataError(f"{where}: tensor {name} is empty; fit the bank again")
        if not np.isfinite(tensor).all():
            raise DataError(f"{where}: tensor {name} holds values that are no numbers; fit the bank again")
        if name == "scales" and not (tensor[..., 1] > 0).all():
            raise DataError(f"{where}: tensor scales holds a spread that is not above 0; fit the bank again")
        if name.endswith((".measured", ".motions")) and len(tensor) != len(
            tensors[f"{name.partition('.')[0]}.{_SCORES}"]
        ):
            raise DataError(
                f"{where}: tensor {name} is not of as many pictures as there are scores; fit the bank again"
            )
        if name == "guard" and not (tensor[..., 0] <= tensor[..., 1]).all():
            raise DataError(f"{where}: tensor guard holds limits that no picture keeps; fit the bank again")
    for c in range(products):
        _check_gallery(tensors, spec, detectors, c, where)


def _check_gallery(
    tensors: Mapping[str, npt.NDArray[Any]], spec: EmbeddingSpec, detectors: Sequence[str], product: int, where: str
) -> None:
    part = {name.partition(".")[2]: tensor for name, tensor in tensors.items() if name.startswith(f"{product}.")}
    grids = {
        f"{one}.origins": spec.places[one.removeprefix(NEAREST)].grid for one in detectors if one.startswith(NEAREST)
    }
    for name in grids:
        if len(part[name][0]) != len(part[name.replace("origins", "members")][0]):
            raise DataError(f"{where}: tensor {product}.{name} has another length than its members; fit the bank again")
    if fault := gallery_fault(part, grids, spec.framing):
        raise DataError(f"{where}: tensor {product}.{fault}; fit the bank again")
