// The review: a lane's list beside the present result, judged by keys, clicks or touch.

import * as api from "./api.js";
import { fill, h, kindShape, shape } from "./dom.js";
import { failed, judge as say, noted } from "./judging.js";
import { LANES } from "./line.js";
import { virtualList } from "./list.js";
import { Results } from "./results.js";
import { stage } from "./stage.js";
import { clock, kindName, number, ratio, t } from "./words.js";

const ROW = 88; // px, as style.css has it
const THUMB_MS = 120; // a picture is fetched once its row has been seen for so long
const MAX_THUMBS = 200;
const HOURS = ["", "1", "8", "24", "168"];
const KINDS = { defect: ["defect"], wrong: ["wrong_product", "wrong_orientation"], unusable: ["unusable_picture", "drift"] };

/** `onSay(text, action)` shows a note, `needName()` asks for a token and gives the reviewer or null. */
export function reviewView(lane, { onSay, needName }) {
  const filter = { lane, review: "open", camera: "", product: "", kind: "", hours: "" };
  const found = new Results();
  const chosen = new Set();
  const thumbs = new Map();
  const view = stage(more);
  let current = -1;
  let anchor = -1;
  let busy = false;

  const list = virtualList(ROW, draw, async (index) => {
    if (await found.reach(index)) list.refresh(found.total);
  });
  const filters = h("div", { class: "filters" });
  const buttons = h("div", { class: "buttons" });
  const bar = h("div", { class: "bar" });
  const element = h("div", { class: "review" },
    h("div", { class: "side" }, filters, bar, list.element), h("div", { class: "main" }, view.element, buttons));

  function draw(index) {
    const row = found.rows[index];
    if (!row) return h("div", { class: "row waiting", role: "option" });
    const label = [row.part, row.product].filter(Boolean).join(" · ") || row.camera;
    const thumb = h("span", { class: "thumb" }, thumbs.get(row.id));
    if (!thumbs.has(row.id)) setTimeout(() => thumb.isConnected && fill(thumb, thumbOf(row)), THUMB_MS);
    return h("div", { class: `row ${index === current ? "current" : ""} ${row.verdict ? "done" : ""}`, role: "option", "aria-selected": String(chosen.has(row.id)), "data-id": row.id, onclick: (event) => click(event, index) },
      h("label", { class: "pick", onclick: (event) => event.stopPropagation() },
        h("input", { type: "checkbox", tabindex: "-1", checked: chosen.has(row.id), "aria-label": t("select.one"), onchange: () => toggle(index) })),
      thumb,
      h("span", { class: "row-text" },
        h("span", { class: "row-head" }, h("span", {}, shape(kindShape(row.kind)), kindName(row.kind)), row.verdict ? h("span", {}, shape(row.verdict), t(`verdict.${row.verdict}`)) : ratio(row.ratio)),
        h("span", {}, label), h("small", {}, `${clock(row.at)} · ${row.camera}`)));
  }

  function thumbOf(row) {
    if (thumbs.size >= MAX_THUMBS) thumbs.clear();
    const image = h("img", { src: api.address(row.id, "picture"), alt: "", onerror: (event) => event.target.remove() });
    thumbs.set(row.id, image);
    return image;
  }

  function show() {
    list.refresh(found.total);
    view.show(found.rows[current]);
    showBar();
    showButtons();
  }

  function showBar() {
    const text = chosen.size ? t("selected", { n: number(chosen.size) }) : t(found.total === 1 ? "results.one" : "results", { n: number(found.total) });
    fill(bar, h("span", { role: "status" }, text),
      h("button", { type: "button", class: "quiet", onclick: selectAll }, t("select.all")),
      chosen.size > 0 && h("button", { type: "button", class: "quiet", onclick: clear }, t("select.none")));
  }

  function showButtons() {
    const none = !chosen.size && !found.rows[current];
    const many = chosen.size > 1 ? ` (${number(chosen.size)})` : "";
    const one = (verdict, key) => h("button", { type: "button", class: `judge ${verdict}`, disabled: none, onclick: () => judge(verdict) },
      shape(verdict), h("span", {}, t(`judge.${verdict}`) + many), h("kbd", {}, key));
    const row = found.rows[current];
    fill(buttons, one("good", "1"), one("bad", "2"),
      h("button", { type: "button", class: "heat-switch", "aria-pressed": "true", hidden: !row?.hasHeat, onclick: () => view.heat() }, t("heat")),
      h("span", { class: "step" },
        h("button", { type: "button", "aria-label": t("previous"), onclick: () => go(current - 1) }, "↑"),
        h("button", { type: "button", "aria-label": t("next"), onclick: () => go(current + 1) }, "↓")));
  }

  function showFilters(state) {
    const pick = (name, values, words) => h("label", {}, h("small", {}, t(`filter.${name}`)),
      h("select", { name, onchange: (event) => { filter[name] = event.target.value; load(); } },
        values.map((value) => h("option", { value, selected: value === filter[name] }, words(value)))));
    const named = (values) => ["", ...values];
    const any = (value) => value || t("filter.any");
    if (filters.contains(document.activeElement) && document.activeElement.tagName === "SELECT") return; // it is open
    fill(filters, pick("review", ["open", "done", "any"], (value) => t(`review.${value}`)),
      pick("camera", named(state.choices.cameras), any), pick("product", named(state.choices.products), any),
      KINDS[lane].length > 1 && pick("kind", named(KINDS[lane]), (value) => (value ? kindName(value) : t("filter.any"))),
      pick("hours", HOURS, (value) => t(`hours.${value || "any"}`)));
  }

  async function load(keep) {
    const before = keep ? found.rows[current]?.id : undefined;
    await found.load(filter);
    const at = found.rows.findIndex((row) => row.id === before);
    current = found.rows.length ? Math.max(0, at) : -1;
    anchor = current;
    for (const id of chosen) if (!found.get(id)) chosen.delete(id);
    if (!keep) list.toTop();
    show();
  }

  async function update() {
    const id = found.rows[current]?.id;
    const added = await found.update();
    if (added) list.shift(added);
    current = id === undefined ? (found.rows.length ? 0 : -1) : current + added;
    anchor = anchor < 0 ? current : anchor + added;
    show();
  }

  function go(index, extend = false) {
    if (!found.rows.length) return;
    current = Math.min(Math.max(0, index), found.rows.length - 1);
    if (extend) {
      chosen.clear();
      for (let n = Math.min(anchor, current); n <= Math.max(anchor, current); n++) chosen.add(found.rows[n].id);
    } else anchor = current;
    list.reveal(current);
    show();
  }

  function click(event, index) {
    if (event.ctrlKey || event.metaKey) toggle(index);
    else go(index, event.shiftKey);
  }

  function toggle(index) {
    const id = found.rows[index].id;
    if (!chosen.delete(id)) chosen.add(id);
    anchor = index;
    show();
  }

  function selectAll() {
    for (const row of found.rows) chosen.add(row.id);
    show();
  }

  function clear() {
    chosen.clear();
    show();
  }

  async function judge(verdict, stay = false) {
    const here = found.rows[current];
    const rows = chosen.size ? [...chosen].map((id) => found.get(id)) : here ? [here] : [];
    if (!rows.length || busy || !(await needName())) return;
    const selected = [...chosen];
    busy = true;
    chosen.clear(); // what is selected while the console answers is another selection
    try {
      const { region, product } = await view.said();
      await say(rows, verdict, { region: rows.length === 1 && rows[0] === here ? region : undefined, product });
      tell(rows, verdict);
      if (!stay && found.rows[current] === here) next();
    } catch (error) {
      for (const id of selected) chosen.add(id);
      onSay(failed(error));
    } finally {
      busy = false;
      show();
    }
  }

  /** What was noted, with ways back: the other verdict, or the place of the defect that one forgot to mark. */
  function tell(rows, verdict) {
    const [row] = rows;
    const other = verdict === "good" ? "bad" : "good";
    const markable = rows.length === 1 && verdict === "bad" && !row.region;
    onSay(noted(rows.length, verdict), { text: t("said.other", { verdict: t(`verdict.${other}`) }), run: () => again(rows, other) },
      markable && { text: t("said.mark"), run: () => go(found.rows.indexOf(row)) });
  }

  async function again(rows, verdict) {
    chosen.clear();
    for (const row of rows) chosen.add(row.id);
    await judge(verdict);
  }

  /** More is said of a result that has its verdict: into the record at once. */
  function more() {
    if (!chosen.size) judge(found.rows[current].verdict, true);
  }

  /** On to what nobody has reviewed: below, else above. */
  function next() {
    const open = (row) => row.verdict === null;
    const below = found.rows.findIndex((row, index) => index > current && open(row));
    const any = below >= 0 ? below : found.rows.findIndex(open);
    if (any >= 0) go(any);
    else show();
  }

  const keys = {
    1: () => judge("good"), 2: () => judge("bad"),
    ArrowDown: (event) => go(current + 1, event.shiftKey), ArrowUp: (event) => go(current - 1, event.shiftKey),
    ArrowRight: () => lanes(1), ArrowLeft: () => lanes(-1),
    Home: () => go(0), End: () => go(found.rows.length - 1), PageDown: () => go(current + 8), PageUp: () => go(current - 8),
    " ": () => current >= 0 && toggle(current), a: selectAll, Escape: clear, h: () => view.heat(), Enter: () => view.toggleDetails(),
    Delete: () => view.unmark(), Backspace: () => view.unmark(),
  };

  function lanes(step) {
    location.hash = `#/review/${LANES[(LANES.indexOf(lane) + step + LANES.length) % LANES.length]}`;
  }

  return {
    element,
    /** The summary changed; `anew` where the console was another one before. */
    async state(state, anew) {
      showFilters(state);
      view.offer(state.bank.products ?? state.choices.products);
      if (anew) await load(true);
      else if (state.seq > found.seq) await update();
    },
    key(event) {
      const act = keys[event.key];
      if (!act || (event.repeat && (event.key === "1" || event.key === "2"))) return false;
      act(event);
      return true;
    },
  };
}
