from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from quarterturn.trainer.loss import draw_partners, masked_contrastive_loss, pasted_loss

Label = tuple[int, int]  # (product, rotation)


def oracle(
    views: np.ndarray, labels: list[Label], partners: list[int | None], *, alpha: float, beta: float, tau: float
) -> tuple[float, float]:
    """Both terms, sentence by sentence as published: one anchor, one other view at a time."""
    count = len(labels)
    everyone = [(a, i) for a in (0, 1) for i in range(count)]
    ccm, spa = [], []
    for a, i in everyone:
        own = {(b, j): pair_factor(labels[i], labels[j], alpha, beta, tau) for b, j in everyone if (b, j) != (a, i)}
        own[1 - a, i] = 1 / tau
        ccm.append(cross_entropy(views, (a, i), own, (1 - a, i)))
        j = partners[i]
        if j is not None:
            own[1 - a, i] = 0.0
            own[a, j] = 1 / tau
            spa.append(cross_entropy(views, (a, i), own, (a, j)))
    return float(np.mean(ccm)), float(np.mean(spa)) if spa else 0.0


def pair_factor(one: Label, other: Label, alpha: float, beta: float, tau: float) -> float:
    if one[0] != other[0]:
        return 1 / tau
    return alpha if one[1] == other[1] else beta


def cross_entropy(
    views: np.ndarray, anchor: tuple[int, int], factors: dict[tuple[int, int], float], target: tuple[int, int]
) -> float:
    logits = {}
    for other, factor in factors.items():
        dot = sum(x * y for x, y in zip(views[anchor], views[other], strict=True))
        lengths = math.sqrt(sum(x * x for x in views[anchor])) * math.sqrt(sum(y * y for y in views[other]))
        logits[other] = factor * max(dot / lengths, 1e-7)
    return math.log(sum(math.exp(logit) for logit in logits.values())) - logits[target]


def grouped(products: list[int]) -> list[Label]:
    return [(product, rotation) for product in products for rotation in range(4)]


BATCHES: dict[str, list[Label]] = {
    "one picture, every label alone": grouped([0]),
    "one product": grouped([0, 0, 0]),
    "two products": grouped([1, 0, 1]),
    "six products, most alone": grouped([5, 0, 5, 2, 3, 1]),
    "37 products, all alone": grouped([36, 7, 11]),
    "no whole groups": [(0, 0), (0, 0), (0, 3), (2, 1), (0, 0), (2, 1), (1, 1)],
}


def arrays(labels: list[Label]) -> tuple[torch.Tensor, torch.Tensor]:
    names = sorted(set(labels))
    return torch.tensor([names.index(pair) for pair in labels]), torch.tensor([product for product, _ in labels])


def drawn(labels: list[Label], seed: int = 0) -> tuple[torch.Tensor, list[int | None]]:
    partners = draw_partners(arrays(labels)[0], torch.Generator().manual_seed(seed))
    return partners, [None if j < 0 else j for j in partners.tolist()]


@pytest.mark.parametrize("labels", BATCHES.values(), ids=BATCHES)
@pytest.mark.parametrize(
    ("alpha", "beta", "tau"), [(0.05, 2.0, 0.2), (0.0, 0.0, 0.5), (1.0, 5.0, 0.2), (0.3, 0.7, 0.07), (2.0, 1.0, 1.0)]
)
def test_equals_the_published_algorithm(labels: list[Label], alpha: float, beta: float, tau: float) -> None:
    views = np.random.default_rng(len(labels)).normal(0.2, 1, (2, len(labels), 5))  # cosines of both signs
    tensors, (partners, expected_partners) = arrays(labels), drawn(labels)
    found = masked_contrastive_loss(torch.from_numpy(views), *tensors, partners, alpha=alpha, beta=beta, tau=tau)
    assert [term.item() for term in found] == pytest.approx(
        oracle(views, labels, expected_partners, alpha=alpha, beta=beta, tau=tau), abs=1e-12
    )


@pytest.mark.parametrize("labels", BATCHES.values(), ids=BATCHES)
def test_gradients_are_those_of_the_loss(labels: list[Label]) -> None:
    generator = torch.Generator().manual_seed(3)
    views = torch.randn(2, len(labels), 4, generator=generator, dtype=torch.float64, requires_grad=True)
    partners, _ = drawn(labels)
    tensors = arrays(labels)

    def loss(projections: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return masked_contrastive_loss(projections, *tensors, partners, alpha=0.05, beta=2.0, tau=0.2)

    assert torch.autograd.gradcheck(loss, views, fast_mode=True)


def test_all_alone_has_no_attraction_and_no_gradient_from_it() -> None:
    views = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    labels = torch.arange(4)
    _, spa = masked_contrastive_loss(views, labels, labels, torch.full((4,), -1), alpha=0.05, beta=2.0, tau=0.2)
    spa.backward()
    assert spa.item() == 0
    assert views.grad is not None
    assert not views.grad.any()


def test_is_computed_in_float32_under_autocast() -> None:
    labels = BATCHES["two products"]
    views = torch.randn(2, len(labels), 16, generator=torch.Generator().manual_seed(0)).bfloat16()
    partners, expected_partners = drawn(labels)
    with torch.autocast("cpu", torch.bfloat16):
        found = masked_contrastive_loss(views, *arrays(labels), partners, alpha=0.05, beta=2.0, tau=0.2)
    expected = oracle(views.double().numpy(), labels, expected_partners, alpha=0.05, beta=2.0, tau=0.2)
    assert found[0].dtype == torch.float32
    assert [term.item() for term in found] == pytest.approx(expected, abs=1e-5)


def test_partners_are_others_of_the_same_label_drawn_evenly() -> None:
    labels = torch.tensor([3, 7, 3, 3, 9, 7])
    generator = torch.Generator().manual_seed(0)
    draws = torch.stack([draw_partners(labels, generator) for _ in range(2000)])
    assert (draws[:, 4] == -1).all()
    assert set(draws[:, 1].tolist()) == {5}
    assert set(draws[:, 0].tolist()) == {2, 3}
    assert (draws[:, 0] == 2).double().mean().item() == pytest.approx(0.5, abs=0.05)


def pasted_oracle(logits: np.ndarray, targets: np.ndarray, positive: float) -> float:
    """Weighted mean of -log of the probability that each counted position was given its target."""
    total = weights = 0.0
    for logit, target in zip(logits.ravel().tolist(), targets.ravel().tolist(), strict=True):
        if target == -1:
            continue
        likelihood = 1 / (1 + math.exp(-logit)) if target == 1 else 1 / (1 + math.exp(logit))
        weight = positive if target == 1 else 1.0
        total -= weight * math.log(likelihood)
        weights += weight
    return total / max(weights, 1.0)


@pytest.mark.parametrize("positive", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("kinds", [(-1, 0, 1), (0, 1), (-1, 1), (0,), (1,)], ids=str)
def test_pasted_loss_is_the_weighted_cross_entropy_of_what_counts(kinds: tuple[int, ...], positive: float) -> None:
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(0, 3, (5, 4, 4)), rng.choice(kinds, (5, 4, 4))
    found = pasted_loss(torch.from_numpy(logits), torch.from_numpy(targets).float(), positive)
    assert found.item() == pytest.approx(pasted_oracle(logits, targets, positive), abs=1e-6)


def test_positions_that_do_not_count_give_neither_loss_nor_gradient() -> None:
    logits = torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    targets = torch.full((3, 4, 4), -1.0)
    loss = pasted_loss(logits, targets, 3.0)
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()

    targets[1, 2, 3] = 1
    logits.grad = None
    pasted_loss(logits, targets, 3.0).backward()
    assert logits.grad.nonzero().tolist() == [[1, 2, 3]]
    assert logits.grad[1, 2, 3].item() == pytest.approx(-1 / (1 + math.exp(logits[1, 2, 3].item())), abs=1e-6)


def test_pasted_loss_is_computed_in_float32_under_autocast() -> None:
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(rng.normal(0, 3, (5, 4, 4))).bfloat16()
    targets = rng.choice([-1, 0, 1], (5, 4, 4))
    with torch.autocast("cpu", torch.bfloat16):
        found = pasted_loss(logits, torch.from_numpy(targets).float(), 3.0)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(pasted_oracle(logits.double().numpy(), targets, 3.0), abs=1e-6)
