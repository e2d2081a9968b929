"""The masked contrastive loss: class-conditional mask (CCM) and stochastic positive attraction (SPA).

Cho, Seol, Lee, "Masked Contrastive Learning for Anomaly Detection", IJCAI 2021, arXiv 2105.08793. A softmax over
cosines learns to tell pictures apart; the mask multiplies each cosine with a factor that says how hard a pair is
pushed apart. N samples (turned pictures) are seen in two views each; row `a · N + i` is view a of sample i.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_SMALLEST_COSINE = 1e-7
_IGNORED = -100  # cross_entropy's mark for a row without target


def masked_contrastive_loss(
    projections: Tensor,
    labels: Tensor,
    products: Tensor,
    partners: Tensor,
    *,
    alpha: float,
    beta: float,
    tau: float,
) -> tuple[Tensor, Tensor]:
    """The two terms of the loss, each a mean over its anchors, in float32 or wider even under autocast.

    Args:
        projections: (2, N, D) float, both views of each sample, of any length.
        labels: (N,) integer, (product, rotation) of each sample.
        products: (N,) integer, the product of each sample.
        partners: (N,) integer from `draw_partners`: another sample of the same label, or -1.
        alpha: α, the factor of pairs of the same label.
        beta: β, the factor of pairs of the same product in another rotation.
        tau: τ, the temperature; 1/τ is the factor of all other pairs, and of the positive ones.

    Returns:
        (CCM, SPA); SPA is 0 if no sample has a partner.
    """
    with torch.autocast(projections.device.type, enabled=False):
        rows = projections.flatten(0, 1).to(torch.promote_types(projections.dtype, torch.float32))
        rows = F.normalize(rows, dim=1)
        cosines = (rows @ rows.T).clamp_min(_SMALLEST_COSINE)
        factors = cosines.new_full((len(labels), len(labels)), 1 / tau)  # of pairs of different samples
        factors.masked_fill_(products[:, None] == products, beta)
        factors.masked_fill_(labels[:, None] == labels, alpha)
        return _ccm(cosines, factors, tau), _spa(cosines, factors, partners, tau)


def draw_partners(labels: Tensor, generator: torch.Generator) -> Tensor:
    """(N,) labels -> (N,) for each sample, another one of the same label drawn evenly, or -1 where it is alone."""
    count = len(labels)
    others = (labels[:, None] == labels) & ~torch.eye(count, dtype=torch.bool)
    lots, winners = torch.rand(count, count, generator=generator).masked_fill(~others, -1).max(dim=1)
    return winners.masked_fill(lots < 0, -1)


def pasted_loss(logits: Tensor, targets: Tensor, positive: float) -> Tensor:
    """Binary cross-entropy of each position's logit that it shows something pasted, in float32.

    Args:
        logits: (N, G, G) float.
        targets: (N, G, G) float: 1 pasted, 0 not, -1 in between, which does not count.
        positive: the weight of a pasted position; one that is not weighs 1.
    """
    weights = torch.where(targets > 0, positive, 1.0) * (targets >= 0)
    losses = F.binary_cross_entropy_with_logits(logits.float(), targets.clamp_min(0), reduction="none")
    return (losses * weights).sum() / weights.sum().clamp_min(1)


def _ccm(cosines: Tensor, factors: Tensor, tau: float) -> Tensor:
    """Each view's target is the other view of its sample (eq. 3), which gets the factor 1/τ."""
    count = len(factors)
    factors = factors.clone().fill_diagonal_(1 / tau).repeat(2, 2)
    targets = torch.arange(2 * count, device=cosines.device).roll(count)
    return F.cross_entropy(_without_self(cosines * factors), targets)


def _spa(cosines: Tensor, factors: Tensor, partners: Tensor, tau: float) -> Tensor:
    """Each view's target is the same view of its partner, which gets 1/τ; the sample's own other view gets 0."""
    count = len(factors)
    factors = factors.clone().fill_diagonal_(0).repeat(2, 2)
    partners = partners.to(cosines.device)
    alone = (partners < 0).repeat(2)
    targets = torch.cat([partners, partners + count]).masked_fill(alone, 0)
    factors.scatter_(1, targets[:, None], 1 / tau)  # also in rows without a partner, which are ignored below
    logits = _without_self(cosines * factors)
    losses = F.cross_entropy(logits, targets.masked_fill(alone, _IGNORED), ignore_index=_IGNORED, reduction="sum")
    return losses / (~alone).sum().clamp_min(1)


def _without_self(logits: Tensor) -> Tensor:
    """The softmax runs over the 2N − 1 other rows."""
    itself = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
    return logits.masked_fill(itself, -torch.inf)
