// One result alone, by its address.

import * as api from "./api.js";
import { h, shape } from "./dom.js";
import { failed, judge as say, noted } from "./judging.js";
import { stage } from "./stage.js";
import { t } from "./words.js";

/** As `reviewView`, of the result `id`; calls `again` where it comes after the one who asks for it. */
export async function resultView(id, { onSay, needName, again }) {
  const view = stage(() => judge(row.verdict));
  let row = await api.result(id).catch((error) => ({ error }));
  if (row.error) {
    const state = () => api.result(id).then(again, () => {});
    return { element: h("p", { class: "empty" }, row.error.message), state, key: () => false };
  }
  view.show(row);
  async function judge(verdict) {
    if (!(await needName())) return;
    try {
      await say([row], verdict, await view.said());
      view.show(row);
      onSay(noted(1, verdict));
    } catch (error) {
      onSay(failed(error));
    }
  }
  const button = (verdict, key) => h("button", { type: "button", class: `judge ${verdict}`, onclick: () => judge(verdict) }, shape(verdict), t(`judge.${verdict}`), h("kbd", {}, key));
  const keys = { 1: () => judge("good"), 2: () => judge("bad"), h: () => view.heat(), Enter: () => view.toggleDetails(), Escape: () => history.back(), Delete: () => view.unmark(), Backspace: () => view.unmark() };
  return {
    element: h("div", { class: "review alone" }, h("div", { class: "main" }, view.element, h("div", { class: "buttons" }, button("good", "1"), button("bad", "2")))),
    async state(state) {
      view.offer(state.bank.products ?? state.choices.products);
      if (state.seq <= row.seq) return;
      Object.assign(row, await api.result(id), { seq: state.seq }); // the same object: its picture is drawn on
      view.show(row);
    },
    key(event) {
      const act = keys[event.key];
      if (act && !event.repeat) act();
      return Boolean(act);
    },
  };
}
