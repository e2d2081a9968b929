from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from quarterturn.worker.evaluation.probe.confounders import CONFOUNDERS, chance_bound, compare, read_traits
from quarterturn.worker.evaluation.probe.findings import Strength
from quarterturn.worker.evaluation.probe.probe import ProductProbe, probe, probe_sentences
from tests.worker.evaluation.probe.surfaces import (
    Picture,
    Write,
    as_bmp,
    as_grey_png,
    as_jpeg,
    as_png,
    brighter,
    surface,
    write_set,
)


def probed(root: Path) -> ProductProbe:
    (one,) = probe(root).products
    return one


def test_a_set_without_a_confounder_says_so(tmp_path: Path) -> None:
    found = probe(write_set(tmp_path / "ring"))
    assert [finding.strength for finding in found.findings] == [Strength.NONE] * 3
    bound = chance_bound(24, 24)
    none = f"none reaches {bound:.2f}, beyond what chance does with"
    assert probe_sentences(found) == [
        f"no confounder separates good from bad: {none} 24 good and 24 bad pictures",
        "no test picture has a near-duplicate in training",
        f"no confounder tells test-good from train-good: {none} 24 training and 24 good test pictures",
    ]


def flatter(seed: int) -> Picture:
    return (128 + 0.5 * (surface(seed).astype(np.float32) - 128)).astype(np.uint8)


def dark_corners(seed: int) -> Picture:
    picture = surface(seed)
    for rows in (slice(0, 5), slice(-5, None)):
        for columns in (slice(0, 5), slice(-5, None)):
            picture[rows, columns] = 40
    return picture


def framed(seed: int) -> Picture:
    picture = surface(seed)
    picture[0] = picture[-1] = 250
    picture[:, 0] = picture[:, -1] = 250
    return picture


def sharper(seed: int) -> Picture:
    return surface(seed, blur=0.5)


def tinted(seed: int) -> Picture:
    return (surface(seed) * np.array([1, 1, 0.7])).astype(np.uint8)


def smaller(seed: int) -> Picture:
    return surface(seed, 35, 42)


def wider(seed: int) -> Picture:
    return surface(seed, 30, 64)


@pytest.mark.parametrize(
    ("confounder", "how", "change", "write"),
    [
        ("brightness", "brighter", brighter, as_png),
        ("contrast", "poorer in contrast", flatter, as_png),
        ("corner brightness", "darker in the corners", dark_corners, as_png),
        ("edge brightness", "brighter along the edges", framed, as_png),
        ("sharpness", "sharper", sharper, as_png),
        ("saturation", "more colourful", tinted, as_png),
        ("picture size", "smaller", smaller, as_png),
        ("aspect ratio", "wider", wider, as_png),
        ("file size", "larger on disk", surface, as_bmp),
        ("file format", "more often JPEG", surface, as_jpeg(95)),
        ("compression", "more often 8-bit grey PNG", surface, as_grey_png),
    ],
)
def test_a_planted_confounder_is_found_and_named(
    tmp_path: Path, confounder: str, how: str, change: Callable[[int], Picture], write: Write
) -> None:
    found = probed(write_set(tmp_path / "ring", change=change, write=write))
    (separation,) = [one for one in found.bad.found if one.confounder == confounder]
    assert (separation.auroc, separation.how) == (pytest.approx(1.0, abs=0.02), how)
    finding = found.findings[0]
    assert finding.strength == Strength.STRONG
    assert f"{confounder} " in finding.sentence
    assert finding.sentence.endswith("; figures on this set say nothing about defects")
    assert not found.shift.found


def test_every_confounder_has_its_case() -> None:
    (mark,) = test_a_planted_confounder_is_found_and_named.pytestmark  # type: ignore[attr-defined]
    assert tuple(case[0] for case in mark.args[1]) == CONFOUNDERS


def test_the_strongest_confounder_is_the_sentence(tmp_path: Path) -> None:
    found = probe(write_set(tmp_path / "ring", change=brighter))
    assert probe_sentences(found)[0].startswith(
        "brightness alone separates good from bad: 1.00 (bad pictures are brighter)"
    )


def test_jpeg_tables_are_a_cue(tmp_path: Path) -> None:
    paths = []
    for quality in (70, 90):
        for seed in range(24):
            paths.append(tmp_path / f"{quality}_{seed}.jpg")
            as_jpeg(quality)(paths[-1], surface(seed))
    traits = [read_traits(path) for path in paths]
    kinds = [one.kinds for one in traits]
    assert len(set(kinds[:24])) == len(set(kinds[24:])) == 1
    found = {one.confounder: one for one in compare(traits[:24], traits[24:]).confounders}
    assert found["compression"].auroc == 1.0
    assert found["compression"].how == f"more often {kinds[-1][1]}"
    assert found["file format"].auroc == 0.5


def test_good_test_pictures_unlike_training_are_told(tmp_path: Path) -> None:
    found = probed(write_set(tmp_path / "ring", change=brighter, only="test/good"))
    shift = next(finding for finding in found.findings if "test-good from train-good" in finding.sentence)
    assert shift.strength == Strength.STRONG
    assert "brightness alone tells test-good from train-good: 1.00 (test pictures are brighter)" in shift.sentence


@pytest.mark.parametrize(
    ("shift", "strength", "claim"),
    [
        (3.0, Strength.STRONG, "alone separates"),
        (1.4, Strength.CLEAR, "partly separates"),
        (0.8, Strength.WEAK, "slightly separates"),
    ],
)
def test_three_strengths(tmp_path: Path, shift: float, strength: Strength, claim: str) -> None:
    """Brightness with a normal scatter; the mean of the bad pictures is `shift` deviations off."""
    rng = np.random.default_rng(3)
    root = tmp_path / "ring"
    for group, mean in (("train/good", 0.0), ("test/good", 0.0), ("test/bad", shift)):
        (root / group).mkdir(parents=True)
        for number in range(150):
            level = 120 + 12 * (rng.normal() + mean)
            as_png(root / group / f"{number:03}.png", np.full((16, 16, 3), round(level), np.uint8))
    finding = next(one for one in probed(root).findings if "separates" in one.sentence)
    assert finding.strength == strength
    assert f"brightness {claim} good from bad" in finding.sentence


def test_the_auroc_is_the_usual_one(tmp_path: Path) -> None:
    found = probed(write_set(tmp_path / "ring", count=12))
    levels, labels = [], []
    for label, group in enumerate(("good", "bad")):
        for path in sorted((tmp_path / "ring" / "test" / group).iterdir()):
            levels.append(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE).mean())
            labels.append(label)
    expected = roc_auc_score(labels, levels)
    assert found.bad.confounders[0].auroc == pytest.approx(max(expected, 1 - expected))


def test_the_bound_holds_where_there_is_no_cue() -> None:
    """Of sets without a confounder, no more than the stated share has one beyond the bound."""
    rng = np.random.default_rng(5)
    worst = []
    for _ in range(2000):
        scores = rng.normal(size=(len(CONFOUNDERS), 30))
        ranks = scores.argsort(1).argsort(1)[:, :10].sum(1) - 10 * 9 / 2
        found = ranks / (10 * 20)
        worst.append(np.maximum(found, 1 - found).max())
    assert np.mean(np.array(worst) > chance_bound(20, 10)) <= 0.01


def test_a_kind_for_every_picture_is_no_cue(tmp_path: Path) -> None:
    """A different quality for each picture tells each from all others, and still separates nothing."""
    traits = []
    for quality in range(40, 88):
        as_jpeg(quality)(tmp_path / "one.jpg", surface(quality))
        traits.append(read_traits(tmp_path / "one.jpg"))
    found = {one.confounder: one for one in compare(traits[::2], traits[1::2]).confounders}
    assert found["compression"].auroc == 0.5


def test_too_few_pictures_are_said_to_be(tmp_path: Path) -> None:
    found = probe(write_set(tmp_path / "ring", change=brighter, count=4))
    few = "no confounder separates good from bad, but 4 good and 4 bad pictures are too few to tell"
    assert few in probe_sentences(found)


def exposed(picture: Picture, gain: float, offset: float) -> Picture:
    return (picture * gain + offset).clip(0, 255).astype(np.uint8)


def test_near_duplicates_are_found_under_another_exposure(tmp_path: Path) -> None:
    root = write_set(tmp_path / "ring")
    for number in range(10):
        pair = exposed(surface(number), 0.5 + number / 20, 30 - 5 * number)
        as_jpeg(85)(root / "test" / "good" / f"twin{number}.jpg", pair)
    found = probed(root)
    assert {(pair.test.name, pair.train.name) for pair in found.near_duplicates} == {
        (f"twin{number}.jpg", f"{number:04}.png") for number in range(10)
    }
    assert all(pair.is_good for pair in found.near_duplicates)
    assert [pair.similarity for pair in found.near_duplicates] == sorted(
        (t.similarity for t in found.near_duplicates), reverse=True
    )
    finding = next(finding for finding in found.findings if "near-duplicate" in finding.sentence)
    assert finding.strength == Strength.STRONG
    assert finding.sentence.startswith(
        "10 of 34 good and 0 of 24 bad test pictures have a near-duplicate in training (twin"
    )


@pytest.mark.parametrize("product", ["", "ring"])
def test_test_pictures_alone_are_not_compared_with_themselves(tmp_path: Path, product: str) -> None:
    root = write_set(tmp_path / "set" / product)
    shutil.rmtree(root / "train")
    found = probed(tmp_path / "set")
    assert (found.shift.reference, found.bad.reference, found.bad.group) == (0, 24, 24)
    assert found.near_duplicates == []
    assert probe_sentences(probe(tmp_path / "set"))[1:] == [
        "no near-duplicates of training pictures were looked for: there are none",
        "no confounder tells test-good from train-good: there are no training pictures",
    ]


def test_products_are_probed_one_by_one(tmp_path: Path) -> None:
    write_set(tmp_path / "nut")
    write_set(tmp_path / "ring", change=brighter)
    found = probe(tmp_path)
    assert [one.product for one in found.products] == ["nut", "ring"]
    said = probe_sentences(found)
    assert said[0].startswith("ring: brightness alone separates")
    assert "no test picture has a near-duplicate in training" in said  # holds for both
    assert any(sentence.startswith("nut: no confounder separates good from bad") for sentence in said)


def test_products_without_bad_pictures(tmp_path: Path) -> None:
    for group, start in (("train", 0), ("test", 1000)):
        for product in ("nut", "ring"):
            (tmp_path / group / product).mkdir(parents=True)
            for seed in range(start, start + 8):
                as_png(tmp_path / group / product / f"{seed}.png", surface(seed))
    found = probe(tmp_path)
    assert all(not one.bad.confounders for one in found.products)
    assert "no confounder separates good from bad: there are no bad pictures" in probe_sentences(found)


def test_an_unreadable_picture_is_left_out_and_told(tmp_path: Path) -> None:
    root = write_set(tmp_path / "ring")
    broken = root / "test" / "bad" / "2003.png"
    broken.write_bytes(b"no picture")
    found = probe(root)
    assert found.products[0].bad.group == 23
    assert probe_sentences(found)[-1].startswith(f"{broken}: not probed: 10 bytes are no JPEG")


def test_progress_ends_at_its_total(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    probe(write_set(tmp_path / "ring", count=4), on_progress=lambda done, total: seen.append((done, total)))
    assert seen == [(done, 12) for done in range(1, 13)]
