/* ---- a line of algebra, read and evaluated: a value is a number, or a list with an entry an answer ---- */
const READ = /\s*(?:(\d+\.?\d*(?:e[-+]?\d+)?|\.\d+)|([A-Za-z]+(?:_ref|_star|\^\*)?)|(_[a-z]+(?:_ref|_star)?|[-+*\/^()[\],=|]))/y;
const LETTERS = ["p", "p_ref", "p_star", "r", "beta", "Z", "V", "L"],
  PLAIN = { log: Math.log, exp: Math.exp, sqrt: Math.sqrt, abs: Math.abs },
  OF_LAWS = { KL: 2, J: 1, H: 1 };
function tokens(text) {
  const plain = text
      .replace(/β/g, "beta")
      .replace(/−/g, "-")
      .replace(/·|×/g, "*")
      .replace(/p\*(?=\s*(?:[-+\/,)\]=]|$))/g, "p_star")
      .replace(/π/g, "p")
      .replace(/_\{\s*([a-z_]+)\s*\}/g, "_$1")
      .trim(),
    out = [];
  READ.lastIndex = 0;
  while (READ.lastIndex < plain.length) {
    const from = READ.lastIndex,
      m = READ.exec(plain);
    if (!m) throw Error(`“${plain.slice(from).trim()[0]}” is no sign of this notation`);
    out.push(m[1] !== undefined ? { number: +m[1] } : m[2] !== undefined ? { word: m[2].replace("^*", "_star") } : { sign: m[3] });
  }
  return out;
}
/* the sides of a line, each as a function of a world */
function readLine(text) {
  const list = tokens(text);
  let at = 0;
  const next = (sign) => list[at] && list[at].sign === sign && ++at,
    told = (t) => (t === undefined ? "the end of the line" : "“" + (t.number ?? t.word ?? t.sign) + "”"),
    must = (sign) => {
      if (!next(sign)) throw Error(`“${sign}” must come before ${told(list[at])}`);
    };
  const both = (f, a, b) => (w) => {
    const x = a(w),
      y = b(w);
    return Array.isArray(x)
      ? x.map((v, i) => f(v, Array.isArray(y) ? y[i] : y))
      : Array.isArray(y)
        ? y.map((v) => f(x, v))
        : f(x, y);
  };
  const single = (f, a) => (w) => {
    const x = a(w);
    return Array.isArray(x) ? x.map(f) : f(x);
  };
  const list_of = (a) => (w) => {
    const v = a(w);
    if (!Array.isArray(v)) return w.r.map(() => v);
    return v;
  };
  const law = (name) => {
    if (!["p", "p_ref", "p_star"].includes(name)) throw Error(`${name ?? "this"} is no policy: p, p_ref and p_star are`);
    return (w) => w[name];
  };
  function sum_() {
    let left = product();
    for (;;) {
      if (next("+")) left = both((x, y) => x + y, left, product());
      else if (next("-")) left = both((x, y) => x - y, left, product());
      else return left;
    }
  }
  function product() {
    let left = signed();
    for (;;) {
      const t = list[at];
      if (next("*")) left = both((x, y) => x * y, left, signed());
      else if (next("/")) left = both((x, y) => x / y, left, signed());
      else if (t && (t.word || t.number !== undefined || t.sign === "(")) left = both((x, y) => x * y, left, signed());
      else return left;
    }
  }
  function signed() {
    if (next("-")) return single((x) => -x, signed());
    const base = atom();
    return next("^") ? both(Math.pow, base, signed()) : base;
  }
  function bracketed(open, close) {
    must(open);
    const inside = sum_();
    must(close);
    return inside;
  }
  function atom() {
    const t = list[at++];
    if (t === undefined) throw Error("the line ends where a number, a letter or a bracket must come");
    if (t.number !== undefined) return () => t.number;
    if (t.sign === "(") {
      at--;
      return bracketed("(", ")");
    }
    if (t.word === "E") {
      const below = list[at] && list[at].sign;
      if (!below || below[0] !== "_") throw Error("E must say under which policy: E_p[...]");
      at++;
      const p = law(below.slice(1)),
        f = list_of(bracketed("[", "]"));
      return (w) => dot(p(w), f(w));
    }
    if (t.word === "sum") {
      if (list[at] && list[at].sign === "_y") at++;
      const f = list_of(product());
      return (w) => sum(f(w));
    }
    if (t.word in PLAIN) return single(PLAIN[t.word], bracketed("(", ")"));
    if (t.word in OF_LAWS) {
      must("(");
      const names = [list[at++]?.word];
      for (let k = 1; k < OF_LAWS[t.word]; k++) {
        must(",");
        names.push(list[at++]?.word);
      }
      must(")");
      const of = names.map(law);
      return (w) => {
        const [a, b] = of.map((f) => log(f(w)));
        return t.word === "KL" ? kl(a, b) : t.word === "J" ? J(a, log(w.p_ref), w.r, w.beta) : -dot(exp(a), a);
      };
    }
    if (LETTERS.includes(t.word)) {
      if (list[at]?.sign === "(" && list[at + 1]?.word === "y" && list[at + 2]?.sign === ")") at += 3;
      return (w) => w[t.word];
    }
    throw Error(`${told(t)} cannot be read here; the letters are ${LETTERS.join(", ")}`);
  }
  const sides = [sum_()];
  while (next("=")) sides.push(sum_());
  if (at < list.length) throw Error(`${told(list[at])} was not expected here`);
  return sides;
}
/* what the letters stand for */
function lineWorld(lp, lq, r, beta) {
  const ls = gibbs(lq, r, beta);
  return {
    p: exp(lp),
    p_ref: exp(lq),
    p_star: exp(ls),
    r,
    beta,
    Z: sum(lq.map((l, i) => Math.exp(l + r[i] / beta))),
    V: value(lq, r, beta),
    L: lp.map((l, i) => l - lq[i]),
  };
}
const near = (x, y) => Math.abs(x - y) <= 1e-9 * Math.max(1, Math.abs(x), Math.abs(y));
/* whether two values are the same: a number equals a list whose entries all equal it */
function same(x, y) {
  if (Array.isArray(x) || Array.isArray(y)) {
    const n = Array.isArray(x) ? x.length : y.length;
    return [...Array(n).keys()].every((i) => near(Array.isArray(x) ? x[i] : x, Array.isArray(y) ? y[i] : y));
  }
  return near(x, y);
}
