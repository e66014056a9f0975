/* ---- groups of G answers with rewards 0 and 1, m of them right ---- */
/* the advantage of a right and of a wrong answer; a group that is all right or all wrong says nothing */
function advantages(m, G, divide) {
  const u = m / G,
    sd = Math.sqrt(u * (1 - u));
  if (m === 0 || m === G) return [0, 0];
  return divide ? [(1 - u) / sd, -u / sd] : [1 - u, -u];
}
/* w(u) where the mean update is w grad u: given m, a right answer's mean score is grad u / u, a wrong one's -grad u / (1 - u) */
function groupWeight(u, G, divide) {
  let total = 0,
    log_choose = 0;
  for (let m = 1; m < G; m++) {
    log_choose += Math.log((G - m + 1) / m);
    const [right, wrong] = advantages(m, G, divide),
      mass = Math.exp(log_choose + m * Math.log(u) + (G - m) * Math.log1p(-u));
    total += mass * ((m * right) / G / u - ((1 - m / G) * wrong) / (1 - u));
  }
  return total;
}
