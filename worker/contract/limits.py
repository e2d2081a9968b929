"""What is told as so many times its limit: a score by its threshold, a distance by the largest of a good part."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

_TINY = 1e-12


def in_limits(values: npt.ArrayLike, limits: npt.ArrayLike) -> npt.NDArray[np.floating[Any]]:
    """`values` divided by their `limits`, of the values' type: beyond 1 is beyond the limit.

    A limit of 0, of a product whose pictures are all the same, still orders the values.

    Example:
        >>> in_limits([0.5, 3], [1, 2]).tolist(), bool(in_limits(0.1, 0) < in_limits(0.2, 0))
        ([0.5, 1.5], True)
    """
    values = np.asarray(values, np.result_type(values, np.float32))
    with np.errstate(over="ignore"):  # infinitely many orders, too
        return np.asarray(values / np.maximum(limits, _TINY).astype(values.dtype))
