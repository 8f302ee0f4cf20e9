/* Erasure against collateral: a curve per method, for the mean over concepts or one concept. */

/** Return what a measure is called. */
function measureLabel(name) {
  return page.measures.find((measure) => measure.name === name).label;
}

/** Return mean, low and high of a measure for a cell, over concepts or for one concept's row. */
function valueOf(place, name, concept) {
  const source = concept === null ? page.cells.means[name] : page.rows[name];
  const pick = (end) => (source[end] ? source[end][place] : null);
  return { mean: pick("mean"), low: pick("low"), high: pick("high") };
}

/** Return, per cell, the place of its numbers for a choice of concept; -1 where it has none. */
function places(concept) {
  const cells = page.cells.method.map((_, cell) => cell);
  if (concept === null) return cells;
  const found = cells.map(() => -1);
  page.rows.cell.forEach((cell, row) => {
    if (page.rows.concept[row] === concept) found[cell] = row;
  });
  return found;
}

function setUpTradeoff() {
  const controls = at("tradeoff-controls");
  const site = (cell) => page.methods[page.cells.method[cell]];
  const cells = page.cells.method.map((_, cell) => cell).filter((cell) => page.cells.method[cell] >= 0);
  if (cells.length === 0) return hide("tradeoff");
  const layers = distinct(cells.map((cell) => site(cell).layers));
  const edits = distinct(cells.map((cell) => site(cell).edit));
  const layer = choice(controls, "tradeoff-layer", "Layer", layers.map((name) => [name, name]).reverse(), draw);
  const edit = choice(controls, "tradeoff-edit", "Edit", [...edits.map((name) => [name, name.replaceAll("_", " ")]), ["", "every edit"]], draw);
  const cost = choice(controls, "tradeoff-cost", "Cost to the others", page.costs.map((name) => [name, measureLabel(name)]), draw);
  const names = page.concepts.map((name, place) => [place, name]);
  const concept = choice(controls, "tradeoff-concept", "Concept", [["", "mean over concepts"], ...(page.rows ? names : [])], draw);
  const hidden = new Set();
  let show = () => {};
  const drawing = chart(at("tradeoff-chart"), "tradeoff", "tradeoff");
  draw();

  function draw() {
    const chosen = concept.value === "" ? null : Number(concept.value);
    const row = places(chosen);
    const own = cells.filter((cell) => {
      const method = site(cell);
      return method.layers === layer.value && (edit.value === "" || method.edit === edit.value) && row[cell] >= 0;
    });
    const numbers = distinct(own.map((cell) => page.cells.method[cell]));
    const methods = numbers.map((number) => page.methods[number]);
    const style = new Map(styles(methods).map((found, place) => [numbers[place], found]));
    legend(numbers, methods, style);
    show = () => give(chosen, own, row, style);
    show();
  }

  function give(chosen, own, row, style) {
    const visible = own.filter((cell) => !hidden.has(page.cells.method[cell]));
    const points = visible.map((cell) => point(cell, row[cell], chosen, style.get(page.cells.method[cell])));
    at("tradeoff-axis").textContent = `↑ ${measureLabel(cost.value)} (cost to the others, lower is better)`;
    const who = chosen === null ? "mean over concepts" : page.concepts[chosen];
    const sentence = `Share erased against ${measureLabel(cost.value)}, ${who}, layer ${layer.value}: ${points.length} cells.`;
    const empty = visible.length === 0 ? "No method is ticked: tick one above to show it." : `Nothing to show: the unedited model gets no sample of ${who} right.`;
    drawing.give({ points: points.filter((entry) => entry.x !== null && entry.y !== null) }, sentence, empty);
  }

  function point(cell, place, chosen, style) {
    const [x, y] = [valueOf(place, "share_erased", chosen), valueOf(place, cost.value, chosen)];
    const knobs = page.cells.knobs;
    return {
      ...{ x: x.mean, x_low: x.low ?? x.mean, x_high: x.high ?? x.mean, y: y.mean, y_low: y.low ?? y.mean, y_high: y.high ?? y.mean },
      ...style,
      dose: 1e6 * (page.cells.n_neurons[cell] ?? 0) + (knobs.strength[cell] ?? 0),
      number: page.cells.method[cell],
      method: page.methods[page.cells.method[cell]].name,
      neurons: knobText(page.cells.n_neurons[cell]),
      strength: knobText(knobs.strength[cell]),
      "share erased": withInterval(x.mean, x.low, x.high),
      measure: measureLabel(cost.value),
      value: withInterval(y.mean, y.low, y.high, cost.value === "kl"),
    };
  }

  function legend(numbers, methods, style) {
    const entries = methods.map((method, place) => {
      const number = numbers[place];
      const box = make("input", { type: "checkbox", checked: !hidden.has(number) });
      box.addEventListener("change", () => {
        if (box.checked) hidden.delete(number);
        else hidden.add(number);
        show();
      });
      return make("label", {}, box, swatch(style.get(number)), method.name);
    });
    at("tradeoff-legend").replaceChildren(make("legend", { textContent: "Methods (tick to show)" }), ...entries);
  }
}

/** Take a section that this run has nothing for off the page, and its link. */
function hide(id) {
  at(id).hidden = true;
  document.querySelectorAll(`nav a[href="#${id}"]`).forEach((link) => link.parentElement.remove());
}
