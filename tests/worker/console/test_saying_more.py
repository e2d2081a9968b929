"""What people say beside good and bad, in a real Chromium: where the defect is, and what the part really is."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from quarterturn.worker.bankstore.file import FileBankStore
from tests.parts import NumpyEngine, bank_of
from tests.worker.console.browser import CONTRASTS, DESK, PHONE, TABLET, TARGETS, WORDS, Visitor, current, rows
from tests.worker.console.conftest import Serve, Visit
from tests.worker.console.pretend import Made, PretendLine, jpeg

SEEN = {"x": 400, "y": 200, "width": 2400, "height": 1200}  # of frames of 3200 x 1600; shown smaller than it is
SHARES = (0.25, 0.5, 0.5, 0.75)  # left, top, right, bottom of what is shown
REGION = {"x": 1000, "y": 800, "width": 600, "height": 300}
LARGE = jpeg(width=3200, height=1600)
SHEET = ".marked svg.sheet"


def corners(page: Page) -> tuple[tuple[float, float], tuple[float, float]]:
    """Where the corners of SHARES lie on the screen: the picture fits into the middle of its box."""
    expect(page.locator(SHEET)).to_be_visible()
    box = page.locator(".marked .box").bounding_box()
    assert box is not None
    width, height = page.locator(".marked img").evaluate("(image) => [image.naturalWidth, image.naturalHeight]")
    scale = min(box["width"] / width, box["height"] / height)
    left = box["x"] + (box["width"] - width * scale) / 2
    top = box["y"] + (box["height"] - height * scale) / 2
    x1, y1, x2, y2 = SHARES
    return (
        (left + x1 * width * scale, top + y1 * height * scale),
        (left + x2 * width * scale, top + y2 * height * scale),
    )


def draw(me: Visitor, pointer: str) -> None:
    """Draw a rectangle as `pointer` does, from its lower right corner to the upper left."""
    to, start = corners(me.page)
    middle = ((start[0] + to[0]) / 2, (start[1] + to[1]) / 2)
    if pointer == "mouse":
        me.page.mouse.move(*start)
        me.page.mouse.down()
        me.page.mouse.move(*middle)
        me.page.mouse.move(*to)
        me.page.mouse.up()
        return
    browser = me.context.new_cdp_session(me.page)
    steps = {"Pressed": start, "Moved": middle, "Released": to}
    for kind, (x, y) in steps.items():
        if pointer == "finger":
            name = {"Pressed": "touchStart", "Moved": "touchMove", "Released": "touchEnd"}[kind]
            if kind == "Released":
                browser.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [{"x": x, "y": y}]})
            points: list[dict[str, float]] = [] if kind == "Released" else [{"x": x, "y": y}]
            browser.send("Input.dispatchTouchEvent", {"type": name, "touchPoints": points})
        else:
            pen: dict[str, Any] = {"type": f"mouse{kind}", "x": x, "y": y, "pointerType": "pen", "clickCount": 1}
            browser.send("Input.dispatchMouseEvent", {**pen, "button": "left", "buttons": 1})


def assert_close(region: dict[str, int], step: float = 8) -> None:
    """`step`: so many pixels of the frame are one of the screen."""
    assert region.keys() == REGION.keys()
    assert all(abs(region[name] - REGION[name]) <= step for name in REGION), region


def wide(count: int) -> list[Made]:
    return [Made("defect", part=f"part-{n}", picture=LARGE, ago_s=n) for n in range(count)]


@pytest.fixture
def url(serve: Serve) -> str:
    return str(serve(cameras={"top-01": {"region": SEEN}}).base_url).rstrip("/")


@pytest.mark.parametrize("pointer", ["mouse", "pen", "finger"])
@pytest.mark.parametrize("first", ["region", "verdict"])
def test_a_region_is_drawn_before_or_after_the_verdict(
    line: PretendLine, url: str, visit: Visit, pointer: str, first: str
) -> None:
    ids = line.publish(*wide(2))
    me = visit(TABLET, url=url, has_touch=pointer == "finger")
    page = me.go("review/defect")
    expect(rows(page)).to_have_count(2)
    if first == "region":
        draw(me, pointer)
        expect(page.locator(".marked figcaption button")).to_be_visible()
        assert line.said() == {}
        me.press("2")
        expect(current(page)).to_contain_text("part-1")  # no slower than without
    else:
        me.press("2")
        expect(current(page)).to_contain_text("part-1")
        page.get_by_role("button", name=WORDS["en"]["said.mark"]).click()
        expect(page.locator(".headline")).to_contain_text("part-0")
        draw(me, pointer)
        expect(page.locator("#toast")).not_to_contain_text(WORDS["en"]["said.mark"])
        expect(page.locator(".headline")).to_contain_text("part-0")  # to be looked at
    expect(page.locator("#status")).to_have_text(WORDS["en"]["status.one"])
    said = line.said()[ids[0]]
    assert said["verdict"] == "bad"
    assert_close(said["region"])
    me.keep(f"region-{first}-{pointer}")


@pytest.mark.parametrize(("size", "scheme"), [(DESK, "light"), (TABLET, "dark"), (PHONE, "light")])
def test_a_region_shows_with_its_result_and_can_be_taken_away(
    line: PretendLine, serve: Serve, visit: Visit, size: tuple[int, int], scheme: str
) -> None:
    console = serve(cameras={"top-01": {"region": SEEN}})
    (alert,) = line.publish(*wide(1))
    console.await_results(1)
    body = {"ids": [alert], "verdict": "bad", "region": REGION}
    assert console.post("/api/feedback", headers=console.anna, json=body).is_success
    me = visit(size, url=str(console.base_url).rstrip("/"), color_scheme=scheme)
    page = me.go(f"result/{alert}")
    drawn = page.locator(f"{SHEET} .mark")
    expect(drawn).to_have_attribute("width", "400")  # of the 1600 x 800 that are shown
    upper_left, lower_right = corners(page)
    box = drawn.evaluate("(one) => { const { left, top, right, bottom } = one.getBoundingClientRect(); "
                         "return [left, top, right, bottom]; }")  # fmt: skip
    assert box == pytest.approx([*upper_left, *lower_right], abs=4)
    assert not [one for one in page.evaluate(TARGETS) if min(one["width"], one["height"]) < 48]
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    assert not [one for one in page.evaluate(CONTRASTS) if one["ratio"] < 4.5]
    me.keep(f"marked-{size[0]}")
    page.locator(".marked figcaption button").click()
    expect(page.locator("#toast")).to_contain_text("Noted: bad.")
    expect(drawn).not_to_have_attribute("width", "400")
    assert line.said()[alert]["region"] is None


@pytest.mark.parametrize(
    ("keys", "verdict"),
    [(["Delete", "2"], "bad"), (["1"], "good")],
    ids=["taken away by a key", "a good part has none"],
)
def test_a_drawn_region_that_does_not_count(
    line: PretendLine, url: str, visit: Visit, keys: list[str], verdict: str
) -> None:
    (alert,) = line.publish(*wide(1))
    me = visit(url=url)
    page = me.go("review/defect")
    expect(rows(page)).to_have_count(1)
    draw(me, "mouse")
    expect(page.locator(".marked figcaption button")).to_be_visible()
    me.press(*keys)
    expect(page.locator("#toast")).to_contain_text(f"Noted: {verdict}.")
    said = line.said()[alert]
    assert (said["verdict"], said["region"]) == (verdict, None)
    expect(page.locator(".marked figcaption button")).to_have_count(0)
    expect(page.locator(f"{SHEET} .mark")).not_to_have_attribute("width", re.compile("."))


def test_of_a_frame_that_is_gone_the_region_can_be_taken_away(line: PretendLine, visit: Visit) -> None:
    (alert,) = line.publish(Made("defect"))
    record = {"resultId": alert, "verdict": "bad", "by": "ilse", "at": "2026-01-02T03:04:05Z", "region": REGION}
    line.raw(line.topics.feedback, json.dumps(record).encode(), alert.encode())
    page = visit().go(f"result/{alert}")
    expect(page.locator(".marked .missing")).to_be_visible()
    page.locator(".marked figcaption button").click()
    expect(page.locator("#toast")).to_contain_text("Noted: bad.")
    assert line.said()[alert]["region"] is None


def test_a_tap_on_the_picture_is_no_region(line: PretendLine, url: str, visit: Visit) -> None:
    (alert,) = line.publish(*wide(1))
    me = visit(url=url)
    page = me.go("review/defect")
    page.locator(SHEET).click()
    me.press("2")
    expect(page.locator("#toast")).to_contain_text("Noted: bad.")
    assert line.said()[alert]["region"] is None


def test_what_was_said_stays_when_several_are_judged_anew(line: PretendLine, serve: Serve, visit: Visit) -> None:
    console = serve(cameras={"top-01": {"region": SEEN}})
    ids = line.publish(*wide(3))
    console.await_results(3)
    for body in ({"ids": ids[:1], "verdict": "bad", "region": REGION}, {"ids": ids[1:2], "verdict": "bad"}):
        assert console.post("/api/feedback", headers=console.anna, json=body).is_success
    me = visit(url=str(console.base_url).rstrip("/"))
    page = me.go("review/defect")
    page.locator("select[name=review]").select_option("any")
    expect(rows(page)).to_have_count(3)
    page.locator("select[name=review]").blur()
    me.press("a", "2")
    expect(page.locator("#toast")).to_contain_text("Noted for 3: bad.")
    assert [line.said()[one]["region"] for one in ids] == [REGION, None, None]


@pytest.fixture
def store(tmp_path: Path) -> FileBankStore:
    store = FileBankStore(tmp_path / "banks")
    store.publish("line-1", bank_of(NumpyEngine(dimensions=2), ("plate", "ring", "washer"), count=3))
    return store


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("verdict", ["good", "bad"])
@pytest.mark.parametrize("first", ["product", "verdict"])
@pytest.mark.parametrize("kind", ["wrong_product", "wrong_orientation"])
def test_what_a_part_really_is_before_or_after_the_verdict(
    line: PretendLine, visit: Visit, verdict: str, first: str, kind: str
) -> None:
    (alert,) = line.publish(Made(kind, product="ring", looks_like="plate", picture=jpeg()))
    me = visit()
    page = me.go("review/wrong")
    chooser = page.locator("select[name=really]")
    expect(chooser.locator("option")).to_have_text([WORDS["en"]["really.open"], "plate", "ring", "washer"])
    key = {"good": "1", "bad": "2"}[verdict]
    for what in [first, "verdict" if first == "product" else "product"]:
        if what == "product":
            chooser.select_option("washer")
        else:
            me.press(key)
            expect(page.locator("#toast")).to_contain_text(f"Noted: {verdict}.")
    expect(page.locator(".verdict-line")).to_contain_text("really washer")
    said = line.said()[alert]
    assert (said["verdict"], said["product"]) == (verdict, "washer")
    me.go(f"result/{alert}")
    expect(page.locator("select[name=really]")).to_have_value("washer")
    page.locator("select[name=really]").select_option("")
    expect(page.locator(".verdict-line")).not_to_contain_text("washer")
    assert line.said()[alert]["product"] is None
    me.keep(f"really-{kind}")


def test_without_a_bank_the_products_of_the_results_are_offered(line: PretendLine, visit: Visit) -> None:
    line.publish(Made("wrong_product", product="ring"), Made(product="nut"))
    page = visit().go("review/wrong")
    expect(page.locator("select[name=really] option")).to_have_text([WORDS["en"]["really.open"], "nut", "ring"])


def test_a_defect_is_of_its_product(line: PretendLine, visit: Visit) -> None:
    line.publish(Made("defect", picture=jpeg()))
    page = visit().go("review/defect")
    expect(page.locator(SHEET)).to_be_visible()
    expect(page.locator("select[name=really]")).to_have_count(0)
