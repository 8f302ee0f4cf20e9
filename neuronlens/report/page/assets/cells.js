/* Every cell as a table, means over concepts or one concept's rows; and the held-out figures of ranges. */
function setUpCells() {
  const knobs = page.cells.knobs;
  const named = page.knobs.map(({ name }) => name);
  const label = Object.fromEntries(page.knobs.map((knob) => [knob.name, knob.label]));
  const cells = page.cells.method.map((_, cell) => cell);
  if (cells.length === 0) return hide("cells");
  const varied = named.filter((knob) => distinct(knobs[knob]).length > 1);
  const same = named.filter((knob) => !varied.includes(knob) && knobs[knob][0] !== null);
  const shared = same.map((knob) => `${label[knob]} ${knobText(knobs[knob][0])}`).join(", ");
  at("cells-same").textContent = same.length ? `The same in every cell: ${shared}.` : "";
  const controls = at("cells-controls");
  const names = page.concepts.map((name, place) => [place, name]);
  const options = [["", "mean over concepts"], ...(page.rows ? [["every", "every concept"], ...names] : [])];
  const concept = choice(controls, "cells-concept", "Concept", options, draw);
  const typed = search(controls, "cells-filter", "Filter", "for example: range zero tau=2.5", draw);
  const intervals = tick(controls, "cells-intervals", "Show intervals", false, draw);
  const measured = page.measures.map((measure) => ({ key: measure.name, label: measure.label, number: true, render: (row) => figure(row, measure.name) }));
  const numbers = named.filter((knob) => knobs[knob].some((value) => typeof value === "number"));
  const columns = [
    ...varied.map((knob) => ({ key: knob, label: label[knob], number: numbers.includes(knob), kind: numbers.includes(knob) ? "number" : "name" })),
    { key: "n_neurons", label: "neurons", number: true },
    { key: "concept", label: "concept", kind: "name" },
    ...measured,
  ];
  const table = sortedTable(at("cells-table"), "Every cell", columns);
  const words = cells.map((cell) => named.map((knob) => `${knob}=${knobText(knobs[knob][cell])}`).join(" "));
  draw();

  function figure(row, name) {
    const { mean, low, high } = row.values[name];
    const tiny = name === "kl";
    const bounds = intervals.checked && low !== null ? make("small", { textContent: `${numberText(low, 3, tiny)} to ${numberText(high, 3, tiny)}` }) : null;
    return [numberText(mean, 3, tiny), ...(bounds ? [bounds] : [])];
  }

  function draw() {
    const chosen = concept.value === "every" ? page.concepts.map((_, place) => place) : [concept.value === "" ? null : Number(concept.value)];
    const rows = chosen.flatMap((one) => {
      const place = places(one);
      const name = one === null ? `mean of ${page.concepts.length}` : page.concepts[one];
      return cells.filter((cell) => place[cell] >= 0).map((cell) => entry(cell, place[cell], one, name));
    });
    table.show(rows.filter((row) => holds(row.words, typed.value)));
  }

  function entry(cell, place, one, name) {
    const values = Object.fromEntries(page.measures.map((measure) => [measure.name, valueOf(place, measure.name, one)]));
    const means = Object.fromEntries(Object.entries(values).map(([key, found]) => [key, found.mean]));
    const own = Object.fromEntries(named.map((knob) => [knob, knobs[knob][cell]]));
    const whose = one === null && page.cells.concepts[cell] < page.concepts.length ? `mean of ${page.cells.concepts[cell]}` : name;
    return { ...own, ...means, values, n_neurons: page.cells.n_neurons[cell], concept: whose, words: `${words[cell]} ${one === null ? "" : name}` };
  }
}

function setUpHeldOut() {
  if (page.held_out.length === 0) return hide("held-out");
  const title = (row) => [row.site, row.saliency, row.range + (row.tau === null ? "" : ` tau ${knobText(row.tau)}`)].join(", ");
  const which = choice(at("held-out-controls"), "held-out-which", "Site, ranking and range", distinct(page.held_out.map(title)).map((name) => [name, name]), draw);
  const titles = distinct(page.held_out.map(title));
  const configured = page.held_out.findLast((row) => row.tau === (page.tau === Infinity ? "inf" : page.tau));
  which.value = configured ? title(configured) : titles.at(-1);
  const numbers = [
    ["neurons", "neurons", (value) => numberText(value, 0)],
    ["coverage", "fires on the concept", (value) => percent(value, 1)],
    ["rest", "on the rest", (value) => percent(value, 1)],
    ["purity", "purity", (value) => percent(value, 1)],
    ["chance", "purity by chance", (value) => percent(value, 1)],
    ["overlap", "overlap with others' Gaussians", (value) => numberText(value, 2)],
    ["skewness", "skewness", (value) => numberText(value, 2)],
    ["kurtosis", "excess kurtosis", (value) => numberText(value, 2)],
    ["ks", "KS distance", (value) => numberText(value, 2)],
    ["normal", "normal", (value) => percent(value, 0)],
  ];
  const columns = numbers.map(([key, label, text]) => ({ key, label, number: true, render: (row) => text(row[key]) }));
  const table = sortedTable(at("held-out-table"), "Ranges on held-out samples", [{ key: "concept", label: "concept", kind: "name" }, ...columns]);
  draw();

  function draw() {
    table.show(page.held_out.filter((row) => title(row) === which.value));
  }
}
