"""Pictures as files, and why they are refused: what the tests of this folder share."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from quarterturn.worker.contract.errors import FrameError
from quarterturn.worker.pictures.decode import decode

Picture = npt.NDArray[np.uint8]

SUFFIXES = [".jpg", ".png", ".bmp", ".tif", ".webp"]


def encoded(suffix: str, picture: npt.NDArray[np.generic]) -> bytes:
    """The RGB, RGBA or grey `picture` as a file, by OpenCV, which takes BGR."""
    order = {3: [2, 1, 0], 4: [2, 1, 0, 3]}.get(picture.shape[-1] if picture.ndim == 3 else 0)
    options = {".webp": [cv2.IMWRITE_WEBP_QUALITY, 101], ".jpg": [cv2.IMWRITE_JPEG_QUALITY, 98]}.get(suffix, [])
    return cv2.imencode(suffix, picture[..., order] if order else picture, options)[1].tobytes()


def gradient(height: int = 24, width: int = 32) -> Picture:
    """Smooth, different in every channel and direction, so that a swapped axis or channel shows."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 // width, y * 255 // height, (x + y) * 127 // (width + height)], axis=-1).astype(np.uint8)


def reason(data: bytes, shrunk: int = 1) -> str | None:
    """Why a picture is refused, by a decoder that makes a JPEG so many times smaller; None where it is read."""
    try:
        decode(data, shrink=lambda height, width: shrunk)
    except FrameError as error:
        return error.reason
    return None
