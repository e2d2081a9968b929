// A list of any length with few elements: only the rows that are seen exist.

import { h } from "./dom.js";

const SPARE = 4; // rows kept ready above and below

/** `draw(index)` gives a row's element, `onEnd(index)` is told which row is seen last. */
export function virtualList(rowHeight, draw, onEnd) {
  const space = h("div", { class: "space" });
  const element = h("div", { class: "list", role: "listbox", "aria-multiselectable": "true", tabindex: "0" }, space);
  let count = 0;
  let rows = new Map();
  let waiting = false;

  function show(anew) {
    waiting = false;
    const first = Math.max(0, Math.floor(element.scrollTop / rowHeight) - SPARE);
    const last = Math.min(count, Math.ceil((element.scrollTop + element.clientHeight) / rowHeight) + SPARE);
    const present = new Map();
    for (let index = first; index < last; index++) {
      const known = anew ? undefined : rows.get(index);
      const row = known ?? draw(index);
      if (!known) row.style.top = `${index * rowHeight}px`;
      present.set(index, row);
    }
    for (const [index, row] of rows) if (present.get(index) !== row) row.remove();
    for (const [index, row] of present) if (rows.get(index) !== row) space.append(row);
    rows = present;
    if (last > 0) onEnd(last - 1);
  }

  element.addEventListener("scroll", () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => show(false));
  }, { passive: true });
  new ResizeObserver(() => show(false)).observe(element);

  return {
    element,
    /** Draw what is seen anew, of so many rows. */
    refresh(length) {
      count = length;
      space.style.height = `${count * rowHeight}px`;
      show(true);
    },
    /** Keep what is looked at in its place though so many rows came above it. */
    shift(added) {
      if (element.scrollTop > 0) element.scrollTop += added * rowHeight;
    },
    reveal(index) {
      const top = index * rowHeight;
      if (top < element.scrollTop) element.scrollTop = top;
      else if (top + rowHeight > element.scrollTop + element.clientHeight) element.scrollTop = top + rowHeight - element.clientHeight;
    },
    toTop() {
      element.scrollTop = 0;
    },
  };
}
