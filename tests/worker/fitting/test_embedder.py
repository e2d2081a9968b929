from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from quarterturn.worker.contract.bank import ScoringSettings
from quarterturn.worker.contract.detectors import Coreset, supported
from quarterturn.worker.contract.embeddings import Embeddings, join
from quarterturn.worker.contract.errors import DataError
from quarterturn.worker.contract.framing import Framing, Layout, cut
from quarterturn.worker.contract.gaussians import Gaussian
from quarterturn.worker.contract.picture import Region
from quarterturn.worker.fitting import embedder as embedder_module
from quarterturn.worker.fitting.embedder import PASTED, Embedder
from quarterturn.worker.inspection.scoring import read
from quarterturn.worker.pictures.decode import decode_picture
from quarterturn.worker.pictures.sets import list_pictures
from tests.parts import SIDE, NumpyEngine, NumpyPlacesEngine, deepen, embedded, png

TILES = Framing(side=SIDE, fit="tiles")


@pytest.fixture(scope="module")
def engine() -> NumpyEngine:
    return NumpyPlacesEngine(dimensions=4)


def folder(path: Path, count: int, height: int = SIDE, width: int = SIDE) -> Path:
    """Pictures of noise, each an odd number of pixels wider than the one before."""
    path.mkdir(parents=True)
    rng = np.random.default_rng(count)
    for number in range(count):
        shape = (height, width + number % 3 * 11, 3)
        (path / f"{number:03}.png").write_bytes(png(rng.integers(0, 255, shape).astype(np.uint8)))
    return path


def pictures_of(path: Path) -> list[npt.NDArray[np.uint8]]:
    return [decode_picture(file.read_bytes()) for file in sorted(path.iterdir())]


def together(batches: Iterator[tuple[Embeddings, list[Layout]]]) -> Embeddings:
    return join([embeddings for embeddings, _ in batches])


def assert_close(found: Embeddings, expected: Embeddings) -> None:
    assert list(found) == list(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=1e-6)


@pytest.mark.parametrize("batch", [1, 7, 16, 100])
def test_embeddings_come_in_the_order_of_the_files(
    engine: NumpyEngine, tmp_path: Path, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedder_module, "_BATCH", batch)
    paths = list_pictures(folder(tmp_path / "parts", 25))
    done: list[int] = []
    one = Embedder(engine.spec, engine.embed, on_progress=done.append)
    batches = list(one.embed(one.read(paths)))
    assert_close(together(iter(batches)), embedded(engine, pictures_of(tmp_path / "parts"))[0])
    assert [len(layouts) for _, layouts in batches] == done
    assert sum(done) == 25
    assert max(done) <= batch
    assert list(one.read([])) == []


def test_tiles_of_all_pictures_come_with_their_layouts(tmp_path: Path) -> None:
    engine = NumpyPlacesEngine(framing=TILES)
    paths = list_pictures(folder(tmp_path / "parts", 5, SIDE, SIDE))
    one = Embedder(engine.spec, engine.embed)
    ((embeddings, layouts),) = one.embed(one.read(paths))
    expected, expected_layouts = embedded(engine, pictures_of(tmp_path / "parts"))
    assert layouts == expected_layouts
    assert [len(layout.corners) for layout in layouts] == [1, 2, 2, 1, 2]
    assert_close(embeddings, expected)


def test_a_region_is_cut_out_before_the_engine(engine: NumpyEngine, tmp_path: Path) -> None:
    paths = list_pictures(folder(tmp_path / "parts", 2))
    region = Region(x=4, y=0, width=8, height=16)
    one = Embedder(engine.spec, engine.embed, region)
    regions = [picture[:16, 4:12] for picture in pictures_of(tmp_path / "parts")]
    assert_close(together(one.embed(one.read(paths))), embedded(engine, regions)[0])


def test_pictures_have_the_depth_that_is_said(engine: NumpyEngine, tmp_path: Path) -> None:
    paths = list_pictures(folder(tmp_path / "parts", 2))
    expected = embedded(engine, pictures_of(tmp_path / "parts"))[0]
    deepen(tmp_path / "parts", 12)
    one = Embedder(engine.spec, engine.embed, bit_depth=12)
    assert_close(together(one.embed(one.read(paths))), expected)


def test_an_unreadable_picture_is_named(engine: NumpyEngine, tmp_path: Path) -> None:
    parts = folder(tmp_path / "parts", 40)
    (parts / "005.png").write_bytes(b"no picture")
    one = Embedder(engine.spec, engine.embed)
    with pytest.raises(DataError, match=r"005\.png: .*no JPEG.*replace or remove the file"):
        list(one.embed(one.read(list_pictures(parts))))


def test_who_stops_early_leaves_no_thread(engine: NumpyEngine, tmp_path: Path) -> None:
    before = threading.active_count()
    batches = Embedder(engine.spec, engine.embed).read(list_pictures(folder(tmp_path / "parts", 60)))
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_pasted_pictures_are_copies_with_a_defect_each_time_another(engine: NumpyEngine, tmp_path: Path) -> None:
    parts = folder(tmp_path / "parts", 20)
    one = Embedder(engine.spec, engine.embed)
    pasted = [picture for batch in one.pasted(list_pictures(parts)) for picture in batch]
    clean = pictures_of(parts)
    assert len(pasted) == PASTED * 20
    for copy in range(PASTED):
        for picture, other in zip(clean, pasted[copy * 20 : (copy + 1) * 20], strict=True):
            assert picture.shape == other.shape
            changed = (picture != other).any(axis=-1).mean()
            assert 0 < changed < 0.5
    assert all((one != other).any() for one, other in zip(pasted[:20], pasted[20:], strict=True))
    again = [picture for batch in one.pasted(list_pictures(parts)) for picture in batch]
    assert all(np.array_equal(one, other) for one, other in zip(pasted, again, strict=True))


def test_what_is_fitted_is_that_of_all_pictures(tmp_path: Path) -> None:
    """However many batches; with tiles, every tile counts."""
    engine = NumpyPlacesEngine(framing=TILES)
    paths = list_pictures(folder(tmp_path / "parts", 40))
    one = Embedder(engine.spec, engine.embed)
    normal = one.fit(paths, 2000).build()
    every = together(one.embed(one.read(paths)))
    tiles = len(every["frame"])
    assert tiles > 40
    assert list(normal) == ["frame", "nearest.middle", "nearest.deep"]  # no positions: the widths differ
    frame, middle = normal["frame"], normal["nearest.middle"]
    assert isinstance(frame, Gaussian)
    np.testing.assert_allclose(frame.mean[:, 0], every["frame"].astype(np.float64).mean(axis=0), atol=1e-5)
    assert isinstance(middle, Coreset)
    assert middle.members.shape == (4, tiles * 16, 6)  # all of them


def test_what_is_fitted_of_one_folder_takes_more_of_another(engine: NumpyEngine, tmp_path: Path) -> None:
    one = Embedder(engine.spec, engine.embed)
    first, second = (list_pictures(folder(tmp_path / name, count)) for name, count in (("first", 20), ("second", 6)))
    fit = one.fit(first, 2000)
    for embeddings, layouts in one.embed(one.read(second)):
        fit.add(embeddings, layouts)
    everything = together(one.embed(one.read([*first, *second])))["frame"].astype(np.float64)
    model = fit.build()["frame"]
    assert isinstance(model, Gaussian)
    np.testing.assert_allclose(model.mean[:, 0], everything.mean(axis=0), atol=1e-5)


def test_the_distances_of_pictures_are_those_of_their_readings(tmp_path: Path) -> None:
    engine = NumpyPlacesEngine(framing=TILES, logits=True)
    paths = list_pictures(folder(tmp_path / "parts", 20))
    one = Embedder(engine.spec, engine.embed)
    assert one.detectors == supported(engine.spec)
    detectors = ("learned", "frame", "nearest.middle")
    normal, scoring = one.fit(paths, 50).build(), ScoringSettings(worst=0.1)
    found = one.distances(one.read(paths), normal, scoring, detectors)
    assert (found.shape, found.dtype) == ((20, 3), np.float32)
    for raw, picture in zip(found, pictures_of(tmp_path / "parts"), strict=True):
        frames, layout = cut(picture, TILES)
        (reading,) = read(engine.embed(frames), [layout], [normal], scoring, detectors)
        np.testing.assert_allclose(raw, reading.raw[0], rtol=1e-3, atol=1e-3)
