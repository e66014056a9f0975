r"""Text into tokens: LaTeX and plain typing give the same ones, so that one parser reads both.

    \beta \log\frac{p}{p_{ref}}      beta*log(p/p_ref)

Spacing, sizes and fonts are passed over; an accent becomes part of the name (`\hat r` is r_hat); simple macros are expanded first.
A run of letters is a name where it is a known word; otherwise, in LaTeX, it is letters side by side, and in plain typing a name.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from tabular_rlhf.errors import InputError
from tabular_rlhf.formula.spellings import ACCENTS, COMMANDS, FONTS, SPACING, UNICODE, WORDS


class Token(NamedTuple):
    """kind: num, name, word (prose), or a mark, which is its own kind; text; and where it stood."""

    kind: str
    text: str
    start: int
    end: int


LEXEME = re.compile(
    r"\s+|%[^\n]*|\\[A-Za-z]+|\\.|\d+(?:\.\d+)?(?:[eE][-+]?\d+)?|\.\d+|[A-Za-z]+\d*(?:_[A-Za-z0-9]+)*"
    r"|\|\||:=|==|<=|>=|!=|\*\*|[-+*/^_()\[\]{}<>=,;:|!'~&.$#]",
    re.DOTALL,
)
LONGEST = 4000
"""Characters of a formula that are read."""


def refuse(text: str, start: int, end: int, must: str, remedy: str) -> InputError:
    """A refusal that shows the place: the column, and the piece between marks.

    >>> print(refuse("r + ?", 4, 5, "a formula must be readable", "write a letter"))
    a formula must be readable: column 5: got '?', in r + >>?<<; write a letter
    """
    end = max(end, start + 1)
    left, right = text[max(0, start - 40) : start], text[end : end + 40]
    shown = f"{'...' if start > 40 else ''}{left}>>{text[start:end]}<<{right}{'...' if len(text) > end + 40 else ''}"
    piece = repr(text[start:end]) if text[start:end].strip() else "the end"
    return InputError(must, got=f"{piece}, in {' '.join(shown.split())}", where=f"column {start + 1}", remedy=remedy)


MACRO = re.compile(r"\\(?:re)?newcommand\*?\s*\{?\\([A-Za-z]+)\}?(?:\[(\d)\])?\s*(?=\{)|\\def\\([A-Za-z]+)((?:#\d)*)\s*(?=\{)")


def group(text: str, at: int) -> tuple[str, int]:
    """What stands between the brace at `at` and the one that closes it, and the place behind; one token where there is no brace."""
    while text[at : at + 1].isspace():
        at += 1
    if text[at : at + 1] != "{":
        found = re.compile(r"\\[A-Za-z]+|\\.|.", re.DOTALL).match(text, at)
        return (found[0], found.end()) if found else ("", at)
    depth = 0
    for k in range(at, len(text)):
        depth += (text[k] == "{") - (text[k] == "}")
        if depth == 0:
            return text[at + 1 : k], k + 1
    raise refuse(text, at, at + 1, "every brace must be closed", "close it with }")


def expand(text: str) -> str:
    r"""The text with its own simple macros written out.

    >>> expand(r"\newcommand{\pref}{p_{ref}} \newcommand{\lr}[2]{\log\frac{#1}{#2}} \lr{p}{\pref}").strip()
    '\\log\\frac{p}{ p_{ref} }'
    """
    macros: dict[str, tuple[int, str]] = {}
    while found := MACRO.search(text):
        body, end = group(text, found.end())
        macros[found[1] or found[3]] = int(found[2] or len(found[4] or "") // 2), body
        text = text[: found.start()] + text[end:]
    for _ in range(20 if macros else 0):
        found = re.search("|".join(rf"\\{name}(?![A-Za-z])" for name in macros), text)
        if found is None:
            break
        count, body = macros[found[0][1:]]
        at = found.end()
        for k in range(count):
            argument, at = group(text, at)
            body = body.replace(f"#{k + 1}", argument)
        text = f"{text[: found.start()]} {body} {text[at:]}"
    return "".join(UNICODE.get(c, c) for c in text)


def tokens(text: str) -> list[Token]:
    r"""The tokens of a text whose macros are expanded.

    >>> [t.text for t in tokens(r"\hat{r}_w - \mathrm{KL}")]
    ['r_hat', '_', 'w', '-', 'KL']
    >>> [t.text for t in tokens("beta*log_Z")]
    ['beta', '*', 'log', '_', '{', 'Z', '}']
    """
    if len(text) > LONGEST:
        raise InputError(f"a formula must have at most {LONGEST:,} characters", got=f"{len(text):,}", remedy="cut it into lines")
    return bare(_Lexer(text, "\\" in text).run(0, len(text)))


def bare(found: list[Token]) -> list[Token]:
    r"""Tokens without braces around a lone name that is no argument: {\rm mean}(r)."""
    out = list[Token]()
    for k, token in enumerate(found):
        lone = token.kind == "{" and [t.kind for t in found[k + 1 : k + 4]] == ["name", "}", "("]
        if lone and not (out and (out[-1].kind in ("_", "^", "}") or out[-1].text in ("frac", "sqrt"))):
            continue
        if token.kind == "}" and k >= 2 and found[k - 2].kind == "{" and (len(out) < 2 or out[-2] is not found[k - 2]):
            continue
        out.append(token)
    return out


class _Lexer:
    def __init__(self, text: str, latex: bool) -> None:
        self.text, self.latex, self.out = text, latex, list[Token]()

    def run(self, at: int, stop: int) -> list[Token]:
        outer, self.out = self.out, []
        while at < stop:
            found = LEXEME.match(self.text, at, stop)
            if found is None:
                raise refuse(self.text, at, at + 1, "a formula must be of letters, numbers and signs", "leave it out, or spell it in LaTeX")
            at = self.lexeme(found[0], found.start(), found.end())
        self.out, made = outer, self.out
        return made

    def add(self, kind: str, text: str, start: int, end: int) -> None:
        self.out.append(Token(kind, text, start, end))

    def lexeme(self, text: str, start: int, end: int) -> int:
        """Add the tokens of one lexeme; return the place behind what was read."""
        if text[0].isspace() or text[0] == "%" or text in "&$.":
            return end
        if text[0] == "\\":
            return self.command(text[1:], start, end)
        if text[0].isalpha():
            self.letters(text, start)
        elif text[0].isdigit() or text[0] == ".":
            after = [t.text for t in self.out[-2:]]
            argument = after[-1:] == ["frac"] or (after[:1] == ["frac"] and after[-1] not in ("{", "}"))
            end = start + 1 if argument else end  # \frac12
            self.add("num", self.text[start:end], start, end)
        else:
            mark = {"**": "^", "==": "="}.get(text, text)
            self.add(mark, mark, start, end)
        return end

    def letters(self, run: str, start: int) -> None:
        """A run of letters, digits and underscores."""
        digits = re.match(r"\d*", run)
        if digits and digits[0]:
            self.add("num", digits[0], start, start + digits.end())
            run, start = run[digits.end() :], start + digits.end()
        if not run:
            return
        end = start + len(run)
        base, _, below = run.partition("_")
        word = below in WORDS or (len(below) > 2 and below.isalpha())
        if below and (not self.latex or len(below) == 1 or below.isdigit() or word):
            self.letters(base, start)
            at = start + len(base) + 1
            self.add("_", "_", at - 1, at)
            self.add("{", "{", at, at)
            self.letters(below, at)
            self.add("}", "}", end, end)
        elif below:  # in LaTeX only one letter goes below
            self.letters(base, start)
            self.add("_", "_", start + len(base), start + len(base) + 1)
            self.letters(below[0], start + len(base) + 1)
            self.letters(below[1:], start + len(base) + 2)
        elif (found := re.fullmatch(r"([A-Za-z]+)(\d+)", run)) and not self.latex:  # k3 is k_3
            self.letters(f"{found[1]}_{found[2]}", start)
        elif run in WORDS or (len(run) > 2 and run.isalpha()) or not (self.latex or self.two_indices(run)):
            self.add("name", run, start, end)
        else:
            for k, c in enumerate(run, start):
                self.add("num" if c.isdigit() else "name", c, k, k + 1)

    def two_indices(self, run: str) -> bool:
        """Whether two letters below another are two indices: P_{ij}."""
        below = len(self.out) > 1 and self.out[-1].kind == "{" and self.out[-2].kind == "_"
        return below and len(run) == 2 and set(run) <= set("ijkwlsaxt")

    def command(self, name: str, start: int, end: int) -> int:
        if name in SPACING:
            return end + (self.text[end : end + 1] == "." if name in ("left", "right") else 0)
        if name in ("begin", "end", "label", "tag"):
            return group(self.text, end)[1]
        if name in ACCENTS:
            return self.accent(ACCENTS[name], start, end)
        if name in FONTS:
            return self.font(name, start, end)
        if name in ("underset", "overset"):
            return self.underset(start, end)
        if name in ("underbrace", "overbrace", "substack"):
            return self.braced(name, end)
        if name not in COMMANDS:
            remedy = "spell it otherwise, or define it with \\newcommand"
            raise refuse(self.text, start, end, "a command must be one that has a meaning here", remedy)
        word = COMMANDS[name]
        if word:
            self.add("name" if word.isalpha() and word not in ("quad", "newline", "dots", "infty") else word, word, start, end)
        return end

    def inside(self, end: int) -> tuple[list[Token], int, int]:
        """The tokens of the group at `end`, where it starts, and the place behind it."""
        body, after = group(self.text, end)
        start = self.text.index(body, end) if body else end
        return self.run(start, start + len(body)), start, after

    def accent(self, mark: str, start: int, end: int) -> int:
        made, _, after = self.inside(end)
        if not made or made[0].kind != "name":
            raise refuse(self.text, start, after, "an accent must stand on a letter", "put it over one letter")
        self.add("name", f"{made[0].text}_{mark}" if mark else made[0].text, start, after)
        self.out += made[1:]
        return after

    def font(self, name: str, start: int, end: int) -> int:
        body, after = group(self.text, end + (self.text[end : end + 1] == "*"))
        word = body.strip()
        prose = name.startswith(("text", "mbox", "hbox", "operatorname", "mathrm", "mathop"))
        prose_inside = name.startswith(("text", "mbox", "hbox")) and len(re.findall("[A-Za-z]{2,}", word)) > 1 and "$" not in word
        if word in ("1", "I") and name in ("mathbb", "mathbf", "mathbbm", "bm"):
            self.add("name", "ind", start, after)
        elif prose_inside:
            lone = " ".join(word.split())
            self.add("word", lone.replace("arg max", "argmax").replace("arg min", "argmin"), start, after)
        elif prose and re.fullmatch(r"[A-Za-z][A-Za-z ,.\-]*", word):
            lone = " ".join(word.replace(",", " ").split())
            kind = "name" if " " not in lone and lone.isalpha() else "word"
            self.add(kind, lone.replace("arg max", "argmax").replace("arg min", "argmin"), start, after)
        elif word:
            made = self.inside(end)[0]
            if not made:
                return after
            made[0] = made[0]._replace(start=start)
            made[-1] = made[-1]._replace(end=after)
            self.out += made
        return after

    def braced(self, name: str, end: int) -> int:
        """What stands over a brace, without the words below it; lines that are stacked below a sign, one after another."""
        made, _, after = self.inside(end)
        if name == "substack":
            self.out += [Token(",", ",", t.start, t.end) if t.kind == "newline" else t for t in made]
            return after
        self.out += made
        note = re.compile(r"\s*[_^]\s*(?=\{)").match(self.text, after)
        return group(self.text, note.end())[1] if note else after

    def underset(self, start: int, end: int) -> int:
        """\\underset{x \\sim D}{E} is E_{x \\sim D}."""
        below, at, after = self.inside(end)
        base, _, after = self.inside(after)
        self.out += [*base, Token("_", "_", at, at), Token("{", "{", at, at), *below, Token("}", "}", at, at)]
        return after
