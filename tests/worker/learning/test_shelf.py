from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from quarterturn.worker.contract.errors import DataError
from quarterturn.worker.learning.shelf import Kept, Note, Shelf, by_product
from quarterturn.worker.messages.feedback import Feedback
from quarterturn.worker.messages.frames import Frame
from quarterturn.worker.pictures.decode import decode_picture
from quarterturn.worker.pictures.folders import list_pictures
from tests.parts import frame, good_part, png

PICTURE = good_part(np.random.default_rng(0))


def encoded(suffix: str) -> bytes:
    return cv2.imencode(suffix, cv2.cvtColor(PICTURE, cv2.COLOR_RGB2BGR))[1].tobytes()


def note(result_id: str = "frames:Ab_-:0:7", verdict: str = "good", product: str = "ring") -> Note:
    word = {"resultId": result_id, "verdict": verdict, "by": "Ilse", "at": "2026-01-02T03:04:05Z"}
    return Note(feedback=Feedback.model_validate(word), product=product, camera="top-01")


def kept(shelf: Shelf, of: Frame, what: Note | None = None) -> Kept:
    return shelf.put(of, of.info(), what or note(), None)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif", ".webp"])
def test_a_picture_file_is_kept_as_it_came(tmp_path: Path, suffix: str) -> None:
    data = encoded(suffix)
    put = kept(Shelf(tmp_path), frame(data))
    assert put.path == tmp_path / "ring" / f"frames+Ab_-+0+7{suffix}"
    assert put.path.read_bytes() == data
    assert Shelf(tmp_path).read() == {"frames:Ab_-:0:7": put}
    assert list_pictures(tmp_path) == [put.path]
    again = put.frame()
    assert (again.data, again.info().camera, again.info().product) == (data, "top-01", None)


def test_what_was_said_of_a_part_is_said_again_with_its_picture(tmp_path: Path) -> None:
    said = note().model_copy(update={"declared": "bracket"})
    assert kept(Shelf(tmp_path), frame(encoded(".png")), said).frame().info().product == "bracket"
    stray = note(product="plate").model_copy(update={"stray": True})
    kept(Shelf(tmp_path), frame(encoded(".png")), stray)
    assert "plate" not in by_product(Shelf(tmp_path).read())


def test_raw_pixels_are_kept_as_a_picture(tmp_path: Path) -> None:
    raw = frame(PICTURE.tobytes(), width="32", height="32", pixel_format="RGB8")
    put = kept(Shelf(tmp_path), raw)
    assert put.path.suffix == ".png"
    assert (decode_picture(put.frame().data) == PICTURE).all()
    assert put.frame().info().raw is None


def test_a_changed_word_changes_the_note_and_another_product_the_place(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    put = kept(shelf, frame(png(PICTURE)))
    assert put.is_good
    bad = shelf.change(put, note(verdict="bad"))
    assert (bad.path, bad.is_good) == (put.path, False)
    moved = shelf.change(bad, note(verdict="bad", product="bracket"))
    assert shelf.read() == {"frames:Ab_-:0:7": moved}
    assert by_product(shelf.read()) == {"bracket": [moved]}
    assert len(list(tmp_path.rglob("*.*"))) == 2


def _damaged(path: Path) -> None:
    path.with_suffix(".json").write_text("{}")


def _without_picture(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("fault", [_damaged, _without_picture])
def test_a_damaged_note_is_one_sentence(tmp_path: Path, fault: Callable[[Path], None]) -> None:
    shelf = Shelf(tmp_path)
    fault(kept(shelf, frame(png(PICTURE))).path)
    with pytest.raises(DataError, match=r"json: is no note beside a picture; restore it, or remove both"):
        shelf.read()


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match=r"cannot be written .*set 'learned' to another folder"):
        kept(Shelf(tmp_path / "file"), frame(png(PICTURE)))
