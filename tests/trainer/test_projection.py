from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

import quarterturn.trainer.projection
from quarterturn.trainer.config import TrainSettings
from quarterturn.trainer.data import GoodParts, Pictures, Plan, find_good_parts
from quarterturn.trainer.encoder import Encoder
from quarterturn.trainer.projection import FreshViews, KeptViews, Projection, choose_pictures, view_features
from quarterturn.worker.contract.errors import ConfigError
from tests.trainer.conftest import SIDE, MakeSettings

PLAIN = {"augment": {"crop": [1, 1], "flip": 0, "jitter": 0, "grey": 0}}


def encoder_of(settings: TrainSettings) -> Encoder:
    torch.manual_seed(0)
    return Encoder(settings.architecture, settings.data.side)


def random_frames(count: int, side: int = SIDE) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def batches(frames: npt.NDArray[np.uint8], size: int = 2) -> Iterator[Tensor]:
    yield from torch.from_numpy(frames).permute(0, 3, 1, 2).split(size)


def pooled(encoder: Encoder, picture: npt.NDArray[Any], side: int = SIDE) -> npt.NDArray[np.float64]:
    """The features of one picture (S, S, 3), from the definition and in double precision."""
    mean, std = np.array(encoder.architecture.mean), np.array(encoder.architecture.std)
    pixels = torch.from_numpy(((picture - mean) / std).transpose(2, 0, 1)[None].copy())
    double = Encoder(encoder.architecture, side).double().eval()
    double.load_state_dict(encoder.state_dict())
    with torch.inference_mode():
        maps = double.backbone(pixels)
    used = [maps[double.backbone.layers.index(layer)] for layer in list(double.depths.values())[-1].layers]
    return np.concatenate([one.numpy().mean(axis=(0, 2, 3)) for one in used])


# What is kept of a frozen backbone


@pytest.mark.parametrize("pictures", [[7, 40], [3, 5, 11]])
def test_pictures_are_chosen_evenly_from_all_products(pictures: list[int]) -> None:
    learned = tuple([Path(f"{product}/{n}.png") for n in range(count)] for product, count in enumerate(pictures))
    parts = GoodParts(tuple("abc"[: len(pictures)]), learned, tuple([] for _ in pictures))
    paths, of_all = parts.to_learn
    for most in (1, 4, 12, 30, 1000):
        numbers, products = choose_pictures(parts, most)
        wanted = max(2, most // len(pictures))
        assert len(set(numbers)) == len(numbers)
        assert products.tolist() == of_all[numbers].tolist()
        for product, count in enumerate(pictures):
            chosen = [int(paths[n].stem) for n in numbers if paths[n].parent.name == str(product)]
            assert len(chosen) == min(wanted, count)
            gaps = np.diff([*chosen, count])  # from the first one on, all over the folder
            assert chosen[0] == 0
            assert gaps.max() - gaps.min() <= 1


@pytest.mark.parametrize(
    ("backbone", "side", "halved"),
    [("test_resnet", 64, False), ("test_resnet", 256, True), ("test_vit3", 256, False)],
    ids=["small frames", "large ones", "a backbone that takes one side only"],
)
def test_features_are_those_of_views_of_half_the_side(
    make_settings: MakeSettings, backbone: str, side: int, halved: bool
) -> None:
    changes = {"architecture.backbone": backbone, "data.side": side, "projection.variants": 3}
    settings = make_settings(**PLAIN, **changes)
    encoder, frames = encoder_of(settings), random_frames(3, side)
    found = view_features(encoder, batches(frames), 3, settings)
    assert found.shape == (3, 3, 4, encoder.pooled_width)
    assert found.dtype == torch.float32
    assert not found.requires_grad
    shown = frames.reshape(3, side // 2, 2, side // 2, 2, 3).mean(axis=(2, 4)) if halved else frames
    for n, picture in enumerate(shown):
        for r in range(4):
            wanted = pooled(encoder, np.rot90(picture, r), len(picture))
            for variant in range(3):
                np.testing.assert_allclose(found[n, variant, r], wanted, atol=1e-4)


def test_views_are_augmented_each_in_its_own_way_and_the_seed_decides_how(make_settings: MakeSettings) -> None:
    settings = make_settings()
    encoder, frames = encoder_of(settings), np.repeat(random_frames(1), 4, axis=0)
    found = view_features(encoder, batches(frames), 4, settings)
    assert len({row.numpy().tobytes() for row in found.flatten(0, 2)}) == 4 * 2 * 4
    torch.manual_seed(5)
    assert torch.equal(found, view_features(encoder.train(), batches(frames), 4, settings))
    assert not torch.equal(found, view_features(encoder, batches(frames), 4, make_settings(seed=1)))


def test_features_beyond_the_memory_are_refused(make_settings: MakeSettings) -> None:
    settings = make_settings()
    encoder = encoder_of(settings)
    size = 5 * 2 * 4 * encoder.pooled_width * 4 / 2**30
    view_features(encoder, batches(random_frames(5)), 5, make_settings(**{"data.cache_gib": size}))
    wanted = "data.cache_gib: features of 2 variants of 5 pictures take "
    with pytest.raises(ConfigError, match=f"^{re.escape(wanted)}") as caught:
        view_features(encoder, batches(random_frames(5)), 5, make_settings(**{"data.cache_gib": 0.99 * size}))
    assert str(caught.value).endswith("raise it, or lower projection.pictures or projection.variants")


# What a step draws


def tagged(count: int, variants: int) -> Tensor:
    """(n, A, 4, 3): features that say which picture, variant and turn they are of."""
    grid = torch.meshgrid(torch.arange(count), torch.arange(variants), torch.arange(4), indexing="ij")
    return torch.stack(grid, dim=-1).float()


def tags(views: KeptViews, step: int) -> tuple[list[int], npt.NDArray[np.int64]]:
    """What `draw` gives: the pictures, and (2, B, 4, 3) which picture, variant and turn each view is of."""
    indices, drawn = views.draw(step)
    mean, deviation = views.moments
    return indices.tolist(), (drawn * deviation + mean).round().long().view(2, len(indices), 4, 3).numpy()


@pytest.mark.parametrize("variants", [2, 5])
def test_the_two_views_are_different_variants_of_the_same_picture_and_turn(variants: int) -> None:
    plan = Plan.of(7, batch=3, steps=200, seed=0)
    views = KeptViews(tagged(7, variants), plan, seed=0)
    pairs: Counter[tuple[int, int]] = Counter()
    for step in range(200):
        indices, found = tags(views, step)
        assert indices == plan.pictures_of(step)[1].tolist()
        for b, picture in enumerate(indices):
            for r in range(4):
                (one, other) = found[:, b, r].tolist()
                assert (one[0], one[2]) == (other[0], other[2]) == (picture, r)
                pairs[one[1], other[1]] += 1
    assert set(pairs) == {(a, b) for a in range(variants) for b in range(variants) if a != b}
    assert max(pairs.values()) < 1.5 * min(pairs.values()), "evenly"


def test_what_a_step_draws_depends_on_the_seed_and_the_step_alone() -> None:
    plan, features = Plan.of(6, batch=6, steps=9, seed=0), tagged(6, 4)
    first, again = KeptViews(features, plan, seed=0), KeptViews(features, plan, seed=0)
    steps = [first.draw(step)[1] for step in range(9)]
    assert torch.equal(again.draw(7)[1], steps[7])
    assert not torch.equal(steps[7], KeptViews(features, plan, seed=1).draw(7)[1])
    assert len({step.numpy().tobytes() for step in steps}) == 9


def test_features_are_standardised() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(50, 2, 4, 3, generator=generator) * torch.tensor([0.1, 1.0, 0.0]) + torch.tensor([5, -2, 1])
    views = KeptViews(features, Plan.of(50, batch=50, steps=1, seed=0), seed=0)
    drawn = views.draw(0)[1].flatten(0, 1)  # with two variants, all of them
    np.testing.assert_allclose(drawn.mean(dim=0), 0, atol=1e-4)
    np.testing.assert_allclose(drawn.std(dim=0), [1, 1, 0], atol=1e-3)
    mean, deviation = views.moments
    np.testing.assert_allclose(mean, features.numpy().mean(axis=(0, 1, 2)), atol=1e-5)
    np.testing.assert_allclose(deviation[:2], features.numpy().std(axis=(0, 1, 2))[:2], rtol=0.01)


@pytest.fixture
def pictures(make_settings: MakeSettings) -> Iterator[Pictures]:
    settings = make_settings()
    paths, _ = find_good_parts(settings.data).to_learn
    with Pictures(paths, settings.data) as found:
        yield found


def fresh(pictures: Pictures, settings: TrainSettings, first: int = 0) -> tuple[FreshViews, Encoder]:
    encoder = encoder_of(settings).train()
    return FreshViews(encoder, pictures, Plan.of(len(pictures), 3, 4, seed=0), settings, first), encoder


def test_fresh_views_are_the_features_of_this_steps_pictures(make_settings: MakeSettings, pictures: Pictures) -> None:
    views, encoder = fresh(pictures, make_settings(**PLAIN))
    for step in range(2):
        indices, found = views.draw(step)
        assert indices.tolist() == Plan.of(len(pictures), 3, 4, seed=0).pictures_of(step)[1].tolist()
        assert found.shape == (2, 12, encoder.pooled_width)
        for b, frame in enumerate(pictures.load(indices)):
            for r in range(4):
                wanted = pooled(encoder, np.rot90(frame, r))
                for view in range(2):
                    np.testing.assert_allclose(found[view, 4 * b + r], wanted, atol=1e-4)


def test_fresh_views_go_on_where_they_were(make_settings: MakeSettings, pictures: Pictures) -> None:
    settings = make_settings()
    (whole, _), (rest, _) = fresh(pictures, settings), fresh(pictures, settings, first=2)
    drawn = [whole.draw(step) for step in range(4)]
    for step in (2, 3):
        indices, found = rest.draw(step)
        assert np.array_equal(indices, drawn[step][0])
        assert torch.equal(found, drawn[step][1])
    one, other = drawn[0][1]
    assert not torch.equal(one, other)


def test_through_fresh_views_the_backbone_learns(make_settings: MakeSettings, pictures: Pictures) -> None:
    views, encoder = fresh(pictures, make_settings(**{"architecture.trained": "all"}))
    views.draw(0)[1].square().sum().backward()
    gradients = {name: one.grad for name, one in encoder.backbone.network.named_parameters()}
    assert None not in gradients.values()
    assert all(bool(one.any()) for name, one in gradients.items() if one is not None and name.startswith("conv1."))


# The stage


def stage_of(settings: TrainSettings, views: KeptViews | FreshViews | None = None) -> Projection:
    """Of four pictures of two products; turns of the second one look alike."""
    encoder = encoder_of(settings)
    if views is None:
        generator = torch.Generator().manual_seed(0)
        features = torch.randn(4, 2, 4, encoder.pooled_width, generator=generator) * 3 + 1
        views = KeptViews(features, Plan.of(4, batch=4, steps=6, seed=0), seed=0)
    return Projection(encoder, views, np.array([0, 1, 1, 0]), np.array([4, 1]), settings)


def test_the_loss_is_of_the_projections_by_label_and_product(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss itself is held against the published algorithm in test_loss.py."""
    given: list[Any] = []

    def note(*arguments: Any, **multipliers: float) -> tuple[Tensor, Tensor]:
        given.extend([*arguments, multipliers])
        return torch.tensor(3.0), torch.tensor(5.0)

    monkeypatch.setattr(quarterturn.trainer.projection, "masked_contrastive_loss", note)
    chosen = {"alpha": 0.1, "beta": 0.7, "tau": 0.3, "spa": 0.2}
    stage = stage_of(make_settings(**{f"projection.{name}": value for name, value in chosen.items()}))
    found = stage.losses(2)
    assert list(found) == ["loss", "ccm", "spa"]
    assert [loss.item() for loss in found.values()] == pytest.approx([3 + 0.2 * 5, 3, 5])

    projections, labels, products, partners, multipliers = given
    indices, drawn = stage.views.draw(2)
    torch.testing.assert_close(projections, stage.encoder.project(drawn))
    of_pictures = [[0, 1, 1, 0][picture] for picture in indices]
    assert products.tolist() == [product for product in of_pictures for _ in range(4)]
    assert labels.tolist() == [2 * r * (product == 0) + product for product in of_pictures for r in range(4)]
    assert multipliers == {name: chosen[name] for name in ("alpha", "beta", "tau")}
    for sample, partner in enumerate(partners.tolist()):
        assert partner != sample
        assert labels[partner] == labels[sample]


def test_a_projection_that_is_finished_standardises_by_itself(make_settings: MakeSettings) -> None:
    stage = stage_of(make_settings())
    mean, deviation = stage.views.moments
    features = torch.randn(20, len(mean), generator=torch.Generator().manual_seed(1)) * 3 + 1
    before = stage.encoder.project((features - mean) / deviation)
    assert not torch.allclose(stage.encoder.project(features), before, atol=1e-2)
    stage.finish()
    torch.testing.assert_close(stage.encoder.project(features), before)


def test_fresh_features_were_not_standardised(make_settings: MakeSettings, pictures: Pictures) -> None:
    settings = make_settings()
    stage = stage_of(settings, fresh(pictures, settings)[0])
    before = {name: value.clone() for name, value in stage.encoder.state_dict().items()}
    stage.finish()
    assert all(torch.equal(value, before[name]) for name, value in stage.encoder.state_dict().items())


def test_steps_are_taken_on_the_encoders_device(make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Features are kept in the CPU's memory; `meta` stands for a GPU."""
    devices: list[str] = []

    def note(*tensors: Tensor, **_: float) -> tuple[Tensor, Tensor]:
        devices.extend(tensor.device.type for tensor in tensors)
        return torch.tensor(3.0), torch.tensor(5.0)

    monkeypatch.setattr(quarterturn.trainer.projection, "masked_contrastive_loss", note)
    stage = stage_of(make_settings())
    stage.encoder.to("meta")
    stage.losses(0)
    stage.finish()
    assert devices == ["meta"] * 4
