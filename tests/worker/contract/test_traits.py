from __future__ import annotations

from dataclasses import replace
from unittest.mock import ANY

import cv2
import numpy as np
import pytest

from quarterturn.worker.contract.framing import Framing, cut
from quarterturn.worker.contract.traits import PictureTraits, Traits
from quarterturn.worker.pictures.decode import decode

GREY = Traits(size=(640, 480), bits=8, is_grey=True, has_colour=False)
JPEG = replace(GREY, quality=90)
THEIRS = "are looked at, in the bank's pictures"
COLOUR = Traits(size=(640, 480), bits=8, is_grey=False, has_colour=True)


def traits(data: bytes) -> Traits:
    seen = decode(data)
    return Traits.of(seen, cut(seen.picture, Framing(side=32))[0])


def png(picture: object) -> bytes:
    return cv2.imencode(".png", np.asarray(picture))[1].tobytes()


def test_what_a_picture_is() -> None:
    grey = np.arange(40 * 60, dtype=np.uint16).reshape(40, 60)
    assert traits(png(grey.astype(np.uint8))) == Traits((60, 40), 8, is_grey=True, has_colour=False)
    assert traits(png(grey)) == Traits((60, 40), 16, is_grey=True, has_colour=False)
    spread = np.repeat(grey[..., None].astype(np.uint8), 3, axis=2)
    assert traits(png(spread)) == Traits((60, 40), 8, is_grey=False, has_colour=False)
    assert traits(png(spread // 2 + np.uint8([0, 1, 0]))).has_colour is False  # white balance
    red = spread // 2
    red[..., 2] += 60
    assert traits(png(red)) == Traits((60, 40), 8, is_grey=False, has_colour=True)


def test_a_jpeg_says_its_quality() -> None:
    encoded = cv2.imencode(".jpg", np.zeros((40, 60), np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 70])[1].tobytes()
    assert traits(encoded) == Traits((60, 40), 8, is_grey=True, has_colour=False, quality=70)


@pytest.mark.parametrize("learned", [GREY, COLOUR, JPEG])
def test_a_picture_like_those_learned_from_is_no_news(learned: Traits) -> None:
    assert PictureTraits.of([learned, learned]).differences(learned) == {}


@pytest.mark.parametrize(
    ("learned", "seen", "told"),
    [
        (GREY, replace(GREY, size=(960, 480)), {"picture_size": f"960x480 pixels {THEIRS} 640x480"}),
        (GREY, replace(GREY, size=(640, 240)), {"picture_size": f"640x240 pixels {THEIRS} 640x480"}),
        (GREY, replace(GREY, bits=12), {"picture_depth": "a sample has 12 bits, in the bank's pictures 8"}),
        (JPEG, GREY, {"picture_compression": "it is no JPEG, the bank's pictures are JPEG of quality 90"}),
        (GREY, JPEG, {"picture_compression": "it is a JPEG of quality 90, the bank's pictures are no JPEG"}),
        (
            JPEG,
            replace(JPEG, quality=70),
            {"picture_compression": "it is a JPEG of quality 70, the bank's pictures are JPEG of quality 90"},
        ),
        (JPEG, replace(JPEG, quality=88), {}),
        (JPEG, replace(JPEG, quality=87), {"picture_compression": ANY}),
        (JPEG, replace(JPEG, quality=93), {"picture_compression": ANY}),
        (GREY, COLOUR, {"picture_colour": "its pictures have colour, those of the bank are grey"}),
        (COLOUR, GREY, {"picture_colour": "its pictures are grey, those of the bank have colour"}),
        (COLOUR, replace(COLOUR, has_colour=False), {}),  # a colour camera that looks at something grey, or at nothing
        (GREY, replace(GREY, is_grey=False), {}),  # a grey picture spread to three channels is the same picture
    ],
)
def test_how_a_picture_differs(learned: Traits, seen: Traits, told: dict[str, str]) -> None:
    assert PictureTraits.of([learned]).differences(seen) == told


def test_what_varied_among_those_learned_from_may_vary() -> None:
    several = PictureTraits.of([GREY, replace(COLOUR, size=(600, 500), bits=16), replace(GREY, quality=80), JPEG])
    for bits in (8, 16):
        assert several.differences(replace(GREY, bits=bits)) == several.differences(replace(COLOUR, bits=bits)) == {}
    assert several.differences(replace(GREY, size=(650, 475))) == {}  # a quarter of the range beyond is no news
    for quality in (None, 78, 85, 92):  # other files, and a quarter of the range beyond
        assert several.differences(replace(GREY, quality=quality)) == {}
    told = several.differences(replace(GREY, size=(651, 480), bits=10, quality=77))
    assert told == {
        "picture_size": "651x480 pixels are looked at, in the bank's pictures 600 to 640 x 480 to 500",
        "picture_depth": "a sample has 10 bits, in the bank's pictures 8 or 16",
        "picture_compression": (
            "it is a JPEG of quality 77, the bank's pictures are JPEG of quality 80 to 90 and others"
        ),
    }
    kinds = "grey and in colour, JPEG of quality 80 to 90 and others"
    assert str(several) == f"600 to 640 x 480 to 500 pixels, 8 or 16 bits, {kinds}"
    assert str(PictureTraits.of([GREY])) == "640x480 pixels, 8 bits, grey, no JPEG"
