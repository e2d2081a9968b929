"""Where a worker's settings and a bank say different things: allowed, each for itself, and seldom meant."""

from __future__ import annotations

from collections.abc import Mapping

from quarterturn.worker.contract.bank import Bank
from quarterturn.worker.contract.preprocess import Region
from quarterturn.worker.settings.worker import CameraSettings


def disagreements(bank: Bank, overkill: float, cameras: Mapping[str, CameraSettings]) -> list[str]:
    """One sentence for each, with both values."""
    fitted = bank.manifest
    found = []
    if overkill != fitted.overkill:
        found.append(
            f"overkill is {overkill:g}, but the bank was fitted for {fitted.overkill:g}: the thresholds are those of "
            f"{overkill:g}; set both alike, in worker.yaml and bank.yaml"
        )
    for camera, settings in cameras.items():
        if settings.region != fitted.region:
            found.append(
                f"cameras.{camera}.region is {_told(settings.region)}, but the bank was fitted with "
                f"{_told(fitted.region)}: right only if the part fills both alike"
            )
    if not cameras and fitted.region is not None:
        found.append(
            f"no camera is listed, so none has a region, but the bank was fitted with {_told(fitted.region)}: list the "
            "cameras with theirs"
        )
    return found


def _told(region: Region | None) -> str:
    if region is None:
        return "the whole picture"
    return f"{region.width}x{region.height} pixels at ({region.x}, {region.y})"
