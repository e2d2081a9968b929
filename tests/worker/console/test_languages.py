"""Both languages in a real Chromium: what the console and the workers say is German where the page is German."""

from __future__ import annotations

import json
from typing import Any

import pytest
from playwright.sync_api import expect

from quarterturn.worker.contract.calibration import CONFIDENCE
from tests.worker.console.browser import WORDS, rows
from tests.worker.console.conftest import Visit
from tests.worker.console.pretend import Made, PretendLine, defects, jpeg

GERMAN = WORDS["de"]
TOO_DARK = "too dark: brightness 12 of 41 to 190"
TOLD: dict[str, Any] = {
    "sentence": "the English sentence", "notes": [], "same_score": None, "score": 3.0, "threshold": 2.0,
    "product": "ring", "looks_like": "plate", "alert": None, "reason": None, "emptiness": 0.1, "orientations": None,
    "parts": [
        {"detector": "frame", "vote": 0.5, "evidence": 1.0, "points": 0.5},
        {"detector": "nearest.1", "vote": 0.5, "evidence": 5.0, "points": 2.4},
    ],
    "places": [{"detector": "nearest.1", "thresholds": 1.5, "nearest": [],
                "box": {"left": 0.7, "top": 0.1, "width": 0.2, "height": 0.1}}],
    "products": [{"product": "ring", "distance": 6.0, "limit": 2.0},
                 {"product": "plate", "distance": 1.0, "limit": 2.0}],
    "standing": {"edges": [0, 1], "counts": [3], "above": 0, "pictures": 3}, "turning": None, "views": [1.0],
}  # fmt: skip
SCORED = "Wert 3,00, 1,50 × die Schwelle von 2,00"
DEFECT = f"ALARM, Fehler von ring: {SCORED}; "
LIES = "ALARM, liegt falsch: Es sieht aus wie ein gutes Teil von ring, "
FAR = "Als Ganzes sieht es aus wie plate (0,50 × so fern wie das fernste gute Teil), nicht wie ring (3,00 ×)"
TURNED, MIRRORED = [5.0, 4.0, 1.0, 3.0, 2.0, 6.0, 7.0, 8.0], [5.0, 4.0, 3.0, 3.0, 2.0, 1.5, 7.0, 8.0]
EMPTY = "das meiste davon, weil das Bild weniger zeigt als jedes gute Teil."
SENTENCES: list[tuple[dict[str, Any], str]] = [
    ({}, f"BESTANDEN als ring: {SCORED}."),
    ({"alert": "defect"}, f"{DEFECT}80 % davon durch ähnlichste Stellen (1), rechts oben."),
    ({"alert": "defect", "emptiness": 2.5}, f"{DEFECT}{EMPTY}"),
    ({"alert": "wrong_product"}, f"ALARM, falsches Produkt: {FAR}; {SCORED}."),
    (
        {"alert": "wrong_orientation", "orientations": TURNED},
        f"{LIES}um 180° gedreht (Abstand 1,00; so, wie es liegt, 5,00); {SCORED}.",
    ),
    (
        {"alert": "wrong_orientation", "orientations": MIRRORED},
        f"{LIES}gespiegelt, um 90° gedreht (Abstand 1,50; so, wie es liegt, 5,00); {SCORED}.",
    ),
    (
        {"alert": "unusable_picture", "reason": TOO_DARK},
        "ALARM, unbrauchbares Bild: zu dunkel; gleich welcher Wert, hier 3,00.",
    ),
    ({"alert": "of a newer worker"}, "the English sentence"),
]


@pytest.mark.parametrize(("change", "german"), SENTENCES, ids=lambda one: str(one)[:40])
def test_the_verdict_of_an_explanation(line: PretendLine, visit: Visit, change: dict[str, Any], german: str) -> None:
    (alert,) = line.publish(Made("unusable_picture", reason=TOO_DARK, picture=jpeg()))
    me = visit(locale="de-DE")
    told = json.dumps({**TOLD, **change})
    me.page.route("**/explanation", lambda route: route.fulfill(body=told, content_type="application/json"))
    page = me.go(f"result/{alert}")
    page.locator("summary").click()
    expect(page.locator(".sentence")).to_have_text(german)
    page.get_by_title(GERMAN["language"], exact=True).click()
    expect(page.locator("summary")).to_have_text(WORDS["en"]["details"])
    page.locator("summary").click()
    expect(page.locator(".sentence")).to_have_text("the English sentence")
    expect(page.locator(".explanation tbody")).to_contain_text("nearest.1")


PRICES = [
    ("en-GB", False, "on average at most 1.6 %, with 95% confidence at most 4.7 %."),
    ("en-GB", True, "on average at most 1.6 %, with 95% confidence at most 4.7 %."),
    ("de-DE", False, "im Mittel höchstens 1,6 %, mit 95 % Sicherheit höchstens 4,7 %."),
    ("de-DE", True, "im Mittel höchstens 1,6 %, mit 95 % Sicherheit höchstens 4,7 %."),
]


@pytest.mark.parametrize(("language", "passes", "price"), PRICES)
def test_the_price_of_another_threshold_is_its_average_and_its_bound(
    line: PretendLine, visit: Visit, language: str, passes: bool, price: str
) -> None:
    """Both rounded up, so that "at most" is true: 4.61 % is not at most 4.6 %."""
    assert f"{CONFIDENCE:.0%}" == "95%", "what the words say"
    turning = {"threshold": 2.5, "passes": passes, "overkill": 0.0157, "bound": 0.0461, "past": None}
    (alert,) = line.publish(Made("defect", picture=jpeg()))
    me = visit(locale=language)
    me.page.route("**/explanation", lambda route: route.fulfill(json={**TOLD, "turning": turning}))
    page = me.go(f"result/{alert}")
    page.locator("summary").click()
    expect(page.locator(".explanation")).to_contain_text(price)


def test_what_the_console_refuses(line: PretendLine, visit: Visit) -> None:
    line.publish(Made("defect"))
    me = visit(locale="de-DE")
    page = me.go("review/defect")
    expect(page.locator(".marked .missing")).to_contain_text(GERMAN["fault.gone"])
    page.locator("summary").click()
    expect(page.locator(".explanation")).not_to_contain_text(GERMAN["explain.wait"])
    page.goto(f"{me.url}/#/result/none")
    expect(page.locator(".empty")).to_have_text(GERMAN["fault.recent"])
    page.get_by_title(GERMAN["language"], exact=True).click()
    expect(page.locator(".empty")).to_have_text(WORDS["en"]["fault.recent"])


def test_what_a_judgement_is_refused_for(line: PretendLine, visit: Visit) -> None:
    line.publish(*defects(1))
    me = visit(locale="de-DE")
    page = me.go("review/defect")
    expect(rows(page)).to_have_count(1)
    me.page.route("**/extent", lambda route: route.fulfill(
        json={"width": 120, "height": 80, "seen": {"x": 500, "y": 0, "width": 120, "height": 80}}))  # fmt: skip
    page.locator(".sheet").drag_to(
        page.locator(".sheet"), source_position={"x": 100, "y": 100}, target_position={"x": 200, "y": 150}
    )
    me.press("2")
    expected = GERMAN["fault.outside"].replace("{width}", "120").replace("{height}", "80")
    expect(page.locator("#toast")).to_have_text(expected)
    assert line.said() == {}


@pytest.mark.parametrize(("language", "why"), [("de-DE", "zu dunkel"), ("en-GB", TOO_DARK)])
def test_why_a_picture_cannot_be_judged(line: PretendLine, visit: Visit, language: str, why: str) -> None:
    line.publish(Made("unusable_picture", reason=TOO_DARK, picture=jpeg()))
    page = visit(locale=language).go("review/unusable")
    expect(page.locator(".what")).to_have_text(why)
