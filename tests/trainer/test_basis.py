from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from trainer.basis import fit_basis, settle
from trainer.encoder import Architecture, Encoder

LOCAL = Architecture(network="resnet10", width=8, hidden=8, dimensions=12, local=True, padding="reflect")
CHANNELS = 56


def encoder(**changes: object) -> Encoder:
    torch.manual_seed(0)
    return Encoder(LOCAL.model_copy(update=changes))


def batches(*sizes: int) -> list[npt.NDArray[np.uint8]]:
    rng = np.random.default_rng(0)
    frames = []
    for size in sizes:
        coarse = rng.integers(0, 200, (size, 8, 8, 3)).repeat(8, axis=1).repeat(8, axis=2)
        frames.append((coarse + rng.integers(0, 56, coarse.shape)).astype(np.uint8))
    return frames


def prepared(frames: npt.NDArray[np.uint8]) -> Tensor:
    """(N, 3, 64, 64), each frame standardised."""
    pictures = [(frame - frame.mean()) / frame.std() for frame in frames]
    return torch.from_numpy(np.stack(pictures).transpose(0, 3, 1, 2).astype(np.float32))


def features_of(net: Encoder, frames: list[npt.NDArray[np.uint8]]) -> npt.NDArray[np.float64]:
    """(n, 56): the features of every position, gathered one at a time."""
    rows = []
    with torch.inference_mode():
        for batch in frames:
            for picture in prepared(batch):
                grid = net.local.features(net.stages(picture[None]))[0].double().numpy()
                rows += [grid[:, row, column] for row in range(8) for column in range(8)]
    return np.array(rows)


def test_settling_takes_the_statistics_of_the_frames_and_nothing_else() -> None:
    net, frames = encoder(), batches(5, 5, 3)
    settle(net, batches(4))  # what an earlier call left is forgotten
    weights = {name: value.clone() for name, value in net.named_parameters()}
    seen: dict[str, list[tuple[Tensor, Tensor]]] = {}
    hooks = []
    for name, norm in net.named_modules():
        if isinstance(norm, nn.BatchNorm2d):
            seen[name] = []

            def note(_: nn.Module, inputs: tuple[Tensor, ...], kept: list[tuple[Tensor, Tensor]] = seen[name]) -> None:
                values = inputs[0].double().transpose(0, 1).flatten(1).numpy()
                kept.append((values.mean(axis=1), values.var(axis=1, ddof=1)))

            hooks.append(norm.register_forward_pre_hook(note))
    settle(net, frames)
    for hook in hooks:
        hook.remove()
    assert "local.norm" in seen
    for name, kept in seen.items():
        norm = net.get_submodule(name)
        assert isinstance(norm, nn.BatchNorm2d)
        assert len(kept) == 3
        np.testing.assert_allclose(norm.running_mean, np.mean([mean for mean, _ in kept], axis=0), atol=1e-5)
        np.testing.assert_allclose(norm.running_var, np.mean([var for _, var in kept], axis=0), rtol=1e-4, atol=1e-6)
        assert norm.momentum == 0.1
    assert not net.training
    assert all(torch.equal(value, weights[name]) for name, value in net.named_parameters())
    assert all(parameter.grad is None for parameter in net.parameters())

    first = [net.conv1(prepared(batch)).detach().numpy().mean(axis=(0, 2, 3)) for batch in frames]
    np.testing.assert_allclose(net.bn1.running_mean, np.mean(first, axis=0), atol=1e-5)


def test_projected_features_are_the_principal_components_of_standardised_ones() -> None:
    net, frames = encoder(), batches(5, 3)
    settle(net, frames)
    others = {name: value.clone() for name, value in net.state_dict().items() if "basis" not in name}
    fit_basis(net.train(), frames)
    assert not net.training
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in others.items())

    rows = features_of(net, frames)
    assert rows.shape == (8 * 64, CHANNELS)
    standard = (rows - rows.mean(axis=0)) / rows.std(axis=0)
    values, axes = np.linalg.eigh(standard.T @ standard / len(standard))
    values, axes = values[::-1][:10], axes[:, ::-1][:, :10]

    weight, bias = (tensor.double().numpy() for tensor in (net.local.basis.weight.detach(), net.local.basis.bias))
    projected = rows @ weight[:, :, 0, 0].T + bias
    covariance = np.cov(projected.T, bias=True)
    assert (np.diff(covariance.diagonal()) < 0).all()
    np.testing.assert_allclose(covariance, np.diag(values / values.sum()), atol=1e-4)
    assert np.square(projected).sum(axis=1).mean() == pytest.approx(1, abs=1e-3)
    np.testing.assert_allclose(projected.mean(axis=0), 0, atol=1e-4)
    wanted = standard @ (axes * np.where(axes.sum(axis=0) < 0, -1, 1))
    np.testing.assert_allclose(projected, wanted / np.sqrt(values.sum()), atol=2e-3)


def test_the_basis_is_what_the_embeddings_show() -> None:
    """Beside the logit and the 1, the embeddings before they are brought to unit length are the components."""
    net, frames = encoder(), batches(6)
    settle(net, frames)
    fit_basis(net, frames)
    with torch.inference_mode():
        found = net(prepared(frames[0]))[..., 2:].flatten(0, 1).numpy()
    rows = features_of(net, frames)
    standard = (rows - rows.mean(axis=0)) / rows.std(axis=0)
    _, axes = np.linalg.eigh(standard.T @ standard)
    axes = axes[:, ::-1][:, :10]
    wanted = standard @ (axes * np.where(axes.sum(axis=0) < 0, -1, 1))
    np.testing.assert_allclose(found, wanted / np.sqrt(np.square(wanted).sum(axis=1).mean()), atol=5e-3)


@pytest.mark.parametrize("dimensions", [3, CHANNELS + 2])
def test_any_number_of_dimensions_is_fitted_even_with_a_dead_channel(dimensions: int) -> None:
    net, frames = encoder(dimensions=dimensions), batches(4)
    settle(net, frames)
    last = net.layer2[0]
    for parameter in (last.bn2.weight, last.bn2.bias, last.downsample[1].weight, last.downsample[1].bias):
        parameter.data[3] = 0
    fit_basis(net, frames)
    assert not features_of(net, frames)[:, 8 + 3].any()  # behind the 8 channels of the first stage
    assert net.local.basis.weight.shape == (dimensions - 2, CHANNELS, 1, 1)
    assert net.local.basis.weight.isfinite().all()
    assert net(prepared(frames[0])).isfinite().all()


def test_the_same_frames_give_the_same_basis_however_they_come() -> None:
    frames = batches(6)
    nets = [encoder() for _ in range(3)]
    for net, parts in zip(nets, (frames, frames, np.split(frames[0], 3)), strict=True):
        settle(net, frames)
        fit_basis(net, parts)
    first, again, in_parts = (net.local.basis for net in nets)
    assert torch.equal(first.weight, again.weight)
    assert torch.equal(first.bias, again.bias)
    torch.testing.assert_close(first.weight, in_parts.weight, atol=1e-3, rtol=1e-3)
