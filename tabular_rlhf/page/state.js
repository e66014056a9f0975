/* ---- state, and its address ---- */
const FRESH = {
  f: "k3",
  w: "reward",
  b: 0.4,
  r: [0, 0.6, 1],
  q: [0.5, 0.3, 0.2],
  s: 0,
  p: [1 / 3, 1 / 3, 1 / 3],
  show: 0,
  pair: "AB",
  loss: "dpo",
  eta: 4,
  ans: "",
  c: "",
  pr: Math.log10(2),
  dp: 2,
  n: 0.3,
  e: 0.6,
  seed: 4,
  pk: -1,
  G: 8,
  m: 2,
  u: 0.2,
  dv: "yes",
  t: "J(p_star) - J(p) = beta*KL(p, p_star)",
};
const st = structuredClone(FRESH);
function read() {
  const h = new URLSearchParams(location.hash.slice(1));
  Object.assign(st, structuredClone(FRESH));
  const num = (k, lo, hi) => {
    const x = parseFloat(h.get(k));
    if (isFinite(x)) st[k] = clamp(x, lo, hi);
  };
  const list = (k, lo, hi) => {
    const v = (h.get(k) || "").split(",").map(Number);
    if (v.length === 3 && v.every(isFinite)) st[k] = v.map((x) => clamp(x, lo, hi));
  };
  num("b", 0.04, 14);
  num("s", 0, 1);
  num("show", 0, 1);
  num("eta", 0, 20);
  num("pr", -1.5, 2.1);
  num("dp", -1, 4);
  num("n", 0, 1);
  num("e", 0, 1.5);
  num("seed", 1, 999);
  num("pk", -1, 1);
  num("G", 2, 32);
  num("m", 0, 32);
  num("u", 0.01, 0.99);
  st.G = Math.round(st.G);
  st.m = Math.round(st.m);
  list("r", -2, 2);
  list("q", 1e-4, 1);
  list("p", 1e-9, 1);
  for (const k of "qp") {
    const t = C.sum(st[k]);
    st[k] = st[k].map((x) => x / t);
  }
  if (h.get("f") in EST) st.f = h.get("f");
  if (h.get("w") in PLACE) st.w = h.get("w");
  if (/^[ABC]{2}$/.test(h.get("pair") || "") && h.get("pair")[0] !== h.get("pair")[1]) st.pair = h.get("pair");
  if (/^-?[01]$/.test(h.get("ans") || "")) st.ans = h.get("ans");
  if (h.get("loss") in C.LOSS) st.loss = h.get("loss");
  if (h.get("dv") === "no") st.dv = "no";
  if (h.has("t")) st.t = h.get("t").slice(0, 300);
  tables.read(h);
  if (/^([A-D]{2})*$/.test(h.get("c") || "")) st.c = (h.get("c") || "").slice(0, 800);
}
/* twelve digits: what is shown of a state is then shown again by its link */
const written = (v) =>
  typeof v === "number" ? String(+v.toPrecision(12)) : Array.isArray(v) ? v.map(written).join(",") : encodeURIComponent(v);
const text = () =>
  [
    ...Object.keys(FRESH)
      .filter((k) => String(st[k]) !== String(FRESH[k]))
      .map((k) => k + "=" + written(st[k])),
    ...tables.changed(),
  ].join("&");
let hashTimer = 0,
  address = location.hash;
const publish = () => {
  address = text() ? "#" + text() : "";
  history.replaceState(null, "", location.pathname + location.search + address);
};
/* a while after the last change; not while somebody else's address waits to be read */
const save = () => {
  clearTimeout(hashTimer);
  hashTimer = setTimeout(() => location.hash === address && publish(), 250);
};
