"""Raw pixels against packers of plain loops, written from the standards' tables."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quarterturn.worker.contract.errors import FrameError
from quarterturn.worker.contract.picture import RawFormat
from quarterturn.worker.pictures.decode import decode, decode_picture
from quarterturn.worker.pictures.raw_pixels import PIXEL_FORMATS, unpack

Picture = npt.NDArray[np.uint8]

RED, GREEN, BLUE, GREY = (200, 0, 0), (0, 150, 0), (0, 0, 100), (70, 70, 70)
FOUR = np.array([[RED, GREEN], [BLUE, GREY]], np.uint8)


@pytest.mark.parametrize(
    ("pixel_format", "data", "expected"),
    [
        ("RGB8", bytes([200, 0, 0, 0, 150, 0, 0, 0, 100, 70, 70, 70]), FOUR),
        ("BGR8", bytes([0, 0, 200, 0, 150, 0, 100, 0, 0, 70, 70, 70]), FOUR),
        ("RGBa8", bytes([200, 0, 0, 9, 0, 150, 0, 9, 0, 0, 100, 9, 70, 70, 70, 9]), FOUR),
        ("BGRa8", bytes([0, 0, 200, 9, 0, 150, 0, 9, 100, 0, 0, 9, 70, 70, 70, 9]), FOUR),
        ("Mono8", bytes([1, 2, 3, 255]), np.repeat(np.array([[1, 2], [3, 255]], np.uint8)[..., None], 3, -1)),
        (
            "Mono16",  # the low byte comes first
            bytes([99, 1, 99, 2, 99, 3, 255, 255]),
            np.repeat(np.array([[1, 2], [3, 255]], np.uint8)[..., None], 3, -1),
        ),
    ],
)
def test_raw_pixels(pixel_format: str, data: bytes, expected: Picture) -> None:
    picture = decode_picture(data, RawFormat(2, 2, pixel_format))
    np.testing.assert_array_equal(picture, expected)
    assert picture.dtype == np.uint8


def test_raw_pixels_need_not_be_square() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    np.testing.assert_array_equal(decode_picture(picture.tobytes(), RawFormat(32, 24, "RGB8")), picture)


def two_bytes(samples: list[int], bits: int) -> bytes:
    """PFNC, unpacked: the low byte first, the bits at its low end."""
    return b"".join(bytes([sample & 255, sample >> 8]) for sample in samples)


def bit_by_bit(samples: list[int], bits: int) -> bytes:
    """PFNC `p`: the lowest bit of the first sample is the lowest bit of the first byte, and so on without a gap."""
    stream = [sample >> bit & 1 for sample in samples for bit in range(bits)]
    stream += [0] * (-len(stream) % 8)
    return bytes(sum(stream[n + bit] << bit for bit in range(8)) for n in range(0, len(stream), 8))


def gige(samples: list[int], bits: int) -> bytes:
    """GigE Vision `Packed`: high byte of the first, low bits of both (the first's lower), high byte of the second."""
    low, packed = bits - 8, bytearray()
    for n in range(0, len(samples), 2):
        first, second = samples[n], samples[n + 1] if n + 1 < len(samples) else 0
        packed += bytes([first >> low, first % (1 << low) + (second % (1 << low) << 4), second >> low])
    return bytes(packed[: -(-len(samples) * 12 // 8)])


PACKERS = {
    **{str(bits): (bits, two_bytes) for bits in (10, 12, 14, 16)},
    "10p": (10, bit_by_bit),
    "12p": (12, bit_by_bit),
    "10Packed": (10, gige),
    "12Packed": (12, gige),
}


@settings(max_examples=60)
@given(st.sampled_from(sorted(PACKERS)), st.integers(1, 9), st.integers(1, 9), st.randoms(use_true_random=False))
def test_samples_of_more_than_eight_bits(ending: str, width: int, height: int, random: object) -> None:
    bits, pack = PACKERS[ending]
    samples = [random.randrange(1 << bits) for _ in range(width * height)]  # type: ignore[attr-defined]
    raw = RawFormat(width, height, f"Mono{ending}")
    expected = np.array(samples).reshape(height, width)
    np.testing.assert_array_equal(unpack(pack(samples, bits), raw), expected)
    decoded = decode(pack(samples, bits), raw)
    np.testing.assert_array_equal(decoded.picture, np.repeat((expected >> (bits - 8))[..., None], 3, axis=-1))
    assert (decoded.bits, decoded.is_grey) == (bits, True)


def test_packed_as_the_manuals_have_it() -> None:
    """Basler's tables, by hand: P0 = 0xABC and P1 = 0x123 of 12 bits; 0x2AB and 0x0CD of 10."""
    for name, data, samples in (
        ("Mono12Packed", "ab3c12", [0xABC, 0x123]),
        ("Mono12p", "bc3a12", [0xABC, 0x123]),
        ("Mono10Packed", "aa1333", [0x2AB, 0x0CD]),
        ("Mono10p", "ab360300", [0x2AB, 0x0CD, 0]),
    ):
        unpacked = unpack(bytes.fromhex(data), RawFormat(len(samples), 1, name))
        assert unpacked.tolist() == [samples], name


MOSAICS = {"BayerRG": "RGGB", "BayerGR": "GRBG", "BayerGB": "GBRG", "BayerBG": "BGGR"}


@pytest.mark.parametrize(("name", "mosaic"), MOSAICS.items())
@pytest.mark.parametrize("ending", ["8", *PACKERS])
def test_bayer_patterns_begin_as_their_name_says(name: str, mosaic: str, ending: str) -> None:
    bits, pack = PACKERS.get(ending, (8, lambda samples, _: bytes(samples)))
    y, x = np.mgrid[:16, :16]
    colours = np.stack([x * 8 + 120, y * 8 + 60, (x + y) * 4], axis=-1)
    sensor = np.empty((16, 16), int)
    for index, filter_colour in enumerate(mosaic):
        y, x = divmod(index, 2)
        sensor[y::2, x::2] = colours[y::2, x::2, "RGB".index(filter_colour)]
    samples = (sensor << (bits - 8)).ravel().tolist()
    decoded = decode(pack(samples, bits), RawFormat(16, 16, name + ending))
    np.testing.assert_allclose(decoded.picture[2:-2, 2:-2].astype(int), colours[2:-2, 2:-2], atol=6)
    assert (decoded.bits, decoded.is_grey) == (bits, False)


def test_raw_pixels_that_do_not_fit_their_headers() -> None:
    for size, wanted in (((2, 3), 6), ((0, 4), 0), ((-2, -2), 4)):
        with pytest.raises(FrameError, match=f"takes {wanted} bytes, but the frame has 4") as caught:
            decode_picture(bytes(4), RawFormat(*size, "Mono8"))
        assert caught.value.reason == "size_mismatch"
    with pytest.raises(FrameError, match=r"pixel_format 'YUV422_8' is not one of Mono8, Mono10, .*RGB8") as caught:
        decode_picture(bytes(4), RawFormat(2, 2, "YUV422_8"))
    assert caught.value.reason == "bad_pixel_format"


@pytest.mark.parametrize("pixel_format", PIXEL_FORMATS)
def test_one_raw_pixel_is_no_crash(pixel_format: str) -> None:
    shapes, reasons = [], []
    for count in (1, 2, 3, 4):
        try:
            shapes.append(decode_picture(bytes(count), RawFormat(1, 1, pixel_format)).shape)
        except FrameError as error:
            reasons.append(error.reason)
    assert shapes == [(1, 1, 3)]
    assert reasons == ["size_mismatch"] * 3


@pytest.mark.parametrize("name", ["Mono10", "Mono12", "Mono14", "BayerRG10", "BayerGB12"])
def test_a_sample_that_its_format_cannot_hold_is_refused(name: str) -> None:
    """So a camera that moves its bits to the high end is not taken for one that does not."""
    bits = int(name[-2:])
    samples = np.full(16, (1 << bits) - 1, "<u2")
    decode(samples.tobytes(), RawFormat(4, 4, name))
    samples[7] += 1
    with pytest.raises(
        FrameError, match=f"a sample is {1 << bits}, but {bits} bits end at {(1 << bits) - 1}"
    ) as caught:
        decode(samples.tobytes(), RawFormat(4, 4, name))
    assert caught.value.reason == "bad_bit_depth"
