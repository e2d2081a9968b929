// What a part really is that was taken for another, or lay the wrong way round.

import { fill, h } from "./dom.js";
import { t } from "./words.js";

/** A chooser among the `products` that the line knows; `onChange()` is told of a choice. */
export function productChooser(row, products, onChange) {
  let value; // undefined: as it stands in the record
  const select = h("select", { name: "really", onchange: choose });
  const element = h("label", { class: "really" }, h("span", {}, t("really")), select);

  function choose() {
    value = select.value || null;
    select.blur(); // 1 and 2 are keys of the page
    onChange();
  }

  function offer(known = products) {
    products = known;
    if (document.activeElement === select) return; // it may be open
    const present = (value === undefined ? row.really : value) ?? "";
    const all = [...new Set(["", ...known, present])];
    fill(select, all.map((name) => h("option", { value: name, selected: name === present }, name || t("really.open"))));
  }

  offer();
  return {
    element,
    /** These are the products now, or the record may have changed. */
    offer,
    value: () => value,
  };
}
