"""The bank: what good parts look like to one engine, per product and view. Immutable, versioned by its hash.

Shapes: C products, V views, P' positions of the coarse grid, D dimensions, M neighbours, K detectors.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import safetensors.numpy
from pydantic import Field, field_validator
from safetensors import SafetensorError

from worker.contract.detectors import Array, Detector, Gaussian, Normal, coarse_side
from worker.contract.errors import ConfigError, DataError, MismatchError
from worker.contract.manifest import EmbeddingSpec, require_same_spec, sha256
from worker.contract.settings import Settings, parse_settings


class ScoringSettings(Settings):
    """How distances become a score; part of the bank, because its calibration scores depend on it."""

    detectors: Literal["auto"] | tuple[Detector, ...] = Field(
        default="auto", min_length=1, description="auto: those that find most of the defects pasted into good pictures"
    )
    aggregate: Literal["harmonic", "mean", "min"] = "harmonic"
    worst: float = Field(default=0.01, gt=0, le=1, description="share of the places whose mean is a frame's distance")
    relative: bool = Field(default=True, description="whether distances count from the frame's own median place")
    neighbours: int = Field(default=1, gt=0, description="k of detector 'knn'")
    coreset: int = Field(default=1000, gt=0, description="normal embeddings kept for each product and view")


class BankManifest(Settings):
    """What a bank says of itself, inside its blob. `engine` is the hash of the engine that made the embeddings.

    `detectors` are the K in use. `choice` is how well each candidate found the defects pasted into good pictures
    (AUROC), empty where the detectors were set by hand.
    """

    kind: Literal["quarterturn-bank"] = "quarterturn-bank"
    spec: EmbeddingSpec
    engine: str
    target: str
    products: tuple[str, ...] = Field(min_length=1)
    scoring: ScoringSettings
    detectors: tuple[Detector, ...] = Field(min_length=1)
    choice: dict[str, float] = Field(default_factory=dict)
    created_at: str

    @field_validator("products")
    @classmethod
    def _once_each(cls, products: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(products)) < len(products):
            raise ValueError("a product is named twice")
        return products


@dataclass(frozen=True)
class Calibration:
    """Scores of held-out good pictures of one product.

    `scores` (n,): the score against the own product. `turn_ratios` (n,): the score as it lies divided by the smallest
    score of the other orientations (empty where there are none to compare); above 1 the picture looks turned.
    """

    scores: Array
    turn_ratios: Array


@dataclass(frozen=True)
class Bank:
    """What good parts look like to one engine, and the calibration from which thresholds are made.

    `normals[c]`: the good parts of product c. `scales` (C, K, 2): see `scoring.evidence`. `calibration[c]`: the scores
    of held-out good pictures.
    """

    manifest: BankManifest
    normals: tuple[Normal, ...]
    scales: Array
    calibration: tuple[Calibration, ...]

    @property
    def blob(self) -> bytes:
        """The bank as one safetensors file; made anew each time, because it is as large as the bank itself."""
        tensors: dict[str, npt.NDArray[Any]] = {"scales": self.scales}
        for index, (normal, calibration) in enumerate(zip(self.normals, self.calibration, strict=True)):
            tensors |= {f"{index}.{name}": tensor for name, tensor in _tensors_of(normal, calibration).items()}
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

    def of_products(self, products: Sequence[int]) -> Bank:
        """The same bank with these products alone, in this order; also of one that is not calibrated yet."""
        return replace(
            self,
            manifest=self.manifest.model_copy(update={"products": tuple(self.products[c] for c in products)}),
            normals=tuple(self.normals[c] for c in products),
            scales=self.scales[list(products)],
            calibration=tuple(self.calibration[c] for c in products) if self.calibration else (),
        )


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
    except (SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise DataError(f"{where}: is no bank ({error}); make one with 'quarterturn bank fit'") from error
    except ConfigError as error:
        raise DataError(f"{error}; the bank is from another version, fit it again") from error
    _check_shapes(tensors, manifest, where)
    parts = [
        {name.partition(".")[2]: tensor for name, tensor in tensors.items() if name.startswith(f"{index}.")}
        for index in range(len(manifest.products))
    ]
    return Bank(
        manifest,
        tuple(_normal_in(part) for part in parts),
        tensors["scales"],
        tuple(Calibration(part["calibration.scores"], part["calibration.turn_ratios"]) for part in parts),
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


def _tensors_of(normal: Normal, calibration: Calibration) -> dict[str, Array]:
    tensors = {
        "mean": normal.everywhere.mean,
        "whitening": normal.everywhere.whitening,
        "neighbours": normal.neighbours,
        "calibration.scores": calibration.scores,
        "calibration.turn_ratios": calibration.turn_ratios,
    }
    if normal.places is not None:
        tensors |= {"places.mean": normal.places.mean, "places.whitening": normal.places.whitening}
    return tensors


def _normal_in(tensors: Mapping[str, Array]) -> Normal:
    places = Gaussian(tensors["places.mean"], tensors["places.whitening"]) if "places.mean" in tensors else None
    return Normal(Gaussian(tensors["mean"], tensors["whitening"]), places, tensors["neighbours"])


def _metadata(blob: bytes) -> dict[str, str]:
    length = int.from_bytes(blob[:8], "little")
    metadata: dict[str, str] = json.loads(blob[8 : 8 + length])["__metadata__"]
    return metadata


def _expected_shapes(manifest: BankManifest, found: Set[str]) -> dict[str, tuple[int | None, ...]]:
    """The shapes of a bank's tensors, of which it has `found`: a product may lack Gaussians of each position."""
    spec = manifest.spec
    views, dimensions, places = spec.views, spec.features, coarse_side(spec.positions) ** 2
    expected: dict[str, tuple[int | None, ...]] = {"scales": (len(manifest.products), len(manifest.detectors), 2)}
    for c in range(len(manifest.products)):
        expected |= {
            f"{c}.mean": (views, dimensions),
            f"{c}.whitening": (views, dimensions, dimensions),
            f"{c}.neighbours": (views, None, dimensions),
            f"{c}.calibration.scores": (None,),
            f"{c}.calibration.turn_ratios": (None,),
        }
        if "position" in manifest.detectors or not found.isdisjoint({f"{c}.places.mean", f"{c}.places.whitening"}):
            expected |= {
                f"{c}.places.mean": (views, places, dimensions),
                f"{c}.places.whitening": (views, places, dimensions, dimensions),
            }
    return expected


def _check_shapes(tensors: Mapping[str, npt.NDArray[Any]], manifest: BankManifest, where: str) -> None:
    expected = _expected_shapes(manifest, tensors.keys())
    if tensors.keys() != expected.keys():
        missing, other = (sorted(names)[:5] for names in (expected.keys() - tensors.keys(), tensors.keys() - expected))
        raise DataError(f"{where}: lacks the tensors {missing} and has {other} instead; fit the bank again")
    for name, shape in expected.items():
        tensor = tensors[name]
        fits = tensor.ndim == len(shape) and all(w in (None, s) for w, s in zip(shape, tensor.shape, strict=True))
        if not fits or tensor.dtype != np.float32:
            raise DataError(
                f"{where}: tensor {name} is {tensor.dtype}{list(tensor.shape)}, not float32{list(shape)}; fit it again"
            )
        if tensor.size == 0 and name.endswith("neighbours"):
            raise DataError(f"{where}: tensor {name} is empty; fit the bank again")
        if not np.isfinite(tensor).all():
            raise DataError(f"{where}: tensor {name} holds values that are no numbers; fit the bank again")
        if name == "scales" and not (tensor[..., 1] > 0).all():
            raise DataError(f"{where}: tensor scales holds a spread that is not above 0; fit the bank again")
