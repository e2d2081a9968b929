"""Manifests: each artifact says what it is, what it was made from, and the hashes of its files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Field, model_validator

from quarterturn.worker.contract.embeddings import FRAME, LOGITS, PLACES
from quarterturn.worker.contract.errors import ConfigError, DataError, MismatchError
from quarterturn.worker.contract.framing import UNITS, Framing
from quarterturn.worker.contract.known_pictures import KnownPictures
from quarterturn.worker.contract.settings import Settings, parse_settings
from quarterturn.worker.contract.splits import Group
from quarterturn.worker.contract.views import Views

CONTRACT = 4
"""Raised whenever pre-processing, views or scoring change in a way that makes old banks wrong."""

MANIFEST = "manifest.json"
_SHOWN = 12  # digits of a hash

Precision = Literal["float32", "float16", "bfloat16"]


def _is_ours(contract: int) -> int:
    if contract != CONTRACT:
        raise ValueError(
            f"made under contract {contract}, but this quarterturn has {CONTRACT}; make it again with this"
        )
    return contract


Contract = Annotated[int, AfterValidator(_is_ours)]
M = TypeVar("M", bound=Settings)


class Depth(Settings):
    """The place features of one depth: a grid of `grid` x `grid` places, `dimensions` numbers each."""

    grid: int = Field(gt=0)
    dimensions: int = Field(gt=0)


class EmbeddingSpec(Settings):
    """What an engine's embeddings mean; engine and bank must agree in every field.

    `framing` says how pictures become square frames; `views` is V, `frame` is E, the length of a frame's embedding.
    `places` are the depths by name, from shallow to deep. `logits` is the side of the grid of the pasted-or-not
    logits, None where the model has not learned them.
    """

    contract: Contract = CONTRACT
    framing: Framing
    views: Views
    frame: int = Field(gt=0)
    places: dict[str, Depth] = Field(default_factory=dict)
    logits: int | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _fits_the_framing(self) -> EmbeddingSpec:
        grids = [depth.grid for depth in self.places.values()] + ([] if self.logits is None else [self.logits])
        for grid in grids:
            if not self.framing.takes(grid):
                raise ValueError(
                    f"a grid of {grid} x {grid} places neither divides {UNITS} nor is a multiple of it, "
                    f"as fit '{self.framing.fit}' needs"
                )
        return self

    @property
    def side(self) -> int:
        """The frame's side in pixels."""
        return self.framing.side

    @property
    def outputs(self) -> dict[str, tuple[int, ...]]:
        """The engine's outputs: the shape that one frame has in each, see `embeddings`."""
        shapes: dict[str, tuple[int, ...]] = {FRAME: (self.views, self.frame)}
        for name, depth in self.places.items():
            shapes[f"{PLACES}{name}"] = (self.views, depth.grid**2, depth.dimensions)
        if self.logits is not None:
            shapes[LOGITS] = (self.views, self.logits**2)
        return shapes

    @property
    def of_one_view(self) -> EmbeddingSpec:
        """The same of a frame that is not turned."""
        return self.model_copy(update={"views": 1})


class RotationReport(Settings):
    """How well the quarter turns of one product are told apart on held-out good pictures.

    `accuracy` is the share of turned views whose nearest Gaussian is that of their own turn; `views` is the number
    of views (1, 2 or 4) that look different from each other; `sentence` says both to a person.
    """

    accuracy: float = Field(ge=0, le=1)
    views: Literal[1, 2, 4]
    sentence: str


class ModelManifest(Settings):
    """`model/manifest.json`: a trained encoder.

    `holdout` is the share of pictures that training never saw, `group` the rule by which those of one part stayed
    together, and `pictures` are those of each product that it knew (none: made before they were written down).
    """

    kind: Literal["quarterturn-model"] = "quarterturn-model"
    contract: Contract = CONTRACT
    framing: Framing
    products: tuple[str, ...]
    views: Views
    architecture: dict[str, Any]
    holdout: float = Field(ge=0, lt=1)
    group: Group | None = None
    pictures: dict[str, KnownPictures] = Field(default_factory=dict)
    rotations: dict[str, RotationReport]
    training: dict[str, Any]
    files: dict[str, str]
    created_at: str


class TargetManifest(Settings):
    """One runtime's part of an engine: its files, its precision, and how close it came to the golden embeddings.

    `streams` is how many frames or views it embeds side by side, each with its share of the threads: as many as were
    fastest on the machine that built it.
    """

    precision: Precision
    streams: int = Field(default=1, gt=0)
    files: tuple[str, ...] = Field(min_length=1)
    parity: float = Field(ge=-1, le=1)
    details: dict[str, Any] = Field(default_factory=dict)


TargetName = Literal["openvino", "onnxruntime", "tensorrt"]
"""What engines are compiled for."""


class EngineManifest(Settings):
    """`engine/manifest.json`: a model compiled for one or more targets.

    `model` is the hash of the model it was made from, whose `holdout`, `group` and `pictures` it repeats.
    """

    kind: Literal["quarterturn-engine"] = "quarterturn-engine"
    spec: EmbeddingSpec
    model: str
    products: tuple[str, ...]
    holdout: float = Field(ge=0, lt=1)
    group: Group | None = None
    pictures: dict[str, KnownPictures] = Field(default_factory=dict)
    targets: dict[str, TargetManifest]
    files: dict[str, str]
    created_at: str

    def engine_hash(self, target: str) -> str:
        """What a bank is bound to: the hash of the target's name, its files and the embedding's meaning."""
        part = self.targets[target]
        identity = {
            "target": target,
            "precision": part.precision,
            "files": {name: self.files[name] for name in part.files},
            "spec": self.spec.model_dump(),
        }
        return sha256(json.dumps(identity, sort_keys=True).encode())


def sha256(data: bytes) -> str:
    """The SHA-256 of `data` in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def short(digest: str) -> str:
    """The first digits of a hash or version, as they are shown to people."""
    return digest[:_SHOWN]


def hash_files(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """The SHA-256 of each of the named files below `folder`."""
    return {name: sha256((folder / name).read_bytes()) for name in sorted(names)}


def write_manifest(folder: Path, manifest: Settings) -> None:
    """Write `manifest` as the folder's `manifest.json`."""
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")


def read_manifest(folder: Path, kind: type[M], maker: str) -> M:
    """Read the manifest of `folder`; `maker` is the command that would make such a folder.

    Raises:
        DataError: there is none, or it is damaged or of another kind.
    """
    path = folder / MANIFEST
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); make the folder with '{maker}'") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is damaged ({error}); make the folder again with '{maker}'") from error
    if not isinstance(document, dict) or document.get("kind") != kind.model_fields["kind"].default:
        raise DataError(f"{path}: is no {kind.model_fields['kind'].default} manifest; make one with '{maker}'")
    try:
        return parse_settings(document, kind, str(path))
    except ConfigError as error:
        raise DataError(str(error)) from error


def verify_files(folder: Path, hashes: dict[str, str], names: Iterable[str]) -> None:
    """Check the named files of `folder` against the manifest's hashes.

    Raises:
        DataError: a file is missing.
        MismatchError: a file's content is not what the manifest says.
    """
    for name in names:
        path = folder / name
        if not path.is_file():
            raise DataError(f"{path}: is missing, though the manifest lists it; build the folder again")
        found = sha256(path.read_bytes())
        if found != hashes.get(name):
            raise MismatchError(
                f"{path}: has hash {short(found)}, but the manifest says {short(hashes.get(name, 'nothing'))}; "
                "the file was changed or damaged, build the folder again"
            )


def require_same_spec(expected: EmbeddingSpec, found: EmbeddingSpec, expected_name: str, found_name: str) -> None:
    """Refuse two artifacts whose embeddings mean different things.

    Raises:
        MismatchError: names each field with both values.
    """
    pairs = zip(expected, found, strict=True)
    different = [f"{name} {mine} against {theirs}" for (name, mine), (_, theirs) in pairs if mine != theirs]
    if different:
        raise MismatchError(
            f"{found_name} does not fit {expected_name}: {', '.join(different)}; make both from one model"
        )
