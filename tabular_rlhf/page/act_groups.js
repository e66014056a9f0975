/* ---- groups: what one group says, and what groups say on average ---- */
const ga = canvas("advantages", 560, (k) => Math.max(210, 170 * k)),
  gw = canvas("weights", 560, (k) => Math.max(190, 160 * k)),
  GR = {};
GR.axis = el("path", { class: "axis" });
GR.now = el("path", { class: "thin dash" });
ga.svg.append(GR.axis, GR.now);
GR.dots = [...Array(33)].map(() =>
  ["var(--green)", "var(--trail)"].map((fill) => {
    const e = el("circle", { fill });
    ga.svg.append(e);
    return e;
  }),
);
GR.right = words(ga.svg, "sm big halo-text", "end");
GR.wrong = words(ga.svg, "sm big halo-text");
GR.foot = words(ga.svg, "sm dim", "middle");
GR.ends = ["start", "end"].map((anchor) => words(ga.svg, "sm dim", anchor));
GR.waxis = el("path", { class: "axis" });
GR.flat = el("path", { class: "thin dash" });
GR.w = el("path", { class: "level" });
GR.w.style.cssText = "stroke-width:2.5;opacity:1";
gw.svg.append(GR.waxis, GR.flat, GR.w);
GR.dot = el("circle", { fill: "var(--blue)" });
gw.svg.append(GR.dot);
GR.wt = words(gw.svg, "sm big halo-text");
GR.wfoot = words(gw.svg, "sm dim", "middle");
GR.wends = ["start", "end"].map((anchor) => words(gw.svg, "sm dim", anchor));
function drawAdvantages() {
  const { k, H } = ga,
    G = st.G,
    m = Math.min(st.m, G),
    divide = st.dv === "yes",
    all = [...Array(G + 1)].map((_, i) => C.advantages(i, G, divide)),
    top = Math.max(...all.flat().map(Math.abs)),
    low = H - 34 * k,
    mid = (low + 22 * k) / 2,
    X = (i) => 20 * k + (i / G) * (560 - 40 * k),
    Y = (a) => mid - (a / top) * (mid - 22 * k);
  set(GR.axis, { d: `M${X(0)} ${mid}H${X(G)}` });
  set(GR.now, { d: `M${X(m)} ${10 * k}V${low}` });
  GR.dots.forEach((pair, i) =>
    pair.forEach((e, j) =>
      set(
        e,
        i > G || (j === 0 ? i === 0 : i === G)
          ? { display: "none" }
          : { display: "inline", cx: X(i).toFixed(1), cy: Y(all[i][j]).toFixed(1), r: ((i === m ? 7 : 3.5) * k).toFixed(2) },
      ),
    ),
  );
  label(GR.right, X(G), 18 * k, "advantage of a right answer");
  label(GR.wrong, X(0), low - 4 * k, "advantage of a wrong answer");
  GR.right.style.fill = "var(--green)";
  label(GR.foot, X(G / 2), H - 8 * k, "right answers m in the group");
  label(GR.ends[0], X(0), H - 8 * k, "0");
  label(GR.ends[1], X(G), H - 8 * k, String(G));
}
function drawWeights() {
  const { k, H } = gw,
    G = st.G,
    divide = st.dv === "yes",
    us = [...Array(99)].map((_, i) => (i + 1) / 100),
    ws = us.map((u) => C.groupWeight(u, G, divide)),
    top = Math.max(1.2, ...ws) * 1.1,
    base = H - 30 * k,
    X = (u) => 20 * k + u * (560 - 40 * k),
    Y = (w) => base - (w / top) * (base - 14 * k),
    w = C.groupWeight(st.u, G, divide);
  set(GR.waxis, { d: `M${X(0)} ${base}H${X(1)}` });
  set(GR.flat, { d: `M${X(0)} ${Y(1).toFixed(1)}H${X(1)}` });
  set(GR.w, { d: line(us.map(X), ws.map(Y)) });
  set(GR.dot, { cx: X(st.u).toFixed(1), cy: Y(w).toFixed(1), r: (6 * k).toFixed(2) });
  label(GR.wt, clamp(X(st.u), X(0.14), X(0.86)), Y(w) - 12 * k, "weight w = " + fmt(w, 2), { "text-anchor": "middle" });
  label(GR.wfoot, X(0.5), H - 6 * k, "success rate u of the prompt; dashed: weight 1, plain E[r]");
  label(GR.wends[0], X(0), H - 6 * k, "0");
  label(GR.wends[1], X(1), H - 6 * k, "1");
}
DRAW.groups = () => {
  drawAdvantages();
  drawWeights();
  const G = st.G,
    m = Math.min(st.m, G),
    divide = st.dv === "yes",
    [right, wrong] = C.advantages(m, G, divide),
    w = C.groupWeight(st.u, G, divide),
    middle = C.groupWeight(0.5, G, divide);
  $("groupsaid").textContent =
    (m === 0 || m === G
      ? `All ${G} answers are ${m ? "right" : "wrong"}: every advantage is 0 and the group says nothing, because nothing differs from the mean. `
      : `With ${m} of ${G} right, a right answer gets ${fmt(right, 3)}, a wrong one ${fmt(wrong, 3)}. `) +
    (divide
      ? `A prompt solved with rate ${fmt(st.u, 2)} counts ${fmt(w, 3)}, one of rate 0.5 counts ${fmt(middle, 3)}: ` +
        (G === 2
          ? "the same for every rate, because in a pair the standard deviation is always 1/2 where it is not 0."
          : "rates differ, because lopsided groups have a small standard deviation and are divided by it.")
      : `Every prompt counts ${fmt(w, 3)} = 1 − 1/G, whatever its rate: because the mean holds the answer itself, a G-th part is lost and nothing else changes.`);
};
