/* The run, as the page carries it, and numbers as people read them. */
const page = JSON.parse(document.getElementById("page-data").textContent);
if (page.tau === "inf") page.tau = Infinity;

/** Return Float32Array values of base64 text; little-endian, as explorer.py wrote them. */
function floats(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  return Float32Array.from({ length: bytes.length / 4 }, (_, place) => view.getFloat32(4 * place, true));
}

/** Return a number as text: three decimals for shares and drops, fewer for large ones; a dash where there is none. What
 * rounds to nothing is written with a power of ten where `tiny` asks for it. */
function numberText(value, digits = 3, tiny = false) {
  if (value === null || value === undefined || value === "") return "–";
  if (value === "inf" || value === Infinity) return "∞";
  if (value === "-inf" || value === -Infinity) return "−∞";
  const number = Number(value);
  if (Number.isNaN(number)) return "–";
  const size = Math.abs(number);
  const sign = number < 0 ? "−" : "";
  if (tiny && size !== 0 && size < 0.5 * 10 ** -digits) return sign + size.toExponential(1);
  const text = size >= 1000 ? Math.round(size).toString() : size.toFixed(size >= 100 ? Math.min(digits, 1) : digits);
  return (Number(text) === 0 ? "" : sign) + text;
}

/** Return a knob as text: a number without trailing zeros, text as it is, a dash where it plays no part. */
function knobText(value) {
  if (value === null || value === undefined) return "–";
  if (value === "inf") return "∞";
  return typeof value === "number" ? String(Number(value.toPrecision(4))) : value;
}

/** Return a share as a percentage. */
function percent(share, digits = 0) {
  return share === null || Number.isNaN(share) ? "–" : `${(100 * share).toFixed(digits)} %`;
}

/** Return a mean with its interval. */
function withInterval(mean, low, high, tiny = false) {
  const bounds = low === null || low === undefined ? "" : ` [${numberText(low, 3, tiny)}, ${numberText(high, 3, tiny)}]`;
  return `${numberText(mean, 3, tiny)}${bounds}`;
}

/** Return a name that a label has room for, its middle left out; palette.py does the same for figures. */
function shortName(name, longest = 32) {
  if (name.length <= longest) return name;
  const front = Math.floor(longest / 2);
  return `${name.slice(0, front)}…${name.slice(name.length - (longest - front - 1))}`;
}

/** Return each value once, in the order of first appearance. */
function distinct(values) {
  return [...new Set(values)];
}

/** Order two values: numbers by size, infinity with them, text by the alphabet, nothing last whatever the direction. */
function compare(one, other, direction) {
  const [a, b] = [one, other].map((value) => (value === "inf" ? Infinity : value));
  const [noA, noB] = [a, b].map((value) => value === null || value === undefined || Number.isNaN(value));
  if (noA || noB) return Number(noA) - Number(noB);
  const order = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
  return direction * (Number.isNaN(order) ? 0 : order);
}
