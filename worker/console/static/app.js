// The page: where it goes, what stands above every view, and the console that it listens to.

import { resultView } from "./alone.js";
import * as api from "./api.js";
import { fill, h, shape } from "./dom.js";
import { LANES, lineView, standing } from "./line.js";
import { notify, themes } from "./preferences.js";
import { reviewView } from "./review.js";
import { language, languages, number, speak, t } from "./words.js";

const part = (id) => document.getElementById(id);
const SAY_MS = 8000;

let state = null;
let lost = false;
let view = null;
let went = 0;

async function route() {
  const [, where = "", what = ""] = location.hash.split("/");
  const mine = ++went;
  const help = { onSay: say, needName, again: route };
  const found = where === "review" && LANES.includes(what) ? reviewView(what, help)
    : where === "result" ? await resultView(decodeURIComponent(what), help) : lineWrapped();
  if (mine !== went) return; // another was chosen meanwhile
  view = found;
  fill(part("view"), view.element);
  if (state) show(true);
}

function lineWrapped() {
  const line = lineView();
  return { element: line.element, state: (now) => line.show(now), key: () => false };
}

function show(anew) {
  part("line").textContent = state.line;
  document.title = t("title", { line: state.line });
  showStatus();
  const here = location.hash;
  fill(part("lanes"), h("a", { href: "#/", "aria-current": here === "#/" || here === "" ? "page" : null }, t("line")),
    LANES.map((lane) => h("a", { href: `#/review/${lane}`, "aria-current": here === `#/review/${lane}` ? "page" : null },
      shape(lane), h("span", { class: "lane-name" }, t(`lane.${lane}`)), h("b", { class: state.lanes[lane].open ? "count waits" : "count" }, number(state.lanes[lane].open)))));
  Promise.resolve(view?.state(state, anew)).catch(() => {}); // the console is gone: the stream tells of it
}

function showStatus() {
  const now = lost || !state ? { state: "stop", text: t(lost ? "status.lost" : "status.wait") } : standing(state);
  const place = part("status");
  place.className = now.state;
  place.title = now.why ?? "";
  fill(place, shape(now.state), h("span", {}, now.text));
}

function showTools() {
  fill(part("tools"),
    h("button", { type: "button", onclick: toggleLanguage, "aria-label": t("language"), title: t("language") }, languages[(languages.indexOf(language) + 1) % languages.length].toUpperCase()),
    h("button", { type: "button", onclick: () => { themes.next(); showTools(); }, title: t("theme") }, t(`theme.${themes.now()}`)),
    notify.possible && h("button", { type: "button", class: "notify", onclick: async () => { await notify.toggle(); showTools(); }, "aria-pressed": String(notify.on()), title: t("notify.what") }, t(notify.on() ? "notify.on" : "notify.off")),
    h("button", { type: "button", onclick: account }, api.reviewer ?? t("sign.in")),
    h("button", { type: "button", onclick: showHelp, "aria-label": t("help"), title: t("help") }, "?"));
}

function toggleLanguage() {
  speak(languages[(languages.indexOf(language) + 1) % languages.length]);
  showTools();
  route();
}

function account() {
  if (!api.reviewer) return needName();
  api.signOut();
  return showTools();
}

let quiet;

function say(text, ...actions) {
  clearTimeout(quiet);
  const hide = () => { part("toast").hidden = true; };
  fill(part("toast"), h("span", {}, text), actions.map((action) => action && h("button", { type: "button", onclick: () => { hide(); action.run(); } }, action.text)));
  part("toast").hidden = false;
  quiet = setTimeout(hide, SAY_MS);
}

/** The name of whoever reviews; asks for a token where none is known. */
function needName() {
  if (api.reviewer) return api.reviewer;
  if (state && !state.judging) return say(t("sign.none"));
  const dialog = part("dialog");
  const field = h("input", { type: "password", name: "token", autocomplete: "current-password", required: true, "aria-label": t("sign.token") });
  const wrong = h("p", { class: "refused", role: "alert" });
  return new Promise((resolve) => {
    const submit = async (event) => {
      event.preventDefault();
      try {
        await api.signIn(field.value.trim());
        showTools();
        dialog.close();
      } catch (error) {
        wrong.textContent = error.status === 403 ? t("sign.wrong") : t("said.failed");
      }
    };
    fill(dialog, h("form", { onsubmit: submit }, h("h2", {}, t("sign.title")), h("p", {}, t("sign.why")), field, wrong,
      h("div", { class: "dialog-buttons" }, h("button", { type: "submit", class: "main-button" }, t("sign.in")), h("button", { type: "button", onclick: () => dialog.close() }, t("cancel")))));
    dialog.addEventListener("close", () => resolve(api.reviewer), { once: true });
    dialog.showModal();
  });
}

function showHelp() {
  const dialog = part("dialog");
  const named = { pick: t("key.space"), draw: t("key.drag") };
  const keys = ["1", "2", "↑ ↓", "← →", "⇧ ↑ ↓", "pick", "a", "Esc", "h", "Enter", "l", "?", "draw", "Del"];
  fill(dialog, h("h2", {}, t("help")), h("dl", { class: "keys" }, keys.map((key) => [h("dt", {}, h("kbd", {}, named[key] ?? key)), h("dd", {}, t(`key.${key}`))])),
    h("div", { class: "dialog-buttons" }, h("button", { type: "button", class: "main-button", onclick: () => dialog.close() }, t("close"))));
  dialog.showModal();
}

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input:not([type=checkbox]), select");
  if (typing || part("dialog").open || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Enter" && event.target.closest?.("a, button, summary")) return;
  if (event.key === " " && event.target.closest?.("button, summary, input")) return;
  if (event.key === "?") showHelp();
  else if (event.key === "l") location.hash = "#/";
  else if (!view?.key(event)) return;
  event.preventDefault();
});

window.addEventListener("hashchange", route);
themes.apply();
showStatus();
showTools();
await api.signIn().then(showTools).catch(() => {});
await route();
api.listen((now) => {
  const anew = lost || state === null || state.epoch !== now.epoch;
  if (state && state.epoch === now.epoch) notify.compare(state, now);
  lost = false;
  state = now;
  show(anew);
}, async () => {
  lost = true;
  showStatus();
  const answer = await fetch("/api/state").catch(() => null);
  if (answer?.status === 401 && !part("dialog").open) needName(); // reading needs a token here
});
