"""A frozen network with its batch norms folded into the convolutions before them: the same maps in less time."""

from __future__ import annotations

import copy
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

_TOLERANCE = 1e-3  # of the largest value


def fold_norms(network: nn.Module) -> nn.Module:
    """A copy of `network` in evaluation mode, in which each batch norm beside a convolution is a part of it.

    Which norm follows which convolution is taken from the order in which modules stand, as a network's code lists them.
    Where that is not the order of the computation, the copy computes something else: compare it, see `same_maps`.
    """
    folded = copy.deepcopy(network).eval()  # a copy of a traced network is in training mode
    for parent in list(folded.modules()):
        for (_, convolution), (name, norm) in pairwise(list(parent.named_children())):
            if not (isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)):
                continue
            if norm.running_mean is not None and norm.running_var is not None:
                convolution.weight, convolution.bias = fuse_conv_bn_weights(
                    convolution.weight,
                    convolution.bias,
                    norm.running_mean,
                    norm.running_var,
                    norm.eps,
                    norm.weight,
                    norm.bias,
                )
                setattr(parent, name, getattr(norm, "act", nn.Identity()))  # timm's norms end with an activation
    return folded.requires_grad_(False)


def same_maps(found: tuple[Tensor, ...], wanted: tuple[Tensor, ...]) -> bool:
    """Whether maps agree but for rounding."""
    return all(
        bool(torch.isfinite(one).all()) and float((one - two).abs().max()) <= _TOLERANCE * float(two.abs().max())
        for one, two in zip(found, wanted, strict=True)
    )
