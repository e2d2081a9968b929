"""Explains one frame by one bank: it is judged anew, and everything that the judgement hangs on is kept.

Shapes: C products, K detectors, M measures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from quarterturn.worker.contract.arrays import Array
from quarterturn.worker.contract.bank import Bank, require_same_engine
from quarterturn.worker.contract.detectors import sees_places
from quarterturn.worker.contract.embeddings import Embeddings
from quarterturn.worker.contract.guard import MEASURES
from quarterturn.worker.contract.limits import in_limits
from quarterturn.worker.engine.base import Engine
from quarterturn.worker.explain.differences import differences, is_same_score
from quarterturn.worker.explain.explanation import Beside, Explanation, Measure, Part, Place
from quarterturn.worker.explain.places import worst_place
from quarterturn.worker.explain.sentences import sentence
from quarterturn.worker.explain.standing import standing_of, turning_of
from quarterturn.worker.inspection.judge import Judge, Judgement
from quarterturn.worker.inspection.look import Look, look_at
from quarterturn.worker.inspection.scorer import Scored, Scorer
from quarterturn.worker.inspection.scoring import emptiness, evidence, over_places
from quarterturn.worker.messages.events import ResultData
from quarterturn.worker.messages.frames import Frame
from quarterturn.worker.pictures.decode import decode_picture
from quarterturn.worker.pictures.read import crop
from quarterturn.worker.settings.worker import CameraSettings

PAST = 1000
"""Recorded verdicts of which is told what another threshold would have made of them."""


def explain(
    engine: Engine,
    bank: Bank,
    frame: Frame,
    overkill: float,
    *,
    thresholds: Mapping[str, float] | None = None,
    camera: CameraSettings | None = None,
    recorded: ResultData | None = None,
    past: Sequence[ResultData] = (),
) -> Explanation:
    """Why `bank` judges `frame` as it does.

    Args:
        engine: the one that the bank was fitted through.
        bank: what to judge by.
        frame: as it came.
        overkill: what sets the thresholds.
        thresholds: fixed ones by product, instead.
        camera: the settings of the frame's camera.
        recorded: the verdict that was published of this frame, by this bank; the score must be the same.
        past: recorded verdicts; those of the same product by this bank count.

    Raises:
        MismatchError: the bank was made by another engine.
        FrameError: the frame cannot be inspected.
        DataError: the bank has too few calibration scores for `overkill`.
    """
    require_same_engine(bank, engine.spec, engine.hash, engine.target)
    camera = camera or CameraSettings()
    info = frame.info()
    look = look_at(frame, info, camera, engine.spec.framing)
    guarded = look if camera.guard else replace(look, measured=None)  # drift alone wants its measures
    judged = _judge(engine, bank, guarded, overkill, thresholds or {})
    notes: tuple[str, ...] = ()
    if recorded is not None:
        if recorded.reason is not None and judged.judgement.reason is None:
            # What the frames before it tell, such as a camera that froze, is not seen in this one.
            judged = replace(judged, judgement=judged.judgement.unusable(recorded.reason))
        notes = differences(judged.judgement, recorded)
    explanation = replace(
        _explained(judged, _recent(past, judged)),
        notes=notes,
        same_score=is_same_score(judged.judgement.score, recorded.score) if recorded else None,
        result_id=recorded.result_id if recorded else None,
        camera=info.camera,
        part_id=info.part_id,
        picture=crop(decode_picture(frame.data, info.raw, camera.bit_depth), camera.region),
    )
    return replace(explanation, sentence=sentence(explanation))


@dataclass(frozen=True)
class _Judged:
    """One frame, and what it was judged by. `product` is the index of the one that it was judged as."""

    judge: Judge
    look: Look
    embeddings: Embeddings
    scored: Scored
    judgement: Judgement
    heat: Array

    @property
    def bank(self) -> Bank:
        return self.judge.bank

    @property
    def product(self) -> int:
        return self.bank.products.index(self.judgement.product)

    @property
    def maps(self) -> list[Array]:
        """K times (h, w): the distance of each place from that product."""
        return list(self.scored.maps[self.product])

    @property
    def orientations(self) -> Array | None:
        """(R,) its distances from that product if it lay turned; None where that is not to be told."""
        return self.scored.orientations(self.product)

    @property
    def raw(self) -> Array:
        """(K,) its distances from that product."""
        return np.array([over_places(one, self.bank.manifest.scoring.worst) for one in self.maps], np.float32)

    def heat_of(self, detector: int) -> Array:
        """(h, w) in thresholds: where one of the K detectors finds how much."""
        found = evidence(self.maps[detector], self.bank.scales[self.product, detector])
        return in_limits(found, self.judgement.threshold)


def _judge(engine: Engine, bank: Bank, look: Look, overkill: float, thresholds: Mapping[str, float]) -> _Judged:
    scorer, judge = Scorer(bank), Judge.of(bank, overkill, thresholds)
    embeddings = engine.embed(look.tiles)
    (scored,) = scorer.score(embeddings, [look.layout], [scorer.admissible(look.products)])
    judgement = judge.judge(scored, look.measured)
    heat = scorer.heat_map(scored, judgement.product, judgement.threshold)
    return _Judged(judge, look, embeddings, scored, judgement, heat)


def _recent(past: Sequence[ResultData], judged: _Judged) -> list[ResultData]:
    """The newest of those that are to be compared."""
    return sorted((one for one in past if _is_alike(one, judged)), key=lambda one: one.creation_time)[-PAST:]


def _is_alike(one: ResultData, judged: _Judged) -> bool:
    """Whether a recorded verdict was judged as the same product by the same bank: else its score says nothing here."""
    as_product = one.product_id or one.predicted_product
    return as_product == judged.judgement.product and one.internal_configuration_id == judged.bank.version


def _explained(judged: _Judged, past: Sequence[ResultData]) -> Explanation:
    """All that is known of the judgement alone."""
    judgement, bank, c = judged.judgement, judged.bank, judged.product
    scores, turned = bank.calibration[c].scores, judged.orientations
    least = emptiness(judged.raw, bank.scales[c])
    return Explanation(
        sentence="",
        notes=(),
        same_score=None,
        result_id=None,
        camera=None,
        file=None,
        part_id=None,
        engine=bank.manifest.engine,
        bank=bank.version,
        alert=judgement.alert,
        reason=judgement.reason,
        product=judgement.product,
        looks_like=judgement.nearest,
        score=judgement.score,
        threshold=judgement.threshold,
        p_value=judgement.p_value,
        parts=_parts(judged),
        emptiness=float(least.max()),
        emptiest=bank.manifest.detectors[int(least.argmax())],
        places=_places(judged),
        views=judgement.view_distances,
        products=_products(judged),
        orientations=None if turned is None else tuple(turned.tolist()),
        turn_limit=judged.judge.turn_limits[c],
        measures=_measures(judged),
        standing=standing_of(scores, judgement.score, judgement.threshold),
        turning=None if judgement.alert == "unusable_picture" else turning_of(scores, judgement, past),
        heat=judged.heat,
        picture=np.zeros((1, 1, 3), np.uint8),
    )


def _parts(judged: _Judged) -> tuple[Part, ...]:
    found = evidence(judged.raw, judged.bank.scales[judged.product])
    return tuple(
        Part(
            detector=detector,
            vote=vote,
            distance=float(judged.raw[k]),
            evidence=float(found[k]),
            points=vote * float(found[k]),
            heat=judged.heat_of(k) if sees_places(detector) else None,
        )
        for k, (detector, vote) in enumerate(judged.bank.manifest.votes.items())
    )


def _places(judged: _Judged) -> tuple[Place, ...]:
    return tuple(
        worst_place(
            detector,
            judged.heat_of(k),
            judged.embeddings,
            judged.look.layout,
            bank=judged.bank,
            product=judged.product,
        )
        for k, detector in enumerate(judged.bank.manifest.detectors)
        if sees_places(detector)
    )


def _products(judged: _Judged) -> tuple[Beside, ...]:
    distances, limits = judged.scored.appearance.distance.tolist(), judged.judge.limits.tolist()
    return tuple(
        Beside(product, distances[c], limits[c], c in judged.scored.products)
        for c, product in enumerate(judged.bank.products)
    )


def _measures(judged: _Judged) -> tuple[Measure, ...]:
    """Beside the product that the frame shows, as the judge looks at them."""
    if judged.look.measured is None:
        return ()
    limits = judged.bank.guard[judged.bank.products.index(judged.judgement.nearest)].tolist()
    values = judged.look.measured.tolist()
    return tuple(
        Measure(one.name, value, low, high) for one, value, (low, high) in zip(MEASURES, values, limits, strict=True)
    )
