"""The rendered line: readable as a plant, reproducible, and bad for no other reason than its defects."""

from __future__ import annotations

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from quarterturn.demo.parts import PRODUCTS, Product
from quarterturn.demo.render import kinds_of, render_line, take
from quarterturn.worker.contract.errors import DataError
from quarterturn.worker.pictures import sets
from quarterturn.worker.pictures.decode import decode_picture

SIDE = 96
BAD = [pytest.param(product, kind, id=f"{product.name}-{kind}") for product in PRODUCTS for kind in kinds_of(product)]


def small_line(folder: Path, seed: int) -> Path:
    render_line(folder, seed=seed, side=48, train=3, test=2, defects=1)
    return folder


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sets.list_pictures(folder)
    }


def test_the_line_reads_as_a_plant_of_two_products(tmp_path: Path) -> None:
    line = small_line(tmp_path / "line", seed=0)

    learnt = sets.good_pictures(line)
    assert {product: len(found) for product, found in learnt.items()} == {"connector": 3, "flange": 3}
    tested = [(picture.product, picture.defect) for picture in sets.test_pictures(line)]
    assert sorted(tested) == sorted(
        [(product.name, "good") for product in PRODUCTS for _ in range(2)]
        + [(product.name, kind) for product in PRODUCTS for kind in kinds_of(product)]
    )
    assert decode_picture(learnt["flange"][0].read_bytes()).shape == (48, 48, 3)


def test_the_seed_decides_every_picture(tmp_path: Path) -> None:
    first, again, other = (digests(small_line(tmp_path / name, seed)) for name, seed in (("a", 1), ("b", 1), ("c", 2)))

    assert first == again
    assert not set(first.values()) & set(other.values())
    assert len(set(first.values())) == len(first), "a picture appears twice"


@pytest.mark.parametrize(("product", "kind"), BAD)
def test_a_bad_part_differs_from_its_good_twin(product: Product, kind: str) -> None:
    """Beyond the noise: the difference is still there after averaging over neighbours."""
    for number in range(4):
        good, bad = (take(product, (3, number), SIDE, kind=each).astype(np.float32) for each in ("good", kind))
        difference = np.abs(cv2.GaussianBlur(bad - good, (0, 0), 1)).max(axis=2)
        assert difference.max() > 2
        if kind != "turned":
            assert (difference > 1).mean() < 0.1, "a defect is local"


@pytest.mark.parametrize("product", PRODUCTS, ids=lambda product: product.name)
def test_a_part_looks_different_in_each_quarter_turn(product: Product) -> None:
    def similarity(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])

    one, other = (cv2.cvtColor(take(product, (4, number), SIDE), cv2.COLOR_RGB2GRAY) for number in range(2))
    upright = similarity(one, other)
    assert upright > max(similarity(one, np.rot90(other, quarter)) for quarter in (1, 2, 3)) + 0.02


@pytest.mark.parametrize("product", PRODUCTS, ids=lambda product: product.name)
def test_no_trivial_cue_tells_bad_from_good(product: Product) -> None:
    """The mean rank of good among bad (the AUROC) of brightness, contrast and sharpness stays near one half."""

    def cues(kind: str, number: int) -> tuple[float, float, float]:
        grey = cv2.cvtColor(take(product, (5, number), SIDE, kind), cv2.COLOR_RGB2GRAY).astype(np.float32)
        return grey.mean(), grey.std(), cv2.Laplacian(grey, cv2.CV_32F).var()

    good = np.array([cues("good", number) for number in range(40)])
    kinds = kinds_of(product)
    bad = np.array([cues(kinds[number % len(kinds)], 1000 + number) for number in range(60)])
    auroc = (bad[:, None] > good[None]).mean(axis=(0, 1))
    assert ((auroc > 0.35) & (auroc < 0.65)).all(), auroc


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "line").write_text("in the way")
    with pytest.raises(DataError, match=r"line: cannot be written \(.+\); choose another folder"):
        small_line(tmp_path / "line", seed=0)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a flange is good or scratch, .*, missing_hole, turned, not 'scrach'"):
        take(PRODUCTS[0], (0,), SIDE, kind="scrach")


@pytest.mark.parametrize("product", PRODUCTS, ids=lambda product: product.name)
def test_a_gloss_changes_the_middle_of_a_part_alone(product: Product) -> None:
    plain, polished = (take(product, (5, 1), SIDE, gloss=gloss).astype(np.float32) for gloss in (1.0, 2.4))
    assert (plain == take(product, (5, 1), SIDE)).all()
    difference = cv2.GaussianBlur(polished - plain, (0, 0), 1).max(axis=2)
    y, x = np.mgrid[:SIDE, :SIDE] * (2 / SIDE) - 1
    middle = np.hypot(x, y) < 0.4
    assert difference[middle].mean() > 10
    assert np.abs(difference[np.hypot(x, y) > 0.6]).max() < 8
