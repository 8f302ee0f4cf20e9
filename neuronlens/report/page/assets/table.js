/* A table that sorts by its headings, by click or key, and shows its first rows until more are asked for. */
const FIRST_ROWS = 100;
const MORE_ROWS = 400;

/**
 * Put a table into `host` and return {show(rows)}.
 * A column is {key, label, number, render}: `render(row)` gives the cell's content, `row[key]` what it is sorted by.
 */
function sortedTable(host, label, columns, first = null) {
  let rows = [];
  let order = first ?? { key: null, direction: 1 };
  let limit = FIRST_ROWS;
  const status = make("p", { className: "status", role: "status" });
  const heads = columns.map((column) => {
    const button = make("button", { type: "button", textContent: column.label });
    button.addEventListener("click", () => sortBy(column));
    return make("th", { scope: "col", className: column.number ? "number" : "" }, button);
  });
  const body = make("tbody");
  const table = make("table", {}, make("thead", {}, make("tr", {}, ...heads)), body);
  const more = make("button", { type: "button" });
  more.addEventListener("click", () => {
    limit += MORE_ROWS;
    draw();
  });
  host.replaceChildren(status, make("div", { className: "scroll tall", tabIndex: 0, role: "region", "aria-label": label }, table), more);

  function sortBy(column) {
    const again = order.key === column.key;
    order = { key: column.key, direction: again ? -order.direction : column.number ? -1 : 1 };
    draw();
  }

  function draw() {
    const sorted = order.key === null ? rows : [...rows].sort((a, b) => compare(a[order.key], b[order.key], order.direction));
    columns.forEach((column, place) => {
      const direction = order.direction > 0 ? "ascending" : "descending";
      heads[place].setAttribute("aria-sort", order.key === column.key ? direction : "none");
    });
    const lines = sorted.slice(0, limit).map((row) => make("tr", {}, ...columns.map((column) => cell(column, row))));
    body.replaceChildren(...lines);
    status.textContent = rows.length === 0 ? "Nothing to show." : `${lines.length} of ${rows.length} rows.`;
    more.hidden = lines.length === rows.length;
    more.textContent = `Show ${Math.min(MORE_ROWS, rows.length - lines.length)} more`;
  }

  function cell(column, row) {
    const content = column.render ? column.render(row) : knobText(row[column.key]);
    const named = column.kind === "name" && typeof content === "string";
    const shown = named ? shortName(content, 40) : content;
    const title = named && shown !== content ? content : "";
    return make("td", { className: column.kind ?? (column.number ? "number" : ""), title }, ...[shown].flat());
  }

  return {
    show(found) {
      rows = found;
      limit = FIRST_ROWS;
      draw();
    },
  };
}
