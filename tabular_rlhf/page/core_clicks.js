/* ---- Bradley-Terry on clicks, and DPO on the same clicks; C[i][j]: how often i beat j ---- */
const strong = (C) => {
  // is every item reached from every other through wins?
  const n = C.length,
    reach = (from, ok) => {
      const seen = new Set([from]),
        todo = [from];
      while (todo.length) {
        const i = todo.pop();
        for (let j = 0; j < n; j++)
          if (!seen.has(j) && ok(i, j)) {
            seen.add(j);
            todo.push(j);
          }
      }
      return seen.size === n;
    };
  return reach(0, (i, j) => C[i][j] > 0) && reach(0, (i, j) => C[j][i] > 0);
};
function bt(C, prior) {
  // Newton with a halved step; returns rewards (sum 0), standard errors, deviance; null without a finite maximum
  const n = C.length,
    ridge = prior ? 1 / prior : 0;
  if (!prior && !strong(C)) return null;
  let r = Array(n).fill(0);
  const nll = (r) => {
    let s = 0;
    for (let i = 0; i < n; i++) {
      s += (ridge * r[i] * r[i]) / 2;
      for (let j = 0; j < n; j++) if (C[i][j]) s += C[i][j] * softplus(r[j] - r[i]);
    }
    return s;
  };
  const info = (r) =>
    r.map((ri, i) => {
      const row = r.map((rj, j) => (i === j ? 0 : -(C[i][j] + C[j][i]) * sigmoid(ri - rj) * sigmoid(rj - ri)));
      row[i] = ridge - sum(row);
      return row;
    });
  for (let k = 0; k < 100; k++) {
    const g = r.map((ri, i) => sum(r.map((rj, j) => (C[i][j] + C[j][i]) * sigmoid(ri - rj) - C[i][j])) + ridge * ri);
    const I = info(r),
      H = I.map((row) => row.map((x) => x + (ridge ? 0 : 1 / n))),
      d = solve(
        H,
        g.map((x) => -x),
      );
    let s = 1;
    const now = nll(r);
    while (s > 1e-6 && nll(r.map((x, i) => x + s * d[i])) > now + 1e-12) s /= 2;
    r = r.map((x, i) => x + s * d[i]);
    if (Math.max(...d.map(Math.abs)) < 1e-12) break;
  }
  const mean = sum(r) / n;
  r = r.map((x) => x - mean);
  const I = info(r),
    H = I.map((row) => row.map((x) => x + (ridge ? 0 : 1 / n)));
  const cov = I.map((_, j) =>
      solve(
        H,
        I.map((_, i) => +(i === j)),
      ),
    ),
    se = cov.map((row, i) => Math.sqrt(Math.max(0, row[i] - (ridge ? 0 : 1 / n))));
  let dev = 0;
  for (let i = 0; i < n; i++)
    for (let j = 0; j < n; j++) if (C[i][j]) dev += 2 * C[i][j] * (Math.log(C[i][j] / (C[i][j] + C[j][i])) + softplus(r[j] - r[i]));
  return { r, se, dev, cov };
}
function dpoSlopes(C, lq, b, z) {
  // gradient and Hessian in logits of the mean DPO loss of all clicks
  const n = C.length,
    N = sum(C.flat()),
    g = Array(n).fill(0),
    H = g.map(() => Array(n).fill(0));
  for (let i = 0; i < n; i++)
    for (let j = 0; j < n; j++)
      if (C[i][j]) {
        const m = b * (z[i] - lq[i] - z[j] + lq[j]),
          s = (C[i][j] / N) * b * sigmoid(-m),
          w = s * b * sigmoid(m);
        g[i] -= s;
        g[j] += s;
        H[i][i] += w;
        H[j][j] += w;
        H[i][j] -= w;
        H[j][i] -= w;
      }
  return { g, H };
}
function dpoTrain(C, lq, b, passes) {
  // exact gradient flow of the mean DPO loss in logits for a time of `passes`/b^2, by implicit steps
  let z = lq.slice();
  if (!sum(C.flat()) || !passes) return logSoftmax(z);
  const total = passes / (b * b),
    K = 40;
  let t = 0;
  for (let k = 1; k <= K; k++) {
    // geometric steps, each solved by Newton: z' = -grad
    const T = (total * (Math.pow(1e4, k / K) - 1)) / (1e4 - 1),
      h = T - t,
      z0 = z;
    t = T;
    for (let it = 0; it < 30; it++) {
      const { g, H } = dpoSlopes(C, lq, b, z),
        d = solve(
          H.map((row, i) => row.map((x, j) => h * x + (i === j))),
          z.map((x, i) => z0[i] - x - h * g[i]),
        );
      z = z.map((x, i) => x + d[i]);
      if (Math.max(...d.map(Math.abs)) < 1e-11) break;
    }
  }
  return logSoftmax(z);
}
