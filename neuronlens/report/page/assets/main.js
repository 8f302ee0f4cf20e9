/* Each part of the page on its own: one that fails says so in its place and leaves the others alone. */
const PARTS = [
  ["tradeoff", setUpTradeoff],
  ["matched", setUpBars],
  ["maps", setUpMaps],
  ["explorer", setUpExplorer],
  ["held-out", setUpHeldOut],
  ["cells", setUpCells],
  ["salient", setUpSalient],
];
/** Say of each box that is wider than the page that it scrolls, while it does. */
function setUpHints() {
  const boxes = Array.from(document.querySelectorAll(".scroll")).map((box) => {
    const hint = make("p", { className: "hint", textContent: "Swipe or scroll sideways for more →", hidden: true });
    box.before(hint);
    return { box, hint };
  });
  const look = () => boxes.forEach(({ box, hint }) => { hint.hidden = box.scrollWidth <= box.clientWidth + 1; });
  const observer = new ResizeObserver(look);
  boxes.forEach(({ box }) => [box, ...box.children].forEach((one) => observer.observe(one)));
  look();
}

for (const [id, setUp] of PARTS) {
  try {
    setUp();
  } catch (error) {
    console.error(id, error);
    at(id).append(make("p", { className: "note", textContent: `This part could not be drawn: ${error.message}` }));
  }
}
setUpHints();
