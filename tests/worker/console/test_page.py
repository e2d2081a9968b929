"""The page in a real Chromium: what people see, press and touch."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from tests import services
from tests.worker.console.browser import ANNA, CONTRASTS, DESK, PHONE, TABLET, TARGETS, Visitor
from tests.worker.console.conftest import Serve
from tests.worker.console.pretend import Made, PretendLine, jpeg
from tests.worker.transport import librdkafka

Visit = Callable[..., Visitor]
WORDS = json.loads((Path(__file__).parents[3] / "worker/console/static/words.json").read_text(encoding="utf-8"))
VIEWS = ("", "review/defect")
HOSTILE = "<img src=x onerror=alert(1)>\"'><script>alert(2)</script>{{7*7}}"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    try:
        path = services.install_chromium()
    except services.ServiceError as error:
        pytest.fail(str(error), pytrace=False)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])  # CI runs as root
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium: Browser, serve: Serve) -> Iterator[Visit]:
    """Open a console's page as somebody; the console is a new one, or that at `url`."""
    visitors: list[Visitor] = []

    def start(
        size: tuple[int, int] = DESK, token: str | None = ANNA, url: str | None = None, **options: Any
    ) -> Visitor:
        visitors.append(Visitor(chromium, url or str(serve().base_url).rstrip("/"), size, token, **options))
        return visitors[-1]

    yield start
    for visitor in visitors:
        visitor.leave()


def judgements(line: PretendLine) -> dict[str, str]:
    """By part, as they stand in the topic."""
    said = [json.loads(record.value()) for record in librdkafka.consume(line.bootstrap, line.topics.feedback)]
    return {word["resultId"]: word["verdict"] for word in said}


def rows(page: Page) -> Locator:
    return page.locator(".row[data-id]")


def current(page: Page) -> Locator:
    return page.locator(".row.current")


def defects(count: int, **made: Any) -> list[Made]:
    """The first one is the newest, so it stands at the top of the list."""
    return [
        Made("defect", part=f"part-{n}", picture=jpeg((40 + 9 * n, 90, 150)), ago_s=n, **made) for n in range(count)
    ]


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


def test_an_alert_is_found_and_reviewed_in_one_click_and_one_key(line: PretendLine, visit: Visit) -> None:
    (alert,) = line.publish(*defects(1))
    me = visit()
    page = me.go()
    page.locator("[data-lane=defect]").click()
    expect(page.locator(".headline")).to_contain_text("part-0")
    me.press("2")
    expect(page.locator("#toast")).to_contain_text("Noted: bad.")
    expect(page.locator("#status")).to_have_text(WORDS["en"]["status.good"])
    assert judgements(line) == {alert: "bad"}


def test_review_by_keyboard_alone(line: PretendLine, visit: Visit) -> None:
    ids = line.publish(*defects(8))
    me = visit()
    page = me.go("review/defect")
    expect(rows(page)).to_have_count(8)
    me.press("1")  # the first one is good; on to the second
    expect(current(page)).to_contain_text("part-1")
    me.press("ArrowDown", "2")  # the third is bad; on to the fourth
    expect(current(page)).to_contain_text("part-3")
    me.press("Shift+ArrowDown", "Shift+ArrowDown")  # three of them
    expect(page.locator(".bar")).to_contain_text("3 selected")
    expect(page.locator(".judge.good")).to_contain_text("(3)")
    me.keep("selected")
    me.press("1")
    expect(page.locator("#toast")).to_contain_text("Noted for 3: good.")
    expect(current(page)).to_contain_text("part-6")
    me.press("ArrowUp", "ArrowUp", "ArrowUp", "ArrowUp", "ArrowUp", "1")  # part-1, which was passed over
    expect(page.locator("#lanes [aria-current] .count")).to_have_text("2")
    expected = {ids[0]: "good", ids[2]: "bad", ids[3]: "good", ids[4]: "good", ids[5]: "good", ids[1]: "good"}
    assert judgements(line) == expected
    me.press("?")
    expect(page.locator("dialog[open]")).to_contain_text("good after all")
    me.press("Escape")
    expect(page.locator("dialog[open]")).to_have_count(0)
    me.press("a")
    expect(page.locator(".bar")).to_contain_text("8 selected")
    me.press("Escape", " ")
    expect(page.locator(".bar")).to_contain_text("1 selected")
    me.press("ArrowRight")
    expect(page.locator("#lanes [aria-current]")).to_contain_text(WORDS["en"]["lane.wrong"])
    me.press("l")
    expect(page.locator(".cards")).to_be_visible()


def test_a_key_right_after_a_dialog_closed_is_heard(line: PretendLine, visit: Visit) -> None:
    line.publish(*defects(3))
    me = visit()
    page = me.go("review/defect")
    expect(rows(page)).to_have_count(3)
    me.press("?")
    expect(page.locator("dialog[open]")).to_have_count(1)
    page.evaluate(  # the dialog's button keeps the focus until the browser draws next
        """() => {
          const button = document.querySelector("dialog button");
          document.querySelector("dialog").close();
          button.dispatchEvent(new KeyboardEvent("keydown", { key: "a", bubbles: true }));
        }"""
    )
    expect(page.locator(".bar")).to_contain_text("3 selected")


def test_a_judgement_can_be_changed_at_once(line: PretendLine, visit: Visit) -> None:
    ids = line.publish(*defects(2))
    me = visit()
    page = me.go("review/defect")
    expect(rows(page)).to_have_count(2)
    me.press("1")
    page.locator("#toast button").click()
    expect(page.locator("#toast")).to_contain_text("Noted: bad.")
    assert judgements(line) == {ids[0]: "bad"}


@pytest.mark.parametrize("size", [TABLET, PHONE], ids=["tablet", "phone"])
def test_review_by_touch_with_gloves(line: PretendLine, visit: Visit, size: tuple[int, int]) -> None:
    ids = line.publish(*defects(4))
    me = visit(size, has_touch=True)
    page = me.go("review/defect")
    expect(rows(page)).to_have_count(4)
    rows(page).nth(2).tap()
    expect(page.locator(".headline")).to_contain_text("part-2")
    page.locator(".judge.bad").tap()
    expect(page.locator("#toast")).to_contain_text("Noted: bad.")
    rows(page).nth(0).locator(".pick").tap()
    rows(page).nth(1).locator(".pick").tap()
    expect(page.locator(".bar")).to_contain_text("2 selected")
    page.locator(".judge.good").tap()
    expect(page.locator("#toast")).to_contain_text("Noted for 2: good.")
    assert judgements(line) == {ids[2]: "bad", ids[0]: "good", ids[1]: "good"}


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
    kinds = ("defect", "wrong_product", "wrong_orientation", "unusable_picture", None)
    line.publish(*[Made(kind, camera=f"cam-{n}", picture=jpeg()) for n, kind in enumerate(kinds)])
    me = visit()
    page = me.go()
    shapes = {}
    for n, kind in enumerate(kinds):
        now = page.locator(".tile", has_text=f"cam-{n}").locator(".now").first
        expect(now).to_contain_text(WORDS["en"][f"kind.{kind or 'good'}"])
        shapes[kind] = now.locator("path").get_attribute("d")
    assert shapes["wrong_product"] == shapes["wrong_orientation"]
    assert len(set(shapes.values())) == 4


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


def test_whoever_judges_gives_a_token_once(line: PretendLine, visit: Visit) -> None:
    ids = line.publish(*defects(2))
    me = visit(token=None)
    page = me.go("review/defect")
    expect(rows(page)).to_have_count(2)
    me.press("1")
    dialog = page.locator("dialog[open]")
    dialog.locator("input").fill("nobodys-token-of-this-page")
    me.press("Enter")
    expect(dialog).to_contain_text(WORDS["en"]["sign.wrong"])
    assert judgements(line) == {}
    dialog.locator("input").fill(ANNA)
    me.press("Enter")
    expect(page.locator("#toast")).to_contain_text("Noted: good.")
    me.press("2")
    expect(page.locator("#status")).to_have_text(WORDS["en"]["status.good"])
    assert judgements(line) == {ids[0]: "good", ids[1]: "bad"}
    page.reload()
    expect(page.locator("#tools")).to_contain_text("anna")
    page.get_by_role("button", name="anna").click()
    expect(page.locator("#tools")).to_contain_text(WORDS["en"]["sign.in"])
    assert page.evaluate("localStorage.getItem('token')") is None


def test_where_nobody_may_judge_that_is_said(line: PretendLine, serve: Serve, visit: Visit) -> None:
    line.publish(*defects(1))
    me = visit(token=None, url=str(serve(reviewers={}).base_url))
    page = me.go("review/defect")
    expect(rows(page)).to_have_count(1)
    me.press("1")
    expect(page.locator("#toast")).to_have_text(WORDS["en"]["sign.none"])


def test_what_others_judge_and_what_comes_shows_while_one_looks(line: PretendLine, serve: Serve, visit: Visit) -> None:
    console = serve()
    ids = line.publish(*defects(3))
    me = visit(url=str(console.base_url))
    page = me.go("review/defect")
    expect(rows(page)).to_have_count(3)
    me.press("ArrowDown")
    body = {"ids": [ids[2]], "verdict": "bad"}
    assert console.post("/api/feedback", headers=console.anna, json=body).is_success
    expect(rows(page).nth(2)).to_contain_text("bad")
    line.publish(Made("defect", part="the-newest", ago_s=-1))
    expect(rows(page)).to_have_count(4)
    expect(rows(page).first).to_contain_text("the-newest")
    expect(current(page)).to_contain_text("part-1")  # what one looked at stays


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


@pytest.mark.timeout(300)
def test_ten_thousand_results_stay_fluid(line: PretendLine, serve: Serve, visit: Visit) -> None:
    line.publish(*[Made("defect", part=f"part-{n}", ago_s=n / 10) for n in range(10_000)])
    console = serve()
    console.await_state(lambda state: state["lanes"]["defect"]["open"] == 10_000, timeout_s=120)
    me = visit(url=str(console.base_url))
    page = me.go("review/defect")
    expect(page.locator(".bar")).to_contain_text("10,000 results")
    nodes = page.evaluate("document.querySelectorAll('*').length")
    assert nodes < 800
    most = 0
    for share in (0.1, 0.5, 1.0):
        page.evaluate(f"const list = document.querySelector('.list'); list.scrollTop = list.scrollHeight * {share}")
        expect(rows(page).first).to_be_visible(timeout=60_000)
        most = max(most, page.evaluate("document.querySelectorAll('*').length"))
    expect(page.locator(".row", has_text="part-9999")).to_be_visible(timeout=60_000)
    assert most < nodes + 200
    me.press("End")
    expect(page.locator(".headline")).to_contain_text("part-9999")
    me.press("a")
    expect(page.locator(".bar")).to_contain_text("10,000 selected")


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


def test_filters_show_what_they_name(line: PretendLine, visit: Visit) -> None:
    line.publish(
        Made("wrong_product", camera="cam-a", product="ring", part="one"),
        Made("wrong_orientation", camera="cam-b", product="ring", part="two", ago_s=7200),
        Made("wrong_product", camera="cam-b", product="plate", part="three"),
    )
    me = visit()
    page = me.go("review/wrong")
    expect(rows(page)).to_have_count(3)
    for name, value, left in (
        ("camera", "cam-b", {"two", "three"}),
        ("product", "ring", {"one", "two"}),
        ("kind", "wrong_product", {"one", "three"}),
        ("hours", "1", {"one", "three"}),
    ):
        chooser = page.locator(f"select[name={name}]")
        chooser.select_option(value)
        expect(rows(page)).to_have_count(len(left))
        for part in left:
            expect(page.locator(".row", has_text=part)).to_be_visible()
        chooser.select_option("")
        expect(rows(page)).to_have_count(3)
    me.press("1")
    expect(page.locator("#toast")).to_be_visible()
    page.locator("select[name=review]").select_option("done")
    expect(rows(page)).to_have_count(1)


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


def test_a_picture_that_is_gone_is_said(line: PretendLine, visit: Visit) -> None:
    line.publish(Made("defect"))
    page = visit().go("review/defect")
    expect(page.locator(".stage .gone").first).to_contain_text(WORDS["en"]["picture.gone"])
    expect(page.locator(".stage .gone").first).to_contain_text("the frame is gone")


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


def test_all_details_and_one_result_by_its_address(line: PretendLine, visit: Visit) -> None:
    (alert,) = line.publish(*defects(1))
    me = visit()
    page = me.go("review/defect")
    expect(rows(page)).to_have_count(1)
    me.press("Enter")
    expect(page.locator(".facts")).to_contain_text(alert)
    me.go(f"result/{alert}")
    expect(page.locator(".alone .headline")).to_contain_text("part-0")
    me.press("2")
    expect(page.locator(".verdict-line")).to_contain_text("bad, said anna")
    assert judgements(line) == {alert: "bad"}
