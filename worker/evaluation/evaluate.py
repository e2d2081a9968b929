"""Offline scoring: a labelled folder through the same inspector that serves the line."""

from __future__ import annotations

import difflib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path

from quarterturn.worker.contract.bank import Bank
from quarterturn.worker.contract.calibration import promises
from quarterturn.worker.contract.errors import DataError
from quarterturn.worker.contract.picture import BitDepth, Region
from quarterturn.worker.engine.base import Engine
from quarterturn.worker.evaluation.choice import choices
from quarterturn.worker.evaluation.figures import Inspected, Unreadable
from quarterturn.worker.evaluation.masks import Masks, find_masks, localise
from quarterturn.worker.evaluation.ran import what_was_run
from quarterturn.worker.evaluation.result import Evaluation, Swapped
from quarterturn.worker.inspection.inspector import Inspector
from quarterturn.worker.messages.events import DeadLetter, Outcome, Verdict
from quarterturn.worker.messages.frames import Frame, Position
from quarterturn.worker.pictures.sets import GOOD, TestPicture
from quarterturn.worker.settings.worker import CameraSettings

OnProgress = Callable[[int, int], object]

_BATCH = 16
_AHEAD = 2  # batches that are begun before the first is done
_CAMERA = "evaluation"


def evaluate(
    engine: Engine,
    bank: Bank,
    pictures: Sequence[TestPicture],
    overkill: float,
    *,
    data: Path | None = None,
    thresholds: Mapping[str, float] | None = None,
    region: Region | None = None,
    bit_depth: BitDepth | None = None,
    on_progress: OnProgress | None = None,
) -> Evaluation:
    """Inspect labelled pictures as a line would.

    Each picture is declared as its product, where the bank holds that. With a bank of several products the good parts
    are then inspected once more, each declared as another one.

    Args:
        engine: the engine that made the bank.
        bank: the bank to judge by.
        pictures: the labelled pictures.
        overkill: the share of good parts that may be rejected; sets the thresholds.
        data: the folder that the pictures are from; the heat maps are compared with the masks it holds.
        thresholds: fixed thresholds by product, instead of the calibrated ones.
        region: the part of each picture to look at; None: that of the bank.
        bit_depth: of samples that lie in 16 bits; None: that of the bank.
        on_progress: called with how many frames are done and how many there are in all.

    Example, with an `engine`, a `bank` and labelled pictures in the folder `ring`:
        >>> evaluation = evaluate(engine, bank, test_pictures(Path("ring")), overkill=0.05)
        >>> evaluation.by_defect["ring", "scratch"].escape
        0.0

    Raises:
        DataError: a picture's file cannot be read, no picture can be inspected, or the bank cannot promise `overkill`.
        MismatchError: the bank was made by another engine.
    """
    region, bit_depth = region or bank.manifest.region, bit_depth or bank.manifest.bit_depth
    honest = [(one.path, one.product if one.product in bank.products else None) for one in pictures]
    swapped = _swapped(pictures, bank.products)
    # Files are no camera's: a folder may hold a picture twice.
    camera = CameraSettings(region=region, bit_depth=bit_depth, frozen_after=None)
    inspector = Inspector(engine, _CAMERA, overkill, {_CAMERA: camera}, thresholds)
    with closing(inspector):
        inspector.use(bank)
        outcomes = _inspect(inspector, honest + swapped, on_progress)
    judged = list(zip(pictures, outcomes, strict=False))  # the honest ones
    verdicts = [(picture, outcome) for picture, outcome in judged if isinstance(outcome, Verdict)]
    unreadable = [
        Unreadable(one.path, outcome.data.message) for one, outcome in judged if isinstance(outcome, DeadLetter)
    ]
    if unreadable and not verdicts:
        one = unreadable[0]
        raise DataError(f"none of {len(pictures)} pictures could be inspected; the first, {one.path}: {one.reason}")
    masks = find_masks(data, pictures, region) if data else Masks()
    inspected = [_inspected(picture, verdict, masks) for picture, verdict in verdicts]
    return Evaluation(
        engine=engine.hash,
        target=engine.target,
        bank=bank.version,
        overkill=overkill,
        promises=promises(bank, overkill, thresholds or {}),
        inspected=inspected,
        unreadable=unreadable,
        warnings=list(_undeclared(pictures, bank.products)),
        swapped=_swapped_figures(outcomes[len(pictures) :]),
        localisation=localise(
            [(v.heat, masks.known[one.path]) for one, v in verdicts if one.path in masks.known and v.heat.size > 1]
        ),
        mask_faults=masks.faults,
        choices=choices(bank, inspected, overkill),
        ran=what_was_run(bank, overkill, data=data, thresholds=thresholds or {}, region=region),
        region=region,
        bit_depth=bit_depth,
    )


def _undeclared(pictures: Sequence[TestPicture], products: Sequence[str]) -> Iterator[str]:
    """A sentence for each product that the bank does not hold."""
    for name in sorted({one.product for one in pictures} - {*products}):
        close = {product.lower(): product for product in products}.get(name.lower())
        meant = close or next(iter(difflib.get_close_matches(name, products, n=1)), None)
        yield (
            f"the bank holds {', '.join(products)}, and no '{name}': its pictures were judged as any of those"
            + (f"; if they are of '{meant}', name their folder so" if meant else "")
        )


def _swapped(pictures: Sequence[TestPicture], products: Sequence[str]) -> list[tuple[Path, str | None]]:
    """The good parts, each with another product than its own; all others take their turn."""
    pairs: list[tuple[Path, str | None]] = []
    for index, picture in enumerate(pictures):
        others = [product for product in products if product != picture.product]
        if picture.defect == GOOD and picture.product in products and others:
            pairs.append((picture.path, others[index % len(others)]))
    return pairs


def _inspect(
    inspector: Inspector, declared: Sequence[tuple[Path, str | None]], on_progress: OnProgress | None
) -> list[Outcome]:
    outcomes: list[Outcome] = []
    begun: deque[Future[list[Outcome]]] = deque()
    for start in range(0, len(declared), _BATCH):
        batch = enumerate(declared[start : start + _BATCH], start)
        begun.append(inspector.begin([_frame(path, product, index) for index, (path, product) in batch]))
        ahead = _AHEAD if start + _BATCH < len(declared) else 0
        while len(begun) > ahead:
            outcomes += begun.popleft().result()
            if on_progress:
                on_progress(len(outcomes), len(declared))
    return outcomes


def _frame(path: Path, product: str | None, index: int) -> Frame:
    headers = {"camera": _CAMERA.encode(), **({"product": product.encode()} if product else {})}
    try:
        return Frame(Position(_CAMERA, 0, index), None, headers, path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error


def _inspected(picture: TestPicture, verdict: Verdict, masks: Masks) -> Inspected:
    data = verdict.data
    mask = masks.known.get(picture.path)
    return Inspected(
        path=picture.path,
        product=picture.product,
        defect=picture.defect,
        score=data.score,
        threshold=data.threshold,
        alert=data.alert,
        nearest=data.predicted_product,
        heat=verdict.heat if verdict.heat.size > 1 else None,
        masks=mask.paths if mask else (),
    )


def _swapped_figures(outcomes: Sequence[Outcome]) -> Swapped | None:
    alerts = [outcome.data.alert for outcome in outcomes if isinstance(outcome, Verdict)]
    if not alerts:
        return None
    alerted = sum(alert is not None for alert in alerts)
    return Swapped(len(alerts), alerted / len(alerts), alerts.count("wrong_product") / len(alerts))
