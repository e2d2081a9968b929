"""What changed between two versions of a bank, and which results would turn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field

from quarterturn.worker.contract.bank import Bank
from quarterturn.worker.contract.history import Word, words_in
from quarterturn.worker.engine.base import Engine
from quarterturn.worker.inspection.judge import Judge
from quarterturn.worker.learning.gather import Archive
from quarterturn.worker.learning.recent import Result, judged_as
from quarterturn.worker.learning.rejudge import Rejudge
from quarterturn.worker.messages.events import Verdict, position_of
from quarterturn.worker.messages.frames import Frame
from quarterturn.worker.settings.worker import WorkerSettings

_AT_ONCE = 32  # frames in memory


@dataclass(frozen=True, slots=True)
class Turned:
    """A result that two versions decide differently; scores and thresholds are those of both, in their order.

    `seen` tells whether the picture was judged again by both; else it is gone, and the recorded score of the first was
    compared with the threshold of the second.
    """

    result_id: str
    was_alert: bool
    scores: tuple[float, float | None]
    thresholds: tuple[float, float]
    seen: bool


@dataclass
class Turns:
    """How two versions decide the same results: `seen` by their pictures, `by_score` by what was recorded.

    Of `unknown` ones the picture is gone, and neither of the two made their score, or it is not the one that counts.
    """

    turned: list[Turned] = field(default_factory=list)
    seen: int = 0
    by_score: int = 0
    unknown: int = 0


def turns(
    engine: Engine, before: Bank, after: Bank, results: Sequence[Result], *, archive: Archive, settings: WorkerSettings
) -> Turns:
    """Compare the decisions of two versions about recorded results.

    Raises:
        QuarterturnError: a bank does not fit, or the archive does not answer.
    """
    found = Turns()
    with closing(Rejudge(engine, before, settings)) as one, closing(Rejudge(engine, after, settings)) as other:
        for start in range(0, len(results), _AT_ONCE):
            part = {position_of(result["resultId"]): result for result in results[start : start + _AT_ONCE]}
            frames = [frame for frame in archive.fetch(list(part)).values() if isinstance(frame, Frame)]
            for frame, *pair in zip(frames, one.judge(frames), other.judge(frames), strict=True):
                old, new = pair
                if isinstance(old, Verdict) and isinstance(new, Verdict):
                    _count_seen(found, part.pop(frame.position)["resultId"], old, new)
            _count_gone(found, list(part.values()), before, after, settings)
    return found


def _count_seen(found: Turns, result_id: str, before: Verdict, after: Verdict) -> None:
    found.seen += 1
    if before.is_alert != after.is_alert:
        scores, thresholds = (before.data.score, after.data.score), (before.data.threshold, after.data.threshold)
        found.turned.append(Turned(result_id, before.is_alert, scores, thresholds, seen=True))


def _count_gone(found: Turns, gone: Sequence[Result], before: Bank, after: Bank, settings: WorkerSettings) -> None:
    thresholds = thresholds_of(after, settings)
    for result in gone:
        product = judged_as(result)
        if result["internalConfigurationId"] != before.version or product not in thresholds:
            found.unknown += 1
            continue
        found.by_score += 1
        score, was_alert = float(result["score"]), result["alert"] is not None
        if was_alert != (score > thresholds[product] or result["alert"] == "unusable_picture"):
            pair = (float(result["threshold"]), thresholds[product])
            found.turned.append(Turned(result["resultId"], was_alert, (score, None), pair, seen=False))


def thresholds_of(bank: Bank, settings: WorkerSettings) -> dict[str, float]:
    """The thresholds that the line's workers make of a bank, by product."""
    judge = Judge.of(bank, settings.overkill, {p: t for p, t in settings.thresholds.items() if p in bank.products})
    return dict(zip(bank.products, judge.thresholds.tolist(), strict=True))


def changes(before: Bank, after: Bank, settings: WorkerSettings) -> Iterator[str]:
    """What differs between two versions, in sentences: what people said, calibration, thresholds, votes."""
    yield from _words(words_in(before.manifest.history), words_in(after.manifest.history))
    old, new = thresholds_of(before, settings), thresholds_of(after, settings)
    sizes = [
        {product: len(one.scores) for product, one in zip(bank.products, bank.calibration, strict=True)}
        for bank in (before, after)
    ]
    for product in sorted({*old, *new}):
        if product not in old or product not in new:
            yield f"{product}: is only in the {'second' if product in new else 'first'}"
            continue
        if old[product] != new[product]:
            yield f"{product}: threshold {old[product]:.4g} -> {new[product]:.4g}"
        if sizes[0][product] != sizes[1][product]:
            yield f"{product}: calibration pictures {sizes[0][product]} -> {sizes[1][product]}"
    for name in sorted({*before.manifest.votes, *after.manifest.votes}):
        was, is_now = (bank.manifest.votes.get(name, 0.0) for bank in (before, after))
        if f"{was:.1%}" != f"{is_now:.1%}":
            yield f"vote of {name}: {was:.1%} -> {is_now:.1%}"


def _words(old: dict[str, Word], new: dict[str, Word]) -> Iterator[str]:
    for name in sorted({*old, *new}):
        before, after = old.get(name), new.get(name)
        if before != after:
            said = after or before
            assert said is not None  # it is in one of them
            roles = " -> ".join(word.role if word else "not known" for word in (before, after))
            yield f"{name}: {said.product}, {said.verdict} by {said.by}: {roles}"
