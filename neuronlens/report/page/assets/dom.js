/* Elements made of text, never of markup: whatever a dataset holds shows as it stands. */

/** Return an element with properties, attributes (names with a dash, role, scope, for) and children. */
function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || ["role", "scope", "for"].includes(name)) element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** Return the element of the page with that id. */
function at(id) {
  return document.getElementById(id);
}

/** Add a labelled select and return it; `options` are [value, text]. With one option there is nothing to choose: it hides. */
function choice(host, id, label, options, onChange) {
  const select = make("select", { id });
  fillChoice(select, options);
  select.addEventListener("change", onChange);
  host.append(make("label", { for: id }, label, select));
  if (select.options.length < 2) select.parentElement.style.display = "none";
  return select;
}

/** Put options into a select, keeping the chosen one where it is still there. */
function fillChoice(select, options) {
  const before = select.options.length ? select.value : null;
  const entry = ([value, text]) => make("option", { value, textContent: text });
  select.replaceChildren(...options.map(entry));
  if (options.some(([value]) => String(value) === before)) select.value = before;
}

/** Add a labelled tick box and return it. */
function tick(host, id, label, checked, onChange) {
  const box = make("input", { id, type: "checkbox", checked });
  box.addEventListener("change", onChange);
  host.append(make("label", { for: id, className: "tick" }, box, label));
  return box;
}

/** Add a labelled text box that filters while it is typed into, and return it. */
function search(host, id, label, placeholder, onInput) {
  const box = make("input", { id, type: "search", placeholder, autocomplete: "off", spellcheck: false });
  box.addEventListener("input", onInput);
  host.append(make("label", { for: id }, label, box));
  return box;
}

/** Return whether a text holds every word that was typed. */
function holds(text, typed) {
  const low = text.toLowerCase();
  return typed.toLowerCase().split(/\s+/).every((word) => low.includes(word));
}

/** Return a small drawing for a legend: a line, a point, a filled box. */
function swatch({ colour, shape = null, dashed = false, fill = false }) {
  const drawing = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  drawing.setAttribute("viewBox", "0 0 26 14");
  drawing.setAttribute("aria-hidden", "true");
  const draw = (tag, attributes) => {
    const part = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) part.setAttribute(name, value);
    drawing.append(part);
  };
  if (fill) draw("rect", { x: 2, y: 1, width: 22, height: 12, fill: colour, opacity: 0.35 });
  else draw("path", { d: "M1 7H25", stroke: colour, "stroke-width": 2, "stroke-dasharray": dashed ? "5 3" : "none" });
  if (shape) draw("path", { d: OUTLINES[shape], fill: colour, transform: "translate(13 7)" });
  return drawing;
}

const OUTLINES = {
  circle: "M-4 0A4 4 0 1 0 4 0A4 4 0 1 0 -4 0Z",
  square: "M-3.6 -3.6H3.6V3.6H-3.6Z",
  diamond: "M0 -5L4.4 0L0 5L-4.4 0Z",
  cross: "M-1.6 -4.6H1.6V-1.6H4.6V1.6H1.6V4.6H-1.6V1.6H-4.6V-1.6H-1.6Z",
  "triangle-up": "M0 -4.6L4.6 3.8H-4.6Z",
  "triangle-down": "M0 4.6L4.6 -3.8H-4.6Z",
};
