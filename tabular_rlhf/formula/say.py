r"""A tree back into text: LaTeX, or plain typing for a terminal; with one place marked, if there is one to show.

Reading what was said gives the same tree: read(say(tree)) == tree, in both.

>>> from tabular_rlhf.formula.read import read
>>> tree = read(r"\beta \log\frac{p}{p_{ref}}")
>>> say(tree), say(tree, latex=True)
('beta*log(p/p_ref)', '\\beta \\log\\frac{p}{p_{ref}}')
>>> say(tree, mark=(1, 0, 1))
'beta*log(p/>>p_ref<<)'
"""

from __future__ import annotations

from collections.abc import Callable

from tabular_rlhf.formula.binders import occurs
from tabular_rlhf.formula.spellings import GREEK, INDICES
from tabular_rlhf.formula.tree import Node, Path, walk

SUM, PRODUCT, POWER, ATOM = 1, 2, 3, 4
STRENGTH = {"add": SUM, "sub": SUM, "neg": SUM, "mul": PRODUCT, "div": PRODUCT, "pow": POWER, "sum": PRODUCT, "prod": PRODUCT, "where": 0}
RELATION = {"eq": "=", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
LATEX = {"!=": r"\neq", "<=": r"\le", ">=": r"\ge"}
NAMES = {"maxover": "max", "minover": "min", "grad": "nabla"}
ACCENTS = ("hat", "tilde", "bar", "dot")
FORMS: dict[str, tuple[str | None, str | None]] = {
    "KL": (r"\mathrm{{KL}}({kids})", "KL({kids})"),
    "H": (r"\mathcal{{H}}({kids})", "H({kids})"),
    "given": ("{kids}", "{kids}"),
    "ind": ("1[{0}]", "1[{0}]"),
    "beats": (r"P({0} \succ {1})", "P({0} succ {1})"),
    "binom": (r"\binom{{{0}}}{{{1}}}", None),
    "sqrt": (r"\sqrt{{{0}}}", None),
    "abs": (r"\lvert {0} \rvert", None),
    "inner": (r"\langle {kids} \rangle", None),
    "diff": (r"\frac{{\partial}}{{\partial {1}}}\left( {0} \right)", None),
}
"""What is written of its kids: in LaTeX, and in plain typing; None: a function of what stands in brackets."""


def say(tree: Node, *, latex: bool = False, mark: Path | None = None) -> str:
    """The text of a tree; mark: a path, whose node is shown between marks (in LaTeX in a frame)."""
    return Writer(latex, mark, any(node.op == "sym" and node.value == "tau" for _, node in walk(tree))).at(tree, (), 0)


class Writer:
    """Writes nodes by their ops, in brackets where what stands around binds tighter."""

    def __init__(self, latex: bool, mark: Path | None, taken: bool) -> None:
        self.latex, self.mark, self.taken = latex, mark, taken  # tau is a letter here: a response is y
        self.bar = r" \mid " if latex else " | "

    def at(self, node: Node, path: Path, least: int) -> str:
        """The node at a path, in brackets if it binds less than `least`."""
        writer: Callable[[Node, Path], str] = getattr(self, f"say_{node.op}", self.call)
        text = writer(node, path)
        strength = STRENGTH.get(node.op, ATOM)
        if self.latex and node.op == "div":
            strength = ATOM if least < ATOM else PRODUCT
        if strength < least:
            text = self.brackets(text)
        if path == self.mark:
            text = rf"\boxed{{{text}}}" if self.latex else f">>{text}<<"
        return text

    def kid(self, node: Node, path: Path, k: int, least: int = 0) -> str:
        return self.at(node.kids[k], (*path, k), least)

    def kids(self, node: Node, path: Path, start: int = 0, stop: int | None = None) -> str:
        return ", ".join(self.kid(node, path, k) for k in range(start, len(node.kids) if stop is None else stop))

    def brackets(self, text: str, kind: str = "()") -> str:
        return rf"\left{kind[0]} {text} \right{kind[1]}" if self.latex else f"{kind[0]}{text}{kind[1]}"

    def below(self, text: str) -> str:
        return f"_{{{text}}}"

    # ------------------------------------------------------------------------------------------------ letters

    def say_num(self, node: Node, path: Path) -> str:
        return repr(node.value) if node.value != float("inf") else r"\infty" if self.latex else "∞"

    def say_sym(self, node: Node, path: Path) -> str:
        name = str(node.value)
        return spelled(name) if self.latex else name

    def say_index(self, node: Node, path: Path) -> str:
        name = str(node.value).replace("tau", "y") if self.taken else str(node.value)
        base = (letter(name.rstrip("'")) if self.latex else name.rstrip("'")) + "'" * name.count("'")
        if not node.kids:
            head, _, sub = name.partition("_")
            return f"{letter(head)}_{{{sub}}}" if self.latex and sub else base
        step = node.kids[0]
        if step.op in ("add", "sub"):
            return f"{base}_{{{step.kids[0].value}{'+' if step.op == 'add' else '-'}1}}"
        return f"{base}_{{{step.value}}}"

    say_over = say_index

    def say_at(self, node: Node, path: Path) -> str:
        name = str(node.kids[0].value)
        if name == "lengths" and self.latex:
            return rf"\lvert {self.kids(node, path, 1)} \rvert"
        head = (r"\mathrm{KL}" if self.latex else "KL") if name == "KL_s" else self.kid(node, path, 0)
        return f"{head}({self.indices(name, node, path)})"

    def indices(self, name: str, node: Node, path: Path) -> str:
        """What a letter is at: of a law, what is given stands behind a bar."""
        last = str(node.kids[-1].value)
        conditional = name.startswith(("p", "pi")) and last[:1] in ("x", "s") and node.kids[-1].op == "index"
        if conditional and len(node.kids) > 2:
            return f"{self.kids(node, path, 1, len(node.kids) - 1)}{self.bar}{self.kid(node, path, len(node.kids) - 1)}"
        dot = r"\cdot" if self.latex else "."
        whole = conditional and name.startswith("pi") and last.startswith("s")
        return f"{dot}{self.bar}{self.kids(node, path, 1)}" if whole else self.kids(node, path, 1)

    # ------------------------------------------------------------------------------------------------ arithmetic

    def say_add(self, node: Node, path: Path) -> str:
        sign = "+" if node.op == "add" else "-"
        left = self.kid(node, path, 0, SUM)
        if any(occurs(name, node.kids[1]) for name in open_names(node.kids[0])):
            left = self.brackets(left)
        return f"{left} {sign} {self.kid(node, path, 1, PRODUCT)}"

    say_sub = say_add

    def say_neg(self, node: Node, path: Path) -> str:
        return f"-{self.kid(node, path, 0, PRODUCT)}"

    def say_mul(self, node: Node, path: Path) -> str:
        left, right = self.kid(node, path, 0, PRODUCT), self.kid(node, path, 1, POWER)
        if is_open(node.kids[0]) or (self.latex and last_factor(node.kids[0]).op == "diff"):  # which is of one factor: here it ends
            left = self.brackets(left)
        if node.kids[1].op in ("sum", "prod") and path + (1,) != self.mark:
            right = self.kid(node, path, 1, PRODUCT)
        if not self.latex:
            return f"{left}*{right}"
        called = node.kids[0].op == "sym" and node.kids[0].value in ("H", "P", "KL", "J", "J_x") and right.startswith((r"\left(", "("))
        apart = called or right[0].isdigit() or right.startswith(("1[", "-")) or (left[-1].isdigit() and right[0].isdigit())
        return rf"{left} \cdot {right}" if apart or right.startswith((r"\lvert", "|")) else f"{left} {right}"

    def say_div(self, node: Node, path: Path) -> str:
        if self.latex:
            return rf"\frac{{{self.kid(node, path, 0)}}}{{{self.kid(node, path, 1)}}}"
        left = self.kid(node, path, 0, PRODUCT)
        left = self.brackets(left) if is_open(node.kids[0]) else left
        return f"{left}/{self.kid(node, path, 1, POWER)}"

    def say_pow(self, node: Node, path: Path) -> str:
        base = self.kid(node, path, 0, ATOM)
        op, power = node.kids[0].op, self.kid(node, path, 1)
        plain = op in ("num", "E", "KL", "abs", "clip") or (op in ("sym", "at") and "^" not in base and "'" not in base)
        if not plain and (not base.endswith(")") or (self.latex and op in ("exp", "sqrt", "div", "log", "grad"))):
            base = self.brackets(base)
        return f"{base}^{{{power}}}" if self.latex or node.kids[1].op != "num" else f"{base}^{power}"

    # ------------------------------------------------------------------------------------------------ functions

    def call(self, node: Node, path: Path) -> str:
        """By the form of its op; else a function of what stands in brackets."""
        form = FORMS.get(node.op, (None, None))[not self.latex]
        if form is not None:
            kids = [self.kid(node, path, k) for k in range(len(node.kids))]
            return form.format(*kids, kids=", ".join(kids))
        name = NAMES.get(node.op, node.op)
        if not self.latex:
            return f"{name}({self.kids(node, path)})"
        command = rf"\{name}" if name in ("exp", "log", "max", "min", "nabla", "sigma", "arcsin") else rf"\mathrm{{{name}}}"
        return f"{command}{self.brackets(self.kids(node, path))}"

    def say_log(self, node: Node, path: Path) -> str:
        kid = node.kids[0]
        if self.latex and kid.op in ("div", "sym", "at", "E"):
            return rf"\log{'' if kid.op == 'div' else ' '}{self.kid(node, path, 0)}"
        return self.call(node, path)

    def say_grad(self, node: Node, path: Path) -> str:
        if self.latex and node.kids[0].op in ("sym", "at", "KL", "E", "log"):
            return rf"\nabla {self.kid(node, path, 0)}"
        return self.call(node, path)

    # ------------------------------------------------------------------------------------------------ binders

    def say_sum(self, node: Node, path: Path) -> str:
        overs = list(range(1, len(node.kids)))
        name = rf"\{node.op}" if self.latex else node.op
        below = ", ".join(self.kid(node, path, k) for k in overs)
        high = next((self.at(n.kids[1], (*path, k, 1), 0) for k in overs if (n := node.kids[k]).op == "range"), None)
        above = "" if high is None else f"^{{{high}}}"
        return f"{name}{self.below(below)}{above} {self.kid(node, path, 0, PRODUCT)}"

    say_prod = say_sum

    def say_range(self, node: Node, path: Path) -> str:
        return f"{node.value}={self.kid(node, path, 0)}"

    def say_such(self, node: Node, path: Path) -> str:
        _over, condition = node.kids
        if condition.op == "through":
            return f"{self.kid(node, path, 0)} {chr(92) if self.latex else ''}ni {self.at(condition.kids[1], (*path, 1, 1), 0)}"
        return f"{self.kid(node, path, 0)}: {self.kid(node, path, 1)}"

    def say_maxover(self, node: Node, path: Path) -> str:
        name = NAMES.get(node.op, node.op)
        if self.latex:
            name = rf"\{name}" if name in ("max", "min") else rf"\operatorname{{{name}}}"
        if len(node.kids) > 1 and node.kids[1].op == "objective":
            return f"{name}{self.below(str(node.kids[1].value).split()[1])} {self.kid(node, path, 0)}"
        below = self.below(self.kids(node, path, 1)) if len(node.kids) > 1 else ""
        return f"{name}{below}{self.brackets(self.kid(node, path, 0))}"

    say_minover = say_argmax = say_argmin = say_maxover

    def say_E(self, node: Node, path: Path) -> str:
        laws, given = self.conditions(node, path)
        name = {"E": r"\mathbb{E}"}.get(node.op, rf"\mathrm{{{node.op}}}") if self.latex else node.op
        body = self.kids(node, path, 0, 2 if node.op == "Cov" else 1)
        return f"{name}{self.below(laws) if laws else ''}{self.brackets(body + given, '[]')}"

    say_Var = say_Cov = say_E

    def conditions(self, node: Node, path: Path) -> tuple[str, str]:
        """The laws of a mean or a probability; what is given, behind its bar."""
        said = {op: [self.kid(node, path, k) for k, kid in enumerate(node.kids) if kid.op == op] for op in ("draw", "given")}
        return ", ".join(said["draw"]), "".join(self.bar + given for given in said["given"])

    def say_draw(self, node: Node, path: Path) -> str:
        drawn = ", ".join(self.say_index(Node("index", (), name), ()) for name in str(node.value).split()) if node.value else ""
        if not node.kids:
            return drawn
        sign = r" \sim " if self.latex else " ~ "
        return (f"({drawn})" if "," in drawn else drawn) + (sign if drawn else "") + self.kid(node, path, 0)

    def say_prob(self, node: Node, path: Path) -> str:
        law, given = self.conditions(node, path)
        return f"{law or 'P'}({self.kid(node, path, 0)}{given})"

    def relation(self, node: Node, path: Path) -> str:
        sign = RELATION[node.op]
        sides = [self.kid(node, path, k) for k in (0, 1)]
        for k, kid in enumerate(node.kids):
            if kid.op == "sym" and kid.value in INDICES:  # a letter, and not the index of that name
                sides[k] = self.brackets(sides[k])
        return f"{sides[0]} {LATEX.get(sign, sign) if self.latex else sign} {sides[1]}"

    say_eq = say_ne = say_lt = say_le = say_gt = say_ge = relation

    def say_where(self, node: Node, path: Path) -> str:
        word = r", \quad " if self.latex else " where "
        lets = (r", \quad " if self.latex else ", ").join(self.kid(node, path, k) for k in range(1, len(node.kids)))
        return f"{self.kid(node, path, 0)}{word}{lets}"

    def say_let(self, node: Node, path: Path) -> str:
        head = spelled(str(node.value)) if self.latex else str(node.value)
        arguments = f"({self.kids(node, path, 1)})" if len(node.kids) > 1 else ""
        return f"{head}{arguments} = {self.kid(node, path, 0)}"


def letter(name: str) -> str:
    """One letter in LaTeX.

    >>> letter("beta"), letter("r"), letter("score")
    ('\\\\beta', 'r', '\\\\mathrm{score}')
    """
    if name in GREEK:
        return rf"\{name}"
    return name if len(name) < 2 or not name.isalpha() else rf"\mathrm{{{name}}}"


def spelled(name: str) -> str:
    r"""A letter's name in LaTeX: "p_star" is p^{*}, "r_hat" \hat{r}.

    >>> spelled("p_star"), spelled("r_hat"), spelled("d_pi")
    ('p^{*}', '\\hat{r}', 'd_{\\pi}')
    """
    primes, name = name.count("'") if name.endswith("'") else 0, name.rstrip("'")
    whole, _, above = name.partition("^")
    base, _, below = whole.partition("_")
    text = letter(base)
    if below in ACCENTS:
        text, below = rf"\{below}{{{text}}}", ""
    if below == "star":
        above, below = "*", ""
    parts = (rf"\{part}" if part in GREEK else part for part in below.split("_"))
    text += f"_{{{'_'.join(parts)}}}" if below else ""
    return text + (f"^{{{above if len(above) == 1 else chr(92) + 'mathrm{' + above + '}'}}}" if above else "") + "'" * primes


def last_factor(node: Node) -> Node:
    """The factor that a product ends with."""
    return last_factor(node.kids[-1]) if node.op == "mul" else node


def open_names(node: Node) -> list[str]:
    """The indices of a sum that stands at the right edge, and would go on over a following + or -."""
    while node.op in ("add", "sub", "mul", "neg"):
        node = node.kids[-1]
    return [str(n.value) for over in node.kids[1:] for _, n in walk(over) if n.op in ("over", "range")] if node.op == "sum" else []


def is_open(node: Node) -> bool:
    """Whether a sum or product stands at the right edge, and would take a following factor."""
    while node.op in ("mul", "neg"):
        node = node.kids[-1]
    return node.op in ("sum", "prod")
