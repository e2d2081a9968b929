"""A real Chromium that looks at a console as people do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Locator, Page, expect

from tests.worker.console.pretend import TOKENS

expect.set_options(timeout=30_000)  # milliseconds; on a busy machine a page takes its time

WORDS = json.loads((Path(__file__).parents[3] / "worker/console/static/words.json").read_text(encoding="utf-8"))
SHOTS = Path(__file__).parents[3] / "out" / "console"
"""Where screenshots are kept, to be looked at."""

DESK, TABLET, PHONE = (1280, 800), (1024, 768), (420, 860)
_TOKEN = "localStorage.setItem('token', {!r})"

# Of everything that has a text of its own and is seen: its contrast to what lies behind it, by WCAG 2.
CONTRASTS = """
() => {
  const channels = (colour) => (colour.match(/[\\d.]+/g) ?? []).map(Number);
  const luminance = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, n) => sum + v * [0.2126, 0.7152, 0.0722][n], 0);
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = channels(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const own = (element) => [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  return [...document.querySelectorAll("body *")]
    .filter((element) => own(element) && element.checkVisibility() && element.tagName !== "OPTION" && !element.disabled)
    .map((element) => {
      const [one, other] = [luminance(channels(getComputedStyle(element).color)), luminance(behind(element))];
      return { text: element.textContent.trim().slice(0, 40),
        ratio: (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05) };
    });
}
"""
# What can be pressed and is seen, with its size in pixels.
TARGETS = """
() => [...document.querySelectorAll("a, button, select, summary, label.pick, input:not([type=checkbox])")]
  .filter((element) => element.checkVisibility())
  .map((element) => {
    const { width, height } = element.getBoundingClientRect();
    return { what: element.outerHTML.slice(0, 80), width, height };
  })
"""


class Visitor:
    """One person with one browser. Nothing that a page logs as an error is forgiven, but for pictures that are gone."""

    def __init__(self, browser: Browser, url: str, size: tuple[int, int], token: str | None, **options: Any) -> None:
        viewport: Any = {"width": size[0], "height": size[1]}
        self.context: BrowserContext = browser.new_context(viewport=viewport, **{"locale": "en-GB", **options})
        self.url = url
        self.faults: list[str] = []
        if token is not None:
            self.context.add_init_script(_TOKEN.format(token))
        self.page: Page = self.context.new_page()
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("console", self._heard)
        self.page.on("dialog", lambda dialog: (self.faults.append(f"dialog: {dialog.message}"), dialog.dismiss()))

    def _heard(self, message: ConsoleMessage) -> None:
        expected = "Failed to load resource" in message.text or "ERR_" in message.text
        if message.type == "error" and not expected:
            self.faults.append(message.text)

    def go(self, where: str = "") -> Page:
        """Open a view, once the page is connected."""
        self.page.goto(f"{self.url}/#/{where}")
        expect(self.page.locator("#lanes a")).to_have_count(4)
        return self.page

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def keep(self, name: str) -> None:
        """Keep a screenshot, once its pictures are there."""
        self.page.evaluate("Promise.all([...document.images].map((image) => image.decode().catch(() => null)))")
        SHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SHOTS / f"{name}.png")

    def leave(self) -> None:
        self.context.close()
        assert not self.faults


ANNA = TOKENS["anna"]


def rows(page: Page) -> Locator:
    return page.locator(".row[data-id]")


def current(page: Page) -> Locator:
    return page.locator(".row.current")
