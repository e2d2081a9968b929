from __future__ import annotations

from copy import deepcopy
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from quarterturn.trainer.architecture import Architecture
from quarterturn.trainer.backbone import create_network
from quarterturn.trainer.depths import DepthSettings
from quarterturn.trainer.encoder import Encoder, embed_views
from quarterturn.worker.contract.errors import ConfigError
from quarterturn.worker.contract.framing import Framing
from quarterturn.worker.contract.settings import parse_settings

SIDE = 64
CONVOLUTIONAL = Architecture(backbone="test_efficientnet", hidden=16, frame=12, dimensions=40)
TRANSFORMER = Architecture(backbone="test_vit", hidden=16, frame=12, dimensions=20)
WHOLE = Architecture(backbone="test_resnet", depths={}, head=False, hidden=16, frame=12)
HALVED = CONVOLUTIONAL.model_copy(
    update={
        "depths": {
            "middle": DepthSettings(layers=("blocks.3",), stride=16),
            "deep": DepthSettings(layers=("blocks.3", "blocks.4"), halved=("blocks.4", "blocks.3"), stride=32),
        }
    }
)
SEEN_TWICE = DepthSettings(layers=("blocks.2",), halved=("blocks.5", "blocks.2"), stride=16)
ALL = {
    "convolutional": CONVOLUTIONAL,
    "halved": HALVED,
    "transformer": TRANSFORMER,
    "transformer, halved": TRANSFORMER.model_copy(update={"depths": {"only": SEEN_TWICE}}),
    "whole frames": WHOLE,
}

Floats = npt.NDArray[np.float32]


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


def random_maps(encoder: Encoder, count: int = 2) -> list[Floats]:
    rng = np.random.default_rng(0)
    sizes = zip(encoder.backbone.channels, encoder.backbone.grids, strict=True)
    return [rng.normal(size=(count, channels, grid, grid)).astype(np.float32) for channels, grid in sizes]


def tensors(maps: list[Floats]) -> tuple[Tensor, ...]:
    return tuple(torch.from_numpy(one) for one in maps)


def layers_and_strides(encoder: Encoder) -> dict[str, tuple[tuple[str, ...], int]]:
    return {name: (depth.layers, depth.stride) for name, depth in encoder.depths.items()}


def halved_layers(encoder: Encoder) -> dict[str, tuple[str, ...]]:
    return {name: depth.halved for name, depth in encoder.depths.items() if depth.halved}


def test_the_default_architecture() -> None:
    encoder = encoder_of(Architecture(), 256)
    assert layers_and_strides(encoder) == {
        "middle": (("blocks.4",), 16),
        "deep": (("blocks.4", "blocks.5"), 32),
    }
    assert halved_layers(encoder) == {"deep": ("blocks.4", "blocks.5")}
    assert encoder.architecture.head_layers == ("blocks.2", "blocks.3", "blocks.4", "blocks.5")
    joined = {name: basis.in_channels for name, basis in encoder.bases.items() if isinstance(basis, nn.Conv2d)}
    assert joined == {"middle": 112, "deep": 2 * (112 + 192)}
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


@pytest.mark.parametrize("backbone", ["tf_efficientnet_lite1", "tf_efficientnet_lite2"])
def test_larger_ones_of_the_default_backbone_have_its_depths(backbone: str) -> None:
    encoder, default = encoder_of(Architecture(backbone=backbone)), encoder_of(Architecture())
    assert encoder.depths == default.depths
    assert encoder.architecture.head_layers == default.architecture.head_layers


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
    assert halved_layers(encoder) == {}
    assert set(encoder.architecture.head_layers or ()) == {layer for layers, _ in wanted.values() for layer in layers}


@pytest.mark.parametrize("architecture", [CONVOLUTIONAL, Architecture(hidden=16)], ids=["test_efficientnet", "Lite"])
def test_what_is_chosen_needs_no_choosing_again(architecture: Architecture) -> None:
    encoder = encoder_of(architecture)
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


def weights_of_places(size: int, grid: int) -> npt.NDArray[np.float64]:
    """(grid, size): how much each place of a line of `size` counts in each of `grid` over the same length.

    The mean of those inside where these are whole ones; else between the middles of the two next to its own.
    """
    weights = np.zeros((grid, size))
    for place in range(grid):
        if size % grid == 0:
            weights[place, place * size // grid : (place + 1) * size // grid] = grid / size
            continue
        middle = min(max((place + 0.5) * size / grid - 0.5, 0), size - 1)
        weights[place, int(middle)] += 1 - middle % 1
        weights[place, min(int(middle) + 1, size - 1)] += middle % 1
    return weights


def on_places(maps: Floats, grid: int) -> npt.NDArray[np.float64]:
    """(N, C, H, H) -> (N, C, grid, grid)."""
    along = weights_of_places(maps.shape[2], grid)
    return np.einsum("ay,bx,ncyx->ncab", along, along, maps.astype(np.float64))


def test_the_oracle_for_joined_maps_agrees_with_opencv() -> None:
    """Which interpolates between the middles of pixels, and averages where they shrink evenly."""
    maps = np.random.default_rng(0).normal(size=(1, 1, 12, 12)).astype(np.float32)
    for size, grid in ((2, 4), (3, 4), (6, 4), (1, 4), (12, 12)):
        shown = maps[..., :size, :size]
        wanted = cv2.resize(shown[0, 0], (grid, grid), interpolation=cv2.INTER_LINEAR)
        np.testing.assert_allclose(on_places(shown, grid)[0, 0], wanted, atol=1e-6)
    for grid in (1, 2, 3, 4, 6):
        wanted = cv2.resize(maps[0, 0], (grid, grid), interpolation=cv2.INTER_AREA)
        np.testing.assert_allclose(on_places(maps, grid)[0, 0], wanted, atol=1e-6)


HALF_SIDES = {  # of the layers' maps, by the side of the frame that is halved
    64: {"blocks.1": 8, "blocks.2": 4, "blocks.3": 2, "blocks.4": 1},
    96: {"blocks.1": 12, "blocks.2": 6, "blocks.3": 3, "blocks.4": 2},
}
JOINED = {
    "squares": (64, DepthSettings(layers=("blocks.2", "blocks.1"), stride=8)),
    "coarse squares": (64, DepthSettings(layers=("blocks.1", "blocks.3", "blocks.4"), stride=32)),
    "halved": (64, DepthSettings(layers=("blocks.4",), halved=("blocks.4", "blocks.1", "blocks.3"), stride=32)),
    "fine, halved": (64, DepthSettings(layers=("blocks.1",), halved=("blocks.3", "blocks.1"), stride=4)),
    "only halved ones go so deep": (64, DepthSettings(layers=("blocks.1",), halved=("blocks.4",), stride=16)),
    "odd ratios": (96, DepthSettings(layers=("blocks.2", "blocks.1"), halved=tuple(HALF_SIDES[96]), stride=24)),
}


@pytest.mark.parametrize(("side", "depth"), JOINED.values(), ids=JOINED)
def test_a_depth_joins_averaged_and_interpolated_maps_of_the_frame_and_of_it_halved(
    side: int, depth: DepthSettings
) -> None:
    """Layers first, then the halved ones, each in the order that is asked for."""
    changes = {"depths": {"only": depth}, "head": False}
    encoder = encoder_of(CONVOLUTIONAL.model_copy(update=changes), side)
    maps, rng = random_maps(encoder), np.random.default_rng(1)
    used = [maps[encoder.backbone.layers.index(layer)] for layer in depth.layers]
    halves = [
        rng.normal(size=(2, channels, *[HALF_SIDES[side][layer]] * 2)).astype(np.float32)
        for layer, channels in zip(encoder.backbone.layers, encoder.backbone.channels, strict=True)
    ]
    used += [halves[encoder.backbone.layers.index(layer)] for layer in depth.halved]
    wanted = np.concatenate([on_places(one, side // depth.stride) for one in used], axis=1)
    found = encoder.joined(tensors(maps), tensors(halves) if depth.halved else (), "only")
    np.testing.assert_allclose(found, wanted, atol=1e-4)


@pytest.mark.parametrize(("side", "depth"), JOINED.values(), ids=JOINED)
def test_places_are_maps_of_the_whole_network_joined_in_the_basis(side: int, depth: DepthSettings) -> None:
    """Of frames, and of frames in which each pixel is the mean of four."""
    torch.manual_seed(0)
    network = create_network("test_efficientnet", "own", side).eval()
    encoder = Encoder(
        CONVOLUTIONAL.model_copy(update={"depths": {"only": depth}, "head": False}), side, deepcopy(network)
    ).eval()
    seen: dict[str, list[Floats]] = {layer: [] for layer in {*depth.layers, *depth.halved}}
    for layer, maps in seen.items():
        network.get_submodule(layer).register_forward_hook(lambda _m, _i, out, maps=maps: maps.append(out.numpy()))
    pictures = np.random.default_rng(2).normal(size=(2, 3, side, side)).astype(np.float32)
    with torch.inference_mode():
        for given in (pictures, pictures.reshape(2, 3, side // 2, 2, side // 2, 2).mean(axis=(3, 5))):
            network(torch.from_numpy(given))
        found = encoder(torch.from_numpy(pictures))["places.only"].numpy()
    grid = side // depth.stride
    used = [seen[layer][0] for layer in depth.layers] + [seen[layer][1] for layer in depth.halved]
    joined = np.concatenate([on_places(one, grid) for one in used], axis=1)
    basis = encoder.bases["only"]
    assert isinstance(basis, nn.Conv2d)
    assert basis.bias is not None
    wanted = np.einsum("dc,ncyx->nyxd", basis.weight[:, :, 0, 0].numpy(), joined) + basis.bias.numpy()
    assert encoder.places["only"].dimensions == min(40, joined.shape[1])
    np.testing.assert_allclose(found, wanted.reshape(2, grid**2, -1), atol=1e-4)


@pytest.mark.parametrize(
    ("halved", "sides"),
    [((), [64]), (("deep",), [64, 32]), (("middle", "deep"), [64, 32])],
    ids=["none", "one depth", "two depths"],
)
def test_frames_are_halved_once_and_only_where_a_depth_takes_it(halved: tuple[str, ...], sides: list[int]) -> None:
    depths = {
        name: DepthSettings(layers=("blocks.3",), halved=("blocks.4",) if name in halved else (), stride=16)
        for name in ("middle", "deep")
    }
    encoder = encoder_of(CONVOLUTIONAL.model_copy(update={"depths": depths}))
    given: list[torch.Size] = []
    encoder.backbone.register_forward_hook(lambda _m, pictures, _out: given.append(pictures[0].shape))
    encoder(torch.randn(2, 3, SIDE, SIDE))
    assert [tuple(shape) for shape in given] == [(2, 3, side, side) for side in sides]
    given.clear()
    embed_views(encoder, random_frames(2), 4)
    assert [shape[2] for shape in given] == 4 * sides
    given.clear()
    encoder.features(torch.randn(2, 3, SIDE, SIDE))
    assert len(given) == 1, "what a projection and a head learn from"
    assert len(encoder.halves(torch.randn(2, 3, SIDE, SIDE))) == (len(encoder.backbone.layers) if halved else 0)


def test_halved_layers_are_for_places_alone() -> None:
    """Neither the frame's embedding nor the head knows of them, and other depths are as before."""
    pictures = torch.randn(2, 3, SIDE, SIDE)
    deep = DepthSettings(layers=("blocks.3", "blocks.4"), stride=32)
    plain = encoder_of(HALVED.model_copy(update={"depths": {**(HALVED.depths or {}), "deep": deep}}))
    encoder = encoder_of(HALVED)
    state = {name: tensor for name, tensor in plain.state_dict().items() if not name.startswith("bases.deep")}
    assert encoder.load_state_dict(state, strict=False).missing_keys == ["bases.deep.weight", "bases.deep.bias"]
    assert encoder.pooled_width == plain.pooled_width == 48 + 64
    found, wanted = encoder(pictures), plain(pictures)
    for name in ("frame", "places.middle", "logits"):
        assert torch.equal(found[name], wanted[name]), name
    weights = {name: one.bases["deep"].weight for name, one in (("halved", encoder), ("plain", plain))}
    assert [weights[name].shape[1] for name in ("halved", "plain")] == [2 * (48 + 64), 48 + 64]


def test_halved_layers_see_twice_as_much_around_a_place() -> None:
    """A dot changes the places of its surroundings; of the halved frame, those as far again."""
    dot = torch.zeros(1, 3, 256, 256)
    dot[..., 128:132, 128:132] = 3
    reach = {}
    for kind, changes in (("layers", {"layers": ("blocks.1",)}), ("halved", {"layers": ("blocks.0",)})):
        halved = ("blocks.1",) if kind == "halved" else ()
        depth = DepthSettings.model_validate({**changes, "halved": halved, "stride": 4})
        encoder = encoder_of(CONVOLUTIONAL.model_copy(update={"depths": {"only": depth}, "head": False}), 256)
        pair = [
            encoder.joined(encoder.features(one), encoder.halves(one), "only")[0, -24:]  # the channels of blocks.1
            for one in (dot, torch.zeros_like(dot))
        ]
        changed = (pair[0] - pair[1]).abs().amax(dim=(0, 1)) > 1e-6
        reach[kind] = int(changed.sum())
    assert 1.5 * reach["layers"] < reach["halved"] < 2.5 * reach["layers"]


@pytest.mark.parametrize("backbone", ["tf_efficientnet_lite0", "test_efficientnet"])
def test_a_backbone_that_was_hastened_is_so_for_halved_frames(backbone: str) -> None:
    architecture = Architecture(backbone=backbone, hidden=16, frame=12)
    encoder = encoder_of(architecture if backbone.startswith("tf") else HALVED)
    pictures = torch.randn(2, 3, SIDE, SIDE)
    wanted = encoder(pictures)
    encoder.backbone.hasten(SIDE)
    assert encoder.backbone._folded
    for name, values in encoder(pictures).items():
        torch.testing.assert_close(values, wanted[name], rtol=1e-3, atol=1e-3)


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
        ({"depths": {"deep": {"layers": ["layer2"], "halves": ["layer2"], "stride": 16}}}, "did you mean 'halved'?"),
        ({"depths": {"deep": {"layers": [], "halved": ["layer2"], "stride": 16}}}, "here: depths.deep.layers = []: "),
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


def halved(*depths: str, layers: tuple[str, ...] = ("blocks.3",)) -> dict[str, Any]:
    """Two depths, of which these take halved layers."""
    settings = {name: layers if name in depths else () for name in ("middle", "deep")}
    return {
        "depths": {name: DepthSettings(layers=("blocks.3",), halved=one, stride=16) for name, one in settings.items()},
        "head": False,
    }


NOT_DIVIDED = "frames of {} px cannot be divided into places of {} px; set 'data.side' to {}"
TOO_SMALL = "a place of layer 'blocks.4' is 32 px wide, so places cannot be 16; set 'stride' to a multiple of 32"
UNKNOWN = "architecture: the backbone has no layer 'block.2'; did you mean 'blocks.2'?"
NOT_HALF = "the backbone takes no frames of {} px, half of 'data.side'; take out 'halved'"


@pytest.mark.parametrize(
    ("changes", "side", "sentence"),
    [
        (only("blocks.4", 16), 64, f"architecture.depths.only: {TOO_SMALL}"),
        (only("blocks.3", 24), 64, f"architecture.depths.only: {NOT_DIVIDED.format(64, 24, 48)}"),
        (only("blocks.3", 32), 80, f"architecture.depths.only: {NOT_DIVIDED.format(80, 32, 64)}"),
        (only("blocks.3", 256), 64, f"architecture.depths.only: {NOT_DIVIDED.format(64, 256, 256)}"),
        ({"head_layers": ("block.2",)}, 64, UNKNOWN),
        (halved("deep", layers=("blocks.3", "block.2")), 64, UNKNOWN),
        (
            {"backbone": "vit_tiny_patch16_224", **halved("deep")},
            224,
            f"architecture.depths.deep: {NOT_HALF.format(112)}",
        ),
        (
            {"backbone": "vit_tiny_patch16_224", **halved("middle", "deep")},
            64,
            f"architecture.depths.middle, architecture.depths.deep: {NOT_HALF.format(32)}",
        ),
        ({"backbone": "convit_tiny", **halved("middle")}, 64, f"architecture.depths.middle: {NOT_HALF.format(32)}"),
        (
            {"backbone": "eva02_tiny_patch14_224"},
            256,
            f"architecture.depths.shallow: {NOT_DIVIDED.format(256, 14, 224)}",
        ),
    ],
)
def test_what_does_not_fit_the_frame_is_one_sentence(changes: dict[str, Any], side: int, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Encoder(CONVOLUTIONAL.model_copy(update=changes), side)
    assert str(caught.value) == sentence


@pytest.mark.parametrize("fit", ["letterbox", "tiles"])
def test_grids_that_do_not_coincide_in_tiles_take_whole_pictures_alone(fit: Any) -> None:
    encoder = encoder_of(CONVOLUTIONAL, 96)
    assert encoder.spec(Framing(side=96), 4).places["deep"].grid == 3
    with pytest.raises(
        ConfigError,
        match=rf"architecture\.depths\.\w+: with fit '{fit}' frames of 96 px cannot have (\d+) x \1 places; "
        "set 'data.side' to (64|128), or 'data.fit' to 'stretch'",
    ):
        encoder.spec(Framing(side=96, fit=fit), 1)
    encoder_of(CONVOLUTIONAL).require_framing(Framing(side=SIDE, fit=fit))


def test_a_transformer_of_one_size_takes_depths_of_the_whole_frame_alone() -> None:
    encoder = encoder_of(CONVOLUTIONAL.model_copy(update={"backbone": "convit_tiny", **halved()}))
    assert encoder(torch.randn(1, 3, SIDE, SIDE))["places.deep"].shape == (1, 16, 40)
