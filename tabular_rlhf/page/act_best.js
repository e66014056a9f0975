/* ---- act 4: best of n ---- */
const cr = canvas("crowd", 560, 250),
  cu = canvas("curve", 560, (k) => Math.max(190, 150 * k)),
  N = 60,
  NMAX = 1000,
  nOf = (x) => Math.pow(NMAX, x),
  U = Array(N).fill(-Math.log(N)),
  G = {
    dots: [...Array(N)].map(() => {
      const e = el("circle", { fill: "var(--soft)", "fill-opacity": 0.4, stroke: "var(--soft)" });
      cr.svg.append(e);
      return e;
    }),
  };
G.ax = el("path", { class: "axis" });
cr.svg.prepend(G.ax);
G.lx = words(cr.svg, "sm dim", "end");
G.ly = words(cr.svg, "sm dim");
G.cax = el("path", { class: "axis" });
G.proxy = el("path", { class: "thin dash" });
G.proxy.style.cssText = "stroke-width:2";
G.gold = el("path", { class: "trail" });
G.gold.style.stroke = "var(--green)";
G.now = el("path", { class: "thin" });
G.pk = el("path", { class: "guess" });
cu.svg.append(G.cax, G.now, G.pk, G.proxy, G.gold);
G.pt = words(cu.svg, "sm halo-text");
G.gt = words(cu.svg, "sm big halo-text");
G.gt.style.fill = "var(--green)";
G.tk = [1, 10, 100, 1000].map((t) => [t, words(cu.svg, "sm dim", t === 1000 ? "end" : t === 1 ? "start" : "middle")]);
G.dp = el("circle", { fill: "var(--green)" });
cu.svg.append(G.dp);
function crowd(seed, noise) {
  const u = uniform(seed),
    g = () => Math.sqrt(-2 * Math.log(1 - u())) * Math.cos(2 * Math.PI * u());
  const gold = [],
    proxy = [];
  for (let i = 0; i < N; i++) {
    const x = g(),
      z = g(),
      c = (g() ** 2 + g() ** 2 + g() ** 2) / 3;
    gold.push(x);
    proxy.push(x + (noise * z) / Math.sqrt(c));
  }
  return { gold, proxy };
}
DRAW.bon = () => {
  const k = cr.k,
    w = crowd(st.seed, st.e),
    n = nOf(st.n),
    now = C.bestOfN(U, w.proxy, n),
    p = C.exp(now.lp),
    xs = [...Array(61)].map((_, i) => i / 60),
    pc = [],
    gc = [];
  for (const x of xs) {
    const q = C.exp(C.bestOfN(U, w.proxy, nOf(x)).lp);
    pc.push(C.dot(q, w.proxy));
    gc.push(C.dot(q, w.gold));
  }
  const lo = Math.min(...w.proxy),
    hi = Math.max(...w.proxy),
    X = (v) => 20 + ((v - lo) / (hi - lo)) * 510,
    Y = (v) => 120 - 38 * v;
  set(G.ax, { d: `M10 120H550` });
  label(G.lx, 550, 246, "proxy →");
  label(G.ly, 10, 12 * k, "↑ true reward");
  G.dots.forEach((e, i) =>
    set(e, { cx: X(w.proxy[i]).toFixed(1), cy: Y(w.gold[i]).toFixed(1), r: (k * Math.max(1.2, 34 * Math.sqrt(p[i]))).toFixed(2) }),
  );
  const c = cu.k,
    top = Math.max(...pc, 0.5),
    bot = Math.min(-0.6, ...gc),
    cx = (x) => 12 * c + x * (560 - 24 * c),
    low = cu.H - 30 * c,
    cy = (v) => low - ((v - bot) / (top - bot)) * (low - 20),
    told = st.pk >= 0,
    m = gc.indexOf(Math.max(...gc)); // the truth is shown up to n until you have said where it peaks
  const upto = told ? 60 : 0,
    gn = C.dot(p, w.gold),
    pn = C.dot(p, w.proxy);
  set(G.cax, { d: `M${cx(0)} ${cy(0).toFixed(1)}H${cx(1)}` });
  set(G.proxy, { d: line(xs.map(cx), pc.map(cy)) });
  set(G.gold, { d: told ? line(xs.map(cx), gc.map(cy)) : "" });
  set(G.now, { d: `M${cx(st.n).toFixed(1)} 14V${(low + 6).toFixed(1)}` });
  set(G.pk, { d: told ? `M${cx(st.pk).toFixed(1)} 14V${(low + 6).toFixed(1)}` : "" });
  set(G.dp, { cx: cx(st.n).toFixed(1), cy: cy(gn).toFixed(1), r: (5 * c).toFixed(2), display: told ? "inline" : "none" });
  G.tk.forEach(([t, e]) => label(e, cx(Math.log(t) / Math.log(NMAX)), low + 20 * c, (t === 1 ? "n = " : "") + t));
  label(G.pt, cx(0.99), cy(pc[60]) + 18 * c, "what the proxy says", { "text-anchor": "end" });
  label(G.gt, cx(0.99), cy(gc[57]) + (gc[57] < 0 ? -12 : 18) * c, told ? "the truth" : "", { "text-anchor": "end" });
  $("peak").textContent = told ? "Hide the truth" : "The truth peaks here";
  $("bonsaid").textContent =
    `n = ${n < 10 ? fmt(n, 1) : Math.round(n)}: proxy ${fmt(pn, 2)}, KL ${fmt(now.kl, 2)} nats (at most log n − (n − 1)/n = ${fmt(Math.log(n) - (n - 1) / n, 2)}). ` +
    (told
      ? `True reward ${fmt(gn, 2)}. You said n = ${Math.round(nOf(st.pk))}; it peaks at n = ${Math.round(nOf(xs[m]))} with ${fmt(gc[m], 2)}, and ends at ${fmt(gc[60], 2)}.`
      : "Move n to where you think the true reward is largest, then press.");
};
$("n").oninput = (e) => {
  st.n = +e.target.value;
  need("bon");
  sync();
};
$("noise").oninput = (e) => {
  st.e = +e.target.value;
  need("bon");
  sync();
};
$("peak").onclick = () => {
  st.pk = st.pk < 0 ? st.n : -1;
  need("bon");
};
$("other").onclick = () => {
  st.seed = (st.seed % 999) + 1;
  st.pk = -1;
  need("bon");
};
