"""The review in a real Chromium: by keys, by touch, of several, by whom, and of very many."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.worker.console.browser import ANNA, PHONE, TABLET, TARGETS, WORDS, current, rows
from tests.worker.console.conftest import Serve, Visit
from tests.worker.console.pretend import Made, PretendLine, defects


def test_an_alert_is_found_and_reviewed_in_one_click_and_one_key(line: PretendLine, visit: Visit) -> None:
    (alert,) = line.publish(*defects(1))
    me = visit()
    page = me.go()
    page.locator("[data-lane=defect]").click()
    expect(page.locator(".headline")).to_contain_text("part-0")
    me.press("2")
    expect(page.locator("#toast")).to_contain_text("Noted: bad.")
    expect(page.locator("#status")).to_have_text(WORDS["en"]["status.good"])
    assert line.judgements() == {alert: "bad"}


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
    assert line.judgements() == expected
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
    assert line.judgements() == {ids[0]: "bad"}


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
    assert not [one for one in page.evaluate(TARGETS) if min(one["width"], one["height"]) < 48]
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    me.keep(f"noted-{size[0]}")
    rows(page).nth(0).locator(".pick").tap()
    rows(page).nth(1).locator(".pick").tap()
    expect(page.locator(".bar")).to_contain_text("2 selected")
    page.locator(".judge.good").tap()
    expect(page.locator("#toast")).to_contain_text("Noted for 2: good.")
    assert line.judgements() == {ids[2]: "bad", ids[0]: "good", ids[1]: "good"}


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
    assert line.judgements() == {}
    dialog.locator("input").fill(ANNA)
    me.press("Enter")
    expect(page.locator("#toast")).to_contain_text("Noted: good.")
    me.press("2")
    expect(page.locator("#status")).to_have_text(WORDS["en"]["status.good"])
    assert line.judgements() == {ids[0]: "good", ids[1]: "bad"}
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
    assert line.judgements() == {alert: "bad"}
