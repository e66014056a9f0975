/* ---- type your own line ---- */
const TYPED = [
  "J(p_star) - J(p) = beta*KL(p, p_star)",
  "p_star = p_ref exp(r/beta)/Z",
  "J(p) = E_p[r] - beta*KL(p_ref, p)",
  "V = E_p_ref[r]",
  "J(p) = E_p[r - beta*log(p/p_ref)]",
];
/* forty worlds of two to five answers, the same on every visit: a line that holds on all is no accident of this one */
const OTHERS = (() => {
  const u = uniform(7),
    law = (n) => C.logSoftmax([...Array(n)].map(() => 3 * u() - 1.5));
  return [...Array(40)].map((_, i) => {
    const n = 2 + (i % 4);
    return C.lineWorld(
      law(n),
      law(n),
      [...Array(n)].map(() => 4 * u() - 2),
      0.3 + 2 * u(),
    );
  });
})();
const valueOf = (v) => (Array.isArray(v) ? v.map((x, i) => `${NAMES[i]} ${fmt(x, 4)}`).join(", ") : fmt(v, 4));
const plainly = (s) => s.replace(/[&<>]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;" })[c]);
function judge(text) {
  const sides = C.readLine(text),
    here = C.lineWorld(C.log(st.p), C.log(st.q), st.r, st.b),
    values = sides.map((f) => f(here)),
    names = text.split("=").map((s) => s.trim()),
    holds = (w) => sides.slice(1).every((f, i) => C.same(sides[i](w), f(w))),
    rows = values.map((v, i) => `<tr><th scope="row"><code>${plainly(names[i])}</code></th><td>${valueOf(v)}</td></tr>`).join("");
  const n = OTHERS.filter(holds).length,
    verdict =
      sides.length < 2
        ? "One side: this is its value. Put = and another side to have them compared."
        : !values.flat().every(isFinite)
          ? "A side is not a finite number here: nothing can be compared."
          : holds(here)
            ? n === 40
              ? "✓ Both sides agree here and on all forty other worlds."
              : `≠ They agree here, but only on ${n} of forty other worlds: an accident of this world, no law.`
            : n === 40
              ? "≠ They agree on forty other worlds, and not here: rounding, or an edge."
              : `✗ They differ here, and on ${40 - n} of forty other worlds.`;
  return `<table>${rows}</table><p class="told">${verdict}</p>`;
}
DRAW.line = () => {
  if ($("typed").value !== st.t) $("typed").value = st.t;
  let html;
  try {
    html = judge(st.t);
  } catch (e) {
    html = `<p class="told">Cannot be read: ${plainly(e.message)}.</p>`;
  }
  $("line-said").innerHTML = html;
};
$("typed").oninput = (e) => {
  st.t = e.target.value;
  need("line");
};
TYPED.forEach((t) => {
  const b = document.createElement("button");
  b.textContent = t;
  b.className = "example";
  b.onclick = () => {
    st.t = t;
    need("line");
  };
  $("examples").append(b);
});
