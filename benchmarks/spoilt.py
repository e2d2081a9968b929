"""Pictures that a person would stop, and some that look spoilt: what a line says of each.

    python -m benchmarks.spoilt --line ENGINE DATA [--line ENGINE DATA ...]

Through each engine (a folder that `quarterturn build` wrote) a bank is fitted from its labelled pictures, and good test
pictures are spoilt and inspected as a worker would, as PNG files and by their product. A cell is the least score over
threshold, and how many of the pictures are alerts of which kind. A set is known by the name of its last two folders.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import cv2
import numpy as np

from benchmarks.foreign import FOREIGN, Make, Picture
from quarterturn.worker.contract.bank import Bank, ScoringSettings
from quarterturn.worker.contract.limits import times_limit
from quarterturn.worker.contract.manifest import EngineManifest, read_manifest
from quarterturn.worker.engine.base import Engine
from quarterturn.worker.fitting.fit import fit_bank
from quarterturn.worker.fitting.split import split_pictures
from quarterturn.worker.inspection.inspector import Inspector
from quarterturn.worker.messages.events import ResultData, Verdict
from quarterturn.worker.messages.frames import Frame, Position
from quarterturn.worker.pictures.read import read_picture
from quarterturn.worker.pictures.sets import GOOD, test_pictures
from quarterturn.worker.runtime.assemble import open_engine
from quarterturn.worker.runtime.memory import keep_freed_memory
from quarterturn.worker.settings.worker import CameraSettings, EngineSettings

Inspect = Callable[[str, Sequence[Picture]], list[ResultData]]
"""Inspects pictures that are declared as a product."""

_CAMERA = "spoilt"


def _light(factor: float) -> Make:
    return lambda _, good: cv2.convertScaleAbs(good, alpha=factor).astype(np.uint8)


def _blur(share: float) -> Make:
    """`share` of the shorter side is the width (sigma) of the blur."""
    return lambda _, good: cv2.GaussianBlur(good, (0, 0), share * min(good.shape[:2])).astype(np.uint8)


def _moved(_: np.random.Generator, good: Picture) -> Picture:
    """Blurred along a tenth of the shorter side, as by a part that moves."""
    length = min(good.shape[:2]) // 10 | 1
    along = np.full((1, length), 1 / length)
    return cv2.filter2D(good, -1, along, borderType=cv2.BORDER_REPLICATE).astype(np.uint8)


def _covered(share: float) -> Make:
    """By something dark and rough, such as a glove."""

    def make(rng: np.random.Generator, good: Picture) -> Picture:
        covered, width = good.copy(), round(share * good.shape[1])
        rough = 60 + 2 * cv2.GaussianBlur(rng.normal(0, 40, (len(good), width)), (0, 0), 3)
        covered[:, :width] = np.clip(rough, 0, 255)[..., None]
        return covered

    return make


def _warped(matrix: Callable[[int, int], np.ndarray], border: int) -> Make:
    def make(_: np.random.Generator, good: Picture) -> Picture:
        height, width = good.shape[:2]
        return cv2.warpAffine(good, matrix(height, width), (width, height), borderMode=border).astype(np.uint8)

    return make


def _half_lost(_: np.random.Generator, good: Picture) -> Picture:
    lost = good.copy()
    lost[len(good) // 2 :] = 128
    return lost


def _salted(rng: np.random.Generator, good: Picture) -> Picture:
    """A tenth of the pixels black or white."""
    salted, drawn = good.copy(), rng.random(good.shape[:2])
    salted[drawn < 0.05], salted[drawn > 0.95] = 0, 255
    return salted


def _torn(_: np.random.Generator, good: Picture) -> Picture:
    """Every other eighth of the rows is shifted by a quarter, as by lost packets."""
    torn = good.copy()
    for rows in np.array_split(np.arange(len(good)), 8)[1::2]:
        torn[rows] = np.roll(torn[rows], good.shape[1] // 4, axis=1)
    return torn


def _striped(_: np.random.Generator, good: Picture) -> Picture:
    """A quarter of the columns shows its first pixel all the way down."""
    striped = good.copy()
    for columns in np.array_split(np.arange(good.shape[1]), 16)[1::4]:
        striped[:, columns] = striped[:1, columns]
    return striped


def _blocks(_: np.random.Generator, good: Picture) -> Picture:
    jpeg = cv2.imencode(".jpg", good, [cv2.IMWRITE_JPEG_QUALITY, 3])[1]
    return np.asarray(cv2.imdecode(jpeg, cv2.IMREAD_COLOR), np.uint8)


SPOILT: dict[str, Make] = {
    **FOREIGN,
    "three tenths of the light": _light(0.3),
    "four times the light": _light(4),
    "slightly blurred": _blur(1 / 64),
    "blurred by motion": _moved,
    "half covered": _covered(0.5),
    "a quarter covered": _covered(0.25),
    "lower half lost": _half_lost,
    "shifted by half": _warped(lambda _, w: np.array([[1, 0, w / 2], [0, 1, 0]]), cv2.BORDER_REPLICATE),
    "zoomed by a half": _warped(lambda h, w: cv2.getRotationMatrix2D((w / 2, h / 2), 0, 1.5), cv2.BORDER_REPLICATE),
    "inverted": lambda _, good: 255 - good,
    "red for blue": lambda _, good: good[..., ::-1].copy(),
    "colour cast": lambda _, good: np.clip(good * np.array([1.3, 1, 0.6]), 0, 255).astype(np.uint8),
    "JPEG blocks": _blocks,
    "salt and pepper": _salted,
    "torn": _torn,
    "stuck columns": _striped,
    "turned by 90°": lambda _, good: np.rot90(good).copy(),
    "turned by 10°": _warped(lambda h, w: cv2.getRotationMatrix2D((w / 2, h / 2), 10, 1), cv2.BORDER_REFLECT_101),
    "mirrored": lambda _, good: good[:, ::-1].copy(),
}
"""Ways to spoil a good picture (H, W, 3); not all of them show in every picture."""


@contextmanager
def inspecting(engine: Engine, bank: Bank, overkill: float) -> Iterator[Inspect]:
    """As a worker would, with this bank in service."""
    camera = CameraSettings(region=bank.manifest.region, frozen_after=None)  # one black picture is like another
    with closing(Inspector(engine, _CAMERA, overkill, {_CAMERA: camera})) as inspector:
        inspector.use(bank)

        def inspect(product: str, pictures: Sequence[Picture]) -> list[ResultData]:
            outcomes = inspector.inspect([_frame(product, n, picture) for n, picture in enumerate(pictures)])
            return [outcome.data for outcome in outcomes if isinstance(outcome, Verdict)]

        yield inspect


def _frame(product: str, number: int, picture: Picture) -> Frame:
    png = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes()
    return Frame(Position(_CAMERA, 0, number), None, {"camera": _CAMERA.encode(), "product": product.encode()}, png)


def good_test_pictures(data: Path, count: int) -> dict[str, list[Picture]]:
    """The first good test pictures of each product, `count` in all."""
    labelled = [one for one in test_pictures(data) if one.defect == GOOD]
    chosen = labelled[:: max(1, len(labelled) // count)][:count]
    return {
        product: [read_picture(one.path) for one in chosen if one.product == product]
        for product in {one.product: None for one in chosen}
    }


def cells(inspect: Inspect, good: dict[str, list[Picture]], other: Sequence[Picture]) -> dict[str, str]:
    """What is said of each kind of spoilt picture; `other` shows another thing, where there is another."""
    kinds: dict[str, Make] = {"good": lambda _, picture: picture, **SPOILT}
    said: dict[str, str] = {}
    for kind, make in kinds.items():
        rng = np.random.default_rng(0)
        found = [data for product, some in good.items() for data in inspect(product, [make(rng, one) for one in some])]
        said[kind] = cell(found)
    if other:
        said["another object"] = cell([data for product in good for data in inspect(product, other)])
    return said


def cell(found: Sequence[ResultData]) -> str:
    """The least score over threshold, and which alerts there are."""
    counts = Counter((data.alert or "good").replace("_picture", "") for data in found)
    told = ", ".join(kind if count == len(found) else f"{count} {kind}" for kind, count in counts.most_common())
    return f"{min(times_limit(data.score, data.threshold) for data in found):.2g} {told}"


def table(columns: dict[str, dict[str, str]]) -> str:
    """In Markdown: a row for each kind, a column for each set."""
    lines = [f"| | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]
    for kind in dict.fromkeys(kind for column in columns.values() for kind in column):
        lines.append(f"| {kind} | {' | '.join(column.get(kind, '–') for column in columns.values())} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    keep_freed_memory()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--line", nargs=2, type=Path, action="append", required=True, metavar=("ENGINE", "DATA"))
    parser.add_argument("--pictures", type=int, default=8, help="of each set that are spoilt; default: %(default)s")
    parser.add_argument("--overkill", type=float, default=0.02, help="of the banks; default: %(default)s")
    parsed = parser.parse_args(arguments)
    good = {data: good_test_pictures(data, parsed.pictures) for _, data in parsed.line}
    columns: dict[str, dict[str, str]] = {}
    for n, (engine, data) in enumerate(parsed.line):
        other = parsed.line[(n + 1) % len(parsed.line)][1]
        things = [picture for some in good[other].values() for picture in some] if other != data else []
        holdout = read_manifest(engine, EngineManifest, "quarterturn build").holdout
        with closing(open_engine(EngineSettings(path=engine))) as opened:
            bank = fit_bank(opened, split_pictures(data, None, holdout), ScoringSettings(), parsed.overkill)
            with inspecting(opened, bank, parsed.overkill) as inspect:
                columns["/".join(data.resolve().parts[-2:])] = cells(inspect, good[data], things)
    print(table(columns))


if __name__ == "__main__":
    main()
