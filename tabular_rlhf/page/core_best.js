/* ---- best of n: p_n = p_ref (F^n - F-^n)/q by reward level ---- */
function bestOfN(lq, r, n) {
  const q = exp(lq),
    levels = [...new Set(r)].sort((a, b) => a - b),
    lab = r.map((x) => levels.indexOf(x)),
    mass = levels.map(() => 0);
  q.forEach((c, i) => (mass[lab[i]] += c));
  const K = levels.length,
    above = Array(K).fill(0),
    below = [];
  for (let k = K - 2; k >= 0; k--) above[k] = above[k + 1] + mass[k + 1];
  let c = 0;
  for (const x of mass) below.push((c += x));
  const law = mass.map((x, k) => {
    const lF = above[k] < 0.5 ? Math.log1p(-above[k]) : Math.log(below[k]),
      share = k ? Math.min(1, x / Math.exp(lF)) : 1;
    return n * lF + (share < 1 ? Math.log(-Math.expm1(n * Math.log1p(-share))) : 0);
  });
  const lp = lq.map((l, i) => l + law[lab[i]] - Math.log(mass[lab[i]]));
  return { lp, kl: Math.max(0, sum(law.map((m, k) => Math.exp(m) * (m - Math.log(mass[k]))))) };
}
return {
  sum,
  dot,
  lse,
  logSoftmax,
  exp,
  log,
  sigmoid,
  softplus,
  kl,
  gibbs,
  value,
  J,
  regret,
  field,
  flow,
  optimum,
  end,
  margin,
  LOSS,
  pairStep,
  bt,
  dpoTrain,
  bestOfN,
  advantages,
  groupWeight,
  readLine,
  lineWorld,
  same,
  memoryless,
  covering,
  seeking,
};
