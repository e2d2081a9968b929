from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import trainer.worth
from tests.parts import png
from trainer.basis import fit_basis, settle
from trainer.config import DataSettings
from trainer.data import GoodParts, Pictures, find_good_parts
from trainer.encoder import Architecture, Encoder
from trainer.worth import measure_worth, training_paid
from worker.contract.framing import Framing
from worker.contract.preprocess import Region

LOCAL = Architecture(network="resnet10", width=8, hidden=8, dimensions=12, local=True, padding="reflect")


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> DataSettings:
    """Two products of plain parts in 64 x 64 pixels, on which a pasted defect shows."""
    root = tmp_path_factory.mktemp("plain")
    rng = np.random.default_rng(0)
    for product, level in (("dark", 70), ("light", 170)):
        (root / product).mkdir()
        for n in range(20):
            picture = np.full((64, 64, 3), level, np.uint8)
            cv2.rectangle(picture, (12, 12), (52, 40), (level + 50,) * 3, cv2.FILLED)
            noisy = np.clip(picture + rng.normal(0, 3, picture.shape), 0, 255).astype(np.uint8)
            (root / product / f"{n:03}.png").write_bytes(png(noisy))
    return DataSettings(path=root, side=64)


def seeing(settings: DataSettings) -> Encoder:
    torch.manual_seed(0)
    encoder = Encoder(LOCAL)
    paths, _ = find_good_parts(settings).to_learn
    with Pictures(paths, settings) as pictures:
        settle(encoder, pictures.batches(8))
        fit_basis(encoder, pictures.batches(8))
    return encoder


def worth(encoder: Encoder, settings: DataSettings, parts: GoodParts | None = None) -> float:
    return measure_worth(encoder, parts or find_good_parts(settings), settings.framing, settings.region)


@pytest.mark.parametrize(
    ("trained", "untrained", "expected"),
    [
        (0.71, 0.6, True),  # misses .29 of .4, and .30 is three quarters
        (0.69, 0.6, False),
        (0.993, 0.99, True),
        (0.992, 0.99, False),
        (0.5, 0.6, False),
        (1.0, 1.0, False),
    ],
)
def test_training_pays_if_clearly_fewer_are_missed(trained: float, untrained: float, expected: bool) -> None:
    assert training_paid(trained, untrained) == expected


def test_an_encoder_that_sees_defects_is_worth_more_than_a_blind_one(settings: DataSettings) -> None:
    encoder = seeing(settings)
    found = worth(encoder.train(), settings)
    assert not encoder.training
    assert 0.6 < found <= 1
    assert worth(encoder, settings) == found
    torch.nn.init.zeros_(encoder.conv1.weight)  # every frame looks alike from here on
    assert worth(encoder, settings) == pytest.approx(0.5)


def test_only_a_part_of_the_held_out_pictures_is_spoiled(
    settings: DataSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What training saw becomes the bank, and the pictures that calibrate a bank later are not even read."""
    parts, encoder = find_good_parts(settings), seeing(settings)
    read: list[Path] = []
    original = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda self: (read.append(self), original(self))[1])
    worth(encoder, settings, parts)
    learned, held_out = ({path for paths in half for path in paths} for half in (parts.learned, parts.held_out))
    judged = set(read) - learned
    assert learned < set(read)
    assert judged < held_out
    assert {path.parent.name for path in judged} == {"dark", "light"}


def test_the_encoder_sees_the_region_of_each_picture(settings: DataSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    parts, encoder = find_good_parts(settings), seeing(settings)
    region = Region(x=20, y=4, width=32, height=32)
    seen: list[np.ndarray] = []
    original = trainer.worth.embed_views

    def note(net: Encoder, frames: np.ndarray, views: int) -> np.ndarray:
        assert views == 1
        seen.extend(frames)
        return original(net, frames, views)

    monkeypatch.setattr(trainer.worth, "embed_views", note)
    measure_worth(encoder, parts, Framing(side=32), region)
    (paths, others), learned = parts.learned, [frame.tobytes() for frame in seen]
    for path in (*paths, *others):
        assert cv2.imread(str(path))[4:36, 20:52, ::-1].tobytes() in learned
    assert {frame.shape for frame in seen} == {(32, 32, 3)}
