const greedy = (lq, r) => {
  const m = Math.max(...r);
  return logSoftmax(lq.map((l, i) => (r[i] === m ? l : -Infinity)));
};
const root = (f, lo, hi) => {
  for (let k = 0; k < 200 && lo < hi; k++) {
    const m = (lo + hi) / 2;
    if (m === lo || m === hi) break;
    f(m) > 0 ? (lo = m) : (hi = m);
  }
  return (lo + hi) / 2;
};
/* the closed form where there is one */
function optimum(flag, lq, r, b) {
  const q = exp(lq),
    top = Math.max(...r);
  if (flag === "k2 loss" || flag === "k1 reward") return gibbs(lq, r, b);
  if (flag === "k1 loss") return greedy(lq, r);
  if (flag === "k3 loss") {
    // b q/(lam - r); x = lam - max r lies in (0, b]
    const x = root((x) => sum(q.map((c, i) => (b * c) / (x + top - r[i]))) - 1, 0, b);
    return logSoftmax(q.map((c, i) => Math.log((b * c) / (x + top - r[i]))));
  }
  if (flag === "k3i loss") {
    // q (1 + (r - lam)/b)+, the active set by falling reward
    const at = r.map((x, i) => i).sort((i, j) => r[j] - r[i]);
    let mass = 0,
      mean = 0,
      lam = 0;
    for (const [k, i] of at.entries()) {
      mass += q[i];
      mean += q[i] * r[i];
      lam = (mean + b * (mass - 1)) / mass;
      if (k === at.length - 1 || r[at[k + 1]] <= lam - b) break;
    }
    return logSoftmax(q.map((c, i) => Math.log(c * Math.max(0, 1 + (r[i] - lam) / b))));
  }
  if (flag === "abs loss") {
    // what earns less than the best by more than 2 b gives its mass to the best
    const gone = r.map((x) => top - x > 2 * b),
      best = r.map((x) => x === top),
      lost = sum(q.filter((c, i) => gone[i])),
      B = sum(q.filter((c, i) => best[i]));
    return log(q.map((c, i) => (gone[i] ? 0 : best[i] ? c + (lost * c) / B : c)));
  }
  return null;
}
/* where the flow ends: the closed form, else followed to time 1e9/b and rounded to the face that it has reached */
function end(flag, lq, r, b) {
  const known = optimum(flag, lq, r, b);
  if (known) return { lp: known, known: true };
  const path = flow(flag, lq, r, b, [0, 1e-2 / b, 1 / b, 1e2 / b, 1e4 / b, 1e6 / b, 1e9 / b], { rtol: 1e-6 }),
    lp = path[path.length - 1];
  const p = exp(lp).map((x) => (x < 1e-5 ? 0 : x));
  return { lp: log(p.map((x) => x / sum(p))), known: false };
}
