r"""The table of commands that take no argument: name, class, what a terminal shows, and what a browser draws where that differs.

>>> LEAVES["sum"]
Leaf(kind='sum', text='Σ', drawn='∑', size=0.0)
"""

from __future__ import annotations

from tabular_rlhf.tex.tree import Leaf

GREEK = """alpha α beta β gamma γ delta δ epsilon ϵ zeta ζ eta η theta θ iota ι kappa κ lambda λ mu μ nu ν xi ξ pi π rho ρ sigma σ tau τ
upsilon υ phi ϕ chi χ psi ψ omega ω varepsilon ε varphi φ ell ℓ Gamma Γ Delta Δ Theta Θ Lambda Λ Xi Ξ Pi Π Sigma Σ Upsilon Υ Phi Φ Psi Ψ
Omega Ω"""
TERMINAL = {"ϵ": "ε", "ϕ": "φ"}
"""Letters that terminals show badly, and the form that they show well."""

SYMBOLS: dict[str, tuple[str, ...]] = {
    "rel": ("le ≤", "leq ≤", "ge ≥", "geq ≥", "ne ≠", "neq ≠", "approx ≈", "propto ∝", "equiv ≡", "in ∈", "notin ∉", "ni ∋", "ll ≪", "gg ≫")
    + ("to →", "rightarrow →", "leftarrow ←", "mapsto ↦", "iff ⇔ ⟺", "Rightarrow ⇒", "Leftrightarrow ⇔", "implies ⇒ ⟹", "subset ⊂")
    + ("subseteq ⊆", "sim ~ ∼", "succ ≻", "prec ≺", "mid | ∣", "perp ⊥", "coloneqq :="),
    "bin": ("cdot ·", "times ×", "pm ±", "mp ∓", "cup ∪", "cap ∩", "setminus \\ ∖", "circ ∘", "ast * ∗", "wedge ∧", "vee ∨"),
    "letter": ("infty ∞", "dots …", "ldots …", "cdots ⋯", "top T ⊤", "emptyset ∅", "# #", "% %", "& &", "$ $", "_ _"),
    "prefix": ("nabla ∇", "partial ∂", "forall ∀", "exists ∃", "neg ¬"),
    "sum": ("sum Σ ∑", "prod Π ∏", "int ∫"),
    "limit": tuple(f"{name} {name}" for name in ["max", "min", "sup", "inf", "lim", "Pr", "argmax", "argmin"]),
    "function": tuple(
        f"{name} {name}"
        for name in ["log", "ln", "exp", "arg", "dim", "det", "tr", "sin", "cos", "tan", "tanh", "arcsin", "arccos", "arctan", "logit"]
    ),
    "open": ("{ {", "langle ⟨", "lfloor ⌊", "lceil ⌈", "lbrace {", "lbrack ["),
    "close": ("} }", "rangle ⟩", "rfloor ⌋", "rceil ⌉", "rbrace }", "rbrack ]"),
    "bar": ("vert |", "lvert |", "rvert |", "| ‖", "Vert ‖"),
}
CHARACTERS = {
    **{c: Leaf("open", c) for c in "(["},
    **{c: Leaf("close", c) for c in ")]"},
    **{c: Leaf("rel", c) for c in "=<>"},
    **{c: Leaf("punct", c) for c in ",;:."},
    **{c: Leaf("letter", c) for c in "!?"},
    "+": Leaf("bin", "+"),
    "-": Leaf("bin", "-", "−"),
    "*": Leaf("bin", "*", "∗"),
    "/": Leaf("slash", "/"),
    "|": Leaf("bar", "|"),
    "~": Leaf("space", " ", "0.25em"),
}
GAP, PRIME = Leaf("gap", ""), Leaf("mark", "'", "′")
"""Space between two tokens of the source, which TeX ignores and a terminal line may want; the prime."""

SPACES = {",": (1, 0.1667), ":": (1, 0.2222), ">": (1, 0.2222), ";": (1, 0.2778), " ": (1, 0.25), "quad": (2, 1.0), "qquad": (3, 2.0)}
LEAVES: dict[str, Leaf] = {
    **{name: Leaf("letter", TERMINAL.get(c, c), c) for name, c in zip(GREEK.split()[::2], GREEK.split()[1::2], strict=True)},
    **{(w := entry.split(" "))[0]: Leaf(kind, w[1], w[-1]) for kind, entries in SYMBOLS.items() for entry in entries},
    **{name: Leaf("space", " " * n, f"{em:g}em") for name, (n, em) in SPACES.items()},
}
SIZES = {f"{size}{side}": em for size, em in (("big", 1.2), ("Big", 1.8), ("bigg", 2.4), ("Bigg", 3.0)) for side in ("", "l", "r", "m")}
ACCENTS = {"hat": ("\u0302", "^"), "bar": ("\u0304", "¯"), "tilde": ("\u0303", "~"), "dot": ("\u0307", "˙"), "vec": ("\u20d7", "→")}
ACCENTS |= {"widehat": ACCENTS["hat"], "overline": ACCENTS["bar"], "widetilde": ACCENTS["tilde"]}
ALPHABETS = {
    "mathbb": (0x1D538, dict(zip("CHNPQRZ", "ℂℍℕℙℚℝℤ", strict=True)), False),
    "mathcal": (0x1D49C, dict(zip("BEFHILMR", "ℬℰℱℋℐℒℳℛ", strict=True)), True),
    "mathbf": (0x1D400, {}, False),
}
"""Where an alphabet's A stands in Unicode, the capitals that stand elsewhere, and whether a terminal should show it too."""
