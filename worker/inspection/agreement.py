"""Where a worker's settings and a bank say different things: allowed, each for itself, and seldom meant."""

from __future__ import annotations

from collections.abc import Mapping

from quarterturn.worker.contract.bank import Bank
from quarterturn.worker.contract.picture import Region
from quarterturn.worker.settings.worker import CameraSettings

_THERE = "but the bank was fitted with"


def disagreements(bank: Bank, overkill: float, cameras: Mapping[str, CameraSettings]) -> list[str]:
    """One sentence for each, with both values."""
    fitted = bank.manifest
    found = []
    if overkill != fitted.overkill:
        found.append(
            f"overkill is {overkill:g}, but the bank was fitted for {fitted.overkill:g}: the thresholds are those of "
            f"{overkill:g}; set both alike, in worker.yaml and bank.yaml"
        )
    listed = {f"cameras.{camera}": settings for camera, settings in cameras.items()}
    for where, settings in (listed or {"no camera is listed; cameras.NAME": CameraSettings()}).items():
        if settings.region != fitted.region:
            here, there = _told(settings.region), _told(fitted.region)
            found.append(f"{where}.region is {here}, {_THERE} {there}: right only if the part fills both alike")
        if settings.bit_depth != fitted.bit_depth:
            here, there = (str(depth or "null") for depth in (settings.bit_depth, fitted.bit_depth))
            found.append(f"{where}.bit_depth is {here}, {_THERE} {there}: right only if the pictures differ in it, too")
    return found


def _told(region: Region | None) -> str:
    if region is None:
        return "the whole picture"
    return f"{region.width}x{region.height} pixels at ({region.x}, {region.y})"
