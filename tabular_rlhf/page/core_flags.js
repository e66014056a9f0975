/* ---- KL flags: m = p h'(L) in the loss, p h(L) in the reward; d = its derivative in log p; L = log p/p_ref ---- */
const WIDTH = 1e-3; // nats over which the jump of |L| is rounded, as in the Python flow
const O = [0, 0]; // the two numbers of a flag, written in place: this is the inner loop
const FLAGS = {
  "k1 loss": (p, q, L) => {
    O[0] = O[1] = p;
  },
  "k1 reward": (p, q, L) => {
    O[0] = p * L;
    O[1] = p * L + p;
  },
  "k2 loss": (p, q, L) => {
    O[0] = p * L;
    O[1] = p * L + p;
  },
  "k2 reward": (p, q, L) => {
    O[0] = (p * L * L) / 2;
    O[1] = O[0] + p * L;
  },
  // p e^-L = q: where L is far below 0, q - p stands for p (e^-L - 1), so that nothing overflows
  "k3 loss": (p, q, L) => {
    O[0] = L < -1 ? p - q : -p * Math.expm1(-L);
    O[1] = p;
  },
  "k3 reward": (p, q, L) => {
    O[0] = L < -1 ? q - p + p * L : p * (Math.expm1(-L) + L);
    O[1] = p * L;
  },
  "abs loss": (p, q, L) => {
    const t = Math.tanh(L / WIDTH);
    O[0] = p * t;
    O[1] = p * t + (p * (1 - t * t)) / WIDTH;
  },
  "abs reward": (p, q, L) => {
    O[0] = p * Math.abs(L);
    O[1] = O[0] + p * Math.sign(L);
  },
  "k3i loss": (p, q, L) => {
    const e = p * Math.expm1(L);
    O[0] = e;
    O[1] = 2 * e + p;
  },
  "k3i reward": (p, q, L) => {
    const e = Math.expm1(L);
    O[0] = p * (e - L);
    O[1] = O[0] + p * e;
  },
};
/* d z/dt = m - p sum m with m = p (r - b c), and its Jacobian in z; out, jac, work: arrays to write into */
function field(flag, z, lq, r, b, jac, out = [], lp = [], p = [], a = []) {
  const n = z.length,
    h = FLAGS[flag];
  let top = -Infinity,
    s = 0,
    M = 0,
    A = 0;
  for (let i = 0; i < n; i++) if (z[i] > top) top = z[i];
  for (let i = 0; i < n; i++) s += Math.exp(z[i] - top);
  s = top + Math.log(s);
  for (let i = 0; i < n; i++) {
    const l = z[i] - s,
      x = (p[i] = Math.exp(l));
    h(x, Math.exp(lq[i]), l - lq[i]);
    M += out[i] = x * r[i] - b * O[0];
    A += a[i] = x * r[i] - b * O[1];
  }
  for (let i = 0; i < n; i++) out[i] -= p[i] * M;
  if (jac)
    for (let i = 0; i < n; i++)
      for (let j = 0; j < n; j++) jac[i][j] = (a[i] - p[i] * M) * ((i === j) - p[j]) - p[i] * (a[j] - p[j] * A);
  return out;
}
