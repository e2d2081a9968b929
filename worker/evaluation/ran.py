"""What an evaluation was made with, so that its report can be made again."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from pathlib import Path

from quarterturn.worker.contract.bank import Bank
from quarterturn.worker.contract.picture import Region
from quarterturn.worker.contract.times import now


def what_was_run(
    bank: Bank, overkill: float, *, data: Path | None, thresholds: Mapping[str, float], region: Region | None
) -> dict[str, str]:
    """By name, in words: everything but the hashes."""
    manifest = bank.manifest
    spec, scoring, framing = manifest.spec, manifest.scoring, manifest.spec.framing
    return {
        "bank made at": manifest.created_at,
        "votes of the detectors": ", ".join(f"{name} {vote:.0%}" for name, vote in manifest.votes.items()),
        "scoring": f"worst {scoring.worst:g}, coreset {scoring.coreset}",
        "frames": f"{framing.side} px, {framing.fit}, tiles {framing.tiles}; {spec.views} views",
        "overkill asked": f"{100 * overkill:g}%",
        "fixed thresholds": ", ".join(f"{product} {value:g}" for product, value in thresholds.items()) or "none",
        "region": f"{region.width}x{region.height} px at ({region.x}, {region.y})" if region else "the whole picture",
        "pictures from": str(data.resolve()) if data else "–",
        "Quarterturn": importlib.metadata.version("quarterturn"),
        "run at": now(),
    }
