"""The page in a real Chromium: how it looks, in which words, and what it shows of the line."""

from __future__ import annotations

import base64
import itertools
import re
from urllib.parse import unquote

import pytest
from playwright.sync_api import expect

from quarterturn.worker.messages.events import result_id
from quarterturn.worker.messages.frames import Position
from tests import services
from tests.worker.console.browser import ANNA, CONTRASTS, DESK, PHONE, TABLET, TARGETS, WORDS, rows
from tests.worker.console.conftest import Serve, Visit
from tests.worker.console.pretend import Made, PretendLine, defects, jpeg

VIEWS = ("", "review/defect")
HOSTILE = "<img src=x onerror=alert(1)>\"'><script>alert(2)</script>{{7*7}}"


def test_the_first_glance_says_how_the_line_is_and_what_waits(line: PretendLine, visit: Visit) -> None:
    me = visit()
    page = me.go()
    expect(page.locator("#status")).to_have_text(WORDS["en"]["status.good"])
    line.publish(*defects(2), Made("unusable_picture", reason="too dark", picture=jpeg()), Made(picture=jpeg()))
    expect(page.locator("#status")).to_have_text("3 alerts wait for you")  # without a reload
    expect(page.locator("[data-lane=defect] .card-count")).to_have_text("2")
    expect(page.locator("[data-lane=unusable] .card-count")).to_have_text("1")
    expect(page.locator("[data-lane=wrong]")).not_to_have_class("waits")
    tile = page.locator(".tile")
    expect(tile.locator("h2")).to_have_text("top-01")
    expect(tile.locator(".curve polyline")).to_have_attribute("points", re.compile(r"[\d.]+,[\d.]+"))
    expect(tile.locator(".numbers")).to_contain_text("3 alerts of 4")
    expect(tile.locator(".frame img")).to_have_count(4)
    expect(page.locator(".standing")).to_contain_text("answers")
    me.keep("line")


@pytest.mark.parametrize(("size", "view"), [*itertools.product([DESK, TABLET, PHONE], VIEWS)])
def test_everything_can_be_hit_with_gloves_and_fits(
    line: PretendLine, visit: Visit, size: tuple[int, int], view: str
) -> None:
    line.publish(*defects(3))
    me = visit(size)
    page = me.go(view)
    expect(page.locator(".tile, .row[data-id]").first).to_be_visible()
    large = page.locator(".card-count" if not view else ".headline h2").first
    size_px = large.evaluate("(element) => parseFloat(getComputedStyle(element).fontSize)")
    assert size_px >= (56 if not view else 26), "read at two metres"
    small = [one for one in page.evaluate(TARGETS) if min(one["width"], one["height"]) < 48]
    assert not small
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0], "nothing is cut off at the side"
    me.keep(f"{view.replace('/', '-') or 'line'}-{size[0]}")


@pytest.mark.parametrize(("scheme", "view"), [*itertools.product(["light", "dark"], VIEWS)])
def test_dark_and_light_are_readable_and_can_be_chosen(line: PretendLine, visit: Visit, scheme: str, view: str) -> None:
    line.publish(*defects(3))
    me = visit(color_scheme=scheme)
    page = me.go(view)
    expect(page.locator(".tile, .row[data-id]").first).to_be_visible()
    faint = [one for one in page.evaluate(CONTRASTS) if one["ratio"] < 4.5]
    assert not faint
    ground = "getComputedStyle(document.body).backgroundColor"
    before = page.evaluate(ground)
    assert (before == "rgb(20, 24, 28)") == (scheme == "dark")
    me.keep(f"{view.replace('/', '-') or 'line'}-{scheme}")
    button = page.get_by_title(WORDS["en"]["theme"])
    for _ in range(1 if scheme == "dark" else 2):  # auto, light, dark
        button.click()
    assert page.evaluate(ground) != before
    page.reload()
    expect(page.locator("#lanes a")).to_have_count(4)
    assert page.evaluate(ground) != before


def test_states_are_told_by_words_and_shapes_and_not_by_colour_alone(line: PretendLine, visit: Visit) -> None:
    kinds = ("defect", "wrong_product", "wrong_orientation", "unusable_picture", "dead_letter", "late", None)
    line.publish(*[Made(kind, camera=f"cam-{n}", picture=jpeg()) for n, kind in enumerate(kinds)])
    me = visit()
    page = me.go()
    shapes = {}
    for n, kind in enumerate(kinds):
        now = page.locator(".tile", has_text=f"cam-{n}").locator(".now").first
        expect(now).to_contain_text(WORDS["en"][f"kind.{kind or 'good'}"])
        shapes[kind] = now.locator("path").get_attribute("d")
    assert shapes["wrong_product"] == shapes["wrong_orientation"]
    assert shapes["dead_letter"] == shapes["late"], "not as a defect, and not as good"
    assert len(set(shapes.values())) == 5


@pytest.mark.parametrize("size", [DESK, TABLET, PHONE], ids=["desk", "tablet", "phone"])
@pytest.mark.parametrize(("language", "scheme"), [("en", "light"), ("de", "dark")])
def test_dead_letters_stand_on_the_line(
    line: PretendLine, visit: Visit, size: tuple[int, int], language: str, scheme: str
) -> None:
    made = [Made("dead_letter", camera="top-01", reason=f"the bytes of {n}", ago_s=n) for n in range(3)]
    old = Made("dead_letter", camera="old-02", reason="of yesterday", ago_s=7200)
    newest, *_ = line.publish(*made, old, Made(camera="good-03", picture=jpeg()))
    me = visit(size, locale=language, color_scheme=scheme)
    page = me.go()
    dead = page.locator(".tile", has_text="top-01").locator(".dead")
    why = {"en": "the bytes of 0", "de": WORDS["de"]["reason.undecodable"]}[language]
    expect(dead).to_contain_text(why)
    expect(dead).to_contain_text({"en": "3 frames not inspected", "de": "3 Bilder nicht geprüft"}[language])
    expect(page.locator(".dead")).to_have_count(1)
    expect(page.locator("#status")).to_contain_text("top-01")
    expect(page.locator("#status")).to_have_class("alarm")
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    assert not [one for one in page.evaluate(TARGETS) if min(one["width"], one["height"]) < 48]
    assert not [one for one in page.evaluate(CONTRASTS) if one["ratio"] < 4.5]
    dead.scroll_into_view_if_needed()
    me.keep(f"dead-{language}-{size[0]}")
    dead.click()
    expect(page.locator(".what")).to_have_text(why)
    assert unquote(page.url).endswith(newest)


def test_both_languages_without_a_word_left_behind(line: PretendLine, visit: Visit) -> None:
    line.publish(*defects(2))
    me = visit(locale="de-DE")
    page = me.go("review/defect")
    expect(page.locator(".judge.good")).to_contain_text("Doch gut")
    left = [word for key, word in WORDS["en"].items() if len(word) > 8 and "{" not in word and word != WORDS["de"][key]]
    text = page.locator("body").inner_text()
    assert not [word for word in left if word in text and word != WORDS["de"]["language"]]
    me.keep("german")
    page.get_by_title(WORDS["de"]["language"], exact=True).click()
    expect(page.locator(".judge.good")).to_contain_text("Good after all")
    page.reload()
    expect(page.locator(".judge.good")).to_contain_text("Good after all")
    expect(page.locator("html")).to_have_attribute("lang", "en")


def test_it_comes_back_when_the_console_was_gone(line: PretendLine, serve: Serve, visit: Visit) -> None:
    (port,) = services.free_ports(1)
    console = serve(port=port)
    line.publish(*defects(1))
    me = visit(url=str(console.base_url))
    page = me.go("review/defect")
    expect(rows(page)).to_have_count(1)
    console.stop(None, None, None)
    expect(page.locator("#status")).to_have_text(WORDS["en"]["status.lost"], timeout=20_000)
    me.press("1")
    expect(page.locator("#toast")).to_have_text(WORDS["en"]["said.failed"])
    line.publish(*defects(2))
    serve(port=port)
    expect(page.locator("#status")).to_have_text("3 alerts wait for you", timeout=30_000)
    expect(rows(page)).to_have_count(3)
    me.press("2")
    expect(page.locator("#status")).to_have_text("2 alerts wait for you")


@pytest.mark.parametrize("field", ["camera", "product", "part", "reason", "looks_like"])
def test_hostile_names_are_text(line: PretendLine, visit: Visit, field: str) -> None:
    """Whoever may publish frames chooses them."""
    kind = {"looks_like": "wrong_product", "reason": "unusable_picture"}.get(field, "defect")
    lane = {"wrong_product": "wrong", "unusable_picture": "unusable"}.get(kind, kind)
    line.publish(Made(kind, **{field: HOSTILE}))
    me = visit()
    page = me.go()
    expect(page.locator(".tile")).to_be_visible()
    me.go(f"review/{lane}")
    expect(page.locator(".headline")).to_contain_text(HOSTILE)
    page.locator("summary").click()
    assert page.locator("img[src=x], #view script").count() == 0
    if field in ("camera", "product"):
        page.locator(f"select[name={field}]").select_option(HOSTILE)
        expect(page.locator(".bar")).to_contain_text("1 result")
    page.goto(f"{me.url}/#/result/{HOSTILE}")
    expect(page.locator(".empty")).to_be_visible()


def test_the_heat_map_lies_over_the_picture_and_can_be_taken_away(line: PretendLine, visit: Visit) -> None:
    line.publish(Made("defect", picture=jpeg(width=300, height=100)))
    me = visit()
    page = me.go("review/defect")
    glaze = page.locator(".stage svg.heat")
    expect(glaze).to_be_visible()
    assert glaze.get_attribute("viewBox") == "0 0 300 100", "of the picture's shape, whatever its own"
    expect(glaze.locator("image")).to_have_attribute("preserveAspectRatio", "none")
    me.press("h")
    expect(glaze).to_be_hidden()
    expect(page.locator(".stage img").first).to_be_visible()
    page.locator("button.heat-switch").click()
    expect(glaze).to_be_visible()


# Of each caption and piece of the headline: whether its text is cut.
TEXTS = """
() => [...document.querySelectorAll(".headline > *, .pictures figcaption")].map((element) => {
  const range = document.createRange();
  range.selectNodeContents(element);
  const { right, bottom } = range.getBoundingClientRect();
  const box = element.closest("figcaption, .headline").getBoundingClientRect();
  return { text: element.textContent, cut: right > box.right + 0.5 || bottom > box.bottom + 0.5 };
})
"""
LINES = """
(element) => {
  const range = document.createRange();
  range.selectNodeContents(element.firstChild);
  return new Set([...range.getClientRects()].map((one) => Math.round(one.top))).size;
}
"""


@pytest.mark.parametrize("width", [800, 1100, 1440])
@pytest.mark.parametrize("language", ["en", "de"])
def test_captions_are_whole_and_scores_on_one_line(line: PretendLine, visit: Visit, language: str, width: int) -> None:
    line.publish(Made("unusable_picture", ratio=2.29, picture=jpeg()))
    picture = {"name": "00000.jpg", "jpeg": base64.b64encode(jpeg()).decode()}
    told = {"places": [{"thresholds": 2.0, "nearest": [{"picture": picture, "box": None}]}]}
    me = visit((width, 800), locale=language)
    me.page.route("**/explanation", lambda route: route.fulfill(json=told))
    page = me.go("review/unusable")
    expect(page.locator(".nearest figcaption")).to_be_visible()
    texts = page.evaluate(TEXTS)
    assert texts[-1]["text"] == WORDS[language]["nearest"]
    assert not [one for one in texts if one["cut"]]
    assert page.locator(".score").evaluate(LINES) == 1
    me.keep(f"captions-{language}-{width}")


def test_a_picture_that_is_gone_is_said(line: PretendLine, visit: Visit) -> None:
    line.publish(Made("defect"))
    page = visit().go("review/defect")
    expect(page.locator(".stage .missing").first).to_contain_text(WORDS["en"]["picture.gone"])
    expect(page.locator(".stage .missing").first).to_contain_text("there is no such frame yet")


@pytest.mark.parametrize("language", ["en", "de"])
def test_a_frame_that_is_no_picture_is_not_called_gone(line: PretendLine, visit: Visit, language: str) -> None:
    (dead,) = line.publish(Made("dead_letter", picture=b"no picture"))
    page = visit(locale=language).go(f"result/{dead}")
    missing = page.locator(".stage .missing").first
    expect(missing).to_contain_text({"en": "No picture.", "de": "Kein Bild."}[language])
    expect(missing).to_contain_text({"en": "no JPEG", "de": WORDS["de"]["reason.undecodable"]}[language])
    expect(page.locator(".headline h2")).to_have_text({"en": "Not inspected", "de": "Nicht geprüft"}[language])


@pytest.mark.parametrize("language", ["en", "de"])
def test_a_frame_of_an_unknown_product_is_readable_and_says_which(
    line: PretendLine, visit: Visit, language: str
) -> None:
    reason = "product washer is not in the bank (nut, ring); fit a bank with it"
    (dead,) = line.publish(Made("dead_letter", code="unknown_product", reason=reason, picture=jpeg()))
    me = visit(locale=language)
    page = me.go()
    said = {"en": reason, "de": "Das Produkt washer ist nicht in der Bank (nut, ring)"}[language]
    expect(page.locator(".dead")).to_contain_text(said)
    me.keep(f"unknown-product-{language}")
    me.go(f"result/{dead}")
    expect(page.locator(".what")).to_have_text(said)
    expect(page.locator(".headline .shape")).to_have_class("shape alarm")
    expect(page.locator(".stage .marked img")).to_be_visible()
    for text in (page.locator("body").inner_text(), page.locator(".headline").inner_text()):
        assert not [word for word in ("nreadable", "nlesbar") if word in text]
    me.keep(f"unknown-product-result-{language}")


def test_a_result_that_comes_after_whoever_asks_for_it_is_shown(line: PretendLine, visit: Visit) -> None:
    """As by a link in a message that is faster than the topic."""
    coming = result_id(Position(line.topics.frames, 0, 10**9 + 1))
    page = visit().go(f"result/{coming}")
    expect(page.locator(".empty")).to_have_text(WORDS["en"]["fault.recent"])
    assert line.publish(Made("defect")) == [coming]
    expect(page.locator(".review.alone")).to_be_visible()
    expect(page.locator(".empty")).to_have_count(0)


def test_it_notifies_whoever_wants_it_and_looks_elsewhere(line: PretendLine, visit: Visit) -> None:
    me = visit(permissions=["notifications"])
    me.context.add_init_script(
        """
        window.told = [];
        window.Notification = class { constructor(title, options) { told.push(`${title}: ${options.body}`); }
          static permission = "granted"; static requestPermission = async () => "granted"; };
        """
    )
    page = me.go()
    page.evaluate("Object.defineProperty(document, 'hidden', { get: () => true })")
    line.publish(*defects(1))
    expect(page.locator("[data-lane=defect] .card-count")).to_have_text("1")
    assert page.evaluate("told") == []
    page.get_by_title(WORDS["en"]["notify.what"]).click()
    expect(page.get_by_title(WORDS["en"]["notify.what"])).to_have_attribute("aria-pressed", "true")
    line.publish(*defects(1))
    expect(page.locator("[data-lane=defect] .card-count")).to_have_text("2")
    assert page.evaluate("told") == ["Defect: 2 to review on line-1"]


def test_from_another_machine_it_asks_for_a_token_and_then_shows_all(
    line: PretendLine, serve: Serve, visit: Visit
) -> None:
    line.publish(*defects(1))
    console = serve(host="0.0.0.0")
    me = visit(url=str(console.base_url), token=None)
    me.page.goto(me.url)
    me.page.locator("dialog[open] input").fill(ANNA)
    me.press("Enter")
    expect(me.page.locator("[data-lane=defect] .card-count")).to_have_text("1", timeout=20_000)
    me.page.locator("[data-lane=defect]").click()
    expect(me.page.locator(".stage img").first).to_be_visible()
