"""A mask's file as it was drawn: black is sound, whatever else is the defect, in whichever format."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from quarterturn.worker.contract.arrays import Mask
from quarterturn.worker.contract.errors import DataError, FrameError
from quarterturn.worker.pictures.decode import decode_picture

_JPEG = b"\xff\xd8"


def read_mask(path: Path, height: int, width: int) -> Mask:
    """The mask file at `path` as (height, width) bool: True where a pixel is not black.

    Of 1 to 16 bits, grey, coloured or with a palette. Where it has alpha, what is transparent is sound; one that is
    black wherever it is opaque was drawn by its alpha alone. In a JPEG, black is what is darker than half the brightest
    pixel, because beside an edge its compression leaves faint traces.

    Raises:
        DataError: the file cannot be read, is no picture, or has another size than the picture it belongs to.
    """
    try:
        mask = _marked(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except FrameError as error:
        raise DataError(f"{path}: {error}; replace or remove the mask") from error
    if mask.shape != (height, width):
        raise DataError(
            f"{path}: the mask is {mask.shape[1]}x{mask.shape[0]}, but its picture is {width}x{height}; "
            "draw it again at the picture's size or remove it"
        )
    return mask


def _marked(data: bytes) -> Mask:
    decode_picture(data)  # refuses what is damaged, or no picture
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)  # all bits, and alpha
    pixels = np.atleast_3d(np.asarray(decoded))
    if pixels.shape[2] == 4:
        opaque, coloured = pixels[..., 3] > 0, pixels[..., :3].any(axis=2)
        shown = np.asarray(opaque & coloured)
        return shown if shown.any() or opaque.all() else opaque
    brightness = pixels.max(axis=2)
    return np.asarray(brightness > (brightness.max() // 2 if data.startswith(_JPEG) else 0))
