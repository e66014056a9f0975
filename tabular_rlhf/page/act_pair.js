/* ---- act 2: one pair ---- */
const pf = canvas("pairfig", 560, (k) => 3 * Math.max(104, 80 * k) + 26 * k),
  P = { rows: NAMES.map(() => ({})) };
P.rows.forEach((o, i) => {
  o.name = words(pf.svg, "big");
  o.role = words(pf.svg, "sm dim");
  o.track = el("path", { class: "axis" });
  o.move = el("path", { class: "trail" });
  pf.svg.append(o.track, o.move);
  o.from = el("g", {}, el("circle", { r: 7, class: "ref" }));
  pf.svg.append(o.from);
  o.to = glyph("pol", pf.svg);
  o.t0 = words(pf.svg, "sm dim", "middle");
  o.t1 = words(pf.svg, "sm big", "middle");
});
P.cap = words(pf.svg, "sm dim");
DRAW.pair = () => {
  const k = pf.k,
    w = NAMES.indexOf(st.pair[0]),
    l = NAMES.indexOf(st.pair[1]),
    o = 3 - w - l,
    lq = C.log(st.q),
    lp = C.log(st.p),
    told = st.ans !== "",
    to = C.pairStep(st.loss, lp, lq, st.b, w, l, st.eta),
    D = C.margin(lp, lq, w, l),
    push = C.LOSS[st.loss].push(D, st.b),
    X = (p) => 14 * k + p * (560 - 28 * k);
  P.rows.forEach((r, i) => {
    const gap = Math.max(104, 80 * k),
      y = (i + 0.62) * gap,
      a = Math.exp(lp[i]),
      b = told ? Math.exp(to[i]) : a;
    set(r.track, { d: `M${X(0)} ${y}H${X(1)}M${X(0)} ${y - 4}v8M${X(1)} ${y - 4}v8` });
    set(r.move, { d: `M${X(a).toFixed(1)} ${y}H${X(b).toFixed(1)}` });
    at(r.from, X(a), y, k);
    at(r.to, X(b), y, k, told);
    label(r.name, X(0), y - 34 * k, NAMES[i] + "  " + SAYS[i]);
    label(r.role, X(1), y - 34 * k, i === w ? "chosen" : i === l ? "rejected" : "bystander", { "text-anchor": "end" });
    label(r.t0, X(a), y + 24 * k, Math.abs(X(a) - X(b)) < 40 * k && told ? "" : pct(a));
    label(r.t1, clamp(X(b), 24 * k, 560 - 24 * k), y - 14 * k, told ? pct(b) : "");
  });
  label(P.cap, X(0), pf.H - 6 * k, "○ the policy you dragged above\u2003● after the step");
  $("ask").hidden = told;
  $("askq").textContent = `Nobody compared ${NAMES[o]}. Its probability…`;
  const d = Math.sign(to[o] - lp[o]) * (Math.abs(to[o] - lp[o]) > 1e-9);
  const gap = Math.exp(lp[l]) - Math.exp(lp[w]),
    d0 = Math.abs(gap) < 1e-9 ? 0 : Math.sign(push * gap), // equal but for rounding
    W = ["falls", "stays", "rises"],
    move = (i) => `${NAMES[i]} goes from ${pct(Math.exp(lp[i]))} to ${pct(Math.exp(to[i]))}`,
    stops = {
      dpo: "it weakens as D grows and never stops",
      ipo: `it stops at D = 1/(2β) = ${fmt(1 / (2 * st.b), 2)} and turns back beyond`,
      "slic-reference": `it stops dead at D = 1/β = ${fmt(1 / st.b, 2)}`,
    }[st.loss];
  $("pairsaid").innerHTML = !told
    ? `The margin is D = ${fmt(D)} nats, and the push on it ${fmt(push)}: ${stops}. Answer the question to see the step.`
    : `${+st.ans === d ? "Right" : "Not so"}: ${NAMES[o]} ${W[d + 1]}${d0 && d && d0 !== d ? ", after it had first " + (d0 > 0 ? "risen" : "fallen") : ""}. ` +
      (push === 0
        ? "Nothing moves, because the margin is already as large as this loss asks. "
        : `The chosen ${move(w)}, the rejected ${move(l)}, the bystander ${move(o)}, because the push is added to one logit and taken from the other, and what the two gain together the bystander loses (what they lose, it gains). ` +
          (d0 === 0
            ? "Here w and l set out equally likely, so the bystander stays at first, and falls as soon as they differ. "
            : `It sets out ${d0 > 0 ? "upwards" : "downwards"}, because the ${push > 0 === d0 > 0 ? "rejected" : "chosen"} answer is the likelier one (${fmt(Math.exp(lp[l]), 2)} for l, ${fmt(Math.exp(lp[w]), 2)} for w)${push < 0 ? " and the push is negative" : ""}. `)) +
      `The push is ${fmt(push)}: ${stops}.`;
};
$("ask").onclick = (e) => {
  const a = e.target.dataset.a;
  if (a !== undefined) {
    st.ans = a;
    need("pair");
  }
};
$("eta").oninput = (e) => {
  st.eta = +e.target.value;
  need("pair");
  sync();
};
