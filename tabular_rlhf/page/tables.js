// The first table is computed by the core, where its controls stand.  Of the others everything was computed by Python and lies in `data`,
// as printed: there this script only looks up, and turns probabilities and margins into places on the screen.

const tables = (() => {
const data = JSON.parse(document.getElementById("data").textContent);
const by = (id) => document.getElementById(id);
const show = (text) => (text === "inf" ? "∞" : text === "-inf" ? "−∞" : text.replace(/^-/, "−").replace("e-", "e−"));

// The entry of nested data at a dotted path, "" where there is none.
const at = (values, path) => path.split(".").reduce((found, key) => (found == null ? null : found[key]), values) ?? "";

function fill(section, values) {
  for (const place of by(section).querySelectorAll("[data-of]")) place.textContent = show(at(values, place.dataset.of));
}

// Controls by name: where they start, and where they stand.  `changed` is what the address must say, `read` what it says.
const starts = new Map();
function settable(id, start) {
  starts.set(id, start);
  by(id).addEventListener("input", () => save());
}
const position = (id) => (by(id).tagName === "SELECT" ? by(id).selectedIndex : Number(by(id).value));
function move(id, to) {
  const node = by(id), last = node.tagName === "SELECT" ? node.options.length - 1 : Number(node.max);
  const want = Math.min(Math.max(Math.round(to), 0), last);
  if (position(id) === want) return;
  if (node.tagName === "SELECT") node.selectedIndex = want; else node.value = want;
  node.dispatchEvent(new Event("input"));
}
const changed = () => [...starts].filter(([id, start]) => position(id) !== start).map(([id]) => `${id}=${position(id)}`);
const reset = () => starts.forEach((start, id) => move(id, start));
const read = (given) => starts.forEach((start, id) => move(id, given.has(id) && isFinite(given.get(id)) ? Number(given.get(id)) : start));

// A slider over a list of printed settings: its text is beside it, and read out by screen readers.
function slider(id, settings, start, unit, draw) {
  const input = by(id);
  input.max = settings.length - 1;
  input.value = start;
  const tell = () => {
    by(id + "-is").textContent = show(settings[input.value]);
    input.setAttribute("aria-valuetext", settings[input.value] + unit);
  };
  tell();
  input.addEventListener("input", () => { tell(); draw(); });
  settable(id, start);
}

function select(id, start, draw) {
  by(id).selectedIndex = start;
  by(id).addEventListener("input", draw);
  settable(id, start);
}

// ------------------------------------------------------------------------------------------------ drawing

const SHAPES = {{shapes}};

function put(parent, tag, attributes, text = "") {
  const node = document.createElementNS(parent.namespaceURI, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.textContent = text;
  parent.append(node);
  return node;
}

// The simplex: a point of three probabilities, as a place in a triangle with corners left, top, right.
const LEFT = [40, 262], TOP = [170, 36.8], RIGHT = [300, 262];
const place = (p) => [0, 1].map((k) => Number(p[0]) * LEFT[k] + Number(p[1]) * TOP[k] + Number(p[2]) * RIGHT[k]);
const line = (points) => "M" + points.map((xy) => xy.map((v) => v.toFixed(2)).join(" ")).join("L");

function triangle(svg, names) {
  svg.replaceChildren();
  put(svg, "path", { class: "edge", d: line([LEFT, TOP, RIGHT]) + "Z" });
  put(svg, "text", { x: LEFT[0], y: LEFT[1] + 22, "text-anchor": "middle" }, names[0]);
  put(svg, "text", { x: TOP[0], y: TOP[1] - 14, "text-anchor": "middle" }, names[1]);
  put(svg, "text", { x: RIGHT[0], y: RIGHT[1] + 22, "text-anchor": "middle" }, names[2]);
}

function mark(svg, kind, shape, p, name) {
  const [x, y] = place(p);
  const node = put(svg, "path", { class: kind, d: SHAPES[shape], transform: `translate(${x.toFixed(2)} ${y.toFixed(2)})` });
  put(node, "title", {}, name);
}

// All policies without memory; and 1/beta from 0 to that of the smallest beta.
const CURVE = [...Array(41).keys()].map((i) => i / 40), COLDER = [...Array(33).keys()].map((i) => i / 8);
const percent = (p) => `${(100 * Number(p)).toFixed(2)}%`;

// ------------------------------------------------------------------------------------------------ 1 and 2: tilt, geometry

const fixed = (x) => fmt(x, 4);
const projected = (x, lp) => {
  const law = C.memoryless(x);
  return { knock: fixed(C.sigmoid(x)), kl: fixed(Math.max(0, C.kl(law, lp))), p: C.exp(law).map(fixed), at: C.exp(law) };
};
const forwardTo = (x, lp) => ({ ...projected(x, lp), kl: fixed(Math.max(0, C.kl(lp, C.memoryless(x)))) });

function drawTilt() {
  const t = data.tilt, [beta, two, one] = [t.beta[by("beta").value], t.reward[by("two").value], t.reward[by("one").value]];
  const lq = C.log(t.p_ref), r = [0, Number(one), Number(two)], b = Number(beta);
  const lp = C.gibbs(lq, r, b), p = C.exp(lp);
  const forward = forwardTo(C.covering(lp), lp), reverse = C.seeking(lp).map((x) => projected(x, lp));
  const values = {
    ...{ p_ref: t.p_ref.map(fixed), r: ["0", one, two], beta, p: p.map(fixed), forward, reverse },
    weight: r.map((x) => fixed(Math.exp(x / b))),
    gain: lp.map((l, i) => fixed(l - lq[i])),
    Z: fixed(Math.exp(C.value(lq, r, b) / b)),
    V: fixed(C.value(lq, r, b)),
    reward: fixed(C.dot(p, r)),
    kl: fixed(C.kl(lp, lq)),
    regret: fixed(C.regret(lq, lq, r, b)),
  };
  fill("tilt", values);
  fill("geometry", values);
  by("responses").querySelectorAll(".bars").forEach((row, n) => {
    row.querySelector(".ref").style.width = percent(t.p_ref[n]);
    row.querySelector(".star").style.width = percent(p[n]);
  });
  by("second").hidden = reverse.length < 2;
  by("modes").textContent = reverse.length > 1
    ? "Here the reverse has two local minima, and where a search ends depends on where it starts."
    : "Here the reverse has one minimum.";
  const svg = by("simplex");
  triangle(svg, t.names);
  put(svg, "path", { class: "curve", d: line(CURVE.map((k) => place([1 - k, k * (1 - k), k * k]))) });
  put(svg, "path", { class: "arc", d: line(COLDER.map((s) => place(C.exp(C.gibbs(lq, r, 1 / s))))) });
  mark(svg, "ref", "reference", t.p_ref, "the reference");
  reverse.slice(1).forEach((other) => mark(svg, "other", "reverse", other.at, "another local minimum of the reverse"));
  mark(svg, "forward", "forward", forward.at, "the forward projection");
  mark(svg, "reverse", "reverse", reverse[0].at, "the reverse projection");
  mark(svg, "star", "optimum", p, "the optimum");
  svg.setAttribute("aria-label", `Simplex of ${t.names.join(", ")}: p* at ${values.p.join(", ")}; ` +
    `forward projection at ${forward.p.join(", ")}; reverse at ${reverse.map((m) => m.p.join(", ")).join(" and ")}.`);
}

// ------------------------------------------------------------------------------------------------ 3: KL flags

function drawFlag() {
  const f = data.flags, e = by("estimator").selectedIndex, b = by("flag-beta").value;
  const cell = f.cells[e][by("placement").selectedIndex][b], best = f.best[b];
  fill("flags", { ...cell, best, r: f.r, p_ref: f.p_ref });
  by("verdict").textContent = cell.verdict;
  by("verdict").dataset.mark = cell.mark;
  by("h").innerHTML = f.math[e];
  by("descends").textContent = cell.descends;
  by("optimum").textContent = cell.optimum;
  const svg = by("flag-simplex");
  triangle(svg, f.responses.map((name, n) => `${name}, r = ${f.r[n]}`));
  put(svg, "path", { class: "path", d: line(cell.path.map(place)) });
  mark(svg, "ref", "reference", f.p_ref, "the reference");
  mark(svg, "star", "optimum", best.p, "the Gibbs optimum");
  mark(svg, "end", "end", cell.p, "where the flag leads"); // the smaller on the larger, where it leads there
  svg.setAttribute("aria-label", `Simplex of ${f.responses.join(", ")}: the flag leads to ${cell.p.join(", ")}; p* is ${best.p.join(", ")}.`);
}

// ------------------------------------------------------------------------------------------------ 4: the loss zoo

const WIDE = [36, 330], HIGH = [200, 12];
const across = (D) => WIDE[0] + ((Number(D) + 4) / 8) * (WIDE[1] - WIDE[0]);
const up = (y, low, high) => HIGH[0] + ((Number(y) - low) / (high - low)) * (HIGH[1] - HIGH[0]);

function chart(id, what, low, high, step, curves, here, rest) {
  const svg = by(id);
  svg.replaceChildren();
  for (let y = low; y <= high; y += step) {
    put(svg, "line", { class: y === 0 ? "axis" : "grid", x1: WIDE[0], x2: WIDE[1], y1: up(y, low, high), y2: up(y, low, high) });
    put(svg, "text", { class: "tick", x: WIDE[0] - 7, y: up(y, low, high) + 4, "text-anchor": "end" }, show(String(y)));
  }
  for (const D of [-4, -2, 0, 2, 4]) put(svg, "text", { class: "tick", x: across(D), y: HIGH[0] + 17, "text-anchor": "middle" }, show(String(D)));
  put(svg, "text", { class: "tick", x: across(0), y: HIGH[0] + 33, "text-anchor": "middle" }, "margin D, nats");
  if (rest !== "" && Math.abs(Number(rest)) <= 4) put(svg, "line", { class: "rest", x1: across(rest), x2: across(rest), y1: HIGH[0], y2: HIGH[1] });
  const margins = data.zoo.margin;
  const points = (curve) => line(curve[what].map((y, n) => [across(margins[n]), up(y, low, high)]));
  const [width, height] = [WIDE[1] - WIDE[0], HIGH[0] - HIGH[1]];
  const inside = put(svg, "svg", { x: WIDE[0], y: HIGH[1], width, height, viewBox: `${WIDE[0]} ${HIGH[1]} ${width} ${height}` }); // clips
  put(inside, "path", { class: "line dpo", d: points(curves[1]) });
  put(inside, "path", { class: "line", d: points(curves[0]) });
  const y = curves[0][what][here], seen = Math.min(Math.max(Number(y), low), high);
  const kind = seen === Number(y) ? "here" : "here off";
  put(svg, "circle", { class: kind, r: 6, cx: across(margins[here]).toFixed(2), cy: up(seen, low, high).toFixed(2) });
  svg.setAttribute("aria-label", `${what} against margin: ${y} at margin ${margins[here]}`);
}

function drawLoss() {
  const z = data.zoo, n = by("loss").selectedIndex, s = by("share").value, D = by("margin").value;
  const cell = z.cells[n][s], about = z.about[n];
  fill("zoo", { value: cell.value[D], slope: cell.slope[D] });
  chart("value-chart", "value", -1, 6, 1, [cell, z.cells[0][s]], D, cell.best);
  chart("slope-chart", "slope", -3, 3, 1, [cell, z.cells[0][s]], D, cell.best);
  by("best").textContent = (cell.best === "" ? "" : `D = ${show(cell.best)} nats, `) + cell.words;
  by("loss-math").innerHTML = about.math;
  by("source").textContent = about.source;
  by("traits").replaceChildren();
  for (const trait of about.traits) put(by("traits"), "li", {}, trait);
}

// ------------------------------------------------------------------------------------------------ 5: the derivation

function drawDerivation() {
  const d = data.derivation, n = by("wrong").selectedIndex, cell = d.cells[n];
  by("ends").textContent = cell.end;
  by("ends").dataset.mark = n === 0 ? "✓" : "✗";
  [...by("lines").children].forEach((row, k) => {
    const step = cell.steps[k];
    const values = step ? step.value.map(([label, v]) => (label ? `${label} ${show(v)}` : show(v))).join(", ") : "not read";
    const mark = !step || step.ok === null ? "" : step.ok ? "✓ " : `✗ ${d.choice[n]}. It would give `;
    row.className = !step ? "unread" : step.ok === false ? "breaks" : "";
    row.querySelector(".number").textContent = mark + values;
  });
}

// ------------------------------------------------------------------------------------------------ begin

const [t, f, z] = [data.tilt, data.flags, data.zoo];
slider("beta", t.beta, t.start[0], " reward units per nat", drawTilt);
slider("two", t.reward, t.start[1], " reward units", drawTilt);
slider("one", t.reward, t.start[2], " reward units", drawTilt);
select("estimator", f.start[0], drawFlag);
select("placement", f.start[1], drawFlag);
slider("flag-beta", f.beta, f.start[2], " reward units per nat", drawFlag);
select("loss", z.start[0], drawLoss);
slider("margin", z.margin, z.start[1], " nats", drawLoss);
slider("share", z.share, z.start[2], "", drawLoss);
select("wrong", 0, drawDerivation);
drawTilt();
drawFlag();
drawLoss();
drawDerivation();
return { changed, reset, read };
})();
