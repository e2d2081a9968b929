"""What an engine says of frames: arrays by their names, each with a row for every frame.

- `frame` (N, V, E): the frame as a whole, of unit length; what masked contrastive learning trained;
- `places.<depth>` (N, V, P, D): the features of each place, standardised, along their principal axes;
- `logits` (N, V, P): how much a place looks like an anomaly pasted in; only of a model that has learned it.

N frames, V views, P places of the output's own grid, row by row of the unturned frame. All float32.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from quarterturn.worker.contract.arrays import Array

Embeddings = dict[str, Array]

FRAME, PLACES, LOGITS = "frame", "places.", "logits"


def rows(embeddings: Embeddings, which: slice | Sequence[int]) -> Embeddings:
    """Those of some frames: views into the same memory for a slice, else copies."""
    return {name: values[which] for name, values in embeddings.items()}


def join(parts: Sequence[Embeddings]) -> Embeddings:
    """The embeddings of one or more parts as one, a copy."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
