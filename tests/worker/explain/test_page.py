from __future__ import annotations

import base64
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser

from quarterturn.worker.contract.bank import ScoringSettings
from quarterturn.worker.contract.errors import DataError
from quarterturn.worker.explain.explain import explain
from quarterturn.worker.explain.explanation import Explanation, Past
from quarterturn.worker.explain.page import page, write_explanation
from quarterturn.worker.pictures.decode import decode_picture
from tests.parts import NumpyEngine, NumpyPlacesEngine, bank_of, frame, good_part, png, scratched_part
from tests.worker.pages.reading import Page

KINDS = ("good", "scratched", "another product", "turned", "dark", "whole alone", "one view")


@pytest.fixture(scope="module")
def explanations() -> dict[str, Explanation]:
    rng = np.random.default_rng(4)
    engine = NumpyPlacesEngine(logits=True)
    bank = bank_of(engine, ("ring", "bracket"), count=60, scoring=ScoringSettings(coreset=40))
    pictures = {
        "good": good_part(rng),
        "scratched": scratched_part(rng),
        "another product": good_part(rng, "bracket"),
        "turned": np.rot90(good_part(rng), 2),
        "dark": good_part(rng) // 8,
    }
    found = {
        name: explain(engine, bank, frame(png(np.ascontiguousarray(picture)), product="ring", part_id="SN-1"), 0.02)
        for name, picture in pictures.items()
    }
    for name, other in (("whole alone", NumpyEngine()), ("one view", NumpyPlacesEngine(views=1))):
        shown = frame(png(scratched_part(rng)), product="ring")
        found[name] = explain(other, bank_of(other, count=60), shown, 0.02)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_says_the_verdict_first_and_needs_nothing_beside_itself(
    explanations: dict[str, Explanation], kind: str
) -> None:
    one = explanations[kind]
    html = page(one)
    read = Page(html)
    assert read.text.index(one.sentence.replace("  ", " ")) < read.text.index("Where the score comes from")
    assert (one.alert or "passed").replace("_", " ").capitalize() in read.text
    sources = [image["src"] for image in read.all("img")]
    assert sources
    assert all(source is not None and source.startswith("data:image/jpeg;base64,") for source in sources)
    assert not re.search(r"https?://|<script|<link", html)
    for part in one.parts:
        assert f"{part.points:.2f}" in read.text
    for place in one.places:
        for near in place.nearest:
            assert near.picture is not None
            assert near.picture.name in read.text
    assert one.engine in read.text
    assert one.bank in read.text


def test_boxes_lie_over_the_places(explanations: dict[str, Explanation]) -> None:
    one = explanations["scratched"]
    boxes = [attributes["style"] for attributes in Page(page(one)).all("i")]
    expected = [box for place in one.places for box in (place.box, *(near.box for near in place.nearest))]
    assert len(boxes) == len(expected)
    for style in boxes:
        numbers = [float(number) / 100 for number in re.findall(r"([\d.]+)%", str(style))]
        assert any(
            box is not None and np.allclose(numbers, [box.left, box.top, box.width, box.height]) for box in expected
        )


def test_the_heat_lies_on_the_picture(explanations: dict[str, Explanation]) -> None:
    first, second = (
        decode_picture(base64.b64decode(str(image["src"]).partition(",")[2]))
        for image in Page(page(explanations["scratched"])).all("img")[:2]
    )
    assert first.shape == second.shape == (32, 32, 3)
    red = second[..., 0].astype(int) - second[..., 1]
    assert red[14:26, 18:26].mean() > 40 > red[20:, :3].mean()


def test_notes_names_and_the_past_are_told_and_names_cannot_break_out(explanations: dict[str, Explanation]) -> None:
    one = explanations["scratched"]
    assert one.turning is not None
    assert one.places[0].nearest[0].picture is not None
    turning = replace(one.turning, past=Past(1000, 31, 12, 4, "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"))
    odd = replace(
        one, notes=("WARNING: the score is <1>",), camera="<b>top</b>", product="ring", turning=turning, same_score=True
    )
    html = page(odd)
    assert "<b>top</b>" not in html
    text = Page(html).text
    assert "WARNING: the score is <1>" in text
    assert "Judged again it scores the same" in text
    assert "Of the last 1000 frames of ring that this bank judged (since 2026-01-01T00:00:00Z), 31 were alerts" in text
    assert "with that threshold 12 would have been, 4 of them in either case, for their pictures." in text


def test_an_unusable_picture_shows_which_measure_and_says_that_no_threshold_helps(
    explanations: dict[str, Explanation],
) -> None:
    text = Page(page(explanations["dark"])).text
    assert "No threshold would have let it pass: its picture cannot be judged." in text
    assert re.search(r"brightness [\d.]+, outside", text)


@pytest.mark.parametrize("width", [800, 1100, 1440])
def test_no_table_is_cut_on_a_tablet_and_a_desk(
    explanations: dict[str, Explanation], chromium: Browser, width: int
) -> None:
    """However long a threshold is: its words break."""
    shown = chromium.new_page(viewport={"width": width, "height": 800})
    shown.set_content(page(replace(explanations["scratched"], product="the-connector-of-the-left-door")))
    widths = shown.locator(".wide").evaluate_all("(all) => all.map((one) => [one.scrollWidth, one.clientWidth])")
    shown.close()
    assert widths
    assert all(scroll <= client for scroll, client in widths), widths


def test_the_page_is_written_whole(explanations: dict[str, Explanation], tmp_path: Path) -> None:
    write_explanation(explanations["good"], tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text(encoding="utf-8").endswith("</html>")
    with pytest.raises(DataError, match="is a folder; name a file in it with --html"):
        write_explanation(explanations["good"], tmp_path)


def test_every_number_is_one(explanations: dict[str, Explanation]) -> None:
    for one in explanations.values():
        assert all(math.isfinite(part.points) for part in one.parts)
        assert not re.search(r"\b(nan|inf)\b", Page(page(one)).text)
