from __future__ import annotations

import cv2
import numpy as np
import pytest

from quarterturn.worker.contract.guard import measure
from quarterturn.worker.contract.usual import KINDS, Usual, quantities
from tests.parts import good_part


@pytest.mark.parametrize("factor", [0.5, 0.8, 1.1])
def test_a_weak_lamp_is_no_blur(factor: float) -> None:
    part = good_part(np.random.default_rng(0))
    lit = cv2.convertScaleAbs(part, alpha=factor)
    blurred = cv2.GaussianBlur(part, (0, 0), 0.5)
    sharp, weak, soft = (
        quantities(1.0, measure(one[None].astype(np.uint8)), np.zeros(4, np.float32))[2] for one in (part, lit, blurred)
    )
    assert abs(weak - sharp) < 0.1 < sharp - soft


def test_what_cannot_be_told_has_no_range() -> None:
    pictures = np.random.default_rng(0).normal(size=(50, len(KINDS))).tolist()
    ranges = Usual.of("bank", "ring", pictures, np.array([1, 0, 0, 1])).ranges
    assert [kind.name for kind, one in zip(KINDS, ranges, strict=True) if one is None] == ["y", "turn"]
    for n, one in enumerate(ranges):
        if one is not None:
            values = [picture[n] for picture in pictures]
            assert one.middle == pytest.approx(np.median(values))
            assert one.deviation(one.middle + one.spread) == pytest.approx(1)
            assert 0.5 < one.spread < 1.5


def test_pictures_that_are_all_alike_have_the_least_spread() -> None:
    ranges = Usual.of("bank", "ring", [[0.5] * len(KINDS)] * 9, np.ones(4)).ranges
    assert [one and one.spread for one in ranges] == [max(kind.finest, 1e-9) for kind in KINDS]
