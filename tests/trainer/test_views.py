from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

import trainer.views
from tests.trainer.conftest import MakeSettings
from trainer.data import GoodParts, find_good_parts
from trainer.encoder import Architecture, Encoder, embed_views
from trainer.views import four_views_pay, separations
from trainer.weights import create_encoder
from worker.contract.bank import ScoringSettings
from worker.contract.embedder import Embedder
from worker.contract.embeddings import Array
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
    found = separations(encoder, parts, Framing(side=SIDE), None)
    assert all(1 < one < 1000 for one in found)
    assert found[0] != found[1]
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
    scores = iter([*good_and_bad, [0.0, 0.0, 1.0], [2.0]])
    monkeypatch.setattr(trainer.views, "combine", lambda *_: np.array(next(scores), np.float32))
    assert separations(encoder, parts, Framing(side=SIDE), None) == pytest.approx((expected, 2 / 0.8))


def test_one_view_is_what_an_engine_of_one_view_would_say(
    encoder: Encoder, parts: GoodParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From embeddings of one view and what is fitted to them alone."""
    scored: list[Array] = []
    original = trainer.views.combine
    monkeypatch.setattr(trainer.views, "combine", lambda *given: (scored.append(given[0]), original(*given))[1])
    separations(encoder, parts, Framing(side=SIDE), None)
    spec = encoder.spec(Framing(side=SIDE), 1)
    alone = Embedder(spec, lambda frames: embed_views(encoder, frames, 1))
    normal = alone.fit(parts.learned[0], ScoringSettings().coreset).build()
    for found, pictures in zip(scored[:2], (alone.read, alone.spoiled), strict=True):
        expected = alone.distances(pictures(parts.to_choose[0]), normal, ScoringSettings(), alone.detectors)
        np.testing.assert_allclose(found, expected, rtol=1e-3)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ((5.0, 5.6), "four views are used"),
        ((5.0, 5.4), "one view is used"),
        ((5.0, 4.0), "one view is used"),
        ((-0.5, -0.52), "one view is used"),
        ((0.2, 0.25), "one view is used"),
        ((0.2, 0.35), "four views are used"),
    ],
)
def test_anomalies_must_stand_out_clearly_more_in_four_views(
    encoder: Encoder, parts: GoodParts, monkeypatch: pytest.MonkeyPatch, found: tuple[float, float], words: str
) -> None:
    monkeypatch.setattr(trainer.views, "separations", lambda *_: found)
    pays, sentence = four_views_pay(encoder, parts, Framing(side=SIDE), None)
    assert pays == words.startswith("four")
    assert f"stand out by {found[1]:.1f} spreads in four views, {found[0]:.1f} in one" in sentence
    assert sentence.endswith(words)
