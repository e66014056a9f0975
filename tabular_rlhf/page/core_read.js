/* ---- text into tokens, by the tables T of Python's reader: LaTeX and plain typing give the same ones ---- */
const T = {{lexicon}};
const LEXEME =
  /\s+|\\[A-Za-z]+|\\.|\d+(?:\.\d+)?(?:[eE][-+]?\d+)?|\.\d+|[A-Za-z]+\d*(?:_[A-Za-z0-9]+)*|\|\||<=|>=|!=|\*\*|[-+*/^_()[\]{}<>=,;:|'~.]/y;
function tokens(typed) {
  const text = [...typed.trim()].map((c) => T.unicode[c] ?? c).join(""),
    latex = text.includes("\\"),
    out = [],
    add = (kind, word = kind) => out.push({ kind, word });
  let at = 0;
  if (text.length > 400) throw Error("a line must have at most 400 signs");
  const inside = () => {
    // what stands in the braces that open here
    while (/\s/.test(text[at] ?? "")) at++;
    const from = at,
      end = text.indexOf("}", at);
    if (text[at] !== "{" || end < 0 || text.slice(at + 1, end).includes("{")) throw Error("a name must stand in one pair of braces");
    at = end + 1;
    return text.slice(from + 1, end).trim();
  };
  const letters = (run) => {
    const [base, ...rest] = run.split("_"),
      below = rest.join("_");
    if (!below) {
      if (T.words.includes(run) || (run.length > 2 && /^[A-Za-z]+$/.test(run)) || !latex) add("name", run);
      else [...run].forEach((c) => add(/\d/.test(c) ? "number" : "name", c));
    } else if (!latex || below.length === 1 || T.words.includes(below) || /^[A-Za-z]{3,}$/.test(below)) {
      letters(base);
      add("_");
      add("{");
      letters(below);
      add("}");
    } else throw Error(`“${run}” must show in braces what stands below: ${base}_{${below}}`);
  };
  const command = (name) => {
    if (T.spacing.includes(name)) return;
    if (T.fonts.includes(name)) {
      const word = inside().replace(/^\\/, "");
      if (!/^[A-Za-z]+$/.test(word)) throw Error(`“${word}” is more than a name`);
      add("name", T.commands[word] ?? word);
    } else if (T.accents.includes(name) || !(name in T.commands)) throw Error(`“\\${name}” cannot be read here`);
    else add(/^[A-Za-z]+$/.test(T.commands[name]) ? "name" : T.commands[name], T.commands[name]);
  };
  while (at < text.length) {
    LEXEME.lastIndex = at;
    const found = LEXEME.exec(text);
    if (!found) throw Error(`“${text[at]}” is no sign of this notation`);
    const word = found[0];
    at += word.length;
    if (word[0] === "\\") command(word.slice(1));
    else if (/^[A-Za-z]/.test(word)) letters(word);
    else if (/^[\d.]*\d/.test(word)) {
      if (out.length && out[out.length - 1].word === "frac") throw Error("a fraction must be of two pairs of braces");
      add("number", word);
    } else if (word.trim() && word !== ".") add({ "**": "^" }[word] ?? word);
  }
  return out;
}
