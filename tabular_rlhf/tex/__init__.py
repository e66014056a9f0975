r"""LaTeX for people without LaTeX: one formula as a line of a terminal, or as MathML that a browser draws without a script.

`read` makes a small tree of a formula, by one table of commands; `line` and `markup` write the tree.

>>> from tabular_rlhf.tex import html, plain
>>> print(plain(r"\mathbb{E}_{p}[r] - \beta\,\mathrm{KL}(p, p_{ref})"))
E_p[r] - β KL(p, p_ref)
>>> html(r"x^2").count("<msup>")
1
"""

from tabular_rlhf.tex.line import plain, prose
from tabular_rlhf.tex.markup import html

__all__ = ["html", "plain", "prose"]
