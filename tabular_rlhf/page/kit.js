/* ---- drawing ---- */
const dirty = new Set(),
  DRAW = {},
  seen = new Map();
let asked = 0;
const need = (...k) => {
  k.forEach((x) => dirty.add(x));
  if (!asked)
    asked = requestAnimationFrame(() => {
      asked = 0;
      const k = [...dirty];
      dirty.clear();
      k.forEach((x) => (visible.has(x) ? DRAW[x]() : late.add(x)));
      save();
    });
};
const visible = new Set(),
  late = new Set(),
  all = () => need(...Object.keys(DRAW));
const el = (n, a, ...kids) => {
  const e = document.createElementNS(NS, n);
  for (const k in a) e.setAttribute(k, a[k]);
  e.append(...kids);
  return e;
};
const set = (e, a) => {
  for (const k in a) if (e.getAttribute(k) !== String(a[k])) e.setAttribute(k, a[k]);
  return e;
};
const star = (R) =>
  [...Array(10)]
    .map((_, i) => {
      const a = -Math.PI / 2 + (i * Math.PI) / 5,
        r = i % 2 ? R * 0.42 : R;
      return (r * Math.cos(a)).toFixed(2) + "," + (r * Math.sin(a)).toFixed(2);
    })
    .join(" ");
const GLYPH = {
  star: () => el("polygon", { points: star(13), class: "star" }),
  pol: () => el("circle", { r: 8.5, class: "pol" }),
  ref: () => el("rect", { x: -6, y: -6, width: 12, height: 12, transform: "rotate(45)", class: "ref" }),
  guess: () => el("circle", { r: 11, class: "guess" }),
  cross: () => el("path", { d: "M-7-7L7 7M7-7L-7 7", class: "cross" }),
};
const glyph = (kind, parent) => {
  const g = el("g", {}, GLYPH[kind]());
  parent.append(g);
  return g;
};
const at = (g, x, y, k, on = true) =>
  set(g, { transform: `translate(${x.toFixed(2)} ${y.toFixed(2)}) scale(${k.toFixed(3)})`, display: on ? "inline" : "none" });
const words = (parent, cls = "", anchor = "start") => {
  const t = el("text", { class: cls, "text-anchor": anchor });
  parent.append(t);
  return t;
};
const label = (t, x, y, s, more = {}) => {
  set(t, { x: x.toFixed(1), y: y.toFixed(1), ...more });
  if (t.textContent !== s) t.textContent = s;
};
/* a drawing in W x H units that knows how many units a CSS pixel is */
function canvas(id, W, H) {
  const svg = $(id);
  if (typeof H !== "function") svg.setAttribute("viewBox", `0 0 ${W} ${H}`);
  const o = { svg, W, H, k: 1 };
  o.fit = () => {
    const w = svg.clientWidth || W;
    if (w === o.w) return;
    o.w = w;
    o.k = W / w;
    if (typeof H === "function") svg.setAttribute("viewBox", `0 0 ${W} ${(o.H = Math.round(H(o.k)))}`);
    svg.style.setProperty("--k", o.k.toFixed(4));
  };
  o.fit();
  canvas.all.push(o);
  return o;
}
canvas.all = [];
const line = (xs, ys) => {
  let d = "";
  for (let i = 0; i < xs.length; i++) d += (i ? "L" : "M") + xs[i].toFixed(2) + " " + ys[i].toFixed(2);
  return d;
};
