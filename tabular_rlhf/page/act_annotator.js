/* ---- act 3: be the annotator ---- */
const bt = canvas("bt", 560, (k) => 4 * Math.max(76, 72 * k) + (k > 1.3 ? 80 : 66) * k),
  B = { rows: [0, 1, 2, 3].map(() => ({})) };
B.axis = el("path", { class: "axis" });
bt.svg.append(B.axis);
B.h1 = words(bt.svg, "sm dim");
B.h2 = words(bt.svg, "sm dim");
B.zero = words(bt.svg, "sm dim", "middle");
B.rows.forEach((o) => {
  o.name = words(bt.svg, "big");
  o.bar = el("path", { class: "thin" });
  o.bar.style.strokeWidth = 2;
  o.bar.style.stroke = "var(--green)";
  o.dot = el("g", {}, el("rect", { x: -5, y: -5, width: 10, height: 10, fill: "var(--green)" }));
  o.track = el("path", { class: "axis" });
  bt.svg.append(o.bar, o.dot, o.track);
  o.ref = glyph("ref", bt.svg);
  o.star = glyph("star", bt.svg);
  o.pol = el("g", {}, el("circle", { r: 13, class: "ring" }));
  bt.svg.append(o.pol);
  o.num = words(bt.svg, "sm dim");
});
const counts = () => {
  const c = [0, 1, 2, 3].map(() => [0, 0, 0, 0]);
  for (let i = 0; i < st.c.length; i += 2) c[L4.indexOf(st.c[i])][L4.indexOf(st.c[i + 1])]++;
  return c;
};
let shown = [0, 1];
const nextPair = () => {
  const c = counts(),
    all = [];
  for (let i = 0; i < 4; i++)
    for (let j = i + 1; j < 4; j++) all.push([c[i][j] + c[j][i] + Math.random() * 0.9, Math.random() < 0.5 ? [i, j] : [j, i]]);
  const not = shown.slice().sort().join();
  shown = all.filter((x) => x[1].slice().sort().join() !== not).sort((a, b) => a[0] - b[0])[0][1];
};
DRAW.bt = () => {
  const k = bt.k,
    c = counts(),
    n = st.c.length / 2,
    off = st.pr > 2,
    sd = Math.pow(10, st.pr),
    fit = n ? C.bt(c, off ? null : sd * sd) : off ? null : C.bt(c, sd * sd),
    lq = C.log(REF4),
    s = fit ? C.exp(C.gibbs(lq, fit.r, st.b)) : null,
    d = C.exp(C.dpoTrain(c, lq, st.b, Math.pow(10, st.dp)));
  const reach = fit ? Math.max(2.2, ...fit.r.map((x, i) => Math.abs(x) + 1.96 * fit.se[i])) : 3,
    mid = 160,
    X = (r) => mid + clamp(r / reach, -1, 1) * 118,
    Y = (i) => (k > 1.3 ? 78 : 62) * k + i * Math.max(76, 72 * k),
    Q = (p) => 330 + p * 216;
  set(B.axis, { d: `M${mid} ${Y(0) - 12 * k}V${Y(3) + 22}` });
  label(B.zero, mid, Y(3) + 22 + 14 * k, "0");
  label(B.h1, 8, 14 * k, "reward fitted to the clicks ± 1.96 s.e.");
  label(B.h2, k > 1.3 ? 8 : Q(0), (k > 1.3 ? 30 : 14) * k, "◇ reference\u2003★ p*\u2003○ DPO");
  B.rows.forEach((o, i) => {
    const y = Y(i);
    label(o.name, 8, y - 19 * k, L4[i] + "  " + ANSWERS[i]);
    set(
      o.bar,
      fit
        ? {
            d: `M${X(fit.r[i] - 1.96 * fit.se[i]).toFixed(1)} ${y}H${X(fit.r[i] + 1.96 * fit.se[i]).toFixed(1)}`,
            display: "inline",
          }
        : { display: "none" },
    );
    at(o.dot, fit ? X(fit.r[i]) : 0, y, k, !!fit);
    set(o.track, { d: `M${Q(0)} ${y}H${Q(1)}` });
    at(o.ref, Q(REF4[i]), y, k * 0.8);
    at(o.star, s ? Q(s[i]) : 0, y, k * 0.85, !!s);
    at(o.pol, Q(d[i]), y, k * 0.8);
    label(o.num, Q(0), y + 25 * k, (s ? "p* " + pct(s[i]) + "\u2003" : "") + "DPO " + pct(d[i]));
  });
  $("left").textContent = L4[shown[0]] + "  " + ANSWERS[shown[0]];
  $("right").textContent = L4[shown[1]] + "  " + ANSWERS[shown[1]];
  let worst = null,
    rows = "";
  if (n)
    for (let i = 0; i < 4; i++)
      for (let j = i + 1; j < 4; j++) {
        const N = c[i][j] + c[j][i];
        if (!N) continue;
        const m = fit ? C.sigmoid(fit.r[i] - fit.r[j]) : NaN;
        rows += `<tr><th scope="row">${L4[i]} over ${L4[j]}</th><td>${c[i][j]} of ${N}</td><td>${pct(c[i][j] / N)}</td><td>${fit ? pct(m) : "–"}</td></tr>`;
      }
  $("wins").innerHTML = rows
    ? `<table><caption>What was clicked, and what one reward per answer can say about it</caption><thead><tr><th></th><th scope="col">clicked</th><th scope="col">rate</th><th scope="col">Bradley-Terry</th></tr></thead><tbody>${rows}</tbody></table>`
    : "";
  const cyc = [];
  for (const [x, y, z] of [
    [0, 1, 2],
    [0, 1, 3],
    [0, 2, 3],
    [1, 2, 3],
  ])
    for (const t of [
      [x, y, z],
      [x, z, y],
    ])
      if (c[t[0]][t[1]] > c[t[1]][t[0]] && c[t[1]][t[2]] > c[t[2]][t[1]] && c[t[2]][t[0]] > c[t[0]][t[2]])
        cyc.push(t.map((v) => L4[v]).join(" > ") + " > " + L4[t[0]]);
  $("clicksaid").textContent = !n
    ? "No click yet. " +
      (off
        ? "Without a prior there is no reward either, and so no ★."
        : "The prior alone says that all rewards are 0, and ★ stays at ◇.")
    : `${n} click${n > 1 ? "s" : ""}. ` +
      (cyc.length
        ? `A cycle: ${cyc[0]}. No reward can say that; Bradley-Terry answers with a polite fiction (compare the last two columns), and both policies follow it. `
        : "") +
      (!fit
        ? "Without a prior no finite fit exists: some answers never lost to some others, so no ★, and DPO walks on for as long as it is trained. "
        : C.sum(s.map((v, i) => Math.abs(v - d[i]))) < 0.005
          ? "DPO stands on ★. "
          : off
            ? "DPO is on its way to ★: train longer. "
            : "The prior holds ★ back; DPO has none, and goes where the clicks alone lead. ");
};
const click = (w, l) => {
  st.c += L4[w] + L4[l];
  nextPair();
  need("bt");
};
$("left").onclick = () => click(...shown);
$("right").onclick = () => click(shown[1], shown[0]);
$("undo").onclick = () => {
  st.c = st.c.slice(0, -2);
  need("bt");
};
$("clear").onclick = () => {
  st.c = "";
  need("bt");
};
$("many").onclick = () => {
  const r = [-0.8, 1.4, -1.2, 0.6];
  for (let t = 0; t < 20; t++) {
    const i = Math.floor(Math.random() * 4),
      j = (i + 1 + Math.floor(Math.random() * 3)) % 4;
    st.c += Math.random() < C.sigmoid(r[i] - r[j]) ? L4[i] + L4[j] : L4[j] + L4[i];
  }
  need("bt");
};
$("cycle").onclick = () => {
  st.c = "ABABABABBCBCBCBCCACACACAADDA";
  need("bt");
};
$("prior").oninput = (e) => {
  st.pr = +e.target.value;
  need("bt");
  sync();
};
$("passes").oninput = (e) => {
  st.dp = +e.target.value;
  need("bt");
  sync();
};
