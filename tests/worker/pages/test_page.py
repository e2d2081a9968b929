from __future__ import annotations

import base64
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from playwright.sync_api import Browser

from quarterturn.worker.contract.errors import DataError
from quarterturn.worker.pages.page import data_uri, render, require_writable, write_page
from quarterturn.worker.pictures.decode import decode_picture


def test_a_page_has_the_style_inside_and_escapes_what_it_is_given(tmp_path: Path) -> None:
    template = tmp_path / "page.html.j2"
    template.write_text('<style>{% include "style.css" %}</style><p>{{ name | loud }}</p>')
    page = render(template, {"loud": str.upper}, name="<b>ring</b>")
    assert "<p>&lt;B&gt;RING&lt;/B&gt;</p>" in page
    assert "--paper:" in page
    assert "url(" not in page
    assert "@import" not in page


@pytest.mark.parametrize("option", ["--out", "--html"])
def test_a_place_where_no_page_can_be_written_is_refused_in_one_sentence(tmp_path: Path, option: str) -> None:
    (tmp_path / "file").write_text("")
    for check in (lambda path: write_page("<html>", path, option), lambda path: require_writable(path, option)):
        with pytest.raises(DataError, match=rf"page\.html: cannot be written .*choose another {option}$"):
            check(tmp_path / "file" / "page.html")
        with pytest.raises(DataError, match=rf"is a folder; name a file in it with {option}$"):
            check(tmp_path)
    write_page("<html>ü</html>", tmp_path / "new" / "page.html", option)
    assert (tmp_path / "new" / "page.html").read_text(encoding="utf-8") == "<html>ü</html>"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["page.html"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_table_that_goes_on_to_the_right_shows_a_shadow_there(
    tmp_path: Path, chromium: Browser, scheme: Literal["light", "dark"]
) -> None:
    template = tmp_path / "page.html.j2"
    template.write_text(
        '<style>{% include "style.css" %} td { padding: 50px }</style>'
        '<div class="wide"><table><tr>{% for _ in range(count) %}<td>1</td>{% endfor %}</tr></table></div>'
    )

    def edges(count: int, scrolled: int) -> tuple[float, float]:
        """How light the table is in its middle and at its right edge, above its text."""
        page = chromium.new_page(viewport={"width": 800, "height": 300}, color_scheme=scheme)
        page.set_content(render(template, {}, count=count))
        wide = page.locator(".wide")
        wide.evaluate("(element, scrolled) => { element.scrollLeft = scrolled; }", scrolled)
        pixels = decode_picture(wide.screenshot()).mean(axis=2)
        page.close()
        return pixels[20:40, 300:500].mean(), pixels[20:40, -6:-2].mean()

    for count, scrolled in ((3, 0), (60, 100_000)):
        middle, edge = edges(count, scrolled)
        assert edge == pytest.approx(middle, abs=2), "there is nothing more to see"
    middle, edge = edges(60, 0)
    assert abs(edge - middle) > 20


def test_a_picture_is_the_same_as_pixels_and_as_a_jpeg() -> None:
    picture = np.full((9, 7, 3), (200, 40, 10), np.uint8)
    uri = data_uri(picture)
    head, _, data = uri.partition(",")
    assert head == "data:image/jpeg;base64"
    jpeg = base64.b64decode(data)
    assert np.abs(decode_picture(jpeg).astype(int) - picture).max() <= 12
    assert data_uri(jpeg) == uri
