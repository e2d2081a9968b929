from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from quarterturn.worker.contract.bank import Bank, ScoringSettings, read_bank
from quarterturn.worker.contract.errors import DataError
from quarterturn.worker.contract.framing import Framing
from quarterturn.worker.contract.gallery import GoodPicture, printable
from quarterturn.worker.pictures.decode import decode_picture
from tests.parts import SIDE, NumpyPlacesEngine, bank_of

Tensors = dict[str, npt.NDArray[Any]]


@pytest.mark.parametrize("size", [(1, 1), (160, 90), (161, 90), (90, 1000), (3000, 7)], ids=str)
def test_a_small_picture_has_at_most_160_pixels_on_its_longer_side_and_the_same_shape(size: tuple[int, int]) -> None:
    picture = np.full((*size, 3), (180, 90, 30), np.uint8)
    shown = GoodPicture.of("good/1.png", picture)
    assert (shown.height, shown.width) == size
    small = decode_picture(shown.jpeg)
    assert max(small.shape[:2]) == min(160, max(size))
    scale = min(1.0, 160 / max(size))
    assert small.shape[:2] == tuple(max(1, round(side * scale)) for side in size)
    assert np.abs(small.astype(int) - picture[0, 0]).max() <= 6


@given(st.text())
def test_any_name_can_be_printed(name: str) -> None:
    told = printable(name)
    assert told.isprintable()
    assert told
    assert told == name or not name.isprintable() or not name


def jpeg(width: int, height: int) -> npt.NDArray[np.uint8]:
    return cv2.imencode(".jpg", np.zeros((height, width, 3), np.uint8))[1].ravel()


def one_picture(tensors: Tensors, data: npt.NDArray[np.uint8]) -> None:
    """The gallery with the first picture replaced."""
    end = int(tensors["0.gallery.ends"][0])
    tensors["0.gallery.jpegs"] = np.concatenate([data, tensors["0.gallery.jpegs"][end:]])
    tensors["0.gallery.ends"] = tensors["0.gallery.ends"] + len(data) - end


@pytest.fixture(scope="module")
def bank() -> Bank:
    scoring = ScoringSettings(coreset=20, detectors=("frame", "nearest.middle", "nearest.deep"))
    return bank_of(NumpyPlacesEngine(framing=Framing(side=SIDE, fit="tiles", tiles=2)), count=20, scoring=scoring)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda t: t.pop("0.gallery.jpegs"), r"lacks the tensors \['0.gallery.jpegs'\] and has \[\] instead"),
        (lambda t: t.pop("0.nearest.deep.origins"), r"lacks the tensors \['0.nearest.deep.origins'\] and has"),
        (lambda t: t.update({"0.gallery.ends": t["0.gallery.ends"][:-1].copy()}), r"0.gallery.ends does not say where"),
        (lambda t: t.update({"0.gallery.ends": t["0.gallery.ends"][::-1].copy()}), r"0.gallery.ends does not say"),
        (lambda t: t["0.gallery.ends"].__setitem__(0, -5), r"0.gallery.ends does not say where the small pictures end"),
        (lambda t: t["0.gallery.ends"].__setitem__(0, 2**62), r"0.gallery.ends does not say where the small pictures"),
        (lambda t: t["0.gallery.jpegs"].__setitem__(0, 0), r"0.gallery.jpegs holds what is no JPEG of up to 160 px"),
        (lambda t: t["0.gallery.jpegs"].__setitem__(-1, 0), r"0.gallery.jpegs holds what is no JPEG of up to 160 px"),
        (lambda t: one_picture(t, np.array([255, 216, 255, 217], np.uint8)), r"holds what is no JPEG of up to 160 px"),
        (lambda t: one_picture(t, jpeg(161, 9)), r"holds what is no JPEG of up to 160 px"),
        (lambda t: one_picture(t, jpeg(9, 161)), r"holds what is no JPEG of up to 160 px"),
        (lambda t: one_picture(t, jpeg(160, 160)), None),
        (lambda t: t["0.gallery.names"].__setitem__(0, 27), r"0.gallery.names does not name each small picture"),
        (lambda t: t["0.gallery.names"].__setitem__(0, 255), r"0.gallery.names does not name each small picture"),
        (lambda t: t["0.gallery.names"].__setitem__(0, 0), r"0.gallery.names does not name each small picture"),
        (lambda t: t["0.gallery.names"].__setitem__(-1, 65), r"0.gallery.names does not name each small picture"),
        (lambda t: t["0.gallery.sizes"].__setitem__((0, 0), 0), r"0.gallery.sizes does not say how large each picture"),
        (lambda t: t["0.gallery.sizes"].__setitem__((0, 1), 2**21), r"0.gallery.sizes does not say how large each"),
        (
            lambda t: t["0.gallery.sizes"].__setitem__(0, (1, 999)),
            r"0.gallery.sizes holds a picture that takes too many",
        ),
        (lambda t: t.update({"0.gallery.sizes": t["0.gallery.sizes"][1:].copy()}), r"0.gallery.sizes does not say how"),
        (lambda t: origin(t, 0, 20), r"0.nearest.deep.origins names a picture that there is not; fit the bank again$"),
        (lambda t: origin(t, 0, -2), r"0.nearest.deep.origins names a picture that there is not; fit the bank again$"),
        (lambda t: origin(t, 0, -1), None),
        (lambda t: origin(t, 1, 9), r"0.nearest.deep.origins names a tile that there is not; fit the bank again$"),
        (lambda t: origin(t, 1, -1), r"0.nearest.deep.origins names a tile that there is not; fit the bank again$"),
        (lambda t: origin(t, 2, 2), r"0.nearest.deep.origins names a row that there is not; fit the bank again$"),
        (lambda t: origin(t, 3, -1), r"0.nearest.deep.origins names a column that there is not; fit the bank again$"),
        (
            lambda t: t.update({"0.nearest.deep.origins": t["0.nearest.deep.origins"][:, 1:].copy()}),
            r"0.nearest.deep.origins has another length than its members; fit the bank again$",
        ),
        (
            lambda t: t.update({"0.nearest.deep.origins": t["0.nearest.deep.origins"].astype(np.float32)}),
            r"0.nearest.deep.origins is float32.*, not int16",
        ),
        (
            lambda t: t.update({"0.gallery.jpegs": t["0.gallery.jpegs"].astype(np.int64)}),
            r"0.gallery.jpegs is int64.*, not uint8",
        ),
    ],
)
def test_a_gallery_that_does_not_fit_is_refused(
    bank: Bank, change: Callable[[Tensors], Any], fault: str | None
) -> None:
    tensors = safetensors.numpy.load(bank.blob)
    change(tensors)
    blob = safetensors.numpy.save(tensors, {"manifest": bank.manifest.model_dump_json()})
    if fault is None:
        assert read_bank(blob, "bank").version != bank.version
        return
    with pytest.raises(DataError, match=r"^bank: .*" + fault):
        read_bank(blob, "bank")


def origin(tensors: Tensors, part: int, value: int) -> None:
    tensors["0.nearest.deep.origins"][0, 3, part] = value


def test_a_bank_from_before_is_refused_in_one_sentence(bank: Bank) -> None:
    tensors = {
        name: tensor
        for name, tensor in safetensors.numpy.load(bank.blob).items()
        if ".gallery." not in name and not name.endswith("origins")
    }
    with pytest.raises(DataError, match=r"^bank: lacks the tensors \['0.gallery.ends', .*\] .*; fit the bank again$"):
        read_bank(safetensors.numpy.save(tensors, {"manifest": bank.manifest.model_dump_json()}), "bank")
