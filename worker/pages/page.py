"""From a template to one page that needs nothing beside itself: neither scripts nor fonts nor a network."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import jinja2
import numpy as np

from quarterturn.worker.contract.arrays import Picture
from quarterturn.worker.contract.swap import require_writable, unwritable, writing

_QUALITY = 82  # of JPEG


def render(template: Path, filters: Mapping[str, Callable[..., str]], **values: Any) -> str:
    """The page that `template` makes of `values`; it may include `style.css`, and all text in it is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([template.parent, Path(__file__).parent]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(filters)
    return environment.get_template(template.name).render(**values)


def write_page(page: str, path: Path, option: str) -> None:
    """Write `page` to `path`, whole or not at all; `option` is what names the file on the command line.

    Raises:
        DataError: the file cannot be written.
    """
    require_writable(path, option)
    try:
        with writing(path) as aside:
            aside.write_text(page, encoding="utf-8")
    except OSError as error:
        raise unwritable(path, option, error) from error


def data_uri(picture: Picture | bytes) -> str:
    """A picture (H, W, 3) uint8 RGB, or a JPEG file, as the source of an <img>."""
    if isinstance(picture, np.ndarray):
        bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
        picture = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes()
    return f"data:image/jpeg;base64,{base64.b64encode(picture).decode('ascii')}"
