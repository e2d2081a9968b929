"""A first look at a frame, before any engine: decoded, cut into tiles, and measured as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from quarterturn.worker.contract.arrays import Array, Frames
from quarterturn.worker.contract.framing import Framing, Layout, cut
from quarterturn.worker.contract.guard import measure
from quarterturn.worker.contract.registration import Small, small_picture
from quarterturn.worker.contract.traits import Traits
from quarterturn.worker.inspection.repeats import digest_of
from quarterturn.worker.messages.frames import Frame, FrameInfo
from quarterturn.worker.pictures.read import see
from quarterturn.worker.settings.worker import CameraSettings


@dataclass(frozen=True, slots=True)
class Look:
    """A decoded frame: its (T, S, S, 3) tiles and their layout; `products` are those that it may show (None: any).

    `doubt` says where its samples and their depth do not go together, else it is empty. `measured` (M,) is for the
    picture guard and for drift, `small` shows how the part lies, `digest` tells a frozen camera; None where
    nobody asks.
    """

    info: FrameInfo
    tiles: Frames
    layout: Layout
    products: Sequence[str] | None
    traits: Traits
    doubt: str
    measured: Array | None
    small: Small | None
    digest: int | None


def look_at(frame: Frame, info: FrameInfo, camera: CameraSettings, framing: Framing) -> Look:
    """Decode `frame`, which says `info` of itself, and see it as its camera's settings and the engine's framing ask.

    Raises:
        FrameError: it is no picture, or does not fit the region or the framing.
    """
    seen = see(frame.data, framing, camera.region, camera.bit_depth, info.raw)
    tiles, layout = cut(seen.pixels, framing)
    return Look(
        info,
        tiles,
        layout,
        products=(info.product,) if info.product else camera.products,
        traits=Traits.of(seen, tiles),
        doubt=seen.doubt,
        measured=measure(tiles) if camera.guard or camera.drift else None,
        small=small_picture(tiles, layout) if camera.drift else None,
        digest=None if camera.frozen_after is None or info.simulated else digest_of(tiles),
    )
