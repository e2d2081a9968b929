// One result, large: picture beside heat map beside the nearest good picture, and what is known of it.

import { explanation, whyNot } from "./api.js";
import { fill, h, kindShape, shape } from "./dom.js";
import { frameOf } from "./frame.js";
import { explained, goodPicture, nearestGood } from "./explanation.js";
import { markedPicture } from "./mark.js";
import { productChooser } from "./product.js";
import { clock, duration, inWords, kindName, number, ratio, t } from "./words.js";

const DWELL_MS = 700;
const MOST = 50; // explanations that are kept
const explanations = new Map();

/** Shows one result after the other; `onSaid()` is told of a region or product for one that has its verdict. */
export function stage(onSaid) {
  const element = h("section", { class: "stage", "aria-live": "off" });
  let shownId = null;
  let heatOn = true;
  let open = false;
  let products = [];
  let marked = null;
  let chooser = null;
  return {
    element,
    show(row) {
      if (!row) {
        shownId = null;
        fill(element, h("p", { class: "empty" }, shape("good"), t("review.none")));
        return;
      }
      if (row.id === shownId) {
        marked.update();
        chooser.offer();
        element.querySelector(".verdict-line")?.replaceWith(verdictLine(row));
        return;
      }
      shownId = row.id;
      marked = markedPicture(row, { alt: t("picture"), why: whyNot, onChange: () => row.verdict === "bad" && onSaid() });
      chooser = productChooser(row, products, () => row.verdict && onSaid());
      const more = h("details", { class: "more", open, ontoggle: (event) => { open = event.target.open; if (open) explain(row, event.target); } },
        h("summary", {}, t("details")), h("dl", { class: "facts" }, ...facts(row)), h("div", { class: "explanation" }));
      fill(element, headline(row), row.lane === "wrong" && chooser.element, verdictLine(row), pictures(row, marked), more);
      this.heat(heatOn);
      if (open) explain(row, more);
    },
    /** Show heat maps or not; without a word, the other way round. */
    heat(on = !heatOn) {
      heatOn = on;
      element.classList.toggle("cold", !heatOn);
      element.querySelector(".heat-switch")?.setAttribute("aria-pressed", String(heatOn));
    },
    toggleDetails() {
      const more = element.querySelector("details");
      if (more) more.open = !more.open;
    },
    /** The products that the line knows. */
    offer(known) {
      products = known;
      chooser?.offer(known);
    },
    /** What was given beside the verdict: a region, a product; undefined where that is as it stands in the record. */
    said: async () => ({ region: await marked?.region(), product: chooser?.value() }),
    unmark: () => marked?.remove(),
  };
}

function headline(row) {
  const what = row.kind === "wrong_product" && row.looksLike ? t("looks", { product: row.looksLike }) : inWords(row.reason, row.code, row.values);
  return h("header", { class: "headline" },
    h("h2", {}, shape(kindShape(row.kind)), kindName(row.kind), row.simulated && h("span", { class: "tag" }, t("simulated"))),
    row.ratio !== null && h("p", { class: "score" }, ratio(row.ratio), h("small", {}, t("of.threshold"))),
    h("p", { class: "which" },
      fact1(t("product"), row.product ?? "–"), fact1(t("part"), row.part ?? "–"), fact1(t("camera"), row.camera), fact1(t("time"), clock(row.at))),
    what && h("p", { class: "what" }, what));
}

const fact1 = (name, value) => h("span", {}, h("small", {}, name), " ", value);

function verdictLine(row) {
  return h("p", { class: "verdict-line" }, row.verdict && [shape(row.verdict), t("judged", { verdict: t(`verdict.${row.verdict}`), by: row.by, at: clock(Date.parse(row.reviewedAt) / 1000) }), row.really && ` · ${t("judged.really", { product: row.really })}`]);
}

function pictures(row, marked) {
  const place = h("div", { class: "pictures" }, marked.element);
  if (row.hasHeat) place.append(h("figure", {}, frameOf(row.id, { size: "large", alt: t("heat"), why: whyNot }), h("figcaption", {}, t("heat"))));
  if (row.ratio !== null) showNearest(row, place);
  return place;
}

function facts(row) {
  return [
    [t("score"), number(row.score, 3)], [t("threshold"), number(row.threshold, 3)],
    [t("p"), row.pValue === null ? "–" : number(row.pValue, 4)], [t("took"), duration(row.tookMs)], [t("age"), duration(row.ageMs)],
    [t("bank"), row.bank?.slice(0, 12) ?? "–"], [t("frame"), row.frame], [t("result"), row.id],
  ].map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)));
}

async function explain(row, more) {
  const place = more.querySelector(".explanation");
  if (place.childElementCount) return;
  fill(place, h("p", {}, t("explain.wait")));
  try {
    fill(place, ...explained(await told(row.id), row));
  } catch (error) {
    fill(place, h("p", {}, error.message));
  }
}

/** The nearest good picture, once somebody has looked for a moment; where it cannot be told, nothing is shown. */
async function showNearest(row, place) {
  await new Promise((resume) => setTimeout(resume, DWELL_MS));
  if (!place.isConnected) return;
  const good = await told(row.id).then(nearestGood, () => null);
  if (good && place.isConnected) place.append(h("figure", { class: "nearest" }, goodPicture(good), h("figcaption", { title: good.picture.name }, t("nearest"))));
}

async function told(id) {
  if (!explanations.has(id)) {
    if (explanations.size > MOST) explanations.clear();
    explanations.set(id, explanation(id));
  }
  try {
    return await explanations.get(id);
  } catch (error) {
    explanations.delete(id);
    throw error;
  }
}
