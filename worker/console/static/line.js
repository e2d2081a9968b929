// The line at a glance: what waits for a review, each camera, and how the line stands.

import { curve } from "./chart.js";
import { fill, h, kindShape, shape } from "./dom.js";
import { frameOf } from "./frame.js";
import { ago, clock, duration, inWords, kindName, number, ratio, t } from "./words.js";

export const LANES = ["defect", "wrong", "unusable"];

const PICTURES_MS = 3000; // a camera's pictures are not fetched more often
const QUIET_S = 60; // a camera without frames for so long is quiet

const tiles = new Map();

/** Whether all is well, in one word and one sentence: {state: "good" | "alarm" | "stop", text}. */
export function standing(state) {
  if (state.broker !== "ok") return { state: "stop", text: t("status.broker"), why: state.broker };
  const down = state.workers.filter((worker) => !worker.ready);
  if (down.length) return { state: "stop", text: t("status.worker", { n: down.length }), why: down[0].text };
  const open = LANES.reduce((sum, lane) => sum + state.lanes[lane].open, 0);
  if (open) return { state: "alarm", text: t(open === 1 ? "status.one" : "status.open", { n: number(open) }) };
  const found = state.cameras.find((camera) => camera.dead);
  if (found) return { state: "alarm", text: t("status.dead", { camera: found.name }), why: deadText(found) };
  return { state: "good", text: t("status.good") };
}

/** The page, to be shown again with each state. */
export function lineView() {
  const parts = { lanes: h("section", { class: "cards" }), cameras: h("section", { class: "cameras" }), standing: h("section", { class: "standing" }) };
  tiles.clear();
  return {
    element: h("div", { class: "line-view" }, parts.lanes, parts.cameras, parts.standing),
    show(state) {
      fill(parts.lanes, LANES.map((lane) => card(lane, state.lanes[lane])));
      showCameras(parts.cameras, state);
      fill(parts.standing, h("h2", {}, t("standing")), h("dl", {}, facts(state)));
    },
  };
}

function card(lane, count) {
  const open = count.open > 0;
  return h("a", { class: `card ${open ? "waits" : ""}`, href: `#/review/${lane}`, "data-lane": lane },
    h("span", { class: "card-name" }, shape(lane), t(`lane.${lane}`)),
    h("span", { class: "card-count" }, open ? number(count.open) : shape("good")),
    h("span", { class: "card-what" }, open ? t("card.open") : t("card.done", { n: number(count.all) })));
}

function showCameras(place, state) {
  if (!state.cameras.length) {
    tiles.clear();
    fill(place, h("p", { class: "empty" }, t(state.behind ? "reading" : "nothing", { n: number(state.behind) })));
    return;
  }
  for (const camera of state.cameras) if (!tiles.has(camera.name)) tiles.set(camera.name, tile());
  const present = state.cameras.map((camera) => tiles.get(camera.name));
  if (present.some((one, index) => place.children[index] !== one.element) || place.children.length !== present.length) {
    fill(place, present.map((one) => one.element));
  }
  state.cameras.forEach((camera, index) => present[index].show(camera, state));
}

function tile() {
  const frames = h("div", { class: "frames" });
  const text = h("div", { class: "tile-text" });
  let shown = "";
  let shownMs = -Infinity;
  return {
    element: h("article", { class: "tile" }, text, frames),
    show(camera, state) {
      fill(text, ...describe(camera, state));
      const wanted = camera.frames.map((frame) => frame.id).join();
      if (wanted !== shown && performance.now() - shownMs > PICTURES_MS && !document.hidden) {
        shown = wanted;
        shownMs = performance.now();
        fill(frames, camera.frames.map(picture));
      }
    },
  };
}

function describe(camera, state) {
  const silent = state.now - camera.at;
  const last = camera.frames[0];
  const [name, word] = silent > QUIET_S ? ["unusable", t("camera.quiet", { for: ago(silent) })]
    : [kindShape(last.kind), kindName(last.kind)];
  return [
    h("h2", {}, camera.name),
    h("p", { class: `now ${last.kind === null ? "" : "odd"}` }, shape(name), word, last.ratio === null ? "" : ` · ${ratio(last.ratio)}`),
    camera.alarms.map((alarm) => h("p", { class: "now odd" }, shape("alarm"), alarmText(alarm))),
    camera.dead && h("a", { class: "dead", href: `#/result/${encodeURIComponent(camera.dead.id)}` }, shape("alarm"), h("span", {}, deadText(camera))),
    curve(camera.scores, t("curve", { camera: camera.name })),
    h("dl", { class: "numbers" },
      pair(t("rate"), `${number(camera.perSecond, 1)} /s`),
      pair(t("latency"), duration(camera.ageMs ?? camera.tookMs)),
      pair(t("lag"), number(camera.lag)),
      pair(t("hour"), t("hour.alerts", { alerts: number(camera.hour.alerts), frames: number(camera.hour.frames) })),
      camera.hour.late + camera.hour.dead > 0 && pair(t("missed"), number(camera.hour.late + camera.hour.dead))),
  ];
}

function alarmText(alarm) {
  if (alarm.kind === "drift") return `${kindName("drift")}: ${inWords(alarm.reason ?? "", alarm.code)}`;
  return t("camera.run", { n: number(alarm.count), kind: kindName(alarm.kind), at: clock(alarm.at) });
}

/** How many frames of a camera became dead letters lately, and why the last one did. */
function deadText({ hour, dead }) {
  return t(hour.dead === 1 ? "dead.one" : "dead.many", { n: number(hour.dead), at: clock(dead.at), why: inWords(dead.reason ?? "", dead.code, dead.values) });
}

function picture(frame) {
  const what = frame.kind === null ? kindName(null) : kindName(frame.kind);
  return h("a", { class: `frame ${frame.kind === null ? "" : "odd"}`, href: `#/result/${encodeURIComponent(frame.id)}`, title: `${clock(frame.at)} ${what}` },
    frameOf(frame.id, { alt: what }));
}

function facts(state) {
  const bank = state.bank.version ? t("bank.active", { version: state.bank.version.slice(0, 12), at: clock(Date.parse(state.bank.pushedAt) / 1000) }) : state.bank.text ?? "–";
  return [
    fact(t("broker"), state.broker === "ok", state.broker === "ok" ? t("broker.ok") : state.broker),
    fact(t("lag"), (state.lag ?? 0) < 100, state.lag === null ? "–" : t("lag.frames", { n: number(state.lag) })),
    fact(t("bank"), Boolean(state.bank.version), bank),
    ...state.workers.map((worker) => fact(worker.address, worker.ready, worker.text || t("worker.ready"))),
    state.behind > 0 && fact(t("index"), true, t("reading", { n: number(state.behind) })),
    state.skipped > 0 && fact(t("skipped"), false, number(state.skipped)),
  ].filter(Boolean).flat();
}

const fact = (name, good, text) => [h("dt", {}, name), h("dd", {}, shape(good ? "good" : "alarm"), text)];

function pair(name, value) {
  return h("div", {}, h("dt", {}, name), h("dd", {}, value));
}
