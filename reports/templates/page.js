
"use strict";
const SCALES = {
  ns: 1e-9, us: 1e-6, ms: 1e-3, k: 1e3, M: 1e6, G: 1e9, T: 1e12, P: 1e15,
  KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30, TiB: 2 ** 40,
};

/* The number that a cell begins with, in the base unit of what it ends with. */
function number(text) {
  if (/^~?fastest$/.test(text)) return 1;
  const found = /^[~[]*(-?[\d,]*\.?\d+(?:e[-+]?\d+)?)/.exec(text);
  if (!found) return NaN;
  const unit = text.split(" ").pop();
  const scale = SCALES[unit] ?? (/^[kMGTP][A-Za-z]+\/s$/.test(unit) ? SCALES[unit[0]] : 1);
  return Number(found[1].replaceAll(",", "")) * scale;
}

function compare(one, other, numeric) {
  if (!numeric) return one.localeCompare(other, "en", { numeric: true });
  return number(one) - number(other);
}

function sort(table, head) {
  const column = head.cellIndex;
  const numeric = head.classList.contains("n");
  const up = head.getAttribute("aria-sort") !== "ascending";
  const body = table.tBodies[0];
  const lacks = (text) => (numeric ? Number.isNaN(number(text)) : text === "");
  const rows = [...body.rows].map((row) => [row.cells[column].textContent, row]);
  rows.sort(([one], [other]) => {
    /* What has no number stays at the end. */
    if (lacks(one) || lacks(other)) return lacks(one) - lacks(other);
    return (up ? 1 : -1) * compare(one, other, numeric);
  });
  body.append(...rows.map(([, row]) => row));
  for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
}

for (const table of document.querySelectorAll("table.sortable")) {
  for (const head of table.tHead.rows[0].cells) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    button.addEventListener("click", () => sort(table, head));
    head.append(button);
  }
}
