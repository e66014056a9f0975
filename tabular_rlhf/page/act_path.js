/* ---- act 0: the path ---- */
const STEPS = 180,
  TMAX = 600,
  T0 = 0.05,
  timeOf = (s) => T0 * (Math.pow(TMAX / T0 + 1, s) - 1),
  sOf = (t) => Math.log1p(t / T0) / Math.log1p(TMAX / T0),
  TIMES = [...Array(STEPS + 1)].map((_, i) => timeOf(i / STEPS));
const hero = triangle("hero"),
  chart = canvas("regret", 560, (k) => Math.max(146, 124 * k)),
  H = {};
{
  const u = hero.under,
    v = hero.over;
  H.ghosts = el("g", {});
  H.trail = el("path", { class: "trail" });
  u.append(H.ghosts, H.trail);
  H.ref = glyph("ref", v);
  H.star = glyph("star", v);
  H.cross = glyph("cross", v);
  H.guess = glyph("guess", v);
  H.pol = glyph("pol", v);
  H.starT = words(v, "sm halo-text");
  H.refT = words(v, "sm halo-text", "end");
  H.polT = words(v, "sm halo-text");
  H.gT = words(v, "sm halo-text dim");
  H.clock = words(v, "big");
  H.bars = NAMES.map(() => {
    const t = words(v, "sm dim"),
      b = el("rect", { fill: "var(--trail)", rx: 1.5 });
    v.append(b);
    return [t, b, words(v, "sm dim")];
  });
  H.axis = el("path", { class: "axis" });
  H.start = el("path", { class: "thin dash" });
  H.reg = el("path", { class: "trail" });
  chart.svg.append(H.axis, H.start, H.reg);
  H.dot = glyph("pol", chart.svg);
  H.ticks = [0.1, 1, 10, 100].map((t) => [t, words(chart.svg, "sm dim", "middle")]);
  H.startT = words(chart.svg, "sm dim halo-text");
  H.regT = words(chart.svg, "big halo-text");
  H.cap = words(chart.svg, "sm dim");
}
let guess = null,
  run = null,
  key = "",
  playing = false,
  tPlay = 0,
  path = null;
const flagKey = () => st.f + " " + st.w,
  worldKey = () => [st.b, st.r, st.q].join("|");
const moveGuess = handle(
  hero,
  H.guess,
  "Your guess of where the path ends",
  () => guess || [1 / 3, 1 / 3, 1 / 3],
  (p) => {
    guess = p;
    need("hero");
  },
);
function compute() {
  const k = flagKey() + worldKey();
  if (k === key) return;
  if (!key.endsWith(worldKey())) seen.clear();
  key = k;
  const lq = C.log(st.q),
    lp = C.flow(flagKey(), lq, st.r, st.b, TIMES, { rtol: 1e-6 }),
    xy = lp.map((l) => place(C.exp(l))),
    end = C.end(flagKey(), lq, st.r, st.b),
    s = C.gibbs(lq, st.r, st.b);
  const R = lp.map((l) => st.b * C.kl(l, s));
  path = {
    lp,
    x: xy.map((v) => v[0]),
    y: xy.map((v) => v[1]),
    R,
    end,
    endR: st.b * C.kl(end.lp, s),
    star: s,
    low: R.indexOf(Math.min(...R)),
  };
}
DRAW.hero = () => {
  compute();
  hero.names();
  const k = hero.k,
    i = st.s * STEPS,
    a = Math.min(STEPS, Math.floor(i)),
    f = i - a,
    b = Math.min(STEPS, a + 1),
    mix = (v) => v[a] + f * (v[b] - v[a]);
  const ended = st.s >= 0.999,
    px = ended ? place(C.exp(path.end.lp)) : [mix(path.x), mix(path.y)],
    R = ended ? path.endR : mix(path.R),
    lp = path.lp[a].map((l, j) => l + f * (path.lp[b][j] - l)),
    p = ended ? C.exp(path.end.lp) : C.exp(lp);
  if (ended) seen.set(flagKey(), line(path.x, path.y) + "L" + px.join(" "));
  set(H.trail, { d: line([...path.x.slice(0, a + 1), px[0]], [...path.y.slice(0, a + 1), px[1]]) });
  H.ghosts.replaceChildren(
    ...[...seen]
      .filter(([n]) => n !== flagKey())
      .map(([n, d]) =>
        el(
          "path",
          { class: "ghost", d },
          (() => {
            const t = el("title", {});
            t.textContent = n;
            return t;
          })(),
        ),
      ),
  );
  const [sx, sy] = place(C.exp(path.star)),
    [rx, ry] = place(st.q);
  at(H.star, sx, sy, k);
  at(H.ref, rx, ry, k);
  at(H.pol, ...px, k, !ended);
  at(H.cross, ...px, k, ended);
  label(H.starT, sx + 17 * k, sy - 9 * k, "best policy p*");
  H.starT.style.fill = "var(--blue)";
  label(H.refT, rx - 14 * k, ry + 5 * k, "reference");
  at(H.guess, ...(guess ? place(guess) : [0, 0]), k, !!guess);
  label(H.gT, guess ? place(guess)[0] - 17 * k : 0, guess ? place(guess)[1] + 5 * k : 0, guess ? "your guess" : "", {
    "text-anchor": "end",
  });
  if (guess) moveGuess();
  const near = Math.hypot(px[0] - sx, px[1] - sy) < 130 * k && px[0] > sx - 12;
  label(H.polT, px[0] + (near ? 12 : -14) * k, px[1] + (near ? 27 : 4) * k, ended ? "it ends here" : "", {
    "text-anchor": near && px[0] < 420 ? "middle" : "end",
  });
  label(H.clock, 8, 14 * k, "time " + (ended ? "∞" : fmt(timeOf(st.s), timeOf(st.s) < 10 ? 1 : 0)));
  H.bars.forEach(([t, bar, n], m) => {
    const y = (36 + 20 * m) * k;
    label(t, 8, y, NAMES[m]);
    set(bar, { x: 8 + 16 * k, y: y - 9 * k, height: 8 * k, width: Math.max(1, p[m] * (k > 1.3 ? 46 : 74) * k) });
    label(n, 8 + 20 * k + Math.max(1, p[m] * (k > 1.3 ? 46 : 74) * k), y, pct(p[m]));
  });
  // the regret, above the scrubber that is its axis
  const c = chart.k,
    x0 = 10 * c,
    W = 560 - 20 * c,
    top = Math.max(...path.R, path.endR) * 1.12 || 1,
    X = (s) => x0 + s * W,
    base = chart.H - 28,
    Y = (r) => base - ((base - 18 * c) * r) / top;
  set(H.axis, {
    d: `M${x0} ${base}H${x0 + W}` + H.ticks.map(([t]) => `M${X(sOf(t)).toFixed(1)} ${base}v${(4 * c).toFixed(1)}`).join(""),
  });
  H.ticks.forEach(([t, w]) => label(w, X(sOf(t)), base + 17 * c, (t === 10 ? "time " : "") + String(t)));
  set(H.start, { d: `M${x0} ${Y(path.R[0]).toFixed(1)}H${x0 + W}` });
  label(H.startT, x0 + W, Y(path.R[0]) - 5 * c, "regret of the untrained model", { "text-anchor": "end" });
  if (st.s > 0.55) set(H.startT, { x: x0, "text-anchor": "start" });
  set(H.reg, { d: line([...Array(a + 1)].map((_, j) => X(j / STEPS)).concat(X(st.s)), [...path.R.slice(0, a + 1).map(Y), Y(R)]) });
  at(H.dot, X(st.s), Y(R), c * 0.8);
  const right = st.s > 0.72;
  label(
    H.regT,
    X(st.s) + (right ? -13 : 13) * c,
    clamp(Y(R) - 9 * c, 14 * c, base - 6),
    "regret " + fmt(R, 4),
    { "text-anchor": right ? "end" : "start" },
  );
  label(H.cap, 0, -9, "");
  if (document.activeElement !== $("scrub") || playing) $("scrub").value = st.s;
  $("scrub").setAttribute(
    "aria-valuetext",
    `time ${fmt(timeOf(st.s), 1)}, regret ${fmt(R, 4)}, ` + p.map((v, j) => NAMES[j] + " " + pct(v)).join(", "),
  );
  $("play").textContent = playing ? "❚❚ Pause" : ended ? "↻ Play again" : "▶ Play";
  $("guess").hidden = (st.s > 0 && !ended) || playing;
  $("guess").textContent = guess ? "Remove my guess" : "Predict the end first";
  const tv = guess ? 0.5 * C.sum(guess.map((v, j) => Math.abs(v - Math.exp(path.end.lp[j])))) : 0;
  $("told").textContent = guess
    ? ended
      ? `You were off by ${pct(tv)} of the answers.`
      : "Drag the ring to where the path will end, then play."
    : "";
  const e = C.exp(path.end.lp),
    v = e.findIndex((x) => x > 0.9999),
    why = {
      "k1 loss":
        "Because E[∇log <i>p</i>] = 0, <i>k</i><sub>1</sub> in the loss pushes by nothing on average: only the reward is left.",
      "k3 loss":
        "Because its gradient is that of the other KL, KL(<i>p</i><sub>ref</sub>, <i>p</i>), which has an optimum of its own.",
      "k3 reward":
        "Because <i>k</i><sub>3</sub> of a sampled answer is e<sup>−<i>L</i></sup> − 1 + <i>L</i>, its push is that of KL(<i>p</i>, <i>p</i><sub>ref</sub>) − KL(<i>p</i><sub>ref</sub>, <i>p</i>). The second KL grows without bound as an answer falls silent, and here it is subtracted: the penalty pays for silencing answers.",
      "k2 loss": "Because its gradient is that of KL(<i>p</i>, <i>p</i><sub>ref</sub>), exactly.",
      "k1 reward": "Because its gradient is that of KL(<i>p</i>, <i>p</i><sub>ref</sub>), exactly.",
      "k2 reward": "Because <i>L</i>²/2 punishes an answer for becoming rarer, too: its push is not that of the KL.",
      "abs loss": "Because its slope is ±1 at any distance: an answer is left alone or given up.",
      "abs reward": "Because |<i>L</i>| punishes an answer for becoming rarer, too: its push is not that of the KL.",
      "k3i loss": "Because its gradient is that of χ²/2, which grows faster than the KL where an answer becomes likelier.",
      "k3i reward":
        "Because e<sup><i>L</i></sup> − 1 − <i>L</i> punishes an answer for becoming rarer, too: its push is not that of the KL.",
    }[flagKey()];
  const say =
    `<span class="note">h = ${EST[st.f][2]}, ${PLACE[st.w]}. L = log(p/p<sub>ref</sub>).</span><br>` +
    (ended || st.s > 0.9
      ? (path.endR < 1e-9
          ? "The path comes to rest on ★. "
          : (v >= 0 ? `In the end it says only ${NAMES[v]}: ` : "It comes to rest elsewhere: ") +
            `regret ${fmt(path.endR, 4)}${path.endR > path.R[0] ? ", worse than untrained (" + fmt(path.R[0], 4) + ")" : ""}` +
            (path.R[path.low] < 0.8 * path.endR
              ? `; on the way, at time ${fmt(TIMES[path.low], 1)}, it was ${fmt(path.R[path.low], 4)}. `
              : ". ")) + why
      : "Where will it end? Play, or predict first.");
  if (say !== H.said) $("path-said").innerHTML = H.said = say;
};
function tick(now) {
  if (!playing) return;
  const dt = clamp(now - tPlay, 0, 50);
  tPlay = now;
  st.s = Math.min(1, st.s + dt / 9000);
  if (st.s >= 1) playing = false;
  need("hero");
  if (playing) requestAnimationFrame(tick);
}
const go = () => {
  if (st.s >= 0.999) st.s = 0;
  playing = true;
  tPlay = performance.now();
  requestAnimationFrame(tick);
  need("hero");
};
$("play").onclick = () => {
  if (playing) {
    playing = false;
    need("hero");
  } else go();
};
$("scrub").oninput = (e) => {
  playing = false;
  st.s = +e.target.value;
  need("hero");
};
$("guess").onclick = () => {
  guess = guess ? null : [1 / 3, 1 / 3, 1 / 3];
  if (guess) {
    st.s = 0;
    DRAW.hero();
    H.guess.focus();
  }
  need("hero");
};
const radios = (id, name, items, get, put) => {
  $(id).replaceChildren(
    ...items.flatMap(([v, t, tip]) => {
      const i = document.createElement("input"),
        l = document.createElement("label");
      Object.assign(i, { type: "radio", name, id: name + v, value: v, checked: get() === v });
      l.htmlFor = i.id;
      l.textContent = t;
      if (tip) l.title = tip;
      i.onchange = () => put(v);
      return [i, l];
    }),
  );
};
