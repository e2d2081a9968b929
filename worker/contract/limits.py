"""What is told as so many times its limit: a score by its threshold, a distance by the largest of a good part.

Beyond 1 is beyond the limit. A limit of 0, of a product whose pictures are all the same, still orders the values.
"""

from __future__ import annotations

import numpy as np

from quarterturn.worker.contract.arrays import Array

_TINY = 1e-12


def times_limit(value: float, limit: float) -> float:
    """`value` in units of its `limit`.

    Example:
        >>> times_limit(3, 2), times_limit(0.1, 0) < times_limit(0.2, 0)
        (1.5, True)
    """
    return value / max(limit, _TINY)


def in_limits(values: Array, limits: Array | float) -> Array:
    """`values`, each in units of its limit; the shape is that of both together."""
    return np.asarray(values / np.maximum(limits, _TINY, dtype=np.float32))
