"""Why a frame was judged as it was; the same for the terminal, a page, and whoever reads JSON.

Scores and points have no unit and are read beside the threshold; distances are each detector's own. A place or a map is
"in thresholds" where 1 is as unusual as a frame at its threshold.
"""

from __future__ import annotations

import base64
import math
from dataclasses import asdict, dataclass, field
from typing import Any

from quarterturn.worker.contract.arrays import Array, Picture
from quarterturn.worker.contract.gallery import GoodPicture
from quarterturn.worker.inspection import heatmap
from quarterturn.worker.messages.events import AlertKind


@dataclass(frozen=True, slots=True)
class Box:
    """A part of a picture, in shares of its width and its height from the upper left corner."""

    left: float
    top: float
    width: float
    height: float

    def pixels(self, height: int, width: int) -> tuple[int, int, int, int]:
        """The first and the last column and row (left, top, right, bottom) in a picture of so many pixels."""
        left, top = int(self.left * width), int(self.top * height)
        right, bottom = (
            math.ceil((self.left + self.width) * width) - 1,
            math.ceil((self.top + self.height) * height) - 1,
        )
        return left, top, max(left, right), max(top, bottom)


@dataclass(frozen=True, slots=True)
class Part:
    """What one detector adds to the score: `points` = `vote` x `evidence`.

    `distance` is the frame's, over its views and its worst places. `heat` (h, w) is where, in thresholds; None of a
    detector that sees the frame as a whole.
    """

    detector: str
    vote: float
    distance: float
    evidence: float
    points: float
    heat: Array | None


@dataclass(frozen=True, slots=True)
class GoodPlace:
    """A place of a good part: the bank's member that is `distance` away in the view `view`.

    `picture` is None where the bank shows no picture of it, and `box` (in that picture) then, too.
    """

    view: int
    distance: float
    picture: GoodPicture | None
    box: Box | None


@dataclass(frozen=True, slots=True)
class Place:
    """The place of the frame that one detector finds worst: where, and how far from good places.

    `thresholds` is its heat. `views` (V,) are its distances in each view, `distance` what they are together. `nearest`
    are the good places that come nearest, the first of all; empty for detectors that compare with no single good place.
    """

    detector: str
    box: Box
    thresholds: float
    distance: float
    views: tuple[float, ...]
    nearest: tuple[GoodPlace, ...]


@dataclass(frozen=True, slots=True)
class Standing:
    """How a score sits among those of `pictures` good ones that calibrated the product.

    `above` of them score as high or higher. `counts` are a histogram between `edges` (one more); what lies beyond the
    last edge is counted in the last bin.
    """

    pictures: int
    above: int
    p_value: float
    median: float
    highest: float
    edges: tuple[float, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Past:
    """The last `frames` recorded verdicts of the product by the same bank, the newest `newest` and the oldest `oldest`.

    `alerts` of them were alerts, `then` would be with the other threshold; `unusable` are so in either case.
    """

    frames: int
    alerts: int
    then: int
    unusable: int
    oldest: str
    newest: str


@dataclass(frozen=True, slots=True)
class Turning:
    """The threshold that would have turned the verdict: `passes` says whether the frame would pass with it.

    `overkill` is the share of good parts that it rejects at most, on average over calibrations, and `bound` that of
    this calibration, with 95% confidence. `past` is None where no verdicts were read.
    """

    threshold: float
    passes: bool
    overkill: float
    bound: float
    past: Past | None


@dataclass(frozen=True, slots=True)
class Beside:
    """How far the frame as a whole is from a product's good parts; `limit` is the farthest picture that calibrated.

    `admissible` says whether the frame may show this product.
    """

    product: str
    distance: float
    limit: float
    admissible: bool


@dataclass(frozen=True, slots=True)
class Measure:
    """One number of the picture's grey levels, and between what it may lie."""

    name: str
    value: float
    low: float
    high: float

    @property
    def fits(self) -> bool:
        """Whether it lies there."""
        return self.low <= self.value <= self.high


@dataclass(frozen=True)
class Explanation:
    """Why one frame was judged as it was.

    `sentence` is the verdict in words; `notes` are what a reader must know of it: what differs from the recorded
    verdict, or why there is none to compare with. `same_score` is None where there is none.

    `score` is the sum of the points of `parts` and of `emptiness`: what is added because a detector (`emptiest`) sees
    less than of any good part. `views` (V,) are the whole frame's distances in each view. `orientations` (R,) are they
    together if the part lay turned so; None where that is not to be told. It would count as turned where the first is
    more than `turn_limit` times the smallest other one; None for a product that looks the same turned. `measures` are
    empty where nobody asks whether the picture can be judged; `turning` is None where no threshold turns the verdict.
    `camera` is None for a picture file of which none is said, `file` is the name of such a picture. `picture` is what
    was looked at and `heat` (h, w) all detectors' together, in thresholds.
    """

    sentence: str
    notes: tuple[str, ...]
    same_score: bool | None
    result_id: str | None
    camera: str | None
    file: str | None
    part_id: str | None
    engine: str
    bank: str
    alert: AlertKind | None
    reason: str | None
    product: str
    looks_like: str
    score: float
    threshold: float
    p_value: float
    parts: tuple[Part, ...]
    emptiness: float
    emptiest: str
    places: tuple[Place, ...]
    views: tuple[float, ...]
    products: tuple[Beside, ...]
    orientations: tuple[float, ...] | None
    turn_limit: float | None
    measures: tuple[Measure, ...]
    standing: Standing
    turning: Turning | None
    heat: Array = field(repr=False)
    picture: Picture = field(repr=False)

    def share(self, points: float) -> float:
        """How much of the score so many points are; 0 of a score of 0."""
        return points / self.score if self.score > 0 else 0.0

    def to_json(self) -> dict[str, Any]:
        """For `json.dumps`; heat maps as in an alert, pictures of good parts as JPEG in base64, the frame left out."""
        plain = {name: value for name, value in vars(self).items() if name not in ("picture", "heat", *_NESTED)}
        plain |= {name: [asdict(one) for one in getattr(self, name)] for name in ("products", "measures")}
        height, width = self.picture.shape[:2]
        return {
            **plain,
            "parts": [_part_json(part) for part in self.parts],
            "places": [_place_json(place) for place in self.places],
            "standing": asdict(self.standing),
            "turning": asdict(self.turning) if self.turning else None,
            "heat_map": _map(self.heat),
            "picture": {"height": height, "width": width},
        }


_NESTED = ("parts", "places", "products", "measures", "standing", "turning")


def _part_json(part: Part) -> dict[str, Any]:
    numbers = {name: getattr(part, name) for name in ("detector", "vote", "distance", "evidence", "points")}
    return {**numbers, "heat_map": None if part.heat is None else _map(part.heat)}


def _place_json(place: Place) -> dict[str, Any]:
    return {**asdict(place), "nearest": [_good_place_json(one) for one in place.nearest]}


def _good_place_json(one: GoodPlace) -> dict[str, Any]:
    shown = one.picture
    picture = None if shown is None else {"name": shown.name, "jpeg": base64.b64encode(shown.jpeg).decode()}
    return {"view": one.view, "distance": one.distance, "picture": picture, "box": asdict(one.box) if one.box else None}


def _map(heat: Array) -> str | None:
    return heatmap.encode(heat) if heat.size > 1 else None
