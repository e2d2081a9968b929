"""A line that is made in seconds."""

from __future__ import annotations

SMALL = (
    "train.data.side=64",
    "train.architecture.backbone=test_resnet",
    "train.weights=none",
    "train.projection.steps=0",
    "train.head.steps=0",
    "bank.overkill=0.2",
    "bank.scoring.coreset=20",
)
"""Its settings, as `--set` takes them."""
