from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from trainer.depths import DepthSettings
from trainer.encoder import Architecture, Encoder, embed_views
from worker.contract.errors import ConfigError
from worker.contract.framing import Framing
from worker.contract.settings import parse_settings

SIDE = 64
CONVOLUTIONAL = Architecture(backbone="test_efficientnet", hidden=16, frame=12, dimensions=40)
TRANSFORMER = Architecture(backbone="test_vit", hidden=16, frame=12, dimensions=20)
WHOLE = Architecture(backbone="test_resnet", depths={}, head=False, hidden=16, frame=12)
ALL = {"convolutional": CONVOLUTIONAL, "transformer": TRANSFORMER, "whole frames": WHOLE}


def encoder_of(architecture: Architecture, side: int = SIDE) -> Encoder:
    """Random weights, and batch statistics such as training leaves."""
    torch.manual_seed(0)
    encoder = Encoder(architecture, side)
    for norm in encoder.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.normal_(0, 0.2)  # type: ignore[union-attr]
            norm.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    return encoder.eval()


def random_frames(count: int, side: int = SIDE) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def random_maps(encoder: Encoder, count: int = 2) -> list[npt.NDArray[np.float32]]:
    rng = np.random.default_rng(0)
    sizes = zip(encoder.backbone.channels, encoder.backbone.grids, strict=True)
    return [rng.normal(size=(count, channels, grid, grid)).astype(np.float32) for channels, grid in sizes]


def tensors(maps: list[npt.NDArray[np.float32]]) -> tuple[Tensor, ...]:
    return tuple(torch.from_numpy(one) for one in maps)


def layers_and_strides(encoder: Encoder) -> dict[str, tuple[tuple[str, ...], int]]:
    return {name: (depth.layers, depth.stride) for name, depth in encoder.depths.items()}


def test_the_default_architecture() -> None:
    encoder = encoder_of(Architecture(), 256)
    assert layers_and_strides(encoder) == {
        "middle": (("blocks.4",), 16),
        "deep": (("blocks.4", "blocks.5"), 32),
    }
    assert encoder.architecture.head_layers == ("blocks.2", "blocks.3", "blocks.4", "blocks.5")
    joined = {name: basis.in_channels for name, basis in encoder.bases.items() if isinstance(basis, nn.Conv2d)}
    assert joined == {"middle": 112, "deep": 304}
    assert encoder.spec(Framing(side=256), 4).outputs == {
        "frame": (4, 64),
        "places.middle": (4, 256, 112),
        "places.deep": (4, 64, 128),
        "logits": (4, 1024),
    }
    learned = {name for name, parameter in encoder.named_parameters() if parameter.requires_grad}
    assert {name.partition(".")[0] for name in learned} == {"projection", "head"}


def test_the_published_architecture() -> None:
    encoder = encoder_of(
        Architecture(backbone="resnet34", stem="cifar", trained="all", depths={}, head=False, hidden=2048, frame=128),
        32,
    )
    pictures = torch.randn(2, 3, 32, 32)
    (last,) = encoder.features(pictures)
    assert last.shape == (2, 512, 4, 4)
    wanted = encoder.projection(last.mean(dim=3).mean(dim=2))
    torch.testing.assert_close(encoder(pictures)["frame"], wanted)
    assert encoder.spec(Framing(side=32), 4).outputs == {"frame": (4, 128)}
    assert [tuple(parameter.shape) for parameter in encoder.projection.parameters()][::2] == [(2048, 512), (128, 2048)]


@pytest.mark.parametrize(
    ("backbone", "side", "shallow", "middle", "deep"),
    [
        ("resnet18", 64, (("layer2",), 16), (("layer3",), 16), (("layer3", "layer4"), 32)),
        ("test_vit", 64, (("blocks.1",), 16), (("blocks.3",), 16), (("blocks.5",), 16)),
        ("eva02_tiny_patch14_224", 112, (("blocks.3",), 14), (("blocks.7",), 14), (("blocks.11",), 14)),
        ("xcit_nano_12_p8_224", 64, (("blocks.3",), 16), (("blocks.7",), 16), (("blocks.11",), 16)),
        ("nest_tiny", 64, (("levels.1",), 16), (("levels.2",), 16), None),
    ],
)
def test_depths_are_chosen_for_the_backbone(backbone: str, side: int, shallow: Any, middle: Any, deep: Any) -> None:
    encoder = encoder_of(Architecture(backbone=backbone), side)
    wanted = {"shallow": shallow, "middle": middle, **({"deep": deep} if deep else {})}
    assert layers_and_strides(encoder) == wanted
    assert set(encoder.architecture.head_layers or ()) == {layer for layers, _ in wanted.values() for layer in layers}


def test_what_is_chosen_needs_no_choosing_again() -> None:
    encoder = encoder_of(CONVOLUTIONAL)
    assert None not in encoder.architecture.model_dump().values()
    again = Encoder(encoder.architecture, SIDE)
    assert again.architecture == encoder.architecture
    again.load_state_dict(encoder.state_dict())


@pytest.mark.parametrize("architecture", ALL.values(), ids=ALL)
def test_embeddings_have_the_shapes_that_the_spec_says(architecture: Architecture) -> None:
    encoder = encoder_of(architecture)
    found = encoder(torch.randn(3, 3, SIDE, SIDE))
    wanted = encoder.spec(Framing(side=SIDE), 1).outputs
    assert {name: tuple(values.shape) for name, values in found.items()} == {
        name: (3, *shape[1:]) for name, shape in wanted.items()
    }
    assert list(found) == list(wanted)
    assert {values.dtype for values in found.values()} == {torch.float32}


def test_places_are_squares_of_joined_maps_in_the_basis() -> None:
    depths = {
        "fine": DepthSettings(layers=("blocks.2", "blocks.1"), stride=8),
        "coarse": DepthSettings(layers=("blocks.1", "blocks.3", "blocks.4"), stride=32),
    }
    encoder = encoder_of(CONVOLUTIONAL.model_copy(update={"depths": depths}))
    maps = random_maps(encoder)
    assert encoder.backbone.layers == ("blocks.1", "blocks.2", "blocks.3", "blocks.4")
    for name, grid in (("fine", 8), ("coarse", 2)):
        used = [maps[encoder.backbone.layers.index(layer)] for layer in depths[name].layers]
        squares = [one.reshape(2, one.shape[1], grid, one.shape[2] // grid, grid, -1).mean(axis=(3, 5)) for one in used]
        joined = np.concatenate(squares, axis=1)
        np.testing.assert_allclose(encoder.joined(tensors(maps), name), joined, atol=1e-6)

    pictures = torch.randn(2, 3, SIDE, SIDE)
    found, basis = encoder(pictures)["places.fine"], encoder.bases["fine"]
    assert isinstance(basis, nn.Conv2d)
    assert basis.bias is not None
    place = encoder.joined(encoder.features(pictures), "fine")[1, :, 5, 2]
    torch.testing.assert_close(found[1, 5 * 8 + 2], basis.weight[:, :, 0, 0] @ place + basis.bias)


def test_the_frame_is_the_projection_of_the_deepest_depths_means() -> None:
    encoder = encoder_of(CONVOLUTIONAL)
    maps = random_maps(encoder)
    means = np.concatenate([one.mean(axis=(2, 3)) for one in maps[1:]], axis=1)  # blocks.3 and blocks.4
    np.testing.assert_allclose(encoder.pooled(tensors(maps)), means, atol=1e-6)
    first, second = ([tensor.detach().numpy() for tensor in encoder.projection[layer].parameters()] for layer in (0, 2))
    wanted = np.maximum(means @ first[0].T + first[1], 0) @ second[0].T + second[1]
    np.testing.assert_allclose(encoder.project(torch.from_numpy(means)).detach(), wanted, atol=1e-5)


def test_the_head_is_a_convolution_of_the_enlarged_maps_side_by_side() -> None:
    layers = ("blocks.1", "blocks.3", "blocks.4")
    encoder = encoder_of(CONVOLUTIONAL.model_copy(update={"head_layers": layers}))
    assert encoder.head is not None
    assert encoder.head.grid == 16
    maps = random_maps(encoder)
    found = encoder.head(tensors(maps)).detach().numpy()
    assert found.shape == (2, 16, 16)
    weight = np.concatenate([part.weight.detach().numpy()[:, :, 0, 0] for part in encoder.head.squeeze], axis=1)
    norm, logit = encoder.head.norm, encoder.head.logit
    for n in range(2):
        used = [maps[encoder.backbone.layers.index(layer)][n] for layer in layers]
        channels = [cv2.resize(channel, (16, 16)) for one in used for channel in one]  # bilinear
        squeezed = np.einsum("oc,chw->ohw", weight, np.stack(channels))
        mean, deviation = norm.running_mean.numpy(), np.sqrt(norm.running_var.numpy() + norm.eps)
        standard = (squeezed - mean[:, None, None]) / deviation[:, None, None]  # as drawn, its gain is 1, its bias 0
        wanted = np.tensordot(logit.weight.detach().numpy()[0, :, 0, 0], np.maximum(standard, 0), 1)
        np.testing.assert_allclose(found[n], wanted + float(logit.bias.detach()), atol=1e-4)


def test_pictures_of_another_side_have_their_own_places() -> None:
    """The head learns from crops."""
    encoder = encoder_of(CONVOLUTIONAL, 128)
    assert encoder.head is not None
    crops = torch.randn(1, 3, 64, 64)
    wanted = encoder_of(CONVOLUTIONAL, 64)
    wanted.load_state_dict(encoder.state_dict())
    assert wanted.head is not None
    assert torch.equal(encoder.head(encoder.features(crops)), wanted.head(wanted.features(crops)))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
def test_normalise(dtype: torch.dtype) -> None:
    constants = {"mean": (10.0, 20.0, 30.0), "std": (1.0, 2.0, 4.0)}
    encoder = encoder_of(CONVOLUTIONAL.model_copy(update=constants))
    found = encoder.normalise(torch.full((1, 3, 2, 2), 70).to(dtype))
    assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert found[0, :, 1, 0].tolist() == [60, 25, 10]


def turned(frame: npt.NDArray[Any], view: int) -> npt.NDArray[Any]:
    """Mirrored left to right from view 4 on, then turned counter-clockwise."""
    return np.rot90(np.fliplr(frame) if view >= 4 else frame, view % 4)


def turned_back(grid: npt.NDArray[Any], view: int) -> npt.NDArray[Any]:
    upright = np.rot90(grid, -(view % 4))
    return np.fliplr(upright) if view >= 4 else upright


@pytest.mark.parametrize("views", [1, 4, 8])
@pytest.mark.parametrize("architecture", ALL.values(), ids=ALL)
def test_embed_views_turns_frames_and_turns_grids_back(architecture: Architecture, views: int) -> None:
    encoder, frames = encoder_of(architecture), random_frames(2)
    found = embed_views(encoder.train(), frames, views)
    assert not encoder.training
    assert {name: values.shape[1:] for name, values in found.items()} == encoder.spec(
        Framing(side=SIDE),
        views,  # type: ignore[arg-type]
    ).outputs
    double, mean, std = encoder.double(), encoder.architecture.mean, encoder.architecture.std
    for n, frame in enumerate(frames):
        for view in range(views):
            picture = ((turned(frame, view) - np.array(mean)) / np.array(std)).transpose(2, 0, 1).copy()
            with torch.inference_mode():
                parts = {name: values.numpy()[0] for name, values in double(torch.from_numpy(picture)[None]).items()}
            for name, wanted in parts.items():
                if name == "frame":
                    upright = wanted / np.linalg.norm(wanted)
                else:
                    grid = int(len(wanted) ** 0.5)
                    upright = turned_back(wanted.reshape(grid, grid, *wanted.shape[1:]), view).reshape(wanted.shape)
                np.testing.assert_allclose(found[name][n, view], upright, atol=1e-4, rtol=1e-3, err_msg=name)
    frames_of_views = found["frame"][0]
    assert all(np.abs(one - frames_of_views[0]).max() > 1e-3 for one in frames_of_views[1:]), "turns are seen"


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        ({"backbone": "resnet81"}, "backbone = 'resnet81': timm has no such network; did you mean 'resnet18'?"),
        ({"backbone": "hf-hub:someone/else"}, "backbone = 'hf-hub:someone/else': timm has no such network"),
        ({"depths": {"a.b": {"layers": ["layer2"], "stride": 16}}}, "depths.a.b"),
        ({"depths": {"pop": {"layers": ["layer2"], "stride": 16}}}, "depths: a depth cannot be called 'pop'; call it"),
        ({"backbone": "§"}, "timm has no such network; known are aimv2_1b_patch14_224, aimv2_1b_patch14_336, "),
        ({"std": [1, 0, 1]}, "std.1 = 0: input should be greater than 0"),
        ({"network": "resnet18"}, "here: network is unknown; known here: backbone, depths, "),
    ],
)
def test_an_unknown_setting_is_one_sentence(document: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_settings(document, Architecture, "here")
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def only(layer: str, stride: int) -> dict[str, Any]:
    return {"depths": {"only": DepthSettings(layers=(layer,), stride=stride)}, "head": False}


NO_TILES = "frames of {} px cannot be divided into places of {} px; set 'data.side' to {}"
TOO_SMALL = "a place of layer 'blocks.4' is 32 px wide, so places cannot be 16; set 'stride' to a multiple of 32"
UNKNOWN = "architecture: the backbone has no layer 'block.2'; did you mean 'blocks.2'?"


@pytest.mark.parametrize(
    ("changes", "side", "sentence"),
    [
        (only("blocks.4", 16), 64, f"architecture.depths.only: {TOO_SMALL}"),
        (only("blocks.3", 24), 64, f"architecture.depths.only: {NO_TILES.format(64, 24, 96)}"),
        (only("blocks.3", 16), 96, f"architecture.depths.only: {NO_TILES.format(96, 16, 64)}"),
        (only("blocks.3", 256), 64, f"architecture.depths.only: {NO_TILES.format(64, 256, 1024)}"),
        ({"depths": {}, "head_layers": ("blocks.2",)}, 96, f"architecture.head_layers: {NO_TILES.format(96, 8, 64)}"),
        ({"head_layers": ("block.2",)}, 64, UNKNOWN),
        ({"backbone": "eva02_tiny_patch14_224"}, 256, f"architecture.depths.shallow: {NO_TILES.format(256, 14, 224)}"),
    ],
)
def test_what_does_not_fit_the_frame_is_one_sentence(changes: dict[str, Any], side: int, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Encoder(CONVOLUTIONAL.model_copy(update=changes), side)
    assert str(caught.value) == sentence
