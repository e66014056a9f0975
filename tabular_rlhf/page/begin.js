/* ---- controls that act on all ---- */
function sync() {
  // controls follow the state, never the other way round
  const out = (id, v, s) => {
    const e = $(id);
    if (+e.value !== v) e.value = v;
    e.setAttribute("aria-valuetext", s);
    e.nextElementSibling.textContent = s;
  };
  for (const i of ["b0", "b1"]) out(i, Math.log(st.b), fmt(st.b, st.b < 0.1 ? 3 : 2));
  st.r.forEach((v, i) => out("r" + i, v, fmt(v, 2)));
  out("eta", st.eta, fmt(st.eta, 1));
  out("prior", st.pr, st.pr > 2 ? "none" : fmt(Math.pow(10, st.pr), 2));
  out("passes", st.dp, fmt(Math.pow(10, st.dp), st.dp < 1 ? 1 : 0));
  out("n", st.n, nOf(st.n) < 10 ? fmt(nOf(st.n), 1) : String(Math.round(nOf(st.n))));
  out("noise", st.e, fmt(st.e, 2));
  $("right-ones").max = st.G;
  out("size", st.G, String(st.G));
  out("right-ones", Math.min(st.m, st.G), String(Math.min(st.m, st.G)));
  out("rate", st.u, fmt(st.u, 2));
  for (const [n, v] of [
    ["est", st.f],
    ["place", st.w],
    ["pair", st.pair],
    ["loss", st.loss],
    ["divide", st.dv],
  ]) {
    const e = $(n + v);
    if (e && !e.checked) e.checked = true;
  }
}
for (const e of document.querySelectorAll(".beta"))
  e.oninput = () => {
    st.b = Math.exp(+e.value);
    playing = false;
    if (st.s < 0.999) st.s = 1;
    need("hero", "drag", "pair", "bt", "line");
    sync();
  };
for (const [i, e] of [...document.querySelectorAll(".rew")].entries())
  e.oninput = () => {
    st.r = st.r.map((v, j) => (i === j ? +e.value : v));
    need("hero", "drag", "line");
    sync();
  };
radios(
  "est",
  "est",
  Object.entries(EST).map(([v, t]) => [v, t[0], "h = " + t[1]]),
  () => st.f,
  (v) => {
    st.f = v;
    st.s = 0;
    guess ? need("hero") : go();
  },
);
radios(
  "place",
  "place",
  Object.entries(PLACE),
  () => st.w,
  (v) => {
    st.w = v;
    st.s = 0;
    guess ? need("hero") : go();
  },
);
radios(
  "pairs",
  "pair",
  ["AB", "BA", "AC", "CA", "BC", "CB"].map((v) => [v, v[0] + " over " + v[1]]),
  () => st.pair,
  (v) => {
    st.pair = v;
    st.ans = "";
    need("pair");
  },
);
radios(
  "losses",
  "loss",
  [
    ["dpo", "DPO"],
    ["ipo", "IPO"],
    ["slic-reference", "hinge (SLiC)"],
  ],
  () => st.loss,
  (v) => {
    st.loss = v;
    need("pair");
  },
);
radios(
  "divide",
  "divide",
  [
    ["yes", "yes: GRPO"],
    ["no", "no: Dr. GRPO"],
  ],
  () => st.dv,
  (v) => {
    st.dv = v;
    need("groups");
  },
);
for (const [id, key] of [
  ["size", "G"],
  ["right-ones", "m"],
  ["rate", "u"],
])
  $(id).oninput = (e) => {
    st[key] = +e.target.value;
    need("groups");
    sync();
  };
$("reset").onclick = () => {
  Object.assign(st, structuredClone(FRESH));
  guess = null;
  playing = false;
  bestR = Infinity;
  seen.clear();
  tables.reset();
  publish();
  sync();
  all();
};
$("copy").onclick = async () => {
  publish();
  const u = location.href;
  try {
    await navigator.clipboard.writeText(u);
  } catch {
    const t = document.createElement("textarea");
    t.value = u;
    document.body.append(t);
    t.select();
    document.execCommand("copy");
    t.remove();
  }
  $("copy").textContent = "copied";
  setTimeout(() => ($("copy").textContent = "copy link"), 1500);
};
const WHERE = { hero: "hero", drag: "drag", pairfig: "pair", bt: "bt", crowd: "bon", advantages: "groups", line: "line" };
const eyes = new IntersectionObserver(
  (es) =>
    es.forEach((e) => {
      const k = WHERE[e.target.id];
      if (e.isIntersecting) {
        visible.add(k);
        if (late.delete(k)) need(k);
      } else visible.delete(k);
    }),
  { rootMargin: "60px" },
);
Object.keys(WHERE).forEach((id) => {
  late.add(WHERE[id]);
  eyes.observe($(id));
});
let wide = -1;
new ResizeObserver(() => {
  if (wide === document.body.clientWidth) return;
  wide = document.body.clientWidth;
  canvas.all.forEach((o) => o.fit());
  all();
}).observe(document.body);
addEventListener("hashchange", () => {
  address = location.hash;
  read();
  sync();
  all();
});
addEventListener("beforeprint", () => Object.values(DRAW).forEach((f) => f()));
const linked = /[#&]s=/.test(location.hash);
read();
sync();
nextPair();
all();
if (!linked) {
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) st.s = 1;
  else
    setTimeout(() => {
      if (st.s === 0 && !guess) go();
    }, 700);
}
