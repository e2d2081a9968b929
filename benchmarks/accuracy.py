"""How well defects are found on labelled folders: every seed trained, and once the raw backbone with its bank.

    python -m benchmarks.accuracy DATA/magnetic_tile/tile DATA/mvtec/screw --seeds 3 --out out/accuracy

Each run takes the whole way of a line: train, build, fit a bank, evaluate through the engine. It is written to
`results.jsonl` as soon as it is done; runs that are there already, with the same settings, are not repeated. So several
calls, each with the settings of its folders, fill one table, which `--table` only prints. A set is known by the names
of its last two folders. Code that changed is not noticed: begin a new `--out` then. The runs behind docs/method.md are
in benchmarks/results/accuracy.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.foreign import FOREIGN, Picture, over_threshold
from quarterturn.demo.config import DemoSettings, settings_for
from quarterturn.demo.fit import fit_line
from quarterturn.engine_build.build import build
from quarterturn.trainer.train import train
from quarterturn.worker.commands.options import add_config
from quarterturn.worker.contract.bank import Bank
from quarterturn.worker.contract.calibration import conformal_threshold
from quarterturn.worker.contract.errors import QuarterturnError
from quarterturn.worker.evaluation.evaluate import evaluate
from quarterturn.worker.evaluation.figures import Inspected
from quarterturn.worker.evaluation.probe.probe import probe
from quarterturn.worker.pictures.read import read_picture
from quarterturn.worker.pictures.sets import good_pictures, list_pictures, test_pictures
from quarterturn.worker.runtime.assemble import open_engine
from quarterturn.worker.runtime.memory import keep_freed_memory

Row = dict[str, Any]

KEY = ("set", "matched", "variant", "seed", "settings")
VARIANTS = {"trained": (), "raw": ("train.projection.steps=0", "train.head.steps=0")}
OVERKILLS = (0.01, 0.02)  # at which the escape is stated, where the calibration can promise them


def main(arguments: Sequence[str] | None = None) -> None:
    keep_freed_memory()
    parsed = parse(arguments)
    results: Path = parsed.out / "results.jsonl"
    if not parsed.table:
        parsed.out.mkdir(parents=True, exist_ok=True)
        try:
            for folder in parsed.folders:
                measure(folder.resolve(), parsed, results)
        except QuarterturnError as error:
            sys.exit(f"error: {error}")
    text = table(read_rows(results), [name.strip() for name in parsed.chosen_on.split(",")])
    (parsed.out / "table.md").write_text(text, encoding="utf-8")
    print(text, end="")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER", help="labelled pictures, see docs/data.md")
    add_config(parser, "configs/demo.yaml")
    parser.add_argument("--out", type=Path, default=Path("out/accuracy"), metavar="DIR", help="default: %(default)s")
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0, 1, ...; default: %(default)s")
    parser.add_argument(
        "--match-brightness",
        action="store_true",
        help="measure on copies whose pictures all have one median brightness",
    )
    parser.add_argument(
        "--chosen-on", default="magnetic_tile, screw", metavar="NAMES", help="sets by which settings were chosen"
    )
    parser.add_argument("--table", action="store_true", help="measure nothing, render what was measured")
    parsed = parser.parse_args(arguments)
    if not parsed.table and not parsed.folders:
        parser.error("name a folder to measure, or --table")
    return parsed


def measure(folder: Path, arguments: argparse.Namespace, results: Path) -> None:
    """Append the rows of all runs on `folder` that `results` does not hold yet."""
    known = {tuple(row[name] for name in KEY) for row in read_rows(results)}
    matched: bool = arguments.match_brightness

    def settings_of(data: Path, out: Path, *more: str) -> DemoSettings:
        return settings_for(arguments.config, data, out, [*arguments.overrides, *more])

    fingerprint = fingerprint_of(settings_of(folder, results.parent))

    def take(variant: str, seed: int | None, work: Callable[[], Row]) -> None:
        key = dict(zip(KEY, (name_of(folder), matched, variant, seed, fingerprint), strict=True))
        if tuple(key.values()) in known:
            return
        print(f"{name_of(folder)}: {variant}{'' if seed is None else f', seed {seed}'}", file=sys.stderr, flush=True)
        row = {**key, "overrides": arguments.overrides, **work()}
        with results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    with as_measured(folder, matched) as data, tempfile.TemporaryDirectory() as scratch:
        take("probe", None, lambda: {"finding": probe(data).findings[0].sentence})
        for seed in range(arguments.seeds):
            for variant, changes in VARIANTS.items():
                if variant == "raw" and seed:  # nothing is trained, so a seed decides next to nothing
                    continue
                settings = settings_of(data, Path(scratch), *changes, f"train.seed={seed}")
                take(variant, seed, lambda settings=settings: run(settings))  # type: ignore[misc]


def run(settings: DemoSettings) -> Row:
    """Train, build, fit and evaluate by `settings`; the figures."""
    fit, data = settings.bank, settings.train.data.path
    started_s = time.process_time()  # of all threads; what else the machine does at the time does not count
    train(settings.train, progress=sys.stderr.isatty())
    trained_s = time.process_time()
    build(settings.build, progress=False)
    bank = fit_line(settings)
    fitted_s = time.process_time()
    with closing(open_engine(fit.engine)) as engine:  # with the bank's region and bit depth
        found = evaluate(engine, bank, test_pictures(data), fit.overkill, data=data)
        foreign = over_threshold(engine, bank, data, fit.overkill, fit.region)
    total, where = found.total, found.localisation
    return {
        "good": total.good,
        "bad": total.bad,
        "masks": where.masks if where else 0,
        "auroc": total.auroc,
        "average_precision": total.average_precision,
        "recall_at_1": total.recall_at[0.01],
        "overkill": total.overkill,
        "promised": fit.overkill,
        "escape": {f"{overkill:.0%}": escape_at(found.inspected, bank, overkill) for overkill in OVERKILLS},
        "foreign": foreign,
        "pixel_auroc": where.pixel_auroc if where else None,
        "aupro": where.aupro if where else None,
        "peak_in_mask": where.peak_in_mask if where else None,
        "votes": bank.manifest.votes,
        "pasted": bank.manifest.found,
        "views": bank.manifest.spec.views,
        "bank_mb": len(bank.blob) / 1e6,
        "training_cpu_s": trained_s - started_s,
        "cpu_s": fitted_s - started_s,
        "target": found.target,
        "unreadable": len(found.unreadable),
    }


def escape_at(inspected: Sequence[Inspected], bank: Bank, overkill: float) -> float | None:
    """The share of bad parts that pass at the calibrated thresholds for `overkill`; None if that cannot be promised."""
    bad = [one for one in inspected if not one.is_good]
    try:
        thresholds = {
            product: conformal_threshold(calibration.scores, overkill)
            for product, calibration in zip(bank.products, bank.calibration, strict=True)
        }
    except ValueError:
        return None
    return sum(one.score <= thresholds[one.product] for one in bad) / len(bad) if bad else None


def fingerprint_of(settings: DemoSettings) -> str:
    """A short hash of all settings but the folders and the seed."""
    document = settings.model_dump(mode="json")
    for section, key in (("train", "out"), ("train", "seed"), ("build", "model"), ("build", "out"), ("bank", "out")):
        del document[section][key]
    del document["train"]["data"]["path"], document["bank"]["data"], document["bank"]["engine"]["path"]
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:8]


@contextmanager
def as_measured(folder: Path, matched: bool) -> Iterator[Path]:
    """The folder itself, or a copy of it with matched brightness that lives as long as the block."""
    if not matched:
        yield folder
        return
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch, folder.name)  # products are named after folders
        match_brightness(folder, copy)
        yield copy


def match_brightness(source: Path, target: Path) -> None:
    """Copy a labelled folder with every picture's median brightness as that of its product's training pictures.

    By gain, as a lamp or an exposure changes a picture: an offset would leave its contrast as another confounder
    (mvtec/screw: 0.95 by the standard deviation alone, against 0.59).
    """
    train = good_pictures(source)
    levels = {
        product: float(np.median([brightness(read_picture(p)) for p in paths])) for product, paths in train.items()
    }
    everywhere = float(np.median(list(levels.values())))

    def matched(product: str, picture: Picture) -> Picture:
        gain = levels.get(product, everywhere) / max(brightness(picture), 1.0)
        return np.clip(np.rint(picture * gain), 0, 255).astype(np.uint8)

    copy_changed(source, target, matched)


def copy_changed(source: Path, target: Path, change: Callable[[str, Picture], Picture]) -> None:
    """Copy a labelled folder, each picture as `change(product, picture)`.

    Pictures keep their names and become PNG inside; masks are copied as they are.
    """
    pictures = [(path, product) for product, paths in good_pictures(source).items() for path in paths]
    pictures += [(one.path, one.product) for one in test_pictures(source)]
    for path, product in pictures:
        copy = target / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(cv2.imencode(".png", change(product, read_picture(path))[..., ::-1])[1].tobytes())
    for masks in source.rglob("ground_truth"):
        for path in list_pictures(masks):
            copy = target / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)


def brightness(picture: np.ndarray[Any, np.dtype[np.uint8]]) -> float:
    """The median grey level of a picture (H, W, 3) RGB."""
    return float(np.median(cv2.cvtColor(picture.astype(np.float32), cv2.COLOR_RGB2GRAY)))


def read_rows(results: Path) -> list[Row]:
    """The rows measured so far."""
    if not results.exists():
        return []
    return [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]


def table(rows: Sequence[Row], chosen_on: Sequence[str]) -> str:
    """The rows as Markdown: one line for each set, settings and variant, the mean over its seeds.

    Lines name their settings where a set has several.
    """
    sets: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        sets.setdefault((row["set"], row["matched"], row["settings"]), []).append(row)
    lines = [
        f"Settings were chosen on {', '.join(chosen_on)} (marked \\*): figures on these sets flatter them.",
        "Means over the seeds, the AUROC with its lowest and highest. † every picture's median brightness matched to",
        "that of the training pictures.",
        "",
        f"| {' | '.join(COLUMNS)} |",
        f"|---|---|{'---:|' * (len(COLUMNS) - 2)}",
    ]
    notes = []
    groups = Counter((measured, matched) for measured, matched, _ in sets)
    for (measured, matched, settings), found in sets.items():
        name = measured + ("\\*" if any(one in measured for one in chosen_on) else "") + "†" * matched
        title = f"{name}, settings {settings}"
        for variant in VARIANTS:
            runs = [row for row in found if row["variant"] == variant]
            if runs:
                shown = title if groups[measured, matched] > 1 else name
                lines.append(f"| {' | '.join([shown, variant, *cells(runs)])} |")
        notes.append(note(title, found))
    return "\n".join([*lines, "", *notes, "", *foreign_table(rows)]) + "\n"


def foreign_table(rows: Sequence[Row]) -> list[str]:
    """The lowest score over threshold of each kind of foreign frame, of all seeds of a set's trained models."""
    runs: dict[str, list[dict[str, float]]] = {}
    for row in rows:
        if row["variant"] == "trained":
            runs.setdefault(row["set"] + "†" * row["matched"], []).append(row["foreign"])
    lines = [f"| frames without a part | {' | '.join(FOREIGN)} |", f"|---|{'---:|' * len(FOREIGN)}"]
    for name, found in runs.items():
        lowest = [min(one[kind] for one in found) for kind in FOREIGN]
        lines.append(f"| {name} | {' | '.join(f'{value:.1f}' for value in lowest)} |")
    return lines


COLUMNS = (
    "set",
    "model",
    "AUROC",
    "escape at 1%, 2%",
    "overkill (promised)",
    "pixel AUROC",
    "AUPRO",
    "peak in mask",
    "votes",
    "views",
    "bank, MB",
    "training, all: CPU s",
)


def cells(runs: Sequence[Row]) -> list[str]:
    aurocs = [row["auroc"] for row in runs if row["auroc"] is not None]
    spread = f" ({min(aurocs):.3f}–{max(aurocs):.3f})" if aurocs else ""
    return [
        mean(runs, "auroc", ".3f") + spread,
        ", ".join(mean([row["escape"] for row in runs], f"{overkill:.0%}", ".1%") for overkill in OVERKILLS),
        f"{mean(runs, 'overkill', '.1%')} ({mean(runs, 'promised', '.1%')})",
        mean(runs, "pixel_auroc", ".3f"),
        mean(runs, "aupro", ".3f"),
        mean(runs, "peak_in_mask", ".1%"),
        votes(runs),
        counted([str(row["views"]) for row in runs]),
        mean(runs, "bank_mb", ".1f"),
        f"{mean(runs, 'training_cpu_s', '.0f')}, {mean(runs, 'cpu_s', '.0f')}",
    ]


def mean(runs: Sequence[Row], name: str, form: str) -> str:
    """The mean of a figure over the runs that have it."""
    values = [row[name] for row in runs if row[name] is not None]
    return format(sum(values) / len(values), form) if values else "–"


def counted(names: Sequence[str]) -> str:
    """`4 2×, 1 1×`; one name alone without a number."""
    counts = Counter(names).most_common()
    return names[0] if len(counts) == 1 else ", ".join(f"{name} {count}×" for name, count in counts)


def votes(runs: Sequence[Row]) -> str:
    """The detectors' mean shares of the score, the largest first."""
    names = sorted({name for row in runs for name in row["votes"]})
    means = {name: sum(row["votes"].get(name, 0) for row in runs) / len(runs) for name in names}
    return ", ".join(f"{name} {share:.0%}" for name, share in sorted(means.items(), key=lambda item: -item[1]))


def note(title: str, found: Sequence[Row]) -> str:
    """What is behind the figures of one set: how many pictures, which settings, what the probe says."""
    said, trained = [f"- {title}"], [row for row in found if row["variant"] == "trained"]
    if trained:
        one = trained[0]
        said.append(f"{one['good']} good, {one['bad']} bad, {one['masks']} masks")
        said.append(f"{len(trained)} seed{'s' * (len(trained) > 1)}")
        said.append(f"through {one['target']}{''.join(f', `{s}`' for s in one['overrides'])}")
    said += [f"probe: {row['finding']}" for row in found if row["variant"] == "probe"]
    return "; ".join(said)


def name_of(folder: Path) -> str:
    """A set's name: its folder's, behind that of the folder above."""
    return "/".join(folder.parts[-2:])


if __name__ == "__main__":
    main()
