"""From picture files to embeddings and distances, for fitting a bank and for judging an encoder by the same means."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np

from quarterturn.worker.contract.arrays import Array, Frames, Picture
from quarterturn.worker.contract.bank import ScoringSettings
from quarterturn.worker.contract.detectors import Normal, supported
from quarterturn.worker.contract.embeddings import FRAME, Embeddings
from quarterturn.worker.contract.framing import Layout, cut
from quarterturn.worker.contract.manifest import EmbeddingSpec
from quarterturn.worker.contract.picture import BitDepth, Region
from quarterturn.worker.contract.views import orientations
from quarterturn.worker.fitting.normal import NormalFit
from quarterturn.worker.fitting.sights import Sight
from quarterturn.worker.fitting.synthetic_anomalies import paste_all
from quarterturn.worker.inspection.scoring import read
from quarterturn.worker.pictures.read import read_seen

Embed = Callable[[Frames], Embeddings]
OnProgress = Callable[[int], object]

PASTED = 2
"""Copies of each picture to weigh detectors by, each with another anomaly pasted in."""

_BATCH = 16  # pictures embedded at once
_AHEAD = 2  # batches read while the encoder is at work


class Embedder:
    """Sends pictures through an encoder, in batches; the next ones are read while it is at work.

    `sights` holds what each picture that was read is and measures.

    Args:
        spec: what the embeddings mean.
        embed: (N, S, S, 3) uint8 frames -> their embeddings.
        region: the part of each picture to look at.
        bit_depth: of samples that lie in 16 bits.
        on_progress: called with the number of pictures that were just embedded.
    """

    def __init__(
        self,
        spec: EmbeddingSpec,
        embed: Embed,
        region: Region | None = None,
        bit_depth: BitDepth | None = None,
        on_progress: OnProgress | None = None,
    ) -> None:
        self._spec = spec
        self._embed = embed
        self._region = region
        self._bit_depth = bit_depth
        self._on_progress = on_progress or (lambda _: None)
        self.sights: dict[Path, Sight] = {}

    @property
    def detectors(self) -> tuple[str, ...]:
        """Those that the embeddings allow."""
        return supported(self._spec)

    def read(self, paths: Sequence[Path]) -> Iterator[list[Picture]]:
        """The pictures of `paths`, cropped to the region, in batches; those far larger than a frame are smaller.

        Raises:
            DataError: a file cannot be read or is no picture.
        """

        def decode(start: int) -> list[Picture]:
            return [self._read(path) for path in paths[start : start + _BATCH]]

        starts = iter(range(0, len(paths), _BATCH))
        with ThreadPoolExecutor(_AHEAD, thread_name_prefix="decode") as pool:
            pending = deque(pool.submit(decode, start) for start in islice(starts, _AHEAD))
            while pending:
                pictures = pending.popleft().result()
                pending.extend(pool.submit(decode, start) for start in islice(starts, 1))
                yield pictures

    def pasted(self, paths: Sequence[Path]) -> Iterator[list[Picture]]:
        """The pictures of `paths` with anomalies pasted in, `PASTED` times over."""
        for seed in range(PASTED):
            for batch in self.read(paths):
                yield [picture for picture, _ in paste_all(batch, seed)]

    def embed(self, batches: Iterator[list[Picture]]) -> Iterator[tuple[Embeddings, list[Layout]]]:
        """The embeddings of each batch's tiles, and the layout of each picture."""
        for frames, layouts in self._framed(batches):
            yield self._embed(frames), layouts
            self._on_progress(len(layouts))

    def embed_to_learn(self, batches: Iterator[list[Picture]]) -> Iterator[tuple[Embeddings, list[Layout]]]:
        """As `embed`, with the frame's embedding in all R orientations, also in those that the engine does not view."""
        views = self._spec.views
        for frames, layouts in self._framed(batches):
            embeddings = self._embed(frames)
            missing = [
                self._embed(np.ascontiguousarray(np.rot90(frames, turns, axes=(1, 2))))[FRAME][:, :1]
                for turns in range(views, orientations(views))
            ]
            yield {**embeddings, FRAME: np.concatenate([embeddings[FRAME], *missing], axis=1)}, layouts
            self._on_progress(len(layouts))

    def fit(self, paths: Sequence[Path], coreset: int) -> NormalFit:
        """What the good parts of `paths`, one or more, look like; more may be added."""
        batches = self.embed_to_learn(self.read(paths))
        embeddings, layouts = next(batches)
        tiles = sum(len(layout.corners) for layout in layouts) / len(layouts)  # of a picture
        fit = NormalFit(self._spec, round(len(paths) * tiles), coreset)
        fit.add(embeddings, layouts)
        for embeddings, layouts in batches:
            fit.add(embeddings, layouts)
        return fit

    def distances(
        self, batches: Iterator[list[Picture]], normal: Normal, scoring: ScoringSettings, detectors: Sequence[str]
    ) -> Array:
        """(n, K) the distances of n pictures by each detector."""
        raw = [
            reading.raw[0]
            for embeddings, layouts in self.embed(batches)
            for reading in read(embeddings, layouts, [normal], scoring, detectors)
        ]
        return np.stack(raw)

    def _read(self, path: Path) -> Picture:
        seen = read_seen(path, self._spec.framing, self._region, self._bit_depth)
        if path not in self.sights:
            self.sights[path] = Sight.of(seen, self._spec.framing)
        return seen.picture

    def _framed(self, batches: Iterator[list[Picture]]) -> Iterator[tuple[Frames, list[Layout]]]:
        for pictures in batches:
            parts = [cut(picture, self._spec.framing) for picture in pictures]
            yield np.concatenate([frames for frames, _ in parts]), [layout for _, layout in parts]
