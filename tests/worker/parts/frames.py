"""Frames of parts, as `quarterturn parts` takes them in."""

from __future__ import annotations

from quarterturn.worker.contract.times import timestamp
from quarterturn.worker.messages.events import AlertKind
from quarterturn.worker.parts.merging import Item
from quarterturn.worker.parts.seen import Seen
from quarterturn.worker.settings.parts import PartsSettings

TOP, SIDE = "top-01", "side-01"
SETTINGS = PartsSettings(cameras=(TOP, SIDE), products={"bracket": (TOP,)}, window_s=5.0)


def seen(
    part: str,
    camera: str = TOP,
    time_s: float = 0.0,
    result_id: str = "",
    alert: AlertKind | None = None,
    ratio: float | None = 0.5,
    product: str | None = "ring",
    simulated: bool = False,
) -> Seen:
    """A frame, named by its part, camera and time unless told otherwise; `ratio` None: it is late."""
    return Seen(
        result_id=result_id or f"{part}/{camera}/{time_s:g}",
        part_id=part,
        camera=camera,
        time=timestamp(time_s),
        time_s=time_s,
        line="line-1",
        product=product,
        simulated=simulated,
        alert=alert,
        ratio=ratio,
    )


def items(frames: list[Seen], partition: int = 0) -> list[Item]:
    return [Item(partition, offset, frame) for offset, frame in enumerate(frames)]
