"use strict";
// Tables of the class `sortable`: headers become buttons that sort, a field filters by words.

function byNumber(sign) {
  return ([a], [b]) => {
    const [x, y] = [parseFloat(a), parseFloat(b)];
    return isNaN(x) - isNaN(y) || sign * (x - y) || 0; // cells without a number come last, either way
  };
}

function byText(sign) {
  return ([a], [b]) => sign * a.localeCompare(b);
}

function sort(table, column, upwards) {
  const body = table.tBodies[0];
  const numbers = table.tHead.rows[0].cells[column].classList.contains("number");
  const rows = Array.from(body.rows, (row) => [row.cells[column].textContent, row]);
  rows.sort((numbers ? byNumber : byText)(upwards ? 1 : -1));
  body.append(...rows.map(([, row]) => row));
  mark(table, column, upwards);
}

function mark(table, column, upwards) {
  for (const header of table.tHead.rows[0].cells) header.removeAttribute("aria-sort");
  table.tHead.rows[0].cells[column].setAttribute("aria-sort", upwards ? "ascending" : "descending");
}

function makeSortable(table) {
  for (const header of table.tHead.rows[0].cells) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    header.append(button);
    button.addEventListener("click", () =>
      sort(table, header.cellIndex, header.getAttribute("aria-sort") !== "ascending"));
  }
  mark(table, Number(table.dataset.sorted), true);
}

function makeFilter(table) {
  const field = document.getElementById(table.id + "-filter");
  const line = field.closest("p");
  const rows = Array.from(table.tBodies[0].rows, (row) =>
    [row, Array.from(row.cells, (cell) => cell.textContent).join(" ").toLowerCase()]);
  const filter = () => {
    const words = field.value.toLowerCase().split(/\s+/);
    for (const [row, text] of rows) row.hidden = !words.every((word) => text.includes(word));
    const shown = rows.filter(([row]) => !row.hidden).length;
    line.querySelector("output").textContent = `${shown} of ${rows.length} rows`;
  };
  field.addEventListener("input", filter);
  line.hidden = false;
  filter();
}

for (const table of document.querySelectorAll("table.sortable")) {
  makeSortable(table);
  makeFilter(table);
}
