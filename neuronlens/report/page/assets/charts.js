/* Charts: made once of the page's specifications, then given rows. */
const MASK_COLOUR = "#d55e00";
const COLOURS = ["#0072b2", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#999999"];
const CONTROL_COLOUR = "#8c8c8c";
const ERRORS_ALONE = 1; // of vega-util; an empty choice is no reason to warn
const SHAPES = ["circle", "triangle-up", "diamond", "cross", "triangle-down"];

/** Return {give(sets, sentence)} of a chart in `host`, drawn when it first gets rows; `sets` are rows by their data set. */
function chart(host, name, file) {
  const actions = { export: { svg: true, png: true }, source: false, compiled: false, editor: false };
  const options = { mode: "vega", renderer: "svg", ast: true, logLevel: ERRORS_ALONE, actions, downloadFileName: file };
  let turn = Promise.resolve(null);

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
    give(sets, sentence) {
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

/** Return colour, shape and dash of some methods in their order: neuron masks orange, square and dashed, others by turns. */
function styles(methods) {
  let others = 0;
  let masks = 0;
  return methods.map((method) => {
    const mask = method.gate === "neuron" && method.control === null;
    if (mask) {
      masks += 1;
      const shape = masks === 1 ? "square" : SHAPES[(masks - 2) % SHAPES.length];
      return { colour: MASK_COLOUR, shape, dashed: true };
    }
    const place = others;
    others += 1;
    const shape = SHAPES[Math.floor(place / COLOURS.length) % SHAPES.length];
    return { colour: COLOURS[place % COLOURS.length], shape, dashed: false };
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
  const [rows, columns] = [unique(rowNames), unique(columnNames)];
  return rows.flatMap((row, i) =>
    columns.map((column, j) => {
      const number = values[i][j];
      return {
        row,
        column,
        number,
        "row name": row,
        "column name": column,
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
