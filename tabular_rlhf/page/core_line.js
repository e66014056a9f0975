/* ---- a line of algebra, read and evaluated: a node knows whether its value is one number or a list with an entry an answer ---- */
const MARKS = { p: "p", p_ref: "p_ref", p_star: "p_star", pi: "p", pi_ref: "p_ref", pi_star: "p_star" },
  ENTROPY = "H",
  WORTH = "J";
function readLine(text) {
  const list = tokens(text);
  let at = 0;
  const peek = (k = 0) => list[at + k]?.kind ?? "",
    next = (kind) => peek() === kind && ++at,
    told = () => (list[at] === undefined ? "the end of the line" : "“" + list[at].word + "”"),
    must = (kind) => {
      if (!next(kind)) throw Error(`“${kind}” must come before ${told()}`);
    },
    named = (word) => peek() === "name" && list[at].word === word;
  const number = (f) => ({ many: false, f }),
    both = (op, a, b) => {
      if ((a.start && b.many) || (b.start && a.many)) throw Error("V is of the start, and must not stand beside what is of an answer");
      return {
        many: a.many || b.many,
        start: a.start || b.start,
        f: (w) => {
          const x = a.f(w),
            y = b.f(w);
          return a.many ? x.map((v, i) => op(v, b.many ? y[i] : y)) : b.many ? y.map((v) => op(x, v)) : op(x, y);
        },
      };
    },
    single = (op, a) => ({ many: a.many, start: a.start, f: (w) => (a.many ? a.f(w).map(op) : op(a.f(w))) });
  const plus = (x, y) => x + y,
    minus = (x, y) => x - y,
    times = (x, y) => x * y,
    over = (x, y) => x / y;
  /* a letter's key as papers spell it: base, one subscript, one superscript */
  function key() {
    const base = list[at++].word,
      group = () => {
        if (!next("{")) return list[at++]?.word ?? "";
        let word = "";
        for (let depth = 1; depth; at++) {
          if (!peek()) throw Error("a bracket { must be closed");
          depth += (peek() === "{") - (peek() === "}");
          if (!"{}".includes(peek())) word += list[at].word;
        }
        return word;
      };
    const known = (word) => Object.keys(T.keys).some((k) => k === word || k.startsWith(word + "^") || k.startsWith(word + "_"));
    let word = base;
    if (peek() === "_") {
      at++;
      word += "_" + group();
      if (!known(word)) throw Error(`“${word}” cannot be read here`);
    }
    if (peek() === "^") {
      const from = at++,
        with_ = `${word}^${group()}`;
      if (known(with_) && !with_.endsWith("^")) word = with_;
      else at = from; // a power
    }
    if (peek() === "'" || peek() === "_") throw Error(`“${word}” with one more mark is no letter that is known here`);
    return word;
  }
  /* (y), (y|x), (x, y), (. | x): the answer itself, and the one prompt that there is */
  function indices() {
    const from = at;
    if (!next("(")) return false;
    let answers = 0;
    for (;;) {
      const word = list[at]?.kind === "*" ? "*" : peek() === "name" ? list[at].word : "";
      if (T.responses.includes(word)) answers++;
      else if (!T.prompts.includes(word)) break;
      at++;
      if (next(")")) {
        if (answers === 1) return true;
        break;
      }
      if (!(next(",") || next("|") || next(";"))) break;
    }
    at = from;
    return false;
  }
  function letter() {
    const from = list[at].word,
      word = key(),
      name = T.keys[word];
    if (!name || !(name in T.meaning)) throw Error(`“${word}” cannot be read here; the letters are ${Object.keys(T.meaning).join(", ")}`);
    const many = !["beta", "Z", "V"].includes(name),
      of = { many, start: name === "V", f: (w) => w[MARKS[name] ?? name] },
      lone = peek() === "(" && peek(1) === "name" && peek(2) === ")";
    if (many && indices()) return of;
    if (peek() === "[") throw Error(`“${from}” must be applied with round brackets, to an answer`);
    if (name.startsWith("pi")) throw Error(`“${word}” must be at an answer: ${word}(y|x); or write p`);
    if (lone || (many && peek() === "(")) throw Error(`“${word}” must be at an answer, y, or have a sign of multiplication behind it`);
    return of;
  }
  function law() {
    if (peek() !== "name") throw Error(`a policy must come before ${told()}: p, p_ref or p_star`);
    const word = key(),
      name = T.keys[word];
    if (!(name in MARKS)) throw Error(`“${word}” is no policy: p, p_ref and p_star are`);
    return { name, f: (w) => w[MARKS[name]] };
  }
  function sum_() {
    let left = product();
    for (;;) {
      if (next("+")) left = both(plus, left, product());
      else if (next("-")) left = both(minus, left, product());
      else return left;
    }
  }
  const starts = () => ["name", "number", "("].includes(peek());
  function product() {
    let left = signed(),
      slash = false;
    for (;;) {
      if (next("*")) [left, slash] = [both(times, left, signed()), false];
      else if (next("/")) {
        if (left.bare) throw Error("a logarithm before a slash must show in brackets what it is of");
        [left, slash] = [both(over, left, signed()), true];
      } else if (starts()) {
        if (slash) throw Error("what stands below a slash must be plain: write a/(b c), or (a/b) c");
        left = both(times, left, power());
      } else return left;
    }
  }
  const signed = () => (next("-") ? single((x) => -x, signed()) : power());
  function power() {
    const base = primary();
    if (!next("^")) return base;
    const raised = both(Math.pow, base, peek() === "-" ? signed() : argument());
    if (peek() === "^") throw Error("a power of a power must show its brackets");
    return raised;
  }
  const argument = () => (peek() === "{" ? held("{", "}") : primary());
  function held(open, close) {
    must(open);
    const inside = sum_();
    must(close);
    return inside;
  }
  const CLOSES = { "(": ")", "[": "]", "{": "}" };
  const bracket = () => {
    if (!(peek() in CLOSES)) throw Error(`a bracket must come before ${told()}`);
    return held(peek(), CLOSES[peek()]);
  };
  function primary() {
    if (list[at] === undefined) throw Error("the line ends where a number, a letter or a bracket must come");
    const { kind, word } = list[at];
    if (kind === "number") {
      at++;
      return number(() => +word);
    }
    if (kind === "(") return held("(", ")");
    if (kind !== "name") throw Error(`${told()} was not expected here`);
    if (word in T.functions && word !== "sigma") return applied(T.functions[word]);
    if (word === "frac") {
      at++;
      return both(over, held("{", "}"), held("{", "}"));
    }
    if (word === "e" && peek(1) === "^") {
      at += 2;
      return single(Math.exp, argument());
    }
    if (word === "E") return mean();
    if (word === "sum") return total();
    if (word === ENTROPY || word === WORTH) return ofLaw(word);
    if (isDivergence()) return divergence();
    return letter();
  }
  const PLAIN = { log: Math.log, exp: Math.exp, sqrt: Math.sqrt, abs: Math.abs, arcsin: Math.asin };
  function applied(op) {
    if (!(op in PLAIN)) throw Error(`“${op}” cannot be read here`);
    at++;
    if (["^", "_"].includes(peek())) throw Error(`“${op}” with a mark cannot be read here: write (${op}(...))^2`);
    const bare = !(peek() in CLOSES);
    if (bare && op !== "log") throw Error(`${op} must be of a bracket`);
    const inside = bare ? (named("sum") ? product() : power()) : bracket(),
      whole = single(PLAIN[op], inside);
    return bare && list[at - 1].kind !== ")" && list[at - 1].kind !== "}" && list[at - 1].kind !== "]" ? { ...whole, bare } : whole;
  }
  function total() {
    at++;
    must("_");
    const braced = next("{"),
      index = list[at++]?.word;
    if (braced) must("}");
    if (!T.responses.includes(index)) throw Error("a sum must say over what: sum_y, over the answers");
    const inside = product();
    if (!inside.many) throw Error("a sum must be over what occurs in it");
    return number((w) => sum(inside.f(w)));
  }
  function mean() {
    at++;
    if (!next("_")) throw Error("E must say under which policy: E_p[...]");
    let under;
    if (!next("{")) under = law();
    else {
      if (T.prompts.includes(list[at]?.word) && (peek(1) === "~" || peek(1) === "sim")) {
        at += 2;
        if (!["mu", "D", "rho"].includes(list[at++]?.word)) throw Error("prompts must be drawn from mu");
        must(",");
      }
      if (T.responses.includes(list[at]?.word)) {
        at++;
        must("~");
      }
      under = law();
      if (peek() === "(") drawnLaw();
      must("}");
    }
    const f = held("[", "]");
    if (f.start) throw Error("a mean must be of what an answer decides");
    return number((w) => (f.many ? dot(under.f(w), f.f(w)) : f.f(w)));
  }
  /* (. | x): a dot is no token, so the bar or the prompt comes first */
  function drawnLaw() {
    must("(");
    next("*");
    if (next("|")) if (!T.prompts.includes(list[at++]?.word)) throw Error("a policy must be given the prompt, x");
    must(")");
  }
  function isDivergence() {
    const from = at;
    let word = "";
    try {
      word = list[at + 1]?.kind === "_" ? `${list[at].word}_${list[at + 2]?.kind === "{" ? list[at + 3]?.word : list[at + 2]?.word}` : list[at].word;
    } finally {
      at = from;
    }
    return T.divergences.includes(word);
  }
  function divergence() {
    at++;
    if (next("_")) at += peek() === "{" ? 3 : 1;
    const open = peek();
    if (open !== "(" && open !== "[") throw Error("KL must be of two policies: KL(p, p_ref)");
    at++;
    const one = law();
    if (!(next(",") || next("||") || next("|") || next(";"))) throw Error("KL must be of two policies: KL(p, p_ref)");
    const other = law();
    if (one.name.startsWith("pi") !== other.name.startsWith("pi")) throw Error("KL must be of two laws of the same things: p and p_ref, or pi and pi_ref");
    must(CLOSES[open]);
    return number((w) => kl(log(one.f(w)), log(other.f(w))));
  }
  function ofLaw(word) {
    at++;
    must("(");
    const one = law();
    if (word === ENTROPY && one.name.startsWith("pi")) throw Error("H must be of p, p_ref or p_star");
    must(")");
    return number((w) => {
      const a = log(one.f(w));
      return word === WORTH ? J(a, log(w.p_ref), w.r, w.beta) : -dot(exp(a), a);
    });
  }
  const sides = [sum_()];
  while (next("=")) sides.push(sum_());
  if (at < list.length) throw Error(`${told()} was not expected here`);
  return sides.map((side) => side.f);
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
