/* Charts: made once of the page's specifications, then given rows. */
const ERRORS_ALONE = 1; // of vega-util; an empty choice is no reason to warn
const MAIN = { tradeoff: "points", bars: "bars", heat: "squares", share: "squares", density: "curves" };
const SHAPES = ["circle", "triangle-up", "diamond", "cross", "triangle-down"];

/** Return {give(sets, sentence)} of a chart in `host`, drawn when it first gets rows; `sets` are rows by their data set. */
function chart(host, name, file) {
  const actions = { export: { svg: true, png: true }, source: false, compiled: false, editor: false };
  const options = { mode: "vega", renderer: "svg", ast: true, logLevel: ERRORS_ALONE, actions, downloadFileName: file };
  let turn = Promise.resolve(null);
  const nothing = make("p", { className: "empty", hidden: true, role: "status" });
  host.after(nothing);

  async function draw(view, sets, sentence) {
    if (view === null) {
      const data = page.charts[name].data.map((set) => (sets[set.name] ? { ...set, values: sets[set.name] } : set));
      const found = await vegaEmbed(host, { ...page.charts[name], data, description: sentence }, options);
      host.view = found.view; // for whoever looks at the page from its console
      return found.view;
    }
    for (const [set, rows] of Object.entries(sets)) view.data(set, rows);
    view.description(sentence);
    await view.resize().runAsync();
    return view;
  }

  return {
    /** Show rows and say in a sentence what is seen; calls are carried out one after the other. */
    give(sets, sentence, empty = "Nothing to show for this choice.") {
      const none = sets[MAIN[name]].length === 0;
      nothing.hidden = !none;
      nothing.textContent = none ? empty : "";
      host.hidden = none;
      turn = turn.then(async (view) => {
        const drawn = await draw(view, sets, sentence);
        host.dataset.drawn = String(Number(host.dataset.drawn ?? 0) + 1);
        return drawn;
      });
      turn.catch((error) => console.error(name, error));
      return turn;
    },
  };
}

/** Return colour, shape and dash of some methods: the colour is the method's own everywhere, the shape tells those of one
 * colour apart, and neuron masks are dashed, the first of them square. */
function styles(methods) {
  const seen = new Map();
  return methods.map(({ colour, gate, control }) => {
    const dashed = gate === "neuron" && control === null;
    const place = seen.get(colour) ?? 0;
    seen.set(colour, place + 1);
    const shapes = dashed ? ["square", ...SHAPES] : SHAPES;
    return { colour, shape: shapes[place % shapes.length], dashed };
  });
}

/** Return names, each once: what stands twice gets a number. Vega looks names up in plain objects, so one that every object
 * knows, as __proto__, gets an invisible letter. */
function unique(names) {
  const seen = new Map();
  return names.map((text) => {
    const name = text in {} ? `${text}\u200b` : text;
    const count = (seen.get(name) ?? 0) + 1;
    seen.set(name, count);
    return count === 1 ? name : `${name} (${count})`;
  });
}

/** Return rows of a heat map; `values[row][column]` with null where there is none. */
function squares(rowNames, columnNames, values, written) {
  const numbers = values.flat().filter((value) => value !== null);
  const [low, high] = [Math.min(...numbers), Math.max(...numbers)];
  const [rows, columns] = [rowNames, columnNames].map((names) => unique(names.map((name) => shortName(name))));
  return rows.flatMap((row, i) =>
    columns.map((column, j) => {
      const number = values[i][j];
      return {
        row,
        column,
        number,
        "row name": rowNames[i],
        "column name": columnNames[j],
        value: number === null ? "never reached" : numberText(number),
        text: number === null ? "" : written(number),
        light: number !== null && high > low && (number - low) / (high - low) > 0.6,
      };
    }),
  );
}

/** Give a heat map room for its columns: where the page is narrower, it scrolls in its own box. */
function room(host, columns) {
  host.style.minWidth = `${330 + 30 * columns}px`;
  host.style.maxWidth = `${370 + Math.max(64 * columns, 200)}px`;
}
