const $ = (id) => document.getElementById(id),
  NS = $("hero").namespaceURI;
const fmt = (x, d = 3) => {
  const s = Math.abs(x) === Infinity ? (x > 0 ? "∞" : "−∞") : x.toFixed(d).replace("-", "−");
  return /^−0\.?0*$/.test(s) ? s.slice(1) : s;
};
const fmtBig = (x) => (x < 1e4 ? fmt(x, 2) : x.toExponential(1).replace("e+", " × 10^"));
const pct = (x) => (x > 0 && x < 0.001 ? "<0.1 %" : (100 * x).toFixed(x < 0.0995 ? 1 : 0) + " %"),
  clamp = (x, a, b) => Math.min(b, Math.max(a, x));
const NAMES = ["A", "B", "C"],
  SAYS = ["“Perfect!”", "“Mostly fine.”", "“Step 2 fails.”"];
const ANSWERS = [
    "“Because it is.”",
    "“Air scatters blue light more than red.”",
    "“It mirrors the sea.”",
    "“Great question! Light scatters.”",
  ],
  REF4 = [0.4, 0.2, 0.3, 0.1],
  L4 = "ABCD";
const EST = {
    k1: ["k₁", "L", "L"],
    k2: ["k₂", "L²/2", "L²/2"],
    k3: ["k₃", "exp(−L) − 1 + L", "e<sup>−L</sup> − 1 + L"],
    abs: ["|L|", "|L|", "|L|"],
    k3i: ["inverted k₃", "exp(L) − 1 − L", "e<sup>L</sup> − 1 − L"],
  },
  PLACE = { loss: "in the loss", reward: "in the reward" };
/* numbers in [0, 1) that are the same on every visit (mulberry32) */
const uniform = (seed) => () => {
  seed = (seed + 0x6d2b79f5) | 0;
  let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
};
