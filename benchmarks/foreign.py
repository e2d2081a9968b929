"""Frames that show no part at all: how far beyond its threshold each is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from quarterturn.worker.contract.bank import Bank
from quarterturn.worker.contract.framing import cut
from quarterturn.worker.contract.limits import times_limit
from quarterturn.worker.contract.picture import Region
from quarterturn.worker.engine.base import Engine
from quarterturn.worker.inspection.judge import Judge, Judgement
from quarterturn.worker.inspection.scorer import Scorer
from quarterturn.worker.pictures.read import crop, read_picture
from quarterturn.worker.pictures.sets import good_pictures

Picture = npt.NDArray[np.uint8]
Make = Callable[[np.random.Generator, Picture], Picture]

_PICTURES = 8  # good ones of each product, of which a frame is made
_PIECES = 8  # of the ground, along a side


def _noise(rng: np.random.Generator, good: Picture) -> Picture:
    return rng.integers(0, 256, good.shape, dtype=np.uint8)


def _ground(rng: np.random.Generator, good: Picture) -> Picture:
    """What lies in the picture's corners, everywhere."""
    height, width = (-(-side // _PIECES) for side in good.shape[:2])
    corners = [good[y, x] for y in (np.s_[:height], np.s_[-height:]) for x in (np.s_[:width], np.s_[-width:])]
    rows = [np.hstack([corners[rng.integers(4)] for _ in range(_PIECES)]) for _ in range(_PIECES)]
    return np.vstack(rows)[: good.shape[0], : good.shape[1]]


FOREIGN: dict[str, Make] = {
    "black": lambda _, good: np.zeros_like(good),
    "grey": lambda _, good: np.full_like(good, 128),
    "white": lambda _, good: np.full_like(good, 255),
    "as bright as the part": lambda _, good: np.full_like(good, int(good.mean())),
    "noise": _noise,
    "a tenth of the light": lambda _, good: np.asarray(good // 10, np.uint8),
    "blurred": lambda _, good: np.asarray(cv2.GaussianBlur(good, (0, 0), good.shape[0] / 32), np.uint8),
    "ground alone": _ground,
}
"""What a frame without a part may look like, made of a good picture (H, W, 3)."""


def over_threshold(
    engine: Engine, bank: Bank, data: Path, overkill: float, region: Region | None = None
) -> dict[str, float]:
    """The lowest score over threshold of each kind of foreign frame, over all products: above 1 all are alerts."""
    judge, lowest = Judge.of(bank, overkill, {}), dict.fromkeys(FOREIGN, np.inf)
    for product, paths in good_pictures(data).items():
        goods = [crop(read_picture(path), region) for path in paths[:_PICTURES]]
        for kind, make in FOREIGN.items():
            rng = np.random.default_rng(0)
            for judged in judged_as(engine, judge, product, [make(rng, good) for good in goods]):
                lowest[kind] = min(lowest[kind], times_limit(judged.score, judged.threshold))
    return {kind: round(float(ratio), 3) for kind, ratio in lowest.items()}


def judged_as(engine: Engine, judge: Judge, product: str, pictures: list[Picture]) -> list[Judgement]:
    """Pictures that show `product` and nothing else, judged together."""
    scorer, parts = Scorer(judge.bank), [cut(picture, engine.spec.framing) for picture in pictures]
    embeddings = engine.embed(np.concatenate([frames for frames, _ in parts]))
    layouts = [layout for _, layout in parts]
    return [judge.judge(one) for one in scorer.score(embeddings, layouts, [scorer.admissible([product])] * len(parts))]
