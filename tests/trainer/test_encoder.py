from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch

from trainer.encoder import Architecture, Encoder, Shortcut, embed_views, load_backbone, normalise, normalise_each
from worker.contract.detectors import learned_logits
from worker.contract.errors import ConfigError, DataError, MismatchError
from worker.contract.settings import parse_settings

SMALL = Architecture(width=8, hidden=16, dimensions=4)
LOCAL = Architecture(network="resnet10", width=8, hidden=16, dimensions=12, local=True, padding="reflect")


def backbone(encoder: Encoder) -> dict[str, torch.Tensor]:
    own = ("projection.", "local.")
    return {name: value for name, value in encoder.state_dict().items() if not name.startswith(own)}


def used(architecture: Architecture) -> Encoder:
    """An encoder in evaluation mode whose batch normalisations have seen something."""
    torch.manual_seed(0)
    encoder = Encoder(architecture)
    for name, tensor in encoder.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2)
        elif name.endswith(("running_mean", "bn1.bias", "bn2.bias", "norm.bias")):
            tensor.normal_(0, 0.3)
    return encoder.eval()


def random_frames(count: int, side: int = 64) -> npt.NDArray[np.uint8]:
    """(count, side, side, 3), coarse structure and fine."""
    rng = np.random.default_rng(3)
    coarse = rng.integers(0, 200, (count, side // 8, side // 8, 3)).repeat(8, axis=1).repeat(8, axis=2)
    return (coarse + rng.integers(0, 56, coarse.shape)).astype(np.uint8)


def standardised(frame: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """(S, S, 3) -> (3, S, S), mean 0 and deviation 1."""
    return ((frame - frame.mean()) / frame.std()).transpose(2, 0, 1).astype(np.float32)


def published(**changes: Any) -> dict[str, torch.Tensor]:
    """Weights as torchvision would publish them for another initialisation of a small ResNet."""
    weights = backbone(Encoder(SMALL.model_copy(update=changes)))
    return {**weights, "fc.weight": torch.ones(10, 64), "fc.bias": torch.ones(10)}


@pytest.mark.parametrize(
    ("network", "parameters", "tensors"),
    [("resnet18", 11_689_512 - 513_000, 122 - 2), ("resnet34", 21_797_672 - 513_000, 218 - 2)],
)
def test_backbone_is_torchvisions(network: Any, parameters: int, tensors: int) -> None:
    """The counts that torchvision documents for its models, less those of the classifier."""
    encoder = Encoder(Architecture(network=network))
    assert len(backbone(encoder)) == tensors
    assert sum(p.numel() for name, p in encoder.named_parameters() if not name.startswith("projection.")) == parameters
    shapes = {name: tuple(value.shape) for name, value in encoder.state_dict().items()}
    assert shapes["conv1.weight"] == (64, 3, 7, 7)
    assert shapes["layer1.0.bn2.running_var"] == (64,)
    assert shapes["layer2.0.downsample.0.weight"] == (128, 64, 1, 1)
    assert shapes["layer2.0.downsample.1.num_batches_tracked"] == ()
    assert shapes["layer4.1.conv2.weight"] == (512, 512, 3, 3)
    assert "layer1.0.downsample.0.weight" not in shapes


@pytest.mark.parametrize(("stem", "side"), [("cifar", 4), ("imagenet", 1)])
def test_stem_decides_the_last_grid(stem: Any, side: int) -> None:
    encoder = Encoder(SMALL.model_copy(update={"stem": stem})).eval()
    grids: list[torch.Size] = []
    encoder.layer4.register_forward_hook(lambda _module, _inputs, output: grids.append(output.shape))
    assert encoder(torch.zeros(2, 3, 32, 32)).shape == (2, 1, 4)
    assert grids == [(2, 64, side, side)]


def test_an_encoder_of_whole_frames_projects_the_mean_of_its_last_stage() -> None:
    encoder = used(SMALL)
    pictures = torch.from_numpy(np.stack([standardised(frame) for frame in random_frames(2)]))
    with torch.inference_mode():
        stages = encoder.stages(pictures)
        found = encoder(pictures)[:, 0].numpy()
    assert [tuple(stage.shape) for stage in stages] == [
        *((2, 8, 16, 16), (2, 16, 8, 8), (2, 32, 4, 4), (2, 64, 2, 2)),
    ]
    first, _, second = encoder.projection
    hidden = stages[3].numpy().mean(axis=(2, 3)) @ first.weight.detach().numpy().T + first.bias.detach().numpy()
    wanted = np.maximum(hidden, 0) @ second.weight.detach().numpy().T + second.bias.detach().numpy()
    np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize(("network", "blocks"), [("resnet10", 1), ("resnet18", 2)])
@pytest.mark.parametrize("local", [False, True])
def test_names_are_torchvisions_up_to_the_last_stage_there_is(network: Any, blocks: int, local: bool) -> None:
    def norm(name: str) -> set[str]:
        kinds = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
        return {f"{name}.{kind}" for kind in kinds}

    names = {"conv1.weight", *norm("bn1")}
    for stage in (1, 2, 3) if local else (1, 2, 3, 4):
        for block in range(blocks):
            prefix = f"layer{stage}.{block}"
            names |= {
                f"{prefix}.conv1.weight",
                f"{prefix}.conv2.weight",
                *norm(f"{prefix}.bn1"),
                *norm(f"{prefix}.bn2"),
            }
        if stage > 1:
            names |= {f"layer{stage}.0.downsample.0.weight", *norm(f"layer{stage}.0.downsample.1")}
    assert set(backbone(Encoder(LOCAL.model_copy(update={"network": network, "local": local})))) == names


@pytest.mark.parametrize(("side", "grid"), [(64, 8), (128, 16), (256, 32)])
@pytest.mark.parametrize("network", ["resnet10", "resnet18"])
def test_there_is_a_local_embedding_for_every_8x8_pixels(network: Any, side: int, grid: int) -> None:
    architecture = LOCAL.model_copy(update={"network": network})
    encoder = used(architecture)
    assert architecture.positions(side) == grid**2
    assert SMALL.positions(side) == 1
    pictures = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        stages = encoder.stages(pictures)
        found = encoder(pictures)
        projections = encoder.project(stages)
    assert [tuple(stage.shape) for stage in stages] == [
        *((2, 8, 2 * grid, 2 * grid), (2, 16, grid, grid), (2, 32, grid // 2, grid // 2)),
    ]
    assert found.shape == (2, grid**2, 12)
    assert found.dtype == torch.float32
    assert projections.shape == (2, 12)


def test_a_local_embedding_is_the_logit_beside_features_with_their_length() -> None:
    encoder = used(LOCAL)
    frames = random_frames(3)
    pictures = torch.from_numpy(np.stack([standardised(frame) for frame in frames]))
    with torch.inference_mode():
        stages = encoder.stages(pictures)
        logits = encoder.local.logits(stages).numpy()
        features = encoder.local.features(stages).numpy()
    found = embed_views(encoder, frames, 1)[:, 0]
    np.testing.assert_allclose(np.linalg.norm(found, axis=-1), 1, atol=1e-6)
    assert logits.shape == (3, 1, 8, 8)
    assert logits.std() > 0.05
    np.testing.assert_allclose(learned_logits(found), logits.reshape(3, 64), rtol=5e-5, atol=1e-5)
    weight, bias = (tensor.detach().numpy() for tensor in (encoder.local.basis.weight, encoder.local.basis.bias))
    for n in range(3):
        for place in range(64):
            vector = weight[:, :, 0, 0] @ features[n, :, place // 8, place % 8] + bias
            scale = np.sqrt(1 + (logits[n, 0, place // 8, place % 8] / 4) ** 2 + vector @ vector)
            np.testing.assert_allclose(found[n, place, 1] * scale, 1, atol=1e-5)
            np.testing.assert_allclose(found[n, place, 2:] * scale, vector, atol=1e-5)


def test_local_features_are_all_stages_on_the_grid_of_the_second() -> None:
    rng = np.random.default_rng(0)
    shapes = ((8, 16), (16, 8), (32, 4))
    stages = [rng.normal(size=(2, channels, side, side)).astype(np.float32) for channels, side in shapes]
    found = Encoder(LOCAL).local.features(tuple(torch.from_numpy(stage) for stage in stages)).numpy()
    smaller = sum(stages[0][:, :, row::2, column::2] for row in (0, 1) for column in (0, 1)) / 4
    np.testing.assert_allclose(found[:, :8], smaller, atol=1e-6)
    np.testing.assert_array_equal(found[:, 8:24], stages[1])
    for n in range(2):
        for channel in range(32):
            larger = cv2.resize(stages[2][n, channel], (8, 8), interpolation=cv2.INTER_LINEAR)
            np.testing.assert_allclose(found[n, 24 + channel], larger, atol=1e-6)


def test_only_the_basis_of_a_local_encoder_is_not_learned() -> None:
    fixed = {name for name, parameter in Encoder(LOCAL).named_parameters() if not parameter.requires_grad}
    assert fixed == {"local.basis.weight", "local.basis.bias"}


@pytest.mark.parametrize(("padding", "even"), [("reflect", True), ("zeros", False)])
def test_reflected_margins_show_no_edge_of_the_frame(padding: Any, even: bool) -> None:
    encoder = used(LOCAL.model_copy(update={"padding": padding}))
    with torch.inference_mode():
        (found,) = encoder(torch.full((1, 3, 64, 64), 0.7)).numpy()
    assert (np.abs(found - found[27]).max() < 1e-5) == even


@pytest.mark.parametrize("channels", [4, 12])  # where oneDNN's own strided gradient destroys the heap on AVX2
def test_the_shortcut_is_a_strided_convolution_with_its_gradient(channels: int) -> None:
    generator = torch.Generator().manual_seed(0)
    shortcut = Shortcut(channels, 2 * channels, 1, stride=2, bias=False).double()
    pictures = torch.randn(4, channels, 7, 6, generator=generator, dtype=torch.float64)
    found = shortcut.train()(pictures)
    assert torch.equal(found, shortcut.eval()(pictures))
    gradient = torch.randn(found.shape, generator=generator, dtype=torch.float64)
    found.backward(gradient)
    wanted = torch.einsum("nohw,nihw->oi", gradient, pictures[:, :, ::2, ::2])
    assert shortcut.weight.grad is not None
    torch.testing.assert_close(shortcut.weight.grad[:, :, 0, 0], wanted)


def test_a_block_adds_its_input() -> None:
    block = Encoder(SMALL).layer1[0].eval()
    torch.nn.init.zeros_(block.conv2.weight)
    x = torch.randn(1, 8, 5, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(block(x), x.clamp_min(0))


def test_normalise_has_imagenets_mean_and_deviation() -> None:
    pixels = torch.tensor([0, 128, 255], dtype=torch.uint8).view(1, 3, 1, 1)
    expected = torch.tensor([-0.485 / 0.229, (128 / 255 - 0.456) / 0.224, (1 - 0.406) / 0.225])
    torch.testing.assert_close(normalise(pixels).flatten(), expected)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
def test_normalise_each_standardises_every_frame_alone_in_both_layouts(dtype: torch.dtype) -> None:
    rng = np.random.default_rng(0)
    frames = random_frames(4, 32)
    frames[1] = 250 - frames[1] // 50  # of 1.5 grey levels or so: it stays flat
    frames[2] = 7
    frames[3] = rng.normal(100, 8.5, frames[3].shape)
    pixels = torch.from_numpy(frames).to(dtype)
    found = normalise_each(pixels)
    assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    for n, frame in enumerate(frames.astype(float)):
        mean = sum(frame.ravel()) / frame.size
        deviation = (sum((frame.ravel() - mean) ** 2) / frame.size) ** 0.5
        np.testing.assert_allclose(found[n], (frame - mean) / max(deviation, 8), atol=1e-4)
    assert found[1].std() < 0.5
    assert not found[2].any()
    torch.testing.assert_close(normalise_each(pixels.permute(0, 3, 1, 2)), found.permute(0, 3, 1, 2))


def test_brightness_and_gain_do_not_matter_to_normalise_each() -> None:
    pixels = torch.from_numpy(random_frames(2)).double()
    torch.testing.assert_close(normalise_each(0.4 * pixels + 31), normalise_each(pixels))


def turned(frame: npt.NDArray[Any], view: int) -> npt.NDArray[Any]:
    """Mirrored left to right from view 4 on, then turned counter-clockwise."""
    return np.rot90(np.fliplr(frame) if view >= 4 else frame, view % 4)


def turned_back(grid: npt.NDArray[Any], view: int) -> npt.NDArray[Any]:
    upright = np.rot90(grid, -(view % 4))
    return np.fliplr(upright) if view >= 4 else upright


@pytest.mark.parametrize("views", [1, 4, 8])
def test_embed_views_turns_frames_and_turns_local_grids_back(views: int) -> None:
    encoder, frames = used(LOCAL), random_frames(2)
    found = embed_views(encoder.train(), frames, views)
    assert not encoder.training
    assert found.shape == (2, views, 64, 12)
    assert found.dtype == np.float32
    for n, frame in enumerate(frames):
        for view in range(views):
            picture = torch.from_numpy(standardised(turned(frame, view)))[None]
            with torch.inference_mode():
                vectors = encoder(picture).numpy()[0]
            grid = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).reshape(8, 8, 12)
            np.testing.assert_allclose(found[n, view].reshape(8, 8, 12), turned_back(grid, view), atol=1e-5)
    corner = [np.abs(found[0, view] - found[0, 0]).max() for view in range(1, views)]
    assert all(difference > 0.01 for difference in corner), "the encoder sees which way a view lies"


@pytest.mark.parametrize("views", [1, 4, 8])
def test_embed_views_of_whole_frames(views: int) -> None:
    encoder, frames = used(SMALL), random_frames(2)
    found = embed_views(encoder, frames, views)
    assert found.shape == (2, views, 1, 4)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    for n, frame in enumerate(frames):
        for view in range(views):
            picture = ((turned(frame, view) / 255 - mean) / std).transpose(2, 0, 1).astype(np.float32)
            with torch.inference_mode():
                vector = encoder(torch.from_numpy(picture)[None]).numpy()[0, 0]
            np.testing.assert_allclose(found[n, view, 0], vector / np.linalg.norm(vector), atol=1e-5)


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        ({"local": True, "stem": "cifar"}, "local embeddings need stem 'imagenet'"),
        ({"local": True, "width": 8, "dimensions": 59}, "local embeddings of width 8 have 3 to 58 dimensions"),
        ({"padding": "mirror"}, "padding = 'mirror': input should be 'zeros' or 'reflect'"),
        ({"network": "resnet50"}, "network = 'resnet50': input should be 'resnet10', 'resnet18' or 'resnet34'"),
    ],
)
def test_an_architecture_that_does_not_go_together_is_one_sentence(document: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_settings(document, Architecture, "here")
    assert str(caught.value) == f"here: {sentence}"
    Architecture(local=True, width=8, dimensions=50)


@pytest.mark.parametrize("forget", [(), ("num_batches_tracked",)], ids=["new file", "file of before 2018"])
def test_published_weights_load(tmp_path: Path, forget: tuple[str, ...]) -> None:
    weights = {name: value for name, value in published().items() if not name.endswith(forget or "\0")}
    torch.save(weights, tmp_path / "weights.pth")
    encoder = Encoder(SMALL)
    before = encoder.projection[0].weight.clone()
    load_backbone(encoder, tmp_path / "weights.pth")
    loaded = backbone(encoder)
    assert all(torch.equal(loaded[name], value) for name, value in weights.items() if not name.startswith("fc."))
    assert torch.equal(encoder.projection[0].weight, before)


def test_published_weights_load_into_a_local_encoder_without_their_fourth_stage(tmp_path: Path) -> None:
    weights = published()
    assert any(name.startswith("layer4.") for name in weights)
    torch.save(weights, tmp_path / "weights.pth")
    encoder = Encoder(LOCAL.model_copy(update={"network": "resnet18"}))
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    load_backbone(encoder, tmp_path / "weights.pth")
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, before[name] if name.startswith(("projection.", "local.")) else weights[name]), name
    with pytest.raises(MismatchError, match=r"holds layer1.1.bn1.bias, which resnet10 does not have; set 'architect"):
        load_backbone(Encoder(LOCAL), tmp_path / "weights.pth")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"width": 4}, r"conv1.weight has shape \(4, 3, 7, 7\), but the encoder's has \(8, 3, 7, 7\); set 'architect"),
        ({"stem": "cifar"}, r"conv1.weight has shape \(8, 3, 3, 3\), .* set 'architecture' to the network, stem and w"),
        ({"network": "resnet34"}, r"holds layer1.2.bn1.bias, which resnet18 does not have; set 'architecture.network'"),
    ],
)
def test_weights_of_another_architecture_are_refused(tmp_path: Path, changes: dict[str, Any], sentence: str) -> None:
    torch.save(published(**changes), tmp_path / "weights.pth")
    with pytest.raises(MismatchError, match=sentence):
        load_backbone(Encoder(SMALL), tmp_path / "weights.pth")


class Evil:
    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("touch harmed",)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (Evil(), "holds no plain tensors"),
        ({"state_dict": {}}, "holds no state dict"),
        (torch.zeros(3), "holds no state dict"),
        (b"no weights", "holds no plain tensors"),
        (b"", "holds no plain tensors"),
        (None, r"cannot be read \(No such file"),
    ],
)
def test_a_file_that_holds_no_weights_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: object, sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "weights.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(DataError, match=f"weights.pth: {sentence}"):
        load_backbone(Encoder(SMALL), path)
    assert not Path("harmed").exists()
