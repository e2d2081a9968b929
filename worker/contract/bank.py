"""The bank: what good parts look like to one engine, per product and view. Immutable, versioned by its hash.

Shapes: C products, V views, R orientations, P places, D dimensions, M members of a coreset, K detectors.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import safetensors.numpy
from pydantic import Field, ValidationInfo, field_validator
from safetensors import SafetensorError

from quarterturn.worker.contract.arrays import Array
from quarterturn.worker.contract.bank_tensors import (
    CALIBRATION,
    REGISTRATION,
    check_tensors,
    dtype_of,
    normal_in,
    tensors_of,
)
from quarterturn.worker.contract.detectors import Normal
from quarterturn.worker.contract.errors import ConfigError, DataError, MismatchError
from quarterturn.worker.contract.gallery import Gallery, gallery_in, gallery_tensors
from quarterturn.worker.contract.history import History
from quarterturn.worker.contract.manifest import EmbeddingSpec, require_same_spec, sha256, short
from quarterturn.worker.contract.picture import BitDepth, Region
from quarterturn.worker.contract.registration import Registration
from quarterturn.worker.contract.settings import Settings, parse_settings
from quarterturn.worker.contract.traits import PictureTraits
from quarterturn.worker.contract.usual import Usual, quantities

_ROUNDING = 1e-6  # of the sum of the votes


class ScoringSettings(Settings):
    """How distances become a score; part of the bank, because its calibration scores depend on it."""

    detectors: Literal["auto"] | tuple[str, ...] = Field(
        default="auto",
        min_length=1,
        description="auto: all, weighed by how well they find anomalies pasted into good pictures",
    )
    worst: float = Field(default=0.02, gt=0, le=1, description="share of the places whose mean is a frame's distance")
    coreset: int = Field(default=1000, gt=0, description="normal places kept for each product, depth and view")

    @field_validator("detectors", mode="before")
    @classmethod
    def _auto_or_names(cls, detectors: Any) -> Any:
        """Says in one sentence what would be a fault of each kind that there may be."""
        is_list = isinstance(detectors, list | tuple) and all(isinstance(name, str) for name in detectors)
        if detectors != "auto" and not is_list:
            raise ValueError("must be 'auto' or a list of detectors, such as [frame]")
        return detectors


class BankManifest(Settings):
    """What a bank says of itself, inside its blob. `engine` is the hash of the engine that made the embeddings.

    `votes` is the share of the score that each of the K detectors in use has. `found` is how well each tells good
    pictures from the same with an anomaly pasted in (AUROC), empty where the detectors were set by hand. `pictures`
    says what the good pictures were, `region` and `bit_depth` how they were read, `overkill` what `fit` was asked for.
    `history` says what it learned from people since, step by step.
    """

    kind: Literal["quarterturn-bank"] = "quarterturn-bank"
    spec: EmbeddingSpec
    engine: str
    target: str
    products: tuple[str, ...] = Field(min_length=1)
    scoring: ScoringSettings
    votes: dict[str, Annotated[float, Field(gt=0, le=1)]] = Field(min_length=1)
    found: dict[str, float] = Field(default_factory=dict)
    pictures: PictureTraits
    region: Region | None
    bit_depth: BitDepth | None
    overkill: float = Field(gt=0, lt=1)
    created_at: str
    history: History = ()

    @field_validator("products")
    @classmethod
    def _once_each(cls, products: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(products)) < len(products):
            raise ValueError("a product is named twice")
        return products

    @field_validator("votes")
    @classmethod
    def _all_of_the_score(cls, votes: dict[str, float]) -> dict[str, float]:
        if abs(sum(votes.values()) - 1) > _ROUNDING:
            raise ValueError(f"the shares sum to {sum(votes.values()):.6g}, not to 1")
        return votes

    @field_validator("found")
    @classmethod
    def _of_those_that_vote(cls, found: dict[str, float], info: ValidationInfo) -> dict[str, float]:
        if found and found.keys() != info.data.get("votes", found).keys():
            raise ValueError("names other detectors than votes")
        return found

    @property
    def detectors(self) -> tuple[str, ...]:
        """The detectors in use, in the order of the arrays."""
        return tuple(self.votes)


@dataclass(frozen=True)
class Calibration:
    """What held-out good pictures of one product score and measure.

    `scores` (n,): the score against the own product. `distances` (n,): that of the frame's embedding. `turn_ratios`
    (n,): that distance as the part lies divided by the smallest in another orientation (empty where there are none to
    compare); above 1 the picture looks turned. `measured` (n, M): see `guard.measure`. `motions` (n, 4): how they lie,
    see `registration.MOTIONS`.
    """

    scores: Array
    distances: Array
    turn_ratios: Array
    measured: Array
    motions: Array


@dataclass(frozen=True)
class Bank:
    """What good parts look like to one engine, and the calibration from which thresholds are made.

    `normals[c]`: the good parts of product c. `scales` (C, K, 2): see `scoring.evidence`. `calibration[c]`: the scores
    of held-out good pictures. `guard` (C, M, 2): what a picture of each product may measure, see `guard.unusable`.
    `registrations[c]`: where the good parts lie in their pictures.
    `gallery[c]`: small copies of the good pictures that its coresets' members come from, so that they can be shown.

    Example, with a `bank`:
        >>> bank.products, len(bank.version)
        (('ring',), 64)
        >>> read_bank(bank.blob, "memory").version == bank.version
        True
    """

    manifest: BankManifest
    normals: tuple[Normal, ...]
    scales: Array
    calibration: tuple[Calibration, ...]
    guard: Array
    registrations: tuple[Registration, ...]
    gallery: tuple[Gallery, ...]

    @property
    def blob(self) -> bytes:
        """The bank as one safetensors file; made anew each time, because it is as large as the bank itself."""
        tensors: dict[str, npt.NDArray[Any]] = {"scales": self.scales, "guard": self.guard}
        parts = zip(self.normals, self.calibration, self.registrations, self.gallery, strict=True)
        for index, product in enumerate(parts):
            tensors |= {f"{index}.{name}": tensor for name, tensor in _tensors_of(*product).items()}
        contiguous = {name: np.ascontiguousarray(tensor, dtype_of(name)) for name, tensor in tensors.items()}
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

    @cached_property
    def usual(self) -> tuple[Usual, ...]:
        """By product, how its calibration pictures score and measure."""
        return tuple(
            Usual.of(
                self.version,
                product,
                [quantities(*one) for one in zip(own.scores.tolist(), own.measured, own.motions, strict=True)],
                registration.told,
            )
            for product, own, registration in zip(self.products, self.calibration, self.registrations, strict=True)
        )

    def of_products(self, products: Sequence[int]) -> Bank:
        """The same bank with these products alone, in this order; also of one that is not calibrated yet."""
        return replace(
            self,
            manifest=self.manifest.model_copy(update={"products": tuple(self.products[c] for c in products)}),
            normals=tuple(self.normals[c] for c in products),
            scales=self.scales[list(products)],
            calibration=tuple(self.calibration[c] for c in products) if self.calibration else (),
            guard=self.guard[list(products)],
            registrations=tuple(self.registrations[c] for c in products),
            gallery=tuple(self.gallery[c] for c in products) if self.gallery else (),
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
            f"{where}: the bank's content has hash {short(found)}, but its version says {short(version)}; "
            "it was damaged on the way, push it again"
        )
    try:
        tensors = safetensors.numpy.load(blob)
        manifest_json = _metadata(blob)["manifest"]
        manifest = parse_settings(json.loads(manifest_json), BankManifest, where)
    except (SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise DataError(f"{where}: is no bank ({error}); make one with 'quarterturn bank fit'") from error
    except ConfigError as error:
        first, *_ = str(error).splitlines()  # one sentence: whatever else is wrong, there is one thing to do
        raise DataError(f"{first}; the bank is from another version, fit it again") from error
    check_tensors(tensors, manifest.spec, manifest.detectors, len(manifest.products), where)
    read = [_product_in(tensors, c) for c in range(len(manifest.products))]
    normals, calibration, registrations, gallery = zip(*read, strict=True)
    bank = Bank(manifest, normals, tensors["scales"], calibration, tensors["guard"], registrations, gallery)
    vars(bank)["version"] = found  # so that nobody writes it all out again to know
    return bank


def _product_in(
    tensors: dict[str, npt.NDArray[Any]], product: int
) -> tuple[Normal, Calibration, Registration, Gallery]:
    """What `tensors` hold of one product; they are taken out, so that not all are in memory twice."""
    prefix = f"{product}."
    part = {name.removeprefix(prefix): tensors.pop(name) for name in list(tensors) if name.startswith(prefix)}
    return (
        normal_in(part),
        Calibration(*(part[f"calibration.{name}"] for name in CALIBRATION)),
        Registration(*(part[f"registration.{name}"] for name in REGISTRATION)),
        gallery_in(part),
    )


def require_same_engine(bank: Bank, spec: EmbeddingSpec, engine: str, target: str) -> None:
    """Refuse a bank that was not fitted through the engine with this spec, hash and target.

    Raises:
        MismatchError: prints both values.
    """
    name = f"bank {short(bank.version)}"
    require_same_spec(spec, bank.manifest.spec, "the engine", name)
    if bank.manifest.engine != engine:
        raise MismatchError(
            f"{name} was made by engine {short(bank.manifest.engine)} ({bank.manifest.target}), but "
            f"the engine here is {short(engine)} ({target}); fit the bank again through this engine"
        )


def _tensors_of(
    normal: Normal, calibration: Calibration, registration: Registration, gallery: Gallery
) -> dict[str, npt.NDArray[Any]]:
    scores = {f"calibration.{name}": getattr(calibration, name) for name in CALIBRATION}
    lies = {f"registration.{name}": getattr(registration, name) for name in REGISTRATION}
    return {**tensors_of(normal), **scores, **lies, **gallery_tensors(gallery)}


def _metadata(blob: bytes) -> dict[str, str]:
    length = int.from_bytes(blob[:8], "little")
    metadata: dict[str, str] = json.loads(blob[8 : 8 + length])["__metadata__"]
    return metadata
