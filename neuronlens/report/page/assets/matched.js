/* Methods where they erase the same share: bars, and heat maps by concept and by layer. */

/** Return the text of a share erased. */
function erasedLabel(level) {
  return `${percent(level)} of the concept's accuracy`;
}

/** Add the choices that matched erasure is seen by; `draw` is called on each change. */
function matchedChoices(host, name, draw) {
  const layers = distinct(page.methods.map((method) => method.layers)).reverse();
  const levels = distinct(page.ranked.level).sort((a, b) => a - b);
  const cost = choice(host, `${name}-cost`, "Cost to the others", page.costs.map((found) => [found, measureLabel(found)]), draw);
  const level = choice(host, `${name}-level`, "Erased", levels.map((found) => [found, erasedLabel(found)]), draw);
  level.value = String(levels.reduce((best, found) => (Math.abs(found - 0.6) < Math.abs(best - 0.6) ? found : best), levels[0]));
  const layer = choice(host, `${name}-layer`, "Layer", layers.map((found) => [found, found]), draw);
  return { cost, level, layer };
}

function setUpBars() {
  if (page.ranked.method.length === 0) return hide("matched");
  const choices = matchedChoices(at("matched-controls"), "matched", draw);
  const drawing = chart(at("matched-chart"), "bars", "matched-erasure");
  draw();

  function draw() {
    const level = Number(choices.level.value);
    const own = page.ranked[choices.cost.value];
    const lines = page.ranked.method
      .map((number, row) => ({ number, row, method: page.methods[number] }))
      .filter(({ method, row }) => method.layers === choices.layer.value && page.ranked.level[row] === level);
    const reached = lines.filter(({ row }) => page.ranked.reached[row] > 0);
    const often = ({ row }) => Number(page.ranked.reached[row] * 2 < page.ranked.concepts[row]);
    reached.sort((a, b) => often(a) - often(b) || own.mean[a.row] - own.mean[b.row]);
    const wide = at("matched-chart").clientWidth > 560;
    const bars = reached.map(({ row, method }, place) => {
      const [mean, low, high] = [own.mean[row], own.low[row], own.high[row]];
      const concepts = `${page.ranked.reached[row]} of ${page.ranked.concepts[row]} concepts`;
      const tiny = choices.cost.value === "kl";
      const value = withInterval(mean, low, high, tiny);
      return { row: place, mean, low: low ?? mean, high: high ?? mean, colour: method.colour, method: method.name, value, concepts, label: wide ? `${method.name}: ${value}, ${concepts}` : `${method.name}: ${numberText(mean, 3, tiny)}` };
    });
    const missing = lines.filter(({ row }) => page.ranked.reached[row] === 0).map(({ method }) => method.name);
    at("matched-never").textContent = missing.length ? `Never erase ${percent(level)} of any concept: ${missing.join("; ")}.` : "";
    const sentence = `${measureLabel(choices.cost.value)} of ${bars.length} methods where ${erasedLabel(level)} is erased; ${missing.length} never erase that much.`;
    drawing.give({ bars }, sentence, `No method erases ${erasedLabel(level)} here.`);
  }
}

function setUpMaps() {
  if (page.ranked.method.length === 0) return hide("maps");
  const choices = matchedChoices(at("maps-controls"), "maps", draw);
  const byConcept = chart(at("maps-concepts"), "heat", "by-concept");
  const layers = distinct(page.methods.map((method) => method.layers));
  at("maps-layers-part").hidden = layers.length < 2;
  const byLayer = layers.length < 2 ? null : chart(at("maps-layers"), "heat", "by-layer");
  const plain = page.methods.filter(({ gate, control, tau }) => gate === "range" && control === null && tau !== null);
  const taus = distinct(plain.map(({ tau }) => tau)).sort((a, b) => compare(a, b, 1));
  const byTau = layers.length < 2 || taus.length < 2 ? null : chart(at("maps-taus"), "heat", "layers-and-tau");
  at("maps-taus-part").hidden = byTau === null;
  const kind = ({ edit, saliency, range }) => [edit, saliency, range].filter((word) => word !== null).join(", ");
  const kinds = distinct(plain.map(kind));
  const shown = choice(at("maps-taus-controls"), "maps-kind", "Edit, ranking and range", kinds.map((name) => [name, name]), draw);
  draw();

  function draw() {
    const [cost, level] = [choices.cost.value, Number(choices.level.value)];
    const label = `${measureLabel(cost)} where ${erasedLabel(level)} is erased`;
    const numbers = page.methods.map((_, number) => number).filter((number) => page.methods[number].layers === choices.layer.value);
    const place = new Map(numbers.map((number, row) => [number, row]));
    const values = numbers.map(() => page.concepts.map(() => null));
    page.matched.method.forEach((number, row) => {
      if (page.matched.level[row] === level && place.has(number)) values[place.get(number)][page.matched.concept[row]] = page.matched[cost][row];
    });
    room(at("maps-concepts"), page.concepts.length);
    const names = numbers.map((number) => page.methods[number].name);
    const never = names.filter((_, row) => values[row].every((value) => value === null));
    at("maps-never").textContent = never.length ? `Never for any concept, and so not shown: ${never.join("; ")}.` : "";
    at("maps-concepts-title").textContent = `${label[0].toUpperCase()}${label.slice(1)}, concept by concept`;
    byConcept.give({ squares: reachedSquares(names, page.concepts, values) }, `${label}, by method and concept.`);
    if (byLayer) drawLayers(cost, level, label);
    if (byTau) drawTaus(cost, level, label);
  }

  function drawTaus(cost, level, label) {
    const values = taus.map(() => layers.map(() => null));
    page.ranked.method.forEach((number, row) => {
      const method = page.methods[number];
      const own = method.gate === "range" && method.control === null && kind(method) === shown.value;
      if (own && page.ranked.level[row] === level) values[taus.indexOf(method.tau)][layers.indexOf(method.layers)] = page.ranked[cost].mean[row];
    });
    room(at("maps-taus"), layers.length);
    byTau.give({ squares: squares(taus.map((tau) => `tau ${knobText(tau)}`), layers.map((name) => `layer ${name}`), values, short) }, `${label}, by tau and layer.`);
  }

  function drawLayers(cost, level, label) {
    const names = distinct(page.methods.map((method) => method.name));
    const values = names.map(() => layers.map(() => null));
    page.ranked.method.forEach((number, row) => {
      const method = page.methods[number];
      if (page.ranked.level[row] === level) values[names.indexOf(method.name)][layers.indexOf(method.layers)] = page.ranked[cost].mean[row];
    });
    room(at("maps-layers"), layers.length);
    byLayer.give({ squares: reachedSquares(names, layers.map((name) => `layer ${name}`), values) }, `${label}, by method and layer.`);
  }
}

/** Return the squares of the rows that hold any number. */
function reachedSquares(names, columns, values) {
  const kept = names.map((_, row) => row).filter((row) => values[row].some((value) => value !== null));
  return squares(kept.map((row) => names[row]), columns, kept.map((row) => values[row]), short);
}

/** Return a cost in as few letters as a square has room for: .04 */
function short(number) {
  return number.toFixed(2).replace(/^(-?)0\./, "$1.").replace("-", "−").replace(/^−?\.00$/, "0");
}

function setUpSalient() {
  if (page.overlap.length === 0) return hide("salient");
  const options = page.overlap.map((entry, place) => [place, `${entry.site}, ${entry.saliency}`]);
  const which = choice(at("salient-controls"), "salient-which", "Site and ranking", options, draw);
  const last = page.overlap.at(-1).site;
  which.value = String(page.overlap.findIndex(({ site }) => site === last));
  const drawing = chart(at("salient-chart"), "share", "shared-neurons");
  draw();

  function draw() {
    const { site, saliency, square } = page.overlap[Number(which.value)];
    room(at("salient-chart"), page.concepts.length);
    const sentence = `Jaccard overlap of the concepts' salient sets at ${site} under ${saliency}.`;
    drawing.give({ squares: squares(page.concepts, page.concepts, square, short) }, sentence);
  }
}
