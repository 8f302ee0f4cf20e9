/* Each part of the page on its own: one that fails says so in its place and leaves the others alone. */
const PARTS = [
  ["tradeoff", setUpTradeoff],
  ["matched", setUpBars],
  ["maps", setUpMaps],
  ["explorer", setUpExplorer],
  ["cells", setUpCells],
  ["salient", setUpSalient],
  ["held-out", setUpHeldOut],
];
for (const [id, setUp] of PARTS) {
  try {
    setUp();
  } catch (error) {
    console.error(id, error);
    at(id).append(make("p", { className: "note", textContent: `This part could not be drawn: ${error.message}` }));
  }
}
