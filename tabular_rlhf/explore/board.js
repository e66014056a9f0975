// One policy over three answers, moved by mouse, finger or keys; its numbers come from the page's exact core C; G is what Python gave.
const $ = (id) => document.getElementById(id),
  fmt = (x, d = 4) => x.toFixed(d).replace(/^-(?=0\.?0*$)/, "").replace("-", "−"),
  place = (p) => [0, 1].map((k) => p.reduce((s, x, i) => s + x * G.corners[i][k], 0));
const star = C.gibbs(G.lq, G.r, G.beta),
  best = C.value(G.lq, G.r, G.beta);
let p = C.exp(G.lq),
  moved = 0,
  told = "";
function law(x, y) {
  const [[ax, ay], [bx], [, cy]] = G.corners,
    c = Math.min(1, Math.max(0, (ay - y) / (ay - cy))),
    b = Math.min(1 - c, Math.max(0, (x - ax) / (bx - ax) - c / 2)),
    least = [1 - b - c, b, c].map((v) => Math.max(v, 1e-6)),
    total = C.sum(least);
  return least.map((v) => v / total);
}
/* the most that any policy earns at this KL: the Gibbs law whose KL it is, by bisection in its beta */
function mostAt(kl) {
  let low = -12,
    high = 12;
  for (let k = 0; k < 80; k++) {
    const b = Math.exp((low + high) / 2),
      there = C.kl(C.gibbs(G.lq, G.r, b), G.lq);
    there > kl ? (low = (low + high) / 2) : (high = (low + high) / 2);
  }
  return C.dot(C.exp(C.gibbs(G.lq, G.r, Math.exp(high))), G.r);
}
function verdict(kl, regret, reward) {
  if (!moved) return "Drag ●, or press an arrow key: Shift makes small steps.";
  if (G.kl === null)
    return regret <= G.regret
      ? `✓ Beaten, in ${moved} moves: regret ${fmt(regret)} is at most ${G.regret}.`
      : `Not yet: you give away more than ${G.regret}.`;
  if (Math.abs(kl - G.kl) > G.within) return `Not yet: the goal is a KL of ${G.kl}, to within ${G.within}.`;
  const most = mostAt(kl);
  return most - reward <= 0.005
    ? `✓ Hit, and nothing earns more at this KL.`
    : `✓ Hit. You earn ${fmt(reward)}; at this KL ${fmt(most)} can be earned: slide along the same KL to find it.`;
}
function draw() {
  const lp = C.log(p),
    kl = C.kl(lp, G.lq),
    reward = C.dot(p, G.r),
    [x, y] = place(p);
  $("policy").setAttribute("transform", `translate(${x} ${y})`);
  $("policy").setAttribute("aria-valuetext", p.map((v, i) => `${G.names[i]} ${fmt(100 * v, 1)} %`).join(", "));
  $("policy").setAttribute("aria-valuenow", Math.round(100 * p[2]));
  $("numbers").textContent = `E[r] = ${fmt(reward)}   KL(p, p_ref) = ${fmt(kl)} nats   J = E[r] − β KL = ${fmt(reward - G.beta * kl)}`;
  $("law").textContent = p.map((v, i) => `${G.names[i]}: ${fmt(v)}`).join("   ");
  const say = verdict(kl, C.regret(lp, G.lq, G.r, G.beta), reward);
  if (say !== told) $("told").textContent = told = say;
}
function put(next) {
  p = next;
  moved += 1;
  draw();
}
const handle = $("policy"),
  at = (e) => {
    const q = new DOMPoint(e.clientX, e.clientY).matrixTransform($("board").getScreenCTM().inverse());
    return law(q.x, q.y);
  };
handle.addEventListener("pointerdown", (e) => {
  handle.setPointerCapture(e.pointerId);
  handle.focus({ preventScroll: true });
  e.preventDefault();
});
handle.addEventListener("touchstart", (e) => e.preventDefault(), { passive: false });
handle.addEventListener("pointermove", (e) => handle.hasPointerCapture(e.pointerId) && put(at(e)));
handle.addEventListener("keydown", (e) => {
  const d = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[e.key];
  if (!d) return;
  e.preventDefault();
  const by = e.shiftKey ? 1 : 6,
    [x, y] = place(p);
  put(law(x + by * d[0], y + by * d[1]));
});
$("again").onclick = () => {
  p = C.exp(G.lq);
  moved = 0;
  $("answer").style.display = "none";
  draw();
};
$("reveal").onclick = () => {
  $("answer").style.display = "";
  const lp = C.log(p);
  told = `★ is p*, worth ${fmt(best)}; yours gives away ${fmt(C.regret(lp, G.lq, G.r, G.beta))} = β KL(p, p*).`;
  $("told").textContent = told;
};
try {
  frameElement.previousElementSibling.style.display = "none"; // the still picture stands in for this frame only where no script runs
} catch {}
draw();
