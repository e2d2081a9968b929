"""Inspect what your own loop grabs: raw pixels in, a verdict out, neither Kafka nor files between.

    python own_loop.py ENGINE BANK SOURCE OUT

SOURCE is what OpenCV opens: a camera's number, a video, an address, or pictures such as parts/%03d.png. Of every alert
the picture, with the heat map laid over it, goes to the folder OUT.
"""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from quarterturn import (
    DeadLetter,
    EngineSettings,
    Frame,
    Inspector,
    Position,
    Verdict,
    heatmap,
    open_engine,
    read_bank_file,
)


def main(engine_folder: str, bank_file: str, source: str, out: str) -> None:
    capture = cv2.VideoCapture(int(source) if source.isdigit() else source)
    settings = EngineSettings(path=Path(engine_folder))
    with closing(open_engine(settings)) as engine, closing(Inspector(engine, "line-1", overkill=0.05)) as inspector:
        inspector.use(read_bank_file(Path(bank_file)))
        number = 0
        while (grabbed := capture.read())[0]:
            picture = np.asarray(grabbed[1], np.uint8)
            outcome = inspector.inspect([as_frame(picture, number)])[0]
            if isinstance(outcome, Verdict) and outcome.is_alert:  # here your gate opens
                print(f"frame {number}: {outcome.data.alert}, score {outcome.data.score:.2f}")
                drawn = heatmap.overlay(picture[..., ::-1], outcome.heat)  # red first, as everywhere but in OpenCV
                cv2.imwrite(f"{out}/{number:06}.png", drawn[..., ::-1])
            elif isinstance(outcome, DeadLetter):
                print(f"frame {number}: {outcome.data.message}")
            number += 1
    print(f"{number} frames")


def as_frame(picture: npt.NDArray[np.uint8], number: int) -> Frame:
    """A frame of raw pixels (H, W, 3) uint8, blue first, as OpenCV has them."""
    height, width = picture.shape[:2]
    headers = {"camera": "top-01", "width": str(width), "height": str(height), "pixel_format": "BGR8"}
    encoded = {name: value.encode() for name, value in headers.items()}
    return Frame(Position("grabbed", 0, number), None, encoded, picture.tobytes())


if __name__ == "__main__":
    main(*sys.argv[1:])
