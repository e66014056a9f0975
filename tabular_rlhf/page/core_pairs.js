/* ---- how hard each loss pushes on the margin D = L_w - L_l: minus its slope, per nat ---- */
const margin = (lp, lq, w, l) => lp[w] - lq[w] - lp[l] + lq[l];
const LOSS = {
  dpo: { value: (D, b) => softplus(-b * D), push: (D, b) => b * sigmoid(-b * D) },
  ipo: { value: (D, b) => (D - 1 / (2 * b)) ** 2, push: (D, b) => 1 / b - 2 * D },
  "slic-reference": { value: (D, b) => Math.max(0, 1 - b * D), push: (D, b) => (b * D < 1 ? b : 0) },
};
/* one step of size eta on the logits of a softmax: the push is added to the chosen logit and taken from the rejected one */
function pairStep(loss, lp, lq, b, w, l, eta) {
  const g = eta * LOSS[loss].push(margin(lp, lq, w, l), b),
    z = lp.slice();
  z[w] += g;
  z[l] -= g;
  return logSoftmax(z);
}
