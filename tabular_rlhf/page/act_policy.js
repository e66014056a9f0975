/* ---- act 1: be the policy ---- */
const drag = triangle("drag"),
  D = {};
{
  const u = drag.under,
    v = drag.over;
  D.levels = el("g", {});
  u.append(D.levels);
  D.star = glyph("star", v);
  D.ref = glyph("ref", v);
  D.pol = glyph("pol", v);
  D.starT = words(v, "sm halo-text");
  D.refT = words(v, "sm halo-text", "end");
  D.starT.style.fill = "var(--blue)";
}
const movePol = handle(
    drag,
    D.pol,
    "Policy",
    () => st.p,
    (p) => {
      st.p = p;
      need("drag", "pair", "line");
    },
  ),
  moveRef = handle(
    drag,
    D.ref,
    "Reference",
    () => st.q,
    (q) => {
      st.q = q;
      playing = false;
      need("drag", "hero", "pair", "line");
    },
  );
let bestR = Infinity,
  levKey = "";
function levelSets(s) {
  // in polar form around p*: the sets are convex, so every ray meets a level once
  const out = [],
    [cx, cy] = place(s),
    ls = C.log(s),
    n = 96;
  for (const c of [0.01, 0.03, 0.1, 0.3, 1]) {
    let d = "",
      open = false,
      mark = null;
    for (let j = 0; j <= n; j++) {
      const a = (2 * Math.PI * j) / n,
        ux = Math.cos(a),
        uy = Math.sin(a);
      const dir = [-ux / 468 + (uy / 405) * 0.5, ux / 468 + (uy / 405) * 0.5, -uy / 405];
      let top = Infinity;
      dir.forEach((v, i) => {
        if (v < 0) top = Math.min(top, -s[i] / v);
      });
      const K = (t) => {
        let x = 0;
        for (let i = 0; i < 3; i++) {
          const p = Math.max(0, s[i] + t * dir[i]);
          if (p > 0) x += p * Math.log(p / s[i]);
        }
        return st.b * x;
      };
      if (K(top * (1 - 1e-12)) < c) {
        open = false;
        continue;
      }
      let lo = 0,
        hi = top;
      for (let q = 0; q < 18; q++) {
        const m = (lo + hi) / 2;
        K(m) < c ? (lo = m) : (hi = m);
      }
      const x = cx + lo * ux,
        y = cy + lo * uy;
      d += (open ? "L" : "M") + x.toFixed(1) + " " + y.toFixed(1);
      open = true;
      if (!mark || y > mark[1]) mark = [x, y];
    }
    if (d) out.push([c, d, mark]);
  }
  return out;
}
DRAW.drag = () => {
  drag.names();
  const k = drag.k,
    lq = C.log(st.q),
    lp = C.log(st.p),
    s = C.exp(C.gibbs(lq, st.r, st.b)),
    on = !!st.show;
  const kk = worldKey() + on + k;
  if (kk !== levKey) {
    levKey = kk;
    bestR = Infinity;
    D.levels.replaceChildren(
      ...(on
        ? levelSets(s).flatMap(([c, d, m]) => {
            const t = el("text", {
              class: "sm halo-text dim",
              "text-anchor": "middle",
              x: m[0].toFixed(1),
              y: (m[1] + 4 * k).toFixed(1),
            });
            t.textContent = c;
            return m[1] < 405 ? [el("path", { class: "level", d }), t] : [el("path", { class: "level", d })];
          })
        : []),
    );
  }
  const [px, py] = place(st.p),
    [rx, ry] = place(st.q),
    [sx, sy] = place(s);
  at(D.pol, px, py, k);
  at(D.ref, rx, ry, k);
  at(D.star, sx, sy, k, on);
  movePol();
  moveRef();
  label(D.starT, sx + 17 * k, sy - 8 * k, on ? "p*" : "");
  label(D.refT, rx - 15 * k, ry + 5 * k, "reference");
  const g = C.regret(lp, lq, st.r, st.b),
    j = C.J(lp, lq, st.r, st.b);
  bestR = Math.min(bestR, g);
  $("live").innerHTML =
    `<span>J <b>${fmt(j, 4)}</b></span><span>regret <b>${on ? fmt(g, 4) : "?"}</b></span><span>E[r] <b>${fmt(C.dot(st.p, st.r))}</b></span><span>KL(p, p<sub>ref</sub>) <b>${fmt(C.kl(lp, lq))}</b></span><span>KL(p<sub>ref</sub>, p) <b>${fmt(C.kl(lq, lp))}</b></span>`;
  const home = C.kl(C.log(s), lq),
    lead = C.exp(lq.map((l, i) => st.r[i] / st.b)),
    top = st.r.indexOf(Math.max(...st.r)),
    low = st.r.indexOf(Math.min(...st.r));
  $("beta-said").textContent =
    `β is the price of a nat of distance. At β = ${fmt(st.b, 2)} the best policy says ${NAMES[top]} with ${pct(s[top])} (the reference: ${pct(st.q[top])}), ${fmt(home)} nats from ◇, ` +
    (top === low
      ? "because all rewards are equal and there is nothing to gain."
      : `because exp((${fmt(st.r[top], 2)} − ${fmt(st.r[low], 2)})/β) = ${fmtBig(lead[top] / lead[low])} favors ${NAMES[top]} over ${NAMES[low]}. A larger β makes distance dear, and ★ comes home to ◇; a smaller β makes it cheap, and ★ runs to the best answer.`);
  $("reveal").textContent = on ? "Hide them" : "Show ★ and the level sets";
  $("nearest").textContent = on
    ? `J(p*) = ${fmt(C.value(lq, st.r, st.b), 4)} · your nearest: regret ${fmt(bestR, 4)}`
    : `best J so far: ${fmt(C.value(lq, st.r, st.b) - bestR, 4)}`;
};
$("reveal").onclick = () => {
  st.show = +!st.show;
  need("drag");
};
