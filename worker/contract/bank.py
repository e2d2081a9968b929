"""The bank: what good parts look like to one engine, per product and view. Immutable, versioned by its hash.

Shapes: C products, V views, P positions, D dimensions (see `views` and DESIGN in docs/architecture.md).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import safetensors.numpy
from pydantic import Field
from safetensors import SafetensorError

from worker.contract.errors import ConfigError, DataError, MismatchError
from worker.contract.manifest import EmbeddingSpec, require_same_spec, sha256
from worker.contract.settings import Settings, parse_settings

Array = npt.NDArray[np.float32]

_COVARIANCE_FLOOR = 1e-9  # as in the method's published code; keeps a constant embedding invertible


class ScoringSettings(Settings):
    """How distances become a score; part of the bank, because its calibration scores depend on it."""

    method: Literal["mahalanobis", "knn"] = "mahalanobis"
    aggregate: Literal["harmonic", "mean", "min"] = "harmonic"
    neighbours: int = Field(default=3, gt=0, description="k of method 'knn'")


class BankManifest(Settings):
    """What a bank says of itself, inside its blob. `engine` is the hash of the engine that made the embeddings."""

    kind: Literal["quarterturn-bank"] = "quarterturn-bank"
    spec: EmbeddingSpec
    engine: str
    target: str
    products: tuple[str, ...] = Field(min_length=1)
    scoring: ScoringSettings
    created_at: str
    trained_holdout: bool = Field(description="whether the calibration pictures were unseen by training")


@dataclass(frozen=True)
class Gaussians:
    """One Gaussian per product, view and position: mean (C, V, P, D), whitening (C, V, P, D, D) with WᵀW = Σ⁻¹."""

    mean: Array
    whitening: Array


@dataclass(frozen=True)
class Calibration:
    """Scores of held-out good pictures of one product.

    `scores` (n,): the score against the own product. `turn_ratios` (n,): the score as it lies divided by the smallest
    score of the other orientations (empty where V < 4); above 1 the picture looks turned.
    """

    scores: Array
    turn_ratios: Array


@dataclass(frozen=True)
class Bank:
    """The normal embeddings, their Gaussians and the calibration of one engine and one set of products.

    `embeddings[c]`: (n, V, P, D) unit vectors; `calibration[c]`: the scores from which thresholds are made.
    """

    manifest: BankManifest
    embeddings: tuple[Array, ...]
    gaussians: Gaussians
    calibration: tuple[Calibration, ...]

    @property
    def blob(self) -> bytes:
        """The bank as one safetensors file; made anew each time, because it is as large as the bank itself."""
        tensors: dict[str, npt.NDArray[Any]] = {
            "mean": self.gaussians.mean,
            "whitening": self.gaussians.whitening,
        }
        for index, (embeddings, calibration) in enumerate(zip(self.embeddings, self.calibration, strict=True)):
            tensors[f"embeddings.{index}"] = embeddings
            tensors[f"calibration.{index}.scores"] = calibration.scores
            tensors[f"calibration.{index}.turn_ratios"] = calibration.turn_ratios
        contiguous = {name: np.ascontiguousarray(tensor, np.float32) for name, tensor in tensors.items()}
        # One metadata key: safetensors does not promise an order for several, and the hash must be reproducible.
        return safetensors.numpy.save(contiguous, {"manifest": self.manifest.model_dump_json()})

    @cached_property
    def version(self) -> str:
        """The bank's version: the SHA-256 of its blob."""
        return sha256(self.blob)

    @property
    def products(self) -> tuple[str, ...]:
        """The products, in the order of the arrays' first axis."""
        return self.manifest.products


def fit_gaussians(embeddings: tuple[Array, ...]) -> Gaussians:
    """Fit one Gaussian per product, view and position to the normal embeddings, with shrinkage.

    The covariance is shrunk towards a multiple of the identity by OAS (Chen, Wiesel, Eldar, Hero 2010,
    IEEE TSP 58(10), eq. 23), which stays invertible with fewer pictures than dimensions. W is the inverse of the
    Cholesky factor L of Σ = LLᵀ.
    """
    _, views, positions, dimensions = embeddings[0].shape
    mean = np.empty((len(embeddings), views, positions, dimensions), np.float32)
    whitening = np.empty((*mean.shape, dimensions), np.float32)
    for c, product in enumerate(embeddings):
        for v in range(views):
            for p in range(positions):
                samples = product[:, v, p].astype(np.float64)
                mean[c, v, p] = samples.mean(axis=0)
                whitening[c, v, p] = np.linalg.inv(np.linalg.cholesky(_oas_covariance(samples)))
    return Gaussians(mean, whitening)


def _oas_covariance(samples: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    count, dimensions = samples.shape
    centred = samples - samples.mean(axis=0)
    empirical = centred.T @ centred / count
    scale = np.trace(empirical) / dimensions
    mean_square = np.mean(empirical**2)
    denominator = (count + 1) * (mean_square - scale**2 / dimensions)
    shrinkage = 1.0 if denominator <= 0 else min(1.0, float((mean_square + scale**2) / denominator))
    covariance: npt.NDArray[np.float64] = (1 - shrinkage) * empirical
    covariance[np.diag_indices(dimensions)] += shrinkage * scale + _COVARIANCE_FLOOR
    return covariance


def read_bank(blob: bytes, where: str, version: str | None = None) -> Bank:
    """The bank in `blob`; `where` names it in errors, `version` is the hash it must have.

    Raises:
        MismatchError: the blob's hash is not `version`.
        DataError: the blob is damaged, incomplete, or no bank.
    """
    found = sha256(blob)
    if version is not None and found != version:
        raise MismatchError(
            f"{where}: the bank's content has hash {found[:12]}, but its version says {version[:12]}; "
            "it was damaged on the way, push it again"
        )
    try:
        tensors = safetensors.numpy.load(blob)
        manifest_json = _metadata(blob)["manifest"]
        manifest = parse_settings(json.loads(manifest_json), BankManifest, where)
    except (SafetensorError, KeyError, TypeError, ValueError, UnicodeDecodeError) as error:
        raise DataError(f"{where}: is no bank ({error}); make one with 'quarterturn bank fit'") from error
    except ConfigError as error:
        raise DataError(f"{error}; the bank is from another version, fit it again") from error
    _check_shapes(tensors, manifest, where)
    return Bank(
        manifest,
        tuple(tensors[f"embeddings.{index}"] for index in range(len(manifest.products))),
        Gaussians(tensors["mean"], tensors["whitening"]),
        tuple(
            Calibration(tensors[f"calibration.{index}.scores"], tensors[f"calibration.{index}.turn_ratios"])
            for index in range(len(manifest.products))
        ),
    )


def require_same_engine(bank: Bank, spec: EmbeddingSpec, engine: str, target: str) -> None:
    """Refuse a bank that was not fitted through the engine with this spec, hash and target.

    Raises:
        MismatchError: prints both values.
    """
    name = f"bank {bank.version[:12]}"
    require_same_spec(spec, bank.manifest.spec, "the engine", name)
    if bank.manifest.engine != engine:
        raise MismatchError(
            f"{name} was made by engine {bank.manifest.engine[:12]} ({bank.manifest.target}), but "
            f"the engine here is {engine[:12]} ({target}); fit the bank again through this engine"
        )


def _metadata(blob: bytes) -> dict[str, str]:
    length = int.from_bytes(blob[:8], "little")
    metadata: dict[str, str] = json.loads(blob[8 : 8 + length])["__metadata__"]
    return metadata


def _check_shapes(tensors: Mapping[str, npt.NDArray[Any]], manifest: BankManifest, where: str) -> None:
    spec, products = manifest.spec, len(manifest.products)
    per_view = (spec.views, spec.positions, spec.dimensions)
    expected: dict[str, tuple[int | None, ...]] = {
        "mean": (products, *per_view),
        "whitening": (products, *per_view, spec.dimensions),
    }
    for index in range(products):
        expected[f"embeddings.{index}"] = (None, *per_view)
        expected[f"calibration.{index}.scores"] = (None,)
        expected[f"calibration.{index}.turn_ratios"] = (None,)
    if tensors.keys() != expected.keys():
        raise DataError(f"{where}: holds the tensors {sorted(tensors)}, not {sorted(expected)}; fit the bank again")
    for name, shape in expected.items():
        tensor = tensors[name]
        fits = tensor.ndim == len(shape) and all(w in (None, s) for w, s in zip(shape, tensor.shape, strict=True))
        if not fits or tensor.dtype != np.float32:
            raise DataError(
                f"{where}: tensor {name} is {tensor.dtype}{list(tensor.shape)}, not float32{list(shape)}; fit it again"
            )
        if not np.isfinite(tensor).all():
            raise DataError(f"{where}: tensor {name} holds values that are no numbers; fit the bank again")
