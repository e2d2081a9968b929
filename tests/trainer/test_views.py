from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

import trainer.views
from tests.trainer.conftest import MakeSettings
from trainer.data import GoodParts, find_good_parts
from trainer.encoder import Architecture, Encoder
from trainer.views import four_views_pay, pasted_found
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


def test_pasted_anomalies_are_found_and_nothing_that_calibrates_is_read(
    encoder: Encoder, parts: GoodParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: set[Path] = set()
    original = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: (read.add(path), original(path))[1])
    found = [pasted_found(encoder, parts, Framing(side=SIDE), None, views) for views in (1, 4)]
    assert all(0.75 < one <= 1 for one in found)
    allowed = {*parts.learned[0], *parts.to_choose[0]}
    assert read <= allowed
    assert set(parts.to_choose[0]) <= read


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({1: 0.9, 4: 0.92}, "four views are used"),
        ({1: 0.9, 4: 0.905}, "one view is used"),
        ({1: 1.0, 4: 0.9}, "one view is used"),
    ],
)
def test_four_views_must_clearly_find_more(
    encoder: Encoder, parts: GoodParts, monkeypatch: pytest.MonkeyPatch, found: dict[int, float], words: str
) -> None:
    monkeypatch.setattr(trainer.views, "pasted_found", lambda *arguments: found[arguments[-1]])
    pays, sentence = four_views_pay(encoder, parts, Framing(side=SIDE), None)
    assert pays == ("four" in words)
    assert sentence.startswith(f"four views find {found[4]:.3f} of the anomalies pasted into held-out pictures, one")
    assert sentence.endswith(words)
