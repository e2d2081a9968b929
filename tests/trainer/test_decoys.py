from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from trainer.decoys import EDITS, add_decoys
from trainer.defects import Dice
from trainer.paste import visible


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(count: int, side: int = 128, *, grey: bool = True) -> Tensor:
    """(count, 3, side, side), normalised: texture as a lens leaves it, a few pixels wide."""
    knots = torch.randn(count, 1 if grey else 3, side // 4, side // 4, generator=seeded(7))
    smooth = torch.nn.functional.interpolate(knots, size=(side, side), mode="bicubic")
    smooth = (smooth - smooth.mean(dim=(1, 2, 3), keepdim=True)) / smooth.std(dim=(1, 2, 3), keepdim=True)
    return smooth.expand(-1, 3, -1, -1).clone()


@pytest.mark.parametrize("count", [0, 1, 9])
@pytest.mark.parametrize("side", [64, 128])
def test_gives_a_copy_of_the_same_form_with_every_crop_edited(count: int, side: int) -> None:
    crops = pictures(9, side)[:count]
    original = crops.clone()
    edited = add_decoys(crops, 2, seeded())
    assert edited.shape == crops.shape
    assert edited.dtype == torch.float32
    assert torch.equal(crops, original)
    assert not any(torch.equal(*pair) for pair in zip(edited, original, strict=True))


def test_no_rounds_leave_the_crops_as_they_are() -> None:
    crops = pictures(3)
    assert torch.equal(add_decoys(crops, 0, seeded()), crops)


def test_the_generator_alone_decides() -> None:
    crops = pictures(5)
    torch.manual_seed(1)
    first = add_decoys(crops, 2, seeded(3))
    torch.manual_seed(2)
    assert torch.equal(first, add_decoys(crops, 2, seeded(3)))
    assert not torch.equal(first, add_decoys(crops, 2, seeded(4)))


def test_a_grey_crop_stays_grey() -> None:
    edited = add_decoys(pictures(8), 3, seeded())
    assert torch.equal(edited[:, 0], edited[:, 1])
    assert torch.equal(edited[:, 0], edited[:, 2])


def test_colours_are_edited_alike() -> None:
    crops = pictures(8, grey=False)
    changed = (add_decoys(crops, 1, seeded()) - crops).abs().amax(dim=(2, 3)) > 0
    assert torch.equal(changed, changed[:, :1].expand(-1, 3))


def test_nobody_sees_a_decoy() -> None:
    crops = pictures(32)
    edited = add_decoys(crops, 2, seeded())
    assert (visible(crops, edited, 8) == 1).float().mean() < 0.02
    assert (edited - crops).square().mean().sqrt() < 0.1  # of the pictures' standard deviation


@pytest.mark.parametrize("edit", EDITS)
def test_every_edit_leaves_a_trace_in_the_finest_detail(edit: object) -> None:
    crops = pictures(4)
    edited = edit(Dice(seeded(), 4, crops.device), crops)  # type: ignore[operator]
    finest = [np.diff(np.diff(x.numpy(), axis=-1), axis=-2).std() for x in (crops, edited)]  # of 2 x 2 px
    assert abs(finest[1] / finest[0] - 1) > 0.01
