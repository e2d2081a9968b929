"""Half a JPEG is no picture; a whole one is, whatever else its file holds. Pillow writes them, OpenCV is asked, too."""

from __future__ import annotations

import io
import struct

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageOps

from quarterturn.worker.contract.arrays import Picture
from quarterturn.worker.contract.errors import FrameError
from quarterturn.worker.contract.picture import Decoded
from quarterturn.worker.pictures.decode import decode
from quarterturn.worker.pictures.jpeg_header import JpegHeader
from tests.worker.pictures.files import reason

END = b"\xff\xd9"
VARIANTS: dict[str, tuple[str, dict[str, object]]] = {
    "baseline": ("RGB", {}),
    "baseline with restarts": ("RGB", {"restart_marker_blocks": 4}),
    "baseline with a restart a row": ("RGB", {"restart_marker_rows": 1}),
    "progressive": ("RGB", {"progressive": True}),
    "progressive with restarts": ("RGB", {"progressive": True, "restart_marker_rows": 1}),
    "not subsampled": ("RGB", {"subsampling": 0}),
    "subsampled to the side": ("RGB", {"subsampling": 1}),
    "with tables of its own": ("RGB", {"optimize": True}),
    "grey": ("L", {}),
    "progressive grey": ("L", {"progressive": True}),
    "CMYK": ("CMYK", {}),
    "RGB": ("RGB", {"keep_rgb": True}),
    "coarse": ("RGB", {"quality": 5}),
}
SHRUNK = [1, 2, 4, 8]
ARITHMETIC = bytes.fromhex(  # 16 x 16, by libjpeg-turbo 2.1.5: red rises by 16 to the right, green downwards
    "ffd8ffe0 00104a46 49460001 01000001 00010000 ffdb0043 00020101 01010102"
    "01010102 02020202 04030202 02020504 04030406 05060606 05060606 07090806"
    "07090706 06080b08 090a0a0a 0a0a0608 0b0c0b0a 0c090a0a 0affdb00 43010202"
    "02020202 05030305 0a070607 0a0a0a0a 0a0a0a0a 0a0a0a0a 0a0a0a0a 0a0a0a0a"
    "0a0a0a0a 0a0a0a0a 0a0a0a0a 0a0a0a0a 0a0a0a0a 0a0a0a0a 0a0a0a0a 0a0affc9"
    "00110800 10001003 01220002 11010311 01ffcc00 0a001010 05011011 05ffda00"
    "0c030100 02110311 003f00ff 00ecc0bf 13bc6806 9e8e0c97 11ac9613 bdef0b74"
    "60da4923 f7243bb5 a24a81fa b6280e62 dab6b8f4 13541a43 f1370937 9525c7f0"
    "ffd9"
)


def scene(height: int = 120, width: int = 160) -> Picture:
    """A gradient under noise, as a sensor gives it: no part of it compresses to nothing."""
    y, x = np.mgrid[:height, :width]
    smooth = np.stack([x * 255 // width, y * 255 // height, (x + y) * 255 // (width + height)], axis=-1)
    return (smooth + np.random.default_rng(0).integers(-15, 16, smooth.shape)).clip(0, 255).astype(np.uint8)


def saved(variant: str, picture: Picture | None = None) -> bytes:
    mode, options = VARIANTS[variant]
    out = io.BytesIO()
    Image.fromarray(scene() if picture is None else picture).convert(mode).save(out, "JPEG", **options)
    return out.getvalue()


def averages(picture: Picture, factor: int) -> npt.NDArray[np.floating]:
    """The means of the picture's squares, `factor` pixels high and wide."""
    height, width = picture.shape[0] // factor, picture.shape[1] // factor
    means: npt.NDArray[np.floating] = picture.reshape(height, factor, width, factor, 3).mean(axis=(1, 3))
    return means


def shrunk_by(data: bytes, factor: int) -> Decoded:
    return decode(data, shrink=lambda height, width: factor)


def start_of_data(data: bytes) -> int:
    """Where the compressed data of the first scan begins."""
    scan = data.index(b"\xff\xda")
    return scan + 2 + int.from_bytes(data[scan + 2 : scan + 4], "big")


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_whole_one_is_what_opencv_reads(variant: str) -> None:
    data = saved(variant)
    decoded = decode(data)
    expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert np.abs(decoded.picture.astype(int) - expected).max() <= 2
    assert (decoded.bits, decoded.is_grey, decoded.doubt) == (8, "grey" in variant, "")
    assert decoded.picture.flags.c_contiguous


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("factor", SHRUNK)
def test_a_shrunk_one_holds_the_averages_of_its_pixels(variant: str, factor: int) -> None:
    """But for rounding, for colours that were halved, and for what ringing lifts beyond black and white."""
    data = saved(variant)
    whole, found = decode(data), shrunk_by(data, factor)
    if variant in {"CMYK", "subsampled to the side"}:  # whose averages libjpeg does not make
        np.testing.assert_array_equal(found.picture, whole.picture)
        factor = 1
    assert (found.picture.shape, found.shrunk) == ((120 // factor, 160 // factor, 3), factor)
    assert (found.size, found.bits, found.is_grey) == ((160, 120), 8, "grey" in variant)
    assert found.picture.flags.c_contiguous
    away = found.picture - averages(whole.picture, factor)
    assert abs(away.mean()) < 0.6
    assert np.abs(away).mean() < (0.6 if variant in {"not subsampled", "RGB", "grey", "progressive grey"} else 2.2)


@pytest.mark.parametrize("factors", [0x411111, 0x221111, 0x211111, 0x121111, 0x111111], ids=hex)
@pytest.mark.parametrize("factor", SHRUNK)
def test_every_way_to_halve_colours(factors: int, factor: int) -> None:
    """Stripes of red and green, as bright as each other: where they came out too coarse, it would show."""
    y, x = np.mgrid[:120, :160]
    stripes = np.where(((x // 20 + y // 20) % 2)[..., None], (220, 60, 90), (60, 142, 90)).astype(np.uint8)
    options = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, factors]
    data = cv2.imencode(".jpg", stripes[..., ::-1], options)[1].tobytes()
    expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert np.abs(decode(data).picture.astype(int) - expected).max() <= 2
    found = shrunk_by(data, factor)
    assert found.shrunk == (factor if factors in {0x221111, 0x111111} else 1)
    assert (
        np.abs(found.picture - averages(expected, found.shrunk)).mean() < 4
    )  # colours that are halved have soft edges


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("shrunk", SHRUNK)
def test_half_a_picture_closed_as_if_it_were_whole_is_refused(
    variant: str, shrunk: int, capfd: pytest.CaptureFixture[str]
) -> None:
    data = saved(variant)
    first = start_of_data(data)
    for percent in range(10, 96):
        cut = data[: first + (len(data) - 2 - first) * percent // 100]
        assert reason(cut + END, shrunk) == "truncated", percent
        assert reason(cut, shrunk) == "truncated", percent
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("variant", ["progressive", "progressive with restarts", "progressive grey"])
@pytest.mark.parametrize("shrunk", SHRUNK)
def test_a_progressive_one_that_ends_between_two_scans_is_refused(variant: str, shrunk: int) -> None:
    """To libjpeg that is a whole picture, only a coarse one."""
    data = saved(variant)
    borders = [n for n in range(start_of_data(data), len(data)) if data[n : n + 2] in (b"\xff\xc4", b"\xff\xda")]
    assert len(borders) > 4
    for border in borders:
        assert reason(data[:border] + END, shrunk) == "truncated"
    assert reason(data, shrunk) is None


@pytest.mark.parametrize("shrunk", SHRUNK)
def test_one_whose_colours_come_in_a_scan_of_their_own_is_refused_without_them(shrunk: int) -> None:
    """A baseline file may bring one component after the other."""
    data = saved("not subsampled")
    start = data.index(b"\xff\xda")
    grey_only = data[:start] + b"\xff\xda\0\x08\x01\x01\0\0\x3f\0" + data[start_of_data(data) :]
    header = JpegHeader.read(grey_only)
    assert header is not None
    assert not header.is_whole
    assert reason(grey_only, shrunk) == "truncated"


@pytest.mark.parametrize("variant", ["baseline", "baseline with restarts", "grey", "CMYK"])
@pytest.mark.parametrize("lost", [200, 1000])
@pytest.mark.parametrize("shrunk", SHRUNK)
def test_one_that_lost_its_middle_is_refused(variant: str, lost: int, shrunk: int) -> None:
    """Nearly always: a JPEG has no checksum, so what is left may fill the picture by chance."""
    data = saved(variant)
    first = start_of_data(data)
    places = range(first, len(data) - lost - 2, 97)
    refused = sum(reason(data[:place] + data[place + lost :], shrunk) == "truncated" for place in places)
    assert refused > 0.95 * len(places)


THUMBNAIL = saved("baseline", scene(8, 8))
BEHIND = {
    "zeros": bytes(4096),
    "markers": b"\xff\xd8\xff\xda\xff\xd9\xff\xc0" * 9,
    "a start": b"\xff\xd8",
    "another picture": saved("progressive"),
    "half of another picture": THUMBNAIL[: len(THUMBNAIL) // 2],
    "text": b"captured by camera 7",
    "what looks like pixels": saved("baseline")[700:2000],
}


@pytest.mark.parametrize("variant", ["baseline", "progressive", "baseline with restarts", "grey"])
@pytest.mark.parametrize("behind", BEHIND.values(), ids=BEHIND.keys())
def test_bytes_behind_the_end_are_no_fault(variant: str, behind: bytes) -> None:
    data = saved(variant)
    np.testing.assert_array_equal(decode(data + behind).picture, decode(data).picture)


def test_pictures_within_its_headers_are_no_fault() -> None:
    data = saved("baseline")
    for thumbnail in (THUMBNAIL, THUMBNAIL[:200], b"\xff\xda\xff\xd9" * 20):
        comment = b"\xff\xfe" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
        app2 = b"\xff\xe2" + comment[2:]
        within = data[:2] + app2 + comment + data[2:]
        np.testing.assert_array_equal(decode(within).picture, decode(data).picture)
        assert reason(within[: len(within) // 2] + END) == "truncated"


def test_the_first_of_several_pictures_counts() -> None:
    out = io.BytesIO()
    first, second = Image.fromarray(scene()), Image.fromarray(scene()[::-1])
    first.save(out, "MPO", save_all=True, append_images=[second])
    np.testing.assert_array_equal(decode(out.getvalue()).picture, decode(saved("baseline")).picture)


def with_odd(what: str, data: bytes) -> bytes:
    """`data` with a header that is not as it should be, and is understood by everyone."""
    changed = bytearray(data)
    if what == "JFIF revision":
        changed[data.index(b"JFIF\0") + 5] = 7
    elif what == "Adobe code":
        changed[2:2] = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\x09"
    else:
        changed[start_of_data(data) - 3 : start_of_data(data)] = bytes(3)
    return bytes(changed)


@pytest.mark.parametrize("what", ["JFIF revision", "Adobe code", "scan parameters"])
@pytest.mark.parametrize("shrunk", SHRUNK)
def test_an_odd_header_is_no_fault_and_hides_none(what: str, shrunk: int) -> None:
    data = saved("baseline")
    odd = with_odd(what, data)
    np.testing.assert_array_equal(shrunk_by(odd, shrunk).picture, shrunk_by(data, shrunk).picture)
    for percent in range(20, 90, 10):
        assert reason(odd[: len(odd) * percent // 100] + END, shrunk) == "truncated"


def test_arithmetic_coding() -> None:
    expected = np.zeros((16, 16, 3), int)
    expected[..., 0], expected[..., 1] = np.arange(16) * 16, np.arange(16)[:, None] * 16
    expected[..., 2] = (expected[..., 0] + expected[..., 1]) // 2
    assert np.abs(decode(ARITHMETIC).picture - expected).max() < 40  # with halved colours
    assert np.abs(decode(ARITHMETIC).picture - expected).mean() < 8


@pytest.mark.parametrize(
    ("form", "precision", "says"),
    [(0xC1, 12, "Unsupported JPEG data precision 12"), (0xC3, 8, "libjpeg cannot read"), (0xCB, 8, "libjpeg cannot")],
    ids=["12 bits", "lossless", "lossless arithmetic"],
)
def test_a_kind_that_is_not_read_is_named(form: int, precision: int, says: str) -> None:
    data = bytearray(saved("not subsampled"))
    frame = data.index(b"\xff\xc0")
    data[frame + 1], data[frame + 4] = form, precision
    with pytest.raises(FrameError, match=says) as caught:
        decode(bytes(data))
    assert caught.value.reason == "undecodable"


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("order", ["<", ">"])
def test_every_exif_orientation(orientation: int, order: str) -> None:
    """As Pillow turns it; what is no orientation turns nothing. How much it shrinks is asked of the upright picture."""
    data = saved("baseline")
    entry = struct.pack(f"{order}HHIHH", 0x0112, 3, 1, orientation, 0)
    head = {"<": b"II*\0", ">": b"MM\0*"}[order]
    exif = b"Exif\0\0" + head + struct.pack(f"{order}IH", 8, 1) + entry + bytes(4)
    turned = data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:]
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(turned))))
    np.testing.assert_array_equal(decode(turned).picture, expected)
    asked = []
    shrunk = decode(turned, shrink=lambda height, width: asked.append((height, width)) or 4)
    assert asked == [expected.shape[:2]]
    assert shrunk.size == expected.shape[1::-1]
    assert np.abs(shrunk.picture - averages(expected, 4)).mean() < 2.5


@pytest.mark.parametrize("exif", [b"", b"II*\0", b"MM\0*\xff\xff\xff\xff", b"II*\0\x08\0\0\0\xff\xff"])
def test_a_broken_exif_block_turns_nothing(exif: bytes) -> None:
    data = saved("grey")
    block = b"Exif\0\0" + exif
    odd = data[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + data[2:]
    np.testing.assert_array_equal(decode(odd).picture, decode(data).picture)


@pytest.mark.parametrize("components", [0, 2])
def test_an_unheard_of_number_of_components_is_refused(components: int) -> None:
    data = bytearray(saved("not subsampled"))
    data[data.index(b"\xff\xc0") + 9] = components
    assert reason(bytes(data), 2) in {"truncated", "undecodable"}


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("progressive", [False, True])
def test_the_quality_is_told_from_the_tables(mode: str, progressive: bool) -> None:
    told = {}
    for quality in range(1, 101):
        file = io.BytesIO()
        Image.fromarray(scene()).convert(mode).save(file, "jpeg", quality=quality, progressive=progressive)
        told[quality] = decode(file.getvalue()).quality
    assert {quality: found for quality, found in told.items() if quality >= 20} == {
        **{quality: quality for quality in range(20, 100)},
        100: 99,
    }
    assert list(told.values()) == sorted(told.values()), "below 20 the table's numbers end at 255"


def test_coefficients_in_16_bits_are_added_up_alike() -> None:
    """As Pillow writes them where a number of the table is above 255."""
    table, file = [300, *[100] * 63], io.BytesIO()
    Image.fromarray(scene()).convert("L").save(file, "jpeg", qtables=[table])
    assert b"\xff\xdb\x00\x83\x10" in file.getvalue(), "no table of 16 bits"
    assert decode(file.getvalue()).quality == round(5000 / (100 * sum(table) / 3688))


def test_only_a_jpeg_has_a_quality() -> None:
    assert decode(cv2.imencode(".png", scene())[1].tobytes()).quality is None
