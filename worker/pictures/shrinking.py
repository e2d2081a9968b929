"""By how much a JPEG may be shrunk while it is decoded, so that its frames stay what they are but for rounding.

docs/decisions/0037-shrunk-while-decoded.md has the reasons and the measurements.
"""

from __future__ import annotations

from math import gcd

from quarterturn.worker.contract.framing import Framing, scaled_size
from quarterturn.worker.contract.picture import Region

_FACTORS = (8, 4, 2)  # those for which libjpeg averages whole squares of pixels
_SPARE = 3  # times what the framing needs: then it hardly counts that what is left to average are squares already


def shrinkage(height: int, width: int, *, region: Region | None, framing: Framing) -> int:
    """1, 2, 4 or 8: how many pixels of a picture (height, width), along each side, may become one for `framing`.

    It divides the picture's sides and the region's edges, so no pixel lies half in what is looked at. Both sides of
    that keep three times what they are scaled to.
    """
    seen = region or Region(x=0, y=0, width=width, height=height)
    common = gcd(height, width, seen.x, seen.y, seen.width, seen.height)
    high, wide = scaled_size(seen.height, seen.width, framing)
    for factor in _FACTORS:
        if common % factor == 0 and seen.height >= factor * _SPARE * high and seen.width >= factor * _SPARE * wide:
            return factor
    return 1
