"""What an explanation says in whole sentences: the verdict, how its score stands, which threshold would turn it."""

from __future__ import annotations

from quarterturn.worker.contract.calibration import CONFIDENCE, at_most
from quarterturn.worker.explain.explanation import Explanation
from quarterturn.worker.explain.words import detector_in_words, view_in_words, where_in_words

_TINY = 1e-12


def sentence(explanation: Explanation) -> str:
    """The verdict: what was found, compared with what, and where."""
    one = explanation
    scored = f"it scores {one.score:.3g}, {_times(one.score, one.threshold)} its threshold of {one.threshold:.3g}"
    if one.alert == "unusable_picture":
        return f"ALERT, unusable picture: {one.reason}; whatever it scores, {one.score:.3g} here."
    if one.alert is None:
        return f"PASSED as {one.product}: {scored}."
    if one.alert == "wrong_product":
        nearest, own = (_farness(one, product) for product in (one.looks_like, one.product))
        return (
            f"ALERT, wrong product: as a whole it looks like {one.looks_like} ({nearest} as far as the farthest good "
            f"one), not like {one.product} ({own}); {scored}."
        )
    if one.alert == "wrong_orientation" and one.orientations is not None:
        as_it_lies, *turned = one.orientations
        best = view_in_words(1 + turned.index(min(turned)))
        return (
            f"ALERT, wrong orientation: it looks like a good {one.product} {best} (distance {min(turned):.3g}, "
            f"{as_it_lies:.3g} as it lies); {scored}."
        )
    return f"ALERT, defect of {one.product}: {scored}{_most(one)}."


def _most(one: Explanation) -> str:
    """What speaks most against a part, and where."""
    most = max(one.parts, key=lambda part: part.points)
    if one.emptiness > most.points:
        return "; most of it because the picture shows less than any good part"
    where = next((f", {where_in_words(place.box)}" for place in one.places if place.detector == most.detector), "")
    return f"; {most.points / max(one.score, _TINY):.0%} of it by comparing {detector_in_words(most.detector)}{where}"


def _farness(one: Explanation, product: str) -> str:
    beside = next(beside for beside in one.products if beside.product == product)
    return _times(beside.distance, beside.limit)


def _times(value: float, unit: float) -> str:
    return f"{value / max(unit, _TINY):.2f} x"


def standing_sentence(one: Explanation) -> str:
    """How the score sits among the good pictures that calibrated."""
    standing = one.standing
    several = sum(beside.admissible for beside in one.products) > 1
    other = f" ({one.p_value:.3g} over all products that it may show)" if several else ""
    return (
        f"Of {standing.pictures} good pictures of {one.product} that calibrated, {standing.above} score as high or "
        f"higher: p = {standing.p_value:.3g}{other}. Their median is {standing.median:.3g}, their highest "
        f"{standing.highest:.3g}."
    )


def turning_sentences(one: Explanation) -> list[str]:
    """Which threshold would have turned the verdict, and what it would mean for other parts; none where none would."""
    turning = one.turning
    if turning is None:
        return []
    done = "let it pass" if turning.passes else "rejected it"
    said = (
        f"A threshold of {turning.threshold:.4g} would have {done}, in the settings: thresholds: {{{one.product}: "
        f"{turning.threshold:.4g}}}. It rejects some {at_most(turning.overkill)} of good parts, and with "
        f"{CONFIDENCE:.0%} confidence at most {at_most(turning.bound)}, as far as the {one.standing.pictures} good "
        "pictures tell that calibrated."
    )
    if one.alert == "unusable_picture":
        said = "No threshold would have let it pass: its picture cannot be judged."
    if turning.past is None:
        return [said]
    past = turning.past
    return [
        said,
        (
            f"Of the last {past.frames} frames of {one.product} that this bank judged (since {past.oldest}), "
            f"{past.alerts} were alerts; with that threshold {past.then} would have been"
            + (f", {past.unusable} of them in either case, for their pictures." if past.unusable else ".")
        ),
    ]
