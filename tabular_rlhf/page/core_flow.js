/* LU in place with partial pivoting, and its solution in place */
function factor(A, ix) {
  const n = A.length;
  for (let k = 0; k < n; k++) {
    let t = k;
    for (let i = k + 1; i < n; i++) if (Math.abs(A[i][k]) > Math.abs(A[t][k])) t = i;
    const row = A[k];
    A[k] = A[t];
    A[t] = row;
    ix[k] = t;
    for (let i = k + 1; i < n; i++) {
      const f = (A[i][k] /= A[k][k]);
      for (let j = k + 1; j < n; j++) A[i][j] -= f * A[k][j];
    }
  }
}
function back(A, ix, x) {
  // rows were swapped whole, so all swaps come before the two triangles
  const n = A.length;
  for (let k = 0; k < n; k++) {
    const t = ix[k],
      y = x[k];
    x[k] = x[t];
    x[t] = y;
  }
  for (let i = 0; i < n; i++) for (let j = 0; j < i; j++) x[i] -= A[i][j] * x[j];
  for (let i = n - 1; i >= 0; i--) {
    for (let j = i + 1; j < n; j++) x[i] -= A[i][j] * x[j];
    x[i] /= A[i][i];
  }
  return x;
}
const solve = (A, b) => {
  const B = A.map((r) => r.slice()),
    ix = [];
  factor(B, ix);
  return back(B, ix, b.slice());
};
/* Rosenbrock of order 4(3), Shampine's parameters: A-stable, so |L| may slide along its corner and times may be long */
function flow(flag, lq, r, b, times, { start = lq, rtol = 1e-7, most = 20000 } = {}) {
  const n = start.length,
    v = () => Array(n).fill(0),
    sq = () => start.map(v),
    jac = sq(),
    A = sq(),
    ix = v(),
    lp = v(),
    p = v(),
    a = v(),
    f = v(),
    g1 = v(),
    g2 = v(),
    g3 = v(),
    g4 = v(),
    y = v();
  let z = start.slice(),
    t = times[0],
    h = Math.min(1e-3, (times[1] || 1) / 4),
    steps = 0;
  const out = [logSoftmax(z)];
  for (let k = 1; k < times.length; k++) {
    while (t < times[k] && steps < most) {
      steps++;
      const last = t + h >= times[k] * (1 - 1e-13),
        H = last ? times[k] - t : h;
      field(flag, z, lq, r, b, jac, f, lp, p, a);
      for (let i = 0; i < n; i++) {
        for (let j = 0; j < n; j++) A[i][j] = (i === j ? 2 / H : 0) - jac[i][j];
        g1[i] = f[i];
      }
      factor(A, ix);
      back(A, ix, g1);
      for (let i = 0; i < n; i++) y[i] = z[i] + 2 * g1[i];
      field(flag, y, lq, r, b, null, f, lp, p, a);
      for (let i = 0; i < n; i++) g2[i] = f[i] - (8 / H) * g1[i];
      back(A, ix, g2);
      for (let i = 0; i < n; i++) y[i] = z[i] + (48 / 25) * g1[i] + (6 / 25) * g2[i];
      field(flag, y, lq, r, b, null, f, lp, p, a);
      for (let i = 0; i < n; i++) g3[i] = f[i] + ((372 / 25) * g1[i] + (12 / 5) * g2[i]) / H;
      back(A, ix, g3);
      for (let i = 0; i < n; i++) g4[i] = f[i] + ((-112 / 125) * g1[i] - (54 / 125) * g2[i] - (2 / 5) * g3[i]) / H;
      back(A, ix, g4);
      let err = 0,
        top = -Infinity;
      for (let i = 0; i < n; i++) {
        y[i] = z[i] + (19 / 9) * g1[i] + g2[i] / 2 + (25 / 108) * g3[i] + (125 / 108) * g4[i];
        if (y[i] > top) top = y[i];
        const e = Math.abs((17 / 54) * g1[i] + (7 / 36) * g2[i] + (125 / 108) * g4[i]) / (1 + Math.abs(y[i])) / rtol;
        err = e > err || e !== e ? e : err;
      }
      if (err <= 1) {
        for (let i = 0; i < n; i++) z[i] = y[i] - top;
        t = last ? times[k] : t + H;
        if (!last || err > 0.3) h = H * Math.min(4, Math.max(0.2, 0.9 * Math.pow(err + 1e-9, -1 / 4)));
        else h = Math.max(h, H * 2);
      } else h = H * (err < 1e9 ? Math.max(0.1, 0.9 * Math.pow(err, -1 / 3)) : 0.1);
    }
    out.push(logSoftmax(z));
  }
  out.steps = steps;
  return out;
}
