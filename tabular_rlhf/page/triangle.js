/* the triangle */
const V = [
    [46, 412],
    [514, 412],
    [280, 7],
  ],
  place = (p) => [0, 1].map((a) => p[0] * V[0][a] + p[1] * V[1][a] + p[2] * V[2][a]);
function bary(x, y) {
  const c = clamp((412 - y) / 405, 0, 1),
    b = clamp((x - 46 - 234 * c) / 468, 0, 1 - c),
    p = [Math.max(0, 1 - b - c), b, c].map((v) => Math.max(v, 1e-4)),
    t = C.sum(p);
  return p.map((v) => v / t);
}
function triangle(id) {
  const o = canvas(id, 560, 462),
    g = (n) => {
      const e = el("g", { class: n });
      o.svg.append(e);
      return e;
    };
  o.svg.append(el("polygon", { points: V.map((v) => v.join(",")).join(" "), class: "tri" }));
  o.under = g("under");
  o.over = g("over");
  o.corner = V.map((v, i) => [
    words(o.svg, "big", ["start", "end", "start"][i]),
    words(o.svg, "dim sm", ["start", "end", "start"][i]),
  ]);
  o.names = () =>
    o.corner.forEach(([a, b], i) => {
      const k = o.k,
        x = [10, 550, 296 + 4 * k][i],
        y = [430 + 6 * k, 430 + 6 * k, 14 + 2 * k][i];
      label(a, x, y, NAMES[i] + "  " + SAYS[i]);
      label(b, x, y + 17 * k, "reward " + fmt(st.r[i], 2));
    });
  return o;
}
function handle(o, g, name, get, put) {
  // mouse, finger and keys
  g.insertBefore(el("circle", { r: 22, class: "halo" }), g.firstChild);
  set(g, { class: "grab", tabindex: 0, role: "slider", "aria-label": name, "aria-valuemin": 0, "aria-valuemax": 100 });
  const xy = (e) => {
    const m = o.svg.getScreenCTM().inverse(),
      q = new DOMPoint(e.clientX, e.clientY).matrixTransform(m);
    return bary(q.x, q.y);
  };
  g.addEventListener("pointerdown", (e) => {
    g.setPointerCapture(e.pointerId);
    g.focus({ preventScroll: true });
    e.preventDefault();
  });
  g.addEventListener("touchstart", (e) => e.preventDefault(), { passive: false }); // a finger on the handle drags, anywhere else it scrolls
  g.addEventListener("pointermove", (e) => {
    if (g.hasPointerCapture(e.pointerId)) put(xy(e));
  });
  g.addEventListener("keydown", (e) => {
    const d = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[e.key];
    if (!d) return;
    e.preventDefault();
    const s = e.shiftKey ? 1 : 6,
      [x, y] = place(get());
    put(bary(x + s * d[0], y + s * d[1]));
  });
  return () => {
    const p = get();
    set(g, { "aria-valuenow": Math.round(100 * p[2]), "aria-valuetext": p.map((v, i) => NAMES[i] + " " + pct(v)).join(", ") });
  };
}
