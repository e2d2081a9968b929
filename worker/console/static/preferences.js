// What each browser keeps for itself: dark or light, and whether it may notify.

import { LANES } from "./line.js";
import { t } from "./words.js";

const THEMES = ["auto", "light", "dark"];

export const themes = {
  now: () => localStorage.getItem("theme") ?? "auto",
  next() {
    localStorage.setItem("theme", THEMES[(THEMES.indexOf(this.now()) + 1) % THEMES.length]);
    this.apply();
  },
  apply() {
    document.documentElement.dataset.theme = this.now();
  },
};

export const notify = {
  possible: "Notification" in window && window.isSecureContext,
  on() {
    return this.possible && Notification.permission === "granted" && localStorage.getItem("notify") === "on";
  },
  async toggle() {
    const wanted = !this.on() && (await Notification.requestPermission()) === "granted";
    localStorage.setItem("notify", wanted ? "on" : "off");
  },
  /** Tell of alerts that came while nobody looked. */
  compare(before, now) {
    if (!this.on() || !document.hidden) return;
    for (const lane of LANES) {
      const added = now.lanes[lane].open - before.lanes[lane].open;
      if (added <= 0) continue;
      const note = new Notification(t(`lane.${lane}`), { body: t("notify.body", { n: now.lanes[lane].open, line: now.line }), tag: `quarterturn-${lane}`, icon: "/static/icon.svg" });
      note.onclick = () => { window.focus(); location.hash = `#/review/${lane}`; note.close(); };
    }
  },
};
