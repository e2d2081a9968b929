from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from quarterturn.trainer.architecture import Architecture
from quarterturn.trainer.basis import fit_bases
from quarterturn.trainer.encoder import Encoder

SIDE, CHANNELS = 64, {"shallow": 32, "middle": 48, "deep": 112, "halved": 112}
DEPTHS = {
    "shallow": {"layers": ["blocks.2"], "stride": 16},
    "middle": {"layers": ["blocks.3"], "stride": 16},
    "deep": {"layers": ["blocks.3", "blocks.4"], "stride": 32},
    "halved": {"layers": ["blocks.2"], "halved": ["blocks.2", "blocks.3"], "stride": 16},
}


def encoder(**changes: object) -> Encoder:
    torch.manual_seed(0)
    small: dict[str, Any] = {"backbone": "test_efficientnet", "depths": DEPTHS, "dimensions": 112}
    small |= {"hidden": 8, "frame": 4}
    return Encoder(Architecture.model_validate(small | changes), SIDE)


def batches(*sizes: int) -> list[npt.NDArray[np.uint8]]:
    rng = np.random.default_rng(0)
    frames = []
    for size in sizes:
        coarse = rng.integers(0, 200, (size, 8, 8, 3)).repeat(8, axis=1).repeat(8, axis=2)
        frames.append((coarse + rng.integers(0, 56, coarse.shape)).astype(np.uint8))
    return frames


def features_of(net: Encoder, frames: list[npt.NDArray[np.uint8]], depth: str) -> npt.NDArray[np.float64]:
    """(n, C): the features of every place, gathered one at a time."""
    mean, std = np.array(net.architecture.mean), np.array(net.architecture.std)
    rows = []
    for batch in frames:
        for frame in batch:
            picture = torch.from_numpy(((frame - mean) / std).transpose(2, 0, 1)[None].astype(np.float32))
            halved = picture.unflatten(3, (SIDE // 2, 2)).unflatten(2, (SIDE // 2, 2)).mean(dim=(3, 5))
            with torch.inference_mode():
                maps = net.eval().features(picture), net.features(halved)
                grid = net.joined(*maps, depth)[0].double().numpy()
            rows += [grid[:, row, column] for row in range(grid.shape[1]) for column in range(grid.shape[2])]
    return np.array(rows)


def standardised(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return (rows - rows.mean(axis=0)) / rows.std(axis=0)


def in_basis(net: Encoder, rows: npt.NDArray[np.float64], depth: str) -> npt.NDArray[np.float64]:
    basis = net.bases[depth]
    assert isinstance(basis, nn.Conv2d)
    assert basis.bias is not None
    return rows @ basis.weight[:, :, 0, 0].double().numpy().T + basis.bias.double().numpy()


def squared_distances(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.square(rows[:, None] - rows[None]).sum(axis=-1)


@pytest.mark.parametrize("depth", CHANNELS)
def test_without_a_cut_distances_are_those_of_standardised_features(depth: str) -> None:
    net, frames = encoder(), batches(20, 13)
    others = {name: value.clone() for name, value in net.state_dict().items() if not name.startswith("bases")}
    fit_bases(net.train(), frames)
    assert not net.training
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in others.items())

    rows = features_of(net, frames, depth)
    assert rows.shape[1] == CHANNELS[depth]
    found = in_basis(net, rows, depth)
    standard = standardised(rows)
    wanted = squared_distances(standard[:50]) / CHANNELS[depth]
    np.testing.assert_allclose(squared_distances(found[:50]), wanted, rtol=1e-3, atol=1e-4)
    assert np.square(found).sum(axis=1).mean() == pytest.approx(1, abs=1e-3)
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-4)


@pytest.mark.parametrize("depth", ["deep", "halved"])
@pytest.mark.parametrize("kept", [5, 1])
def test_what_is_kept_are_the_principal_components(kept: int, depth: str) -> None:
    net, frames, channels = encoder(dimensions=kept), batches(40), CHANNELS[depth]
    fit_bases(net, frames)
    rows = features_of(net, frames, depth)
    found = in_basis(net, rows, depth)
    assert found.shape == (40 * net.places[depth].grid ** 2, kept)
    lengths, axes = np.linalg.svd(standardised(rows) / channels**0.5, full_matrices=False)[1:]
    covariance = np.cov(found.T, bias=True).reshape(kept, kept)
    np.testing.assert_allclose(covariance, np.diag(lengths[:kept] ** 2 / len(rows)), atol=1e-4)
    wanted = standardised(rows) @ (axes[:kept].T * np.sign(axes[:kept].sum(axis=1))) / channels**0.5
    np.testing.assert_allclose(found, wanted, atol=5e-3)


@pytest.mark.parametrize("depth", ["middle", "halved"])
def test_the_basis_is_what_the_embeddings_show(depth: str) -> None:
    net, frames = encoder(), batches(30)
    fit_bases(net, frames)
    pictures = net.normalise(torch.from_numpy(frames[0]).permute(0, 3, 1, 2))
    with torch.inference_mode():
        found = net(pictures)[f"places.{depth}"].flatten(0, 1).numpy()
    np.testing.assert_allclose(found, in_basis(net, features_of(net, frames, depth), depth), atol=1e-4)


@pytest.mark.parametrize("depths", [("shallow", "deep"), ("middle", "halved")])
def test_frames_are_halved_only_where_a_depth_takes_it(depths: tuple[str, ...]) -> None:
    """Fitting sees each batch once, or once more at half its size."""
    net, sides = encoder(depths={name: DEPTHS[name] for name in depths}), list[int]()
    net.backbone.register_forward_hook(lambda _m, pictures, _out: sides.append(pictures[0].shape[-1]))
    fit_bases(net, batches(3, 2))
    assert sides == ([64, 32, 64, 32] if "halved" in depths else [64, 64])


def test_a_channel_that_is_still_on_good_parts_is_not_blown_up() -> None:
    net, frames = encoder(), batches(30)
    norm = net.backbone.network.get_submodule("blocks.2.0.bn2")
    norm.weight.data[3] = 0  # type: ignore[union-attr, operator]
    norm.weight.data[4] *= 1e-4  # type: ignore[union-attr, operator]
    fit_bases(net, frames)
    rows = features_of(net, frames, "shallow")
    deviations = rows.std(axis=0)
    assert deviations[4] < 1e-3 * np.median(deviations)
    basis = net.bases["shallow"].weight[:, :, 0, 0]  # type: ignore[index]
    assert basis.isfinite().all()
    gains = torch.linalg.vector_norm(basis, dim=0) * 32**0.5  # type: ignore[arg-type]
    np.testing.assert_allclose(gains[3:5], 100 / np.median(deviations), rtol=0.05)
    np.testing.assert_allclose(gains[5:], 1 / deviations[5:], rtol=1e-3)


def test_the_same_frames_give_the_same_bases_however_they_come() -> None:
    frames = batches(30)
    nets = [encoder() for _ in range(3)]
    for net, parts in zip(nets, (frames, frames, np.split(frames[0], 3)), strict=True):
        fit_bases(net, parts)
    first, again, in_parts = (net.bases.state_dict() for net in nets)
    for name in first:
        assert torch.equal(first[name], again[name])
        torch.testing.assert_close(first[name], in_parts[name], atol=1e-3, rtol=1e-3)
