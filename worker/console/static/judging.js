// What somebody says of results: sent, and noted where they are shown.

import * as api from "./api.js";
import { number, t } from "./words.js";

const AT_ONCE = 500;

/**
 * Say of `rows` that they are "good" or "bad", with a `region` and a `product`; where these are not given, what stands in
 * the record stays. A good part has no region. Throws as `api.judge` does.
 */
export async function judge(rows, verdict, { region, product } = {}) {
  const words = (row) => ({ verdict, product: product === undefined ? row.really : product, region: verdict === "good" ? null : region === undefined ? row.region : region });
  for (const [alike, those] of Map.groupBy(rows, (row) => JSON.stringify(words(row)))) {
    const said = JSON.parse(alike);
    const most = said.region ? 1 : AT_ONCE;
    for (let n = 0; n < those.length; n += most) await api.judge({ ids: those.slice(n, n + most).map((row) => row.id), ...said });
    for (const row of those) Object.assign(row, { verdict, really: said.product, region: said.region, by: api.reviewer, reviewedAt: new Date().toISOString() });
  }
}

/** What is said of it afterwards. */
export function noted(count, verdict) {
  return t(count === 1 ? "said.one" : "said.many", { n: number(count), verdict: t(`verdict.${verdict}`) });
}

export function failed(error) {
  return error instanceof api.Refused ? error.message : t("said.failed");
}
