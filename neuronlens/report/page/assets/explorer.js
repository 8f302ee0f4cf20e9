/* The neuron explorer: site, ranking, concept, neuron and range chosen; densities, law, intervals and samples shown. */

/** Return a site with its arrays decoded and looked up by (concept, neuron). */
function decodeSite(site) {
  const width = site.neurons.length;
  const samples = page.explorer.samples.label.length;
  const values = floats(site.values);
  const flat = { mean: floats(site.mean), std: floats(site.std) };
  const column = new Map(site.neurons.map((neuron, place) => [neuron, place]));
  const ranges = site.ranges.map((range) => {
    const arrays = Object.fromEntries(
      ["lower", "upper", "weights", "means", "stds"].filter((name) => range[name]).map((name) => [name, floats(range[name])]),
    );
    const pick = (array, concept, count, neuron) =>
      Array.from({ length: count }, (_, place) => array[(concept * count + place) * width + column.get(neuron)]);
    return {
      name: range.tau === null ? range.range : `${range.range}, tau ${knobText(range.tau === "inf" ? "inf" : Number(range.tau))}`,
      tau: range.tau === null ? null : Number(range.tau === "inf" ? Infinity : range.tau),
      skipped: range.skipped,
      intervals: (concept, neuron) => {
        const [low, high] = [arrays.lower, arrays.upper].map((array) => pick(array, concept, range.intervals, neuron));
        return low.map((value, place) => [value, high[place]]).filter(([from, to]) => from <= to);
      },
      components: (concept, neuron) => {
        if (!arrays.weights) return [];
        const parts = ["weights", "means", "stds"].map((name) => pick(arrays[name], concept, range.components, neuron));
        return parts[0].map((weight, place) => ({ weight, mean: parts[1][place], std: parts[2][place] })).filter(({ weight }) => weight > 0);
      },
    };
  });
  return {
    name: site.name,
    rankings: site.rankings,
    ranges,
    values: (neuron) => values.subarray(column.get(neuron) * samples, (column.get(neuron) + 1) * samples),
    law: (concept, neuron) => ({ mean: flat.mean[concept * width + column.get(neuron)], std: flat.std[concept * width + column.get(neuron)] }),
  };
}

function setUpExplorer() {
  if (page.explorer.sites.length === 0) return hide("explorer");
  const controls = at("explorer-controls");
  const sites = page.explorer.sites.map(decodeSite);
  const labels = page.explorer.samples.label;
  const site = choice(controls, "explorer-site", "Site", sites.map(({ name }, place) => [place, name]).reverse(), fill);
  const ranking = choice(controls, "explorer-ranking", "Ranking", sites[0].rankings.map(({ name }, place) => [place, name]), fill);
  const concept = choice(controls, "explorer-concept", "Concept", page.concepts.map((name, place) => [place, name]), fill);
  const neuron = choice(controls, "explorer-neuron", "Neuron, most salient first", [["", ""], ["-", ""]], draw);
  const range = choice(controls, "explorer-range", "Range", [["", ""], ["-", ""]], draw);
  const compared = choice(controls, "explorer-compared", "Compare with", [["", "the rest"], ...page.concepts.map((name, place) => [place, `the rest and ${name}`])], draw);
  const every = tick(controls, "explorer-every", "Every concept's curve", false, draw);
  const drawing = chart(at("explorer-chart"), "density", "neuron");
  const samples = setUpSamples(labels);
  fill();

  function fill() {
    const own = sites[Number(site.value)];
    fillChoice(ranking, own.rankings.map(({ name }, place) => [place, name]));
    const { order, scores } = own.rankings[Number(ranking.value)];
    const chosen = Number(concept.value);
    const before = range.value;
    fillChoice(neuron, order[chosen].map((number, place) => [number, `${place + 1}. neuron ${number}, score ${numberText(scores[chosen][place])}`]));
    neuron.selectedIndex = 0;
    fillChoice(range, own.ranges.map(({ name }) => [name, name]));
    if (!own.ranges.some(({ name }) => name === before)) range.selectedIndex = Math.max(own.ranges.findIndex(({ tau }) => tau === page.tau), 0);
    draw();
  }

  function draw() {
    const own = sites[Number(site.value)];
    const [chosen, number] = [Number(concept.value), Number(neuron.value)];
    const estimated = own.ranges.find(({ name }) => name === range.value);
    const intervals = estimated ? estimated.intervals(chosen, number) : [];
    const values = own.values(number);
    drawCurves(own, chosen, number, values, intervals, estimated ? estimated.components(chosen, number) : []);
    tell(chosen, number, values, intervals, estimated);
    share(own, chosen, number);
    samples.show(values, intervals, chosen);
  }

  function drawCurves(own, chosen, number, values, intervals, components) {
    const all = Array.from(values);
    const group = (keep) => all.filter((_, row) => keep(labels[row]));
    const series = [{ kind: "rest", name: "the rest", values: group((label) => label !== chosen) }, { kind: "concept", name: page.concepts[chosen], values: group((label) => label === chosen) }];
    const beside = compared.value === "" ? null : Number(compared.value);
    page.concepts.forEach((name, place) => {
      if (place === beside && place !== chosen) series.push({ kind: "compared", name, values: group((label) => label === place) });
      else if (every.checked && place !== chosen) series.push({ kind: "other", name, values: group((label) => label === place) });
    });
    const [low, high] = wholeCurves(all, series.map(({ values: found }) => found), own.law(chosen, number));
    const grid = evenly(low, high, GRID);
    const curves = series.flatMap(({ kind, name, values: found }, number) => {
      const density = found.length > 1 ? kernelDensity(found, grid) : null;
      return density ? grid.map((x, place) => ({ kind, name, number, x, y: density[place] })) : [];
    });
    const rug = all.map((x, row) => ({ x, kind: labels[row] === chosen ? "concept" : "rest" }));
    rug.sort((a, b) => (a.kind < b.kind ? 1 : -1));
    const clipped = intervals.map(([from, to]) => ({ low: Math.max(from, low), high: Math.min(to, high) })).filter((span) => span.low <= span.high);
    const edges = intervals.flat().filter((bound) => bound >= low && bound <= high).map((x) => ({ x }));
    const laws = lawCurves(own.law(chosen, number), components, grid);
    key(chosen, beside, components.length);
    const sentence = `Density of neuron ${number} at ${own.name} for ${page.concepts[chosen]} and for the rest, over ${intervalText(intervals)}.`;
    drawing.give({ spans: clipped, edges, curves, laws, rug }, sentence);
  }

  function lawCurves({ mean, std }, components, grid) {
    const rows = (name, component, density) => (density ? grid.map((x, place) => ({ name, component, x, y: density[place] })) : []);
    if (components.length === 0) return rows("Gaussian", false, gaussian(mean, std, grid));
    const parts = components.map((part) => gaussian(part.mean, part.std, grid)?.map((y) => part.weight * y) ?? grid.map(() => 0));
    const total = grid.map((_, place) => parts.reduce((sum, part) => sum + part[place], 0));
    const single = parts.length > 1 ? parts.flatMap((part, place) => rows(`component ${place + 1}`, true, part)) : [];
    return [...rows("mixture", false, total), ...single];
  }

  function key(chosen, beside, components) {
    const entry = (style, text) => make("li", {}, swatch(style), text);
    const law = components > 1 ? `fitted mixture of ${components}, its components dotted` : "fitted Gaussian";
    at("explorer-key").replaceChildren(
      entry({ colour: "#0072b2", fill: true }, page.concepts[chosen]),
      entry({ colour: "#8c8c8c", fill: true }, "the rest"),
      ...(beside !== null && beside !== chosen ? [entry({ colour: "#cc79a7", dashed: true }, page.concepts[beside])] : []),
      entry({ colour: "currentColor", dashed: true }, law),
      entry({ colour: "#009e73", fill: true }, "the concept's range"),
    );
  }

  function tell(chosen, number, values, intervals, estimated) {
    const count = { own: 0, ownInside: 0, rest: 0, restInside: 0 };
    values.forEach((value, row) => {
      const side = labels[row] === chosen ? "own" : "rest";
      count[side] += 1;
      if (within(value, intervals)) count[`${side}Inside`] += 1;
    });
    const inside = count.ownInside + count.restInside;
    const reason = estimated && Object.hasOwn(estimated.skipped, page.concepts[chosen]) ? estimated.skipped[page.concepts[chosen]] : null;
    const name = page.concepts[chosen];
    const counted =
      `${intervalText(intervals)} holds ${count.ownInside} of ${count.own} samples of ${name} (${percent(count.ownInside / count.own)}) and ` +
      `${count.restInside} of ${count.rest} of the rest (${percent(count.restInside / count.rest)}); ` +
      `${percent(inside ? count.ownInside / inside : NaN)} of what is inside is ${name}, by chance it would be ${percent(count.own / (count.own + count.rest))}.`;
    at("explorer-readout").textContent = `Neuron ${number}: ${reason ? `no range, ${reason}.` : counted}`;
  }

  function share(own, chosen, number) {
    const { order } = own.rankings[Number(ranking.value)];
    const others = page.concepts.map((_, place) => place).filter((place) => place !== chosen && order[place].includes(number));
    const jump = (place) => {
      const button = make("button", { type: "button", className: "jump", textContent: page.concepts[place] });
      button.addEventListener("click", () => {
        concept.value = String(place);
        fill();
        neuron.value = String(number);
        draw();
        concept.focus();
      });
      return button;
    };
    const top = order[chosen].length;
    const sentence = others.length ? `Among the ${top} most salient neurons of ${others.length} other concept${others.length > 1 ? "s" : ""} too: ` : `Among the ${top} most salient neurons of this concept alone.`;
    at("explorer-shared").replaceChildren(sentence, ...others.map(jump));
  }
}
