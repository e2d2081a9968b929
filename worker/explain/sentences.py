"""What an explanation says in whole sentences: the verdict, how its score stands, which threshold would turn it."""

from __future__ import annotations

from quarterturn.worker.contract.calibration import CONFIDENCE, at_most
from quarterturn.worker.contract.limits import times_limit
from quarterturn.worker.explain.explanation import Explanation
from quarterturn.worker.explain.words import detector_in_words, figure, view_in_words, where_in_words
from quarterturn.worker.messages.events import LARGEST_RATIO


def sentence(explanation: Explanation) -> str:
    """The verdict: what was found, compared with what, and where."""
    one = explanation
    scored = (
        f"it scores {figure(one.score)}, {_times(one.score, one.threshold)} its threshold of {figure(one.threshold)}"
    )
    if one.alert == "unusable_picture":
        return f"ALERT, unusable picture: {one.reason}; whatever it scores, {figure(one.score)} here."
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
            f"ALERT, wrong orientation: it looks like a good {one.product} {best} (distance {figure(min(turned))}, "
            f"{figure(as_it_lies)} as it lies); {scored}."
        )
    return f"ALERT, defect of {one.product}: {scored}{_most(one)}."


def _most(one: Explanation) -> str:
    """What speaks most against a part, and where."""
    most = max(one.parts, key=lambda part: part.points)
    if one.emptiness > most.points:
        return "; most of it because the picture shows less than any good part"
    where = next((f", {where_in_words(place.box)}" for place in one.places if place.detector == most.detector), "")
    return f"; {one.share(most.points):.0%} of it by comparing {detector_in_words(most.detector)}{where}"


def _farness(one: Explanation, product: str) -> str:
    beside = next(beside for beside in one.products if beside.product == product)
    return _times(beside.distance, beside.limit)


def _times(value: float, limit: float) -> str:
    times = times_limit(value, limit)
    return f"{times:,.2f} times" if times <= LARGEST_RATIO else f"more than {LARGEST_RATIO:.0f} times"


def standing_sentence(one: Explanation) -> str:
    """How the score sits among the good pictures that calibrated."""
    standing = one.standing
    several = sum(beside.admissible for beside in one.products) > 1
    other = f" ({figure(one.p_value)} over all products that it may show)" if several else ""
    return (
        f"Of {standing.pictures} good pictures of {one.product} that calibrated, {standing.above} score as high or "
        f"higher: p = {figure(standing.p_value)}{other}. Their median is {figure(standing.median)}, their highest "
        f"{figure(standing.highest)}."
    )


def turning_sentences(one: Explanation) -> list[str]:
    """Which threshold would have turned the verdict, and what it would mean for other parts; none where none would."""
    turning = one.turning
    if one.alert == "unusable_picture":
        return ["No threshold would have let it pass: its picture cannot be judged."]
    if turning is None:
        return []
    done = "let it pass" if turning.passes else "rejected it"
    change = (
        f"A threshold of {turning.threshold:.4g} would have {done}, in the settings: "
        f"thresholds: {{{one.product}: {turning.threshold:.4g}}}."
    )
    price = (
        f"It would reject about {at_most(turning.overkill)} of good parts, and at most {at_most(turning.bound)} with "
        f"{CONFIDENCE:.0%} confidence, as the {one.standing.pictures} good pictures tell that calibrated."
    )
    said = [change, price]
    if (past := turning.past) is not None:
        always = f", {past.unusable} of them in either case, for their pictures" if past.unusable else ""
        said.append(
            f"Of the last {past.frames} frames of {one.product} that this bank judged (since {past.oldest}), "
            f"{past.alerts} were alerts; with that threshold {past.then} would have been{always}."
        )
    return said
