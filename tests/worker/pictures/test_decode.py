"""Bytes become 8-bit RGB, whatever they are, and depth is what it is said to be."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from quarterturn.worker.contract.errors import FrameError
from quarterturn.worker.contract.picture import Decoded, RawFormat
from quarterturn.worker.pictures.decode import decode, decode_picture
from tests.worker.pictures.files import SUFFIXES, Picture, encoded, gradient


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_gives_the_same_picture(suffix: str) -> None:
    picture = decode_picture(encoded(suffix, gradient()))
    assert (picture.shape, picture.dtype) == ((24, 32, 3), np.uint8)
    np.testing.assert_allclose(picture.astype(int), gradient().astype(int), atol=8 if suffix == ".jpg" else 0)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_grey_is_spread_to_three_channels(suffix: str) -> None:
    grey = gradient()[..., 0]
    picture = decode_picture(encoded(suffix, grey))
    np.testing.assert_allclose(picture.astype(int), np.repeat(grey[..., None], 3, -1).astype(int), atol=8)
    assert np.ptp(picture, axis=-1).max() == 0


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_alpha_is_dropped(suffix: str) -> None:
    alpha = np.full((24, 32, 1), 77, np.uint8)
    np.testing.assert_array_equal(decode_picture(encoded(suffix, np.dstack([gradient(), alpha]))), gradient())


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_are_cut_to_eight(suffix: str) -> None:
    deep = np.random.default_rng(0).integers(0, 65536, (9, 7, 3)).astype(np.uint16)
    np.testing.assert_allclose(decode_picture(encoded(suffix, deep)).astype(int), deep >> 8, atol=1)
    np.testing.assert_allclose(
        decode_picture(encoded(suffix, deep[..., 0]))[..., 1].astype(int), deep[..., 0] >> 8, atol=1
    )


def with_exif(jpeg: bytes, orientation: int, thumbnail: bytes = b"") -> bytes:
    """`jpeg` with an EXIF block that says how the camera was held, and maybe a small preview."""
    entry = struct.pack(">HHIHH", 0x0112, 3, 1, orientation, 0)
    exif = b"Exif\0\0MM\0*" + struct.pack(">IH", 8, 1) + entry + struct.pack(">I", 0) + thumbnail
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]


@pytest.mark.parametrize(("orientation", "quarter_turns"), [(1, 0), (8, 1), (3, 2), (6, 3)])
def test_exif_orientation_is_applied(orientation: int, quarter_turns: int) -> None:
    picture = decode_picture(with_exif(encoded(".jpg", gradient()), orientation))
    upright = np.rot90(decode_picture(encoded(".jpg", gradient())), quarter_turns)
    np.testing.assert_array_equal(picture, upright)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_cut_off_anywhere_is_refused(suffix: str) -> None:
    data = encoded(suffix, gradient())
    for length in range(len(data)):
        with pytest.raises(FrameError) as caught:
            decode_picture(data[:length])
        assert caught.value.reason in ("empty", "truncated", "undecodable")


def test_a_jpeg_with_a_preview_that_is_cut_off_is_refused() -> None:
    """The preview is a whole JPEG inside: its end must not pass for the end of the picture."""
    preview = encoded(".jpg", gradient(8, 8))
    data = with_exif(encoded(".jpg", gradient()), 1, preview)
    assert decode_picture(data).shape == (24, 32, 3)
    start_of_scan = data.rindex(b"\xff\xda")
    for length in range(len(data)):
        with pytest.raises(FrameError) as caught:
            decode_picture(data[:length])
        assert length <= start_of_scan + 1 or caught.value.reason == "truncated"


def test_a_cut_off_picture_is_called_so() -> None:
    for suffix in (".jpg", ".png"):
        data = encoded(suffix, gradient())
        with pytest.raises(
            FrameError, match=r"the picture ends early or lacks a part: .*; check the camera's transfer"
        ) as caught:
            decode_picture(data[: len(data) // 2])
        assert caught.value.reason == "truncated"


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_bytes_behind_the_end_are_no_fault(suffix: str) -> None:
    np.testing.assert_array_equal(
        decode_picture(encoded(suffix, gradient()) + b"\0" * 16), decode_picture(encoded(suffix, gradient()))
    )


def decode_or_reason(data: bytes, raw: RawFormat | None = None) -> Picture | str:
    try:
        return decode_picture(data, raw)
    except FrameError as error:
        return error.reason


@settings(max_examples=300)
@given(st.sampled_from(SUFFIXES), st.integers(0, 2**16), st.integers(1, 255))
def test_a_damaged_file_is_a_picture_or_a_frame_error(suffix: str, place: int, change: int) -> None:
    data = bytearray(encoded(suffix, gradient(8, 8)))
    data[place % len(data)] ^= change
    result = decode_or_reason(bytes(data))
    refused = ("truncated", "undecodable", "too_many_pixels")
    assert result in refused if isinstance(result, str) else result.shape[2:] == (3,)


@given(st.binary(min_size=1, max_size=200))
@example(b"\xff\xd8\xff\xd9")
@example(b"BM")
@example(b"GIF89a")
def test_what_is_no_picture_is_refused(data: bytes) -> None:
    with pytest.raises(FrameError) as caught:
        decode_picture(data)
    assert caught.value.reason in ("truncated", "undecodable")


def test_no_bytes_at_all() -> None:
    with pytest.raises(FrameError, match="has no bytes; check the camera's encoder") as caught:
        decode_picture(b"")
    assert caught.value.reason == "empty"


# --- depth ------------------------------------------------------------------------------------------------------------

DEPTHS = (10, 12, 14, 16)
Sixteen = Callable[[npt.NDArray[np.uint16], int | None], Decoded]


def as_file(suffix: str) -> Sixteen:
    return lambda samples, depth: decode(encoded(suffix, samples), bit_depth=depth)


def as_mono16(samples: npt.NDArray[np.uint16], depth: int | None) -> Decoded:
    return decode(samples.astype("<u2").tobytes(), RawFormat(samples.shape[1], samples.shape[0], "Mono16"), depth)


SIXTEEN: dict[str, Sixteen] = {"PNG": as_file(".png"), "TIFF": as_file(".tif"), "Mono16": as_mono16}
CARRIERS = pytest.mark.parametrize("carried", SIXTEEN.values(), ids=SIXTEEN.keys())


@CARRIERS
@pytest.mark.parametrize("depth", DEPTHS)
def test_all_levels_of_a_depth_become_all_of_eight_bits(carried: Sixteen, depth: int) -> None:
    samples = np.linspace(0, (1 << depth) - 1, 40 * 50).astype(np.uint16).reshape(40, 50)
    decoded = carried(samples, depth)
    assert decoded.bits == depth
    assert decoded.doubt == ""
    assert np.unique(decoded.picture).tolist() == list(range(256))
    np.testing.assert_array_equal(decoded.picture[..., 1], samples.astype(int) * 256 // (1 << depth))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("depth", DEPTHS)
def test_colours_have_a_depth_too(suffix: str, depth: int) -> None:
    samples = np.random.default_rng(0).integers(0, 1 << depth, (9, 7, 3), dtype=np.uint16)
    decoded = decode(encoded(suffix, samples), bit_depth=depth)
    np.testing.assert_array_equal(decoded.picture, samples >> (depth - 8))
    assert (decoded.bits, decoded.is_grey) == (depth, False)


@CARRIERS
def test_without_a_depth_all_sixteen_bits_count(carried: Sixteen) -> None:
    samples = np.random.default_rng(0).integers(0, 65536, (40, 50), dtype=np.uint16)
    decoded = carried(samples, None)
    np.testing.assert_array_equal(decoded.picture[..., 0], samples >> 8)
    assert (decoded.bits, decoded.is_grey, decoded.doubt) == (16, True, "")


@CARRIERS
@pytest.mark.parametrize("depth", DEPTHS[:-1])
def test_a_sample_beyond_the_depth_is_refused(carried: Sixteen, depth: int) -> None:
    samples = np.full((4, 4), (1 << depth) - 1, np.uint16)
    assert carried(samples, depth).picture.min() == 255
    samples[2, 1] = 1 << depth
    with pytest.raises(FrameError, match=f"a sample is {1 << depth}, but {depth} bits end at") as caught:
        carried(samples, depth)
    assert caught.value.reason == "bad_bit_depth"


@CARRIERS
def test_a_picture_that_uses_few_of_its_bits_is_doubted(carried: Sixteen) -> None:
    for highest, says in (
        (700, "above 700.*set bit_depth: 10 or more"),
        (4095, "above 4095.*bit_depth: 12 or more"),
    ):
        samples = np.full((4, 4), highest, np.uint16)
        assert re.search(says, carried(samples, None).doubt)
        assert carried(samples, 12).doubt == ""
        assert carried(samples, 16).doubt == ""  # said to be so
    for highest in (0, 4096, 65535):  # a black picture says nothing about its camera
        assert carried(np.full((4, 4), highest, np.uint16), None).doubt == ""


@pytest.mark.parametrize("depth", DEPTHS)
def test_a_depth_that_is_not_the_samples_is_doubted_and_changes_nothing(depth: int) -> None:
    grey = gradient()[..., 0]
    eight = [(encoded(suffix, grey), None, 8) for suffix in SUFFIXES]
    raws = [(grey.tobytes(), RawFormat(32, 24, "Mono8"), 8), (bytes(24 * 32 * 2), RawFormat(32, 24, "BayerRG12"), 12)]
    for data, raw, bits in [*eight, *raws]:
        decoded = decode(data, raw, depth)
        assert decoded.bits == bits
        np.testing.assert_array_equal(decoded.picture, decode(data, raw).picture)
        said = f"samples have {bits} bits, bit_depth says {depth}; take the setting away"
        assert decoded.doubt.startswith(said) if depth != bits else decoded.doubt == ""


def test_what_a_picture_was_is_told() -> None:
    grey = gradient()[..., 0]
    for suffix in SUFFIXES:
        assert decode(encoded(suffix, gradient())).is_grey is False
        assert decode(encoded(suffix, grey)).is_grey is (suffix != ".webp")  # which knows colours alone
        assert decode(encoded(suffix, grey)).bits == 8
