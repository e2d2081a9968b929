"""Pictures of good parts as frames: found, split, decoded by a pool of threads, kept in memory while they fit."""

from __future__ import annotations

import hashlib
import itertools
import logging
import math
import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from quarterturn.trainer.config import DataSettings
from quarterturn.worker.contract.arrays import Frames, Indices
from quarterturn.worker.contract.errors import DataError
from quarterturn.worker.contract.known_pictures import KnownPictures, Side, distinct, hash_pictures
from quarterturn.worker.contract.views import ROTATIONS, label
from quarterturn.worker.pictures.near_duplicates import SIMILARITY, nearest, read_thumbnails, require_variety
from quarterturn.worker.pictures.read import depth_doubt, read_frames
from quarterturn.worker.pictures.sets import good_pictures, hold_out, split_held_out

log = logging.getLogger(__name__)

_NAMED = 3  # pairs of near-duplicates
_FEWEST = 2  # pictures of a product to learn from: a partner for each, and a spread


@dataclass(frozen=True)
class GoodParts:
    """The pictures of each product: `learned[c]` to learn from, `held_out[c]` that training never sees.

    `group` says which pictures show the same part, and `hashes` are those of the files' contents.
    """

    products: tuple[str, ...]
    learned: tuple[list[Path], ...]
    held_out: tuple[list[Path], ...]
    group: str | None = None
    hashes: Mapping[Path, str] = field(default_factory=dict)

    @property
    def to_choose(self) -> tuple[list[Path], ...]:
        """Of each product the held-out pictures by which things may be chosen: none of them calibrates."""
        return tuple(split_held_out(paths, self.group)[0] for paths in self.held_out)

    @property
    def to_learn(self) -> tuple[list[Path], Indices]:
        """All n pictures to learn from, one product after the other, and (n,) the index of each one's product."""
        counts = [len(paths) for paths in self.learned]
        return list(itertools.chain(*self.learned)), np.repeat(np.arange(len(counts)), counts)

    @property
    def known(self) -> dict[str, KnownPictures]:
        """What the bank's fitting must know of these pictures, by product."""
        found = {}
        for product, learned, held_out in zip(self.products, self.learned, self.held_out, strict=True):
            chosen_by, kept = split_held_out(held_out, self.group)
            sides: Mapping[Side, Sequence[Path]] = {"learned": learned, "chosen_by": chosen_by, "held_out": kept}
            found[product] = KnownPictures.of(sides, self.hashes)
        return found

    @property
    def fingerprint(self) -> str:
        """A hash of what is learned from: the products, and the pictures' names and contents."""
        known = [[product, pictures.learned] for product, pictures in self.known.items()]
        return hashlib.sha256(repr(known).encode()).hexdigest()


def find_good_parts(settings: DataSettings) -> GoodParts:
    """List the good pictures below `settings.path`, leave exact copies out, and hold a share of each product out.

    Raises:
        DataError: there is no picture, or a product has too few; the text says how many are needed.
    """
    found = good_pictures(settings.path)
    hashes = hash_pictures(list(itertools.chain(*found.values())))
    pictures = distinct(found, hashes)
    splits = [hold_out(paths, settings.holdout, settings.group) for paths in pictures.values()]
    for (product, paths), (learned, held_out) in zip(pictures.items(), splits, strict=True):
        if len(learned) < _FEWEST:
            needed = next(n for n in itertools.count(1) if n - math.ceil(settings.holdout * n) >= _FEWEST)
            raise DataError(
                f"{settings.path}: product '{product}' has {len(paths)} good pictures, but {needed} are needed to "
                f"learn from {_FEWEST} and hold out {settings.holdout:.0%}; add {max(1, needed - len(paths))} or more"
            )
        if not held_out:
            raise DataError(
                f"{settings.path}: data.group '{settings.group}' puts all {len(paths)} pictures of product "
                f"'{product}' into one group, so none can be held out; correct it, or add other parts"
            )
    return GoodParts(tuple(pictures), tuple(s[0] for s in splits), tuple(s[1] for s in splits), settings.group, hashes)


def look_over(parts: GoodParts, settings: DataSettings) -> None:
    """Refuse pictures from which nothing can be learned, and say what is odd about the others.

    That is: a depth of samples that is not what is set, and held-out pictures that show nearly what is learned.

    Raises:
        DataError: a product's pictures all look the same, or one cannot be read.
    """
    if doubt := next(filter(None, (depth_doubt(paths[0], settings.bit_depth) for paths in parts.learned)), ""):
        log.warning("%s", doubt)
    for product, learned, held_out in zip(parts.products, parts.learned, parts.held_out, strict=True):
        thumbnails = read_thumbnails([*learned, *held_out], settings.region, settings.bit_depth)
        require_variety(product, thumbnails)
        similarities, indices = nearest(thumbnails[: len(learned)], thumbnails[len(learned) :])
        pairs = [
            f"{path.name} is nearly {learned[index].name}"
            for path, index, similarity in zip(held_out, indices, similarities, strict=True)
            if similarity >= SIMILARITY
        ]
        if pairs:
            log.warning(
                "%s: %d of %d held-out pictures show nearly what training learns from (%s); if these are pictures of "
                "one part, set data.group, so that what is promised holds for other parts, too",
                product,
                len(pairs),
                len(held_out),
                ", ".join(pairs[:_NAMED]),
            )


class Pictures:
    """Random access to the frames of a list of pictures; a context, whose end ends the decoding threads."""

    def __init__(self, paths: Sequence[Path], settings: DataSettings, cache_gib: float = 0.0) -> None:
        """Decode the first pictures, up to `cache_gib` GiB of frames, so that an unreadable one is found at once.

        Raises:
            DataError: a picture cannot be read; the text names it.
        """
        self._paths = paths
        self._settings = settings
        self._pool = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="decode")
        tiles = len(self._decode(paths[0]))  # with tiles of elongated pictures, about that many each
        fitting = int(cache_gib * 2**30 / (3 * settings.side**2 * tiles))
        self._kept = list(self._pool.map(self._decode, paths[:fitting]))

    def __enter__(self) -> Pictures:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def __len__(self) -> int:
        return len(self._paths)

    def load(self, indices: Indices, epoch: int = 0) -> Frames:
        """(n,) indices, n > 0 -> (n, S, S, 3) uint8 RGB: one of the frames that the worker makes of each picture.

        A picture of several tiles gives another one in each epoch.

        Raises:
            DataError: a picture cannot be read; the text names it.
        """
        return np.stack([tiles[epoch % len(tiles)] for tiles in self._pool.map(self._tiles, indices)])

    def stream(self, plan: Iterable[tuple[int, Indices]]) -> Iterator[tuple[Indices, Frames]]:
        """The (epoch, indices) of `plan` as indices and frames, the next decoded while the caller works on this one."""
        with ThreadPoolExecutor(1, thread_name_prefix="prefetch") as ahead:
            upcoming: deque[tuple[Indices, Future[Frames]]] = deque()
            for epoch, indices in plan:
                upcoming.append((indices, ahead.submit(self.load, indices, epoch)))
                if len(upcoming) > 1:
                    ready, frames = upcoming.popleft()
                    yield ready, frames.result()
            for ready, frames in upcoming:
                yield ready, frames.result()

    def batches(self, size: int) -> Iterator[Frames]:
        """All pictures in order, `size` at a time: the first frame of each."""
        plan = np.array_split(np.arange(len(self)), -(-len(self) // size))
        return (frames for _, frames in self.stream((0, indices) for indices in plan))

    def _tiles(self, index: int) -> Frames:
        return self._kept[index] if index < len(self._kept) else self._decode(self._paths[index])

    def _decode(self, path: Path) -> Frames:
        return read_frames(path, self._settings.framing, self._settings.region, self._settings.bit_depth)


@dataclass(frozen=True)
class Plan:
    """Which of n pictures each step takes: every epoch runs through all in a new order, without a part batch."""

    pictures: int
    batch: int
    steps: int
    seed: int

    @classmethod
    def of(cls, pictures: int, batch: int, steps: int, seed: int) -> Plan:
        """With a batch of all pictures, where there are fewer."""
        return cls(pictures, min(batch, pictures), steps, seed)

    def pictures_of(self, step: int) -> tuple[int, Indices]:
        """The epoch of `step`, both from 0, and its (batch,) pictures."""
        epoch, place = divmod(step, self.pictures // self.batch)
        order: Indices = torch.randperm(self.pictures, generator=seeded(self.seed, 0, epoch)).numpy()
        return epoch, order[place * self.batch : (place + 1) * self.batch]


@dataclass(frozen=True)
class Turns:
    """The (B · 4,) labels and products of the four turns of B pictures, picture after picture."""

    labels: torch.Tensor
    products: torch.Tensor

    @classmethod
    def of_pictures(cls, products: Indices, distinct: Indices) -> Turns:
        """Label the turns of pictures of (B,) products.

        `distinct` (C,) says how many turns of each product look different: 4, 1, or 2 where it looks the same after a
        half turn. Turns that look alike share a label.
        """
        of_turns, count = torch.from_numpy(products).repeat_interleave(ROTATIONS), len(distinct)
        turns = torch.arange(len(of_turns)) % torch.from_numpy(distinct)[of_turns]
        labels = [label(*one, count) for one in zip(of_turns.tolist(), turns.tolist(), strict=True)]
        return cls(torch.tensor(labels), of_turns)


def seeded(seed: int, *place: int) -> torch.Generator:
    """A generator that depends on the seed and the place in training alone.

    So a checkpoint needs no state of any generator, and a resumed run draws what an uninterrupted one would have.
    """
    state = np.random.SeedSequence(seed, spawn_key=place).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]))
