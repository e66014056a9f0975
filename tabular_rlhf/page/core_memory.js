/* policies that cannot remember whether they have knocked: k by its log-odds x; logs of 1 - k, k (1 - k), k^2 */
const memoryless = (x) => {
  const k = -softplus(-x),
    stop = -softplus(x);
  return [stop, k + stop, 2 * k];
};
/* min KL(p, p_k): the share of the words that are knocks */
const covering = ([none, one, two]) => lse([one, two + Math.LN2]) - lse([none, one]);
/* every local minimum of KL(p_k, p), the lowest first: where its slope in k turns from below 0 to above */
function seeking(lp) {
  const slope = (x) => {
    const L = memoryless(x).map((l, i) => l - lp[i]);
    return -L[0] + sigmoid(-x) * (L[1] * (1 - Math.exp(x)) + L[2] * 2 * Math.exp(x));
  };
  const at = [];
  for (let i = -400; i < 400; i++) {
    const [a, b] = [i / 10, (i + 1) / 10];
    if (slope(a) < 0 && slope(b) >= 0) at.push(root((x) => -slope(x), a, b));
  }
  return at.sort((x, y) => kl(memoryless(x), lp) - kl(memoryless(y), lp));
}
