// The exact core: pure functions on lists of log-probabilities of any length; nothing here knows of a screen.
const sum = (a) => a.reduce((x, y) => x + y, 0),
  dot = (a, b) => a.reduce((s, x, i) => s + x * b[i], 0);
const lse = (a) => {
  const m = Math.max(...a);
  return m === -Infinity ? m : m + Math.log(sum(a.map((x) => Math.exp(x - m))));
};
const logSoftmax = (z) => {
  const s = lse(z);
  return z.map((x) => x - s);
};
const exp = (a) => a.map(Math.exp),
  log = (a) => a.map(Math.log);
const softplus = (x) => (x > 0 ? x + Math.log1p(Math.exp(-x)) : Math.log1p(Math.exp(x)));
const sigmoid = (x) => (x >= 0 ? 1 / (1 + Math.exp(-x)) : Math.exp(x) / (1 + Math.exp(x)));
/* KL(p, q) = sum q g(L), g = L e^L - (e^L - 1) >= 0: no cancellation when p is close to q */
const kl = (lp, lq) =>
  lp.reduce((s, l, i) => {
    if (l === -Infinity) return s + Math.exp(lq[i]);
    const L = l - lq[i],
      q = Math.exp(lq[i]);
    return s + (Math.abs(L) < 1e-3 ? q * L * L * (1 / 2 + L / 3 + (L * L) / 8) : Math.exp(l) * L - q * Math.expm1(L));
  }, 0);
const gibbs = (lq, r, b) => logSoftmax(lq.map((l, i) => l + r[i] / b));
const value = (lq, r, b) => b * lse(lq.map((l, i) => l + r[i] / b));
const J = (lp, lq, r, b) => dot(exp(lp), r) - b * kl(lp, lq);
const regret = (lp, lq, r, b) => b * kl(lp, gibbs(lq, r, b));
