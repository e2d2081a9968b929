from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

import trainer.views
from tests.trainer.conftest import MakeSettings
from trainer.data import GoodParts, find_good_parts
from trainer.encoder import Architecture, Encoder
from trainer.views import four_views_pay, separation
from trainer.weights import create_encoder
from worker.contract.framing import Framing

SIDE = 64


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return create_encoder(Architecture(backbone="test_resnet", head=False), SIDE, "none").eval()


def plates(folder: Path, count: int) -> Path:
    """Parts that are all alike: a bright square on grey, with a little noise."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for number in range(count):
        picture = rng.integers(95, 105, (SIDE, SIDE, 3)).astype(np.uint8)
        picture[16:48, 16:48] += 80
        cv2.imwrite(str(folder / f"{number:03}.png"), picture)
    return folder


@pytest.fixture
def parts(make_settings: MakeSettings, tmp_path: Path) -> GoodParts:
    plates(tmp_path / "plant" / "plate", 60)
    return find_good_parts(make_settings(**{"data.path": tmp_path / "plant"}).data)


def test_pasted_anomalies_stand_out_and_nothing_that_calibrates_is_read(
    encoder: Encoder, parts: GoodParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: set[Path] = set()
    original = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: (read.add(path), original(path))[1])
    found = [separation(encoder, parts, Framing(side=SIDE), None, views) for views in (1, 4)]
    assert all(1 < one < 1000 for one in found)
    allowed = {*parts.learned[0], *parts.to_choose[0]}
    assert read <= allowed
    assert set(parts.to_choose[0]) <= read


@pytest.mark.parametrize(
    ("good_and_bad", "expected"),
    [
        (([*range(11)], [29.0, 1.0, 30.0]), 6),  # (29 - 5) / (9 - 5)
        (([*range(11)], [5.0, 5.0]), 0),
        (([2.0] * 5, [3.0]), 1000),  # no spread: the least one
    ],
)
def test_separation_by_hand(
    encoder: Encoder,
    parts: GoodParts,
    monkeypatch: pytest.MonkeyPatch,
    good_and_bad: tuple[list[float], list[float]],
    expected: float,
) -> None:
    """Between the medians, in distances from the good ones' median to their 90% quantile."""
    scores = iter(good_and_bad)
    monkeypatch.setattr(trainer.views, "combine", lambda *_: np.array(next(scores), np.float32))
    assert separation(encoder, parts, Framing(side=SIDE), None, 1) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({1: 5.0, 4: 5.6}, "four views are used"),
        ({1: 5.0, 4: 5.4}, "one view is used"),
        ({1: 5.0, 4: 4.0}, "one view is used"),
        ({1: -0.5, 4: -0.52}, "one view is used"),
        ({1: 0.2, 4: 0.25}, "one view is used"),
        ({1: 0.2, 4: 0.35}, "four views are used"),
    ],
)
def test_anomalies_must_stand_out_clearly_more_in_four_views(
    encoder: Encoder, parts: GoodParts, monkeypatch: pytest.MonkeyPatch, found: dict[int, float], words: str
) -> None:
    monkeypatch.setattr(trainer.views, "separation", lambda *arguments: found[arguments[-1]])
    pays, sentence = four_views_pay(encoder, parts, Framing(side=SIDE), None)
    assert pays == words.startswith("four")
    assert f"stand out by {found[4]:.1f} spreads in four views, {found[1]:.1f} in one" in sentence
    assert sentence.endswith(words)
