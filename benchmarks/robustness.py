"""What a line does when its light, focus or camera changes, step by step; when `drift` tells; and whether it is quiet.

    python -m benchmarks.robustness DATA/elpv/mono [--set train.head.steps=0 --set train.projection.steps=0]

Makes an engine and a bank of the labelled pictures below `--work`, unless they are there. Good and bad test pictures
then take every step of `benchmarks/ladders.py`; a row is what comes of them, and after how many frames of the step an
alarm is raised: by streams of measures drawn from the good pictures, 500 as they are, then 1,000 of the step. On normal
days the same measures are drawn 100,000 times, with what fluctuates (`normal_days`). The table is printed and written
to `--out`, with the rows as JSON. A set is known by the name of its last two folders.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.accuracy import as_measured, copy_changed
from benchmarks.foreign import Picture
from benchmarks.ladders import AS_THEY_ARE, MOVED, STEPS, motion, warped
from benchmarks.streams import DAYS, WANDERS, drift_after, normal_days
from quarterturn.demo.config import settings_for
from quarterturn.demo.fit import fit_line
from quarterturn.engine_build.build import build
from quarterturn.trainer.train import train
from quarterturn.worker.commands.options import add_config
from quarterturn.worker.contract.bank import Bank
from quarterturn.worker.contract.framing import Framing, cut
from quarterturn.worker.contract.limits import times_limit
from quarterturn.worker.contract.registration import MOTIONS, Registration, small_picture
from quarterturn.worker.engine.base import Engine
from quarterturn.worker.fitting.bank_file import read_bank_file
from quarterturn.worker.fitting.fit import fit_bank
from quarterturn.worker.fitting.split import split_pictures
from quarterturn.worker.inspection.inspector import Inspector
from quarterturn.worker.messages.events import Verdict
from quarterturn.worker.messages.frames import Frame, Position
from quarterturn.worker.pictures.read import read_picture
from quarterturn.worker.pictures.sets import GOOD, TestPicture, test_pictures
from quarterturn.worker.runtime.assemble import open_engine
from quarterturn.worker.runtime.memory import keep_freed_memory
from quarterturn.worker.settings.worker import CameraSettings, EngineSettings

Row = dict[str, Any]

Before = Callable[[str, Picture], Picture]
"""What becomes of a picture of a product before it is inspected."""

_CAMERA = "robustness"
_HOLDOUT = 0.35  # of the pictures laid back, for weighing and calibration
_ROUNDS = 8  # to lay a picture back


def main(arguments: Sequence[str] | None = None) -> None:
    keep_freed_memory()
    parsed = parse(arguments)
    folder = parsed.folder.resolve()
    name = "-".join(folder.parts[-2:])
    with (
        as_measured(folder, parsed.match_brightness) as data,
        closing(open_line(data, parsed.work / name, parsed)) as line,
    ):
        good, bad = (some_of(data, parsed.pictures, good=is_good) for is_good in (True, False))
        rows = [*ladders(line, line.laid_back(data), good, bad)]
        pools = inspected(line, some_of(data, parsed.days, good=True)), inspected(line, bad)
    quiet = [normal_days(*pools, wander) for wander in WANDERS]
    parsed.out.mkdir(parents=True, exist_ok=True)
    found = {"set": name, "good": len(good), "bad": len(bad), "rows": rows, "normal days": quiet}
    (parsed.out / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (parsed.out / f"{name}.md").write_text(table(found), encoding="utf-8")
    print(table(found), end="")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="labelled pictures, see docs/data.md")
    add_config(parser, "configs/demo.yaml")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/robustness"), metavar="DIR")
    parser.add_argument("--work", type=Path, default=Path("out/robustness"), metavar="DIR", help="engines and banks")
    parser.add_argument("--pictures", type=int, default=40, help="good and bad ones on each step; default: %(default)s")
    parser.add_argument("--days", type=int, default=150, help="good ones of normal days; default: %(default)s")
    parser.add_argument("--match-brightness", action="store_true", help="as benchmarks.accuracy does")
    return parser.parse_args(arguments)


class Line:
    """An engine and a bank, which inspect pictures as a worker would."""

    def __init__(self, engine: Engine, bank: Bank, before: Before = lambda _, picture: picture) -> None:
        self.bank = bank
        self._engine = engine
        self._before = before
        camera = CameraSettings(region=bank.manifest.region, frozen_after=None)
        self._inspector = Inspector(engine, _CAMERA, bank.manifest.overkill, {_CAMERA: camera})
        self._inspector.use(bank)

    def inspect(self, product: str, pictures: Sequence[Picture]) -> list[Verdict]:
        headers = {"camera": _CAMERA.encode(), "product": product.encode()}
        found = []
        for begin in range(0, len(pictures), 16):
            batch = enumerate(pictures[begin : begin + 16], begin)
            made = ((n, _png(self._before(product, one))) for n, one in batch)
            frames = [Frame(Position(_CAMERA, 0, n), None, headers, data) for n, data in made]
            found += [one for one in self._inspector.inspect(frames) if isinstance(one, Verdict)]
        return found

    def laid_back(self, data: Path) -> Line | None:
        """One whose bank is fitted from the pictures of `data` laid onto the mean of this one; None if that is no use.

        It lays the pictures back that it inspects.
        """
        if not any(one.told.any() for one in self.bank.registrations):
            return None

        def lay(product: str, picture: Picture) -> Picture:
            registration = self.bank.registrations[self.bank.products.index(product)]
            return laid_back(registration, self._engine.spec.framing, picture)

        with tempfile.TemporaryDirectory() as scratch:
            copy = Path(scratch, data.name)  # products are named after folders
            copy_changed(data, copy, lay)
            manifest = self.bank.manifest
            bank = fit_bank(self._engine, split_pictures(copy, None, _HOLDOUT), manifest.scoring, manifest.overkill)
        return Line(self._engine, bank, lay)

    def close(self) -> None:
        self._inspector.close()
        self._engine.close()


def open_line(data: Path, work: Path, arguments: argparse.Namespace) -> Line:
    """The line of `data` below `work`, made if it is not there."""
    settings = settings_for(arguments.config, data, work, arguments.overrides)
    if not settings.bank.out.exists():
        train(settings.train, progress=False)
        build(settings.build, progress=False)
        fit_line(settings)
    return Line(open_engine(EngineSettings(path=settings.build.out)), read_bank_file(settings.bank.out))


def some_of(data: Path, count: int, *, good: bool) -> list[tuple[TestPicture, Picture]]:
    """At most `count` labelled pictures, spread over all."""
    chosen = [one for one in test_pictures(data) if (one.defect == GOOD) == good]
    return [(one, read_picture(one.path)) for one in chosen[:: max(1, -(-len(chosen) // count))]]


def ladders(
    line: Line,
    back: Line | None,
    good: Sequence[tuple[TestPicture, Picture]],
    bad: Sequence[tuple[TestPicture, Picture]],
) -> Iterator[Row]:
    """A row for the pictures as they are, and one for each step; `back` lays pictures back first."""
    clean = inspected(line, good)
    for step in (AS_THEY_ARE, *STEPS):
        print(f"{step.ladder} {step.says}", file=sys.stderr, flush=True)
        rng = np.random.default_rng(0)
        changed = [[(one, step.make(rng, picture)) for one, picture in some] for some in (good, bad)]
        ours, theirs = (inspected(line, some) for some in changed)
        row = {"ladder": step.ladder, "step": step.says, **outcome(ours, theirs), "drift": drift_after(clean, ours)}
        if back is not None and step.ladder in MOVED:
            row["laid back"] = outcome(*(inspected(back, some) for some in changed))
        yield row


def inspected(line: Line, pictures: Sequence[tuple[TestPicture, Picture]]) -> list[Verdict]:
    products = dict.fromkeys(one.product for one, _ in pictures)
    return [
        verdict
        for product in products
        for verdict in line.inspect(product, [picture for one, picture in pictures if one.product == product])
    ]


def outcome(good: Sequence[Verdict], bad: Sequence[Verdict]) -> Row:
    """Shares of the good that are rejected, and unusable, and of the bad that pass; AUROC of scores in thresholds."""
    mine, theirs = (np.array([times_limit(one.data.score, one.data.threshold) for one in some]) for some in (good, bad))
    return {
        "overkill": float(np.mean([one.is_alert for one in good])),
        "unusable": float(np.mean([one.data.alert == "unusable_picture" for one in good])),
        "escape": float(np.mean([not one.is_alert for one in bad])),
        "auroc": float(np.mean((theirs[:, None] > mine) + 0.5 * (theirs[:, None] == mine))),
    }


def laid_back(registration: Registration, framing: Framing, picture: Picture) -> Picture:
    """The picture, moved so that it lies as the bank's do, by as many steps of alignment as it takes."""
    by = np.zeros(len(MOTIONS))
    moved = picture
    for _ in range(_ROUNDS):
        by += registration.told * registration.motion(small_picture(*cut(moved, framing)))
        moved = _back(picture, by)
    return moved


def _back(picture: Picture, by: np.ndarray) -> Picture:
    """The inverse of `ladders.place`."""
    right, down, turn, size = by
    return warped(picture, motion(picture, right, down, turn, size), cv2.WARP_INVERSE_MAP)


def table(found: Row) -> str:
    """In Markdown."""
    lines = [
        f"**{found['set']}**: {found['good']} good and {found['bad']} bad pictures on each step.",
        "",
        "| | step | overkill | escape | AUROC | drift after frames | laid back: overkill | AUROC |",
        "|---|---|---:|---:|---:|---|---:|---:|",
    ]
    for row in found["rows"]:
        told = ", ".join(
            f"{measure} {after}" for measure, after in sorted(row["drift"].items(), key=lambda one: one[1])
        )
        if row["unusable"] > 0:
            told = ", ".join([f"{row['unusable']:.0%} unusable", *([told] if told else [])])
        back = row.get("laid back")
        cells = [f"{back['overkill']:.0%}", f"{back['auroc']:.3f}"] if back else ["", ""]
        lines.append(
            f"| {row['ladder']} | {row['step']} | {row['overkill']:.0%} | {row['escape']:.0%} | {row['auroc']:.3f} "
            f"| {told or '–'} | {' | '.join(cells)} |"
        )
    lines.append("")
    for days in found["normal days"]:
        alarms = ", ".join(f"{measure} {count}" for measure, count in days["alarms"].items()) or "none"
        lines.append(f"Alarms in {DAYS:,} frames of normal days, measures wandering by {days['wander']:g}: {alarms}.")
    return "\n".join(lines) + "\n"


def _png(picture: Picture) -> bytes:
    return cv2.imencode(".png", picture[..., ::-1])[1].tobytes()


if __name__ == "__main__":
    main()
