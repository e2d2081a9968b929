from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from quarterturn.worker.contract.errors import DataError
from quarterturn.worker.contract.picture import Region
from quarterturn.worker.pictures.near_duplicates import (
    SAME,
    SIMILARITY,
    nearest,
    nearest_before,
    pairs,
    read_thumbnails,
    require_variety,
    thumbnail,
)

Grey = npt.NDArray[np.uint8]


def surface(seed: int, side: int = 256) -> Grey:
    """A grained surface, no two alike."""
    rng = np.random.default_rng(seed)
    noise = sum(cv2.GaussianBlur(rng.normal(0, 1, (side, side)), (0, 0), blur) * blur for blur in (1.0, 3.0, 9.0))
    return np.asarray(np.clip(128 + 25 * noise, 0, 255), np.uint8)


def exposed(picture: Grey, gain: float, offset: float) -> Grey:
    return (picture * gain + offset).clip(0, 255).astype(np.uint8)


def test_parts_that_look_alike_are_no_near_duplicates() -> None:
    """All show the same outline; what they have of their own is a tenth of it."""
    outline = cv2.resize(surface(99), (64, 64), interpolation=cv2.INTER_AREA).astype(np.float32)

    def alike(seed: int) -> Grey:
        own = np.random.default_rng(seed).normal(0, 4, (64, 64))
        return (outline + own).clip(0, 255).astype(np.uint8)

    train, test = [alike(seed) for seed in range(60)], [alike(seed) for seed in range(100, 130)]
    similarities, _ = nearest(train, [*test, exposed(train[7], 0.7, 20)])
    assert similarities[:-1].max() < 0.4
    assert similarities[-1] > 0.8


def as_jpeg(quality: int) -> Callable[[Grey], Grey]:
    return lambda picture: cv2.imdecode(
        cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_GRAYSCALE
    )


def half(picture: Grey) -> Grey:
    return np.asarray(cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.uint8)


def noisy(picture: Grey) -> Grey:
    return np.asarray(np.clip(picture + np.random.default_rng(0).normal(0, 3, picture.shape), 0, 255), np.uint8)


@pytest.mark.parametrize("change", [as_jpeg(95), as_jpeg(75), half, noisy, lambda picture: picture])
def test_a_photograph_is_the_same_however_it_is_stored(change: Callable[[Grey], Grey]) -> None:
    known = [thumbnail(surface(seed)) for seed in range(40)]
    others = [thumbnail(surface(seed)) for seed in range(100, 120)]
    again = [thumbnail(change(surface(seed))) for seed in range(0, 40, 4)]
    similarities, indices = nearest(known, [*again, *others])
    assert indices[:10] == list(range(0, 40, 4))
    assert similarities[:10].min() >= SAME
    assert similarities[10:].max() < SIMILARITY


@pytest.mark.parametrize("count", [1, 5, 1500])
def test_each_is_compared_with_those_before_it(count: int) -> None:
    """Against plain loops; more than fit into one piece of the computation, too."""
    small = [np.random.default_rng(seed).integers(0, 255, (64, 64)).astype(np.uint8) for seed in range(12)]
    first, then = small[:6], [small[(5 * number) % 12] for number in range(count)]
    similarities, indices = nearest_before(first, then)
    every = [*first, *then]
    for row, one in enumerate(then):
        same = [index for index, other in enumerate(every[: 6 + row]) if other is one]
        assert bool(same) == (similarities[row] > SAME)
        if same:
            assert indices[row] in same
        assert indices[row] < 6 + row


@pytest.mark.parametrize("least", [SAME, SIMILARITY, -1.0])
def test_all_pairs_with_those_before_are_found(least: float) -> None:
    small = [np.random.default_rng(seed).integers(0, 255, (64, 64)).astype(np.uint8) for seed in range(9)]
    first, then = small[:6], [small[2], small[7], small[7], small[2]]
    found = {(later, earlier): similarity for later, earlier, similarity in pairs(first, then, least)}
    same = {(6, 2), (9, 2), (9, 6), (8, 7)}
    assert same <= found.keys()
    assert all(found[pair] > SAME for pair in same)
    if least == -1:
        assert found.keys() == {(later, earlier) for later in range(6, 10) for earlier in range(later)}
    else:
        assert found.keys() == same


def test_what_all_new_pictures_share_does_not_make_them_alike() -> None:
    """As a new gloss would, which no picture before has."""
    gloss = np.zeros((64, 64), np.float32)
    cv2.circle(gloss, (20, 40), 9, 60, -1)
    first = [thumbnail(surface(seed)) for seed in range(40)]
    then = [(thumbnail(surface(seed)) + gloss).clip(0, 255).astype(np.uint8) for seed in range(100, 120)]
    assert not [pair for pair in pairs(first, then, SIMILARITY) if pair[0] != pair[1]]


def test_thumbnails_are_of_the_region(tmp_path: Path) -> None:
    picture = np.zeros((200, 300, 3), np.uint8)
    picture[50:150, 100:200] = (0, 0, 255)
    cv2.imwrite(str(tmp_path / "0.png"), picture)
    (whole,) = read_thumbnails([tmp_path / "0.png"])
    (inside,) = read_thumbnails([tmp_path / "0.png"], Region(x=100, y=50, width=100, height=100))
    assert (whole.shape, whole.dtype) == ((64, 64), np.uint8)
    assert whole.min() == 0
    assert np.ptp(inside) == 0
    (tmp_path / "1.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"1\.png: 10 bytes are no JPEG"):
        read_thumbnails([tmp_path / "0.png", tmp_path / "1.png"])


ONE = thumbnail(surface(0))


@pytest.mark.parametrize(
    ("thumbnails", "sentence"),
    [
        ([ONE] * 5, "product 'ring': all 5 good pictures look the same"),
        ([ONE, ONE // 2 * 2], "all 2 good pictures look the same"),
        ([np.full((64, 64), 128, np.uint8)] * 3, "all 3 good pictures look the same"),
        (
            [np.full((64, 64), 120 + n, np.uint8) for n in range(4)],
            "all 4 good pictures are plain grey and show no part",
        ),
    ],
)
def test_pictures_that_teach_nothing_are_refused(thumbnails: list[Grey], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        require_variety("ring", thumbnails)


def test_pictures_that_differ_are_taken() -> None:
    require_variety("ring", [ONE, thumbnail(surface(1))])
    require_variety("ring", [ONE] * 9 + [exposed(ONE, 1, 3)])
