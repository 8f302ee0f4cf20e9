/* The samples behind a neuron's densities: inside or outside the intervals, searchable. */

function setUpSamples(labels) {
  const texts = page.explorer.samples.text;
  const controls = at("samples-controls");
  const where = choice(controls, "samples-where", "Where", [["inside", "inside the range"], ["outside", "outside the range"], ["", "everywhere"]], draw);
  const whose = choice(controls, "samples-whose", "Whose", [["", "every concept's"], ["own", "the concept's"], ["rest", "the rest's"]], draw);
  const typed = search(controls, "samples-search", "Search texts and labels", "words", draw);
  const columns = [
    { key: "value", label: "activation", number: true, render: (row) => numberText(row.value, 4) },
    { key: "inside", label: "in the range", render: (row) => (row.inside ? "inside" : "outside") },
    { key: "label", label: "true label", kind: "name" },
    { key: "text", label: "text", kind: "text", render: (row) => row.text ?? "(not kept)" },
  ];
  const table = sortedTable(at("samples-table"), "Samples", columns, { key: "value", direction: -1 });
  let state = { values: [], intervals: [], chosen: 0 };

  function draw() {
    const rows = Array.from(state.values, (value, row) => ({
      value,
      inside: within(value, state.intervals),
      own: labels[row] === state.chosen,
      label: page.concepts[labels[row]],
      text: texts[row],
    }));
    const kept = rows.filter(
      (row) =>
        (where.value === "" || row.inside === (where.value === "inside")) &&
        (whose.value === "" || row.own === (whose.value === "own")) &&
        holds(`${row.label} ${row.text ?? ""}`, typed.value),
    );
    table.show(kept);
  }

  return {
    show(values, intervals, chosen) {
      state = { values, intervals, chosen };
      draw();
    },
  };
}
