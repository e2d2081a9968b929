"""The arrays that pass from hand to hand, by one name each."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
"""Embeddings, distances, scores, heat maps."""

Picture = npt.NDArray[np.uint8]
"""(H, W, 3) RGB."""

Pixels = npt.NDArray[np.uint8]
"""(H, W, 3) RGB, or (H, W) grey: spreading grey to three channels is left for when it is smaller."""

Frames = npt.NDArray[np.uint8]
"""(N, side, side, 3) RGB: what an engine takes."""

Mask = npt.NDArray[np.bool_]
"""(H, W): where a defect is."""

Indices = npt.NDArray[np.intp]
