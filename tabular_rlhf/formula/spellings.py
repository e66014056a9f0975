r"""How things are written: the tables of commands, words, indices and letters.  A caller extends `ALIASES` for a text of its own.

A *key* is a letter as it is spelled, in one line: base, `_` subscript, `^` superscript, primes.  `\pi_{\text{ref}}` and plain
`pi_ref` have the key "pi_ref", `\pi^{SFT}` has "pi^SFT", `p^*` has "p^*", `\hat r` has "r_hat".
"""

from __future__ import annotations

import re

from tabular_rlhf.symbols import SPELLINGS


def table(text: str) -> dict[str, str]:
    """A table that is written down as "key value , key value"; a key alone is its own value.

    >>> table("le <= , log")
    {'le': '<=', 'log': 'log'}
    """
    rows = (row.split() for row in re.split(r"\s,\s", text))
    return {row[0]: row[-1] for row in rows}


GREEK = table(
    "alpha , beta , gamma , delta , epsilon , zeta , eta , theta , iota , kappa , lambda , mu , nu , xi , pi , rho , sigma , tau , phi"
    " , chi , psi , omega , Gamma , Delta , Theta , Lambda , Xi , Pi , Sigma , Phi , Psi , Omega , ell"
)
UNICODE = dict(zip("αβγδεζηθικλμνξπρστφχψωΓΔΘΛΞΠΣΦΨΩℓ", [rf"\{name} " for name in GREEK], strict=True))
UNICODE |= table(r"∇ \nabla , ∑ \sum , ≤ <= , ≥ >= , ≠ != , ≻ \succ , · * , − - , ∞ \infty , ∼ \sim")
COMMANDS = GREEK | table(
    r"""
    varepsilon epsilon , vartheta theta , varphi phi , lVERT || , star * , ast * , prime ' , log , ln log , exp , max , min
    , sup max , inf min , arg , Pr P , argmax , argmin , sum , prod , nabla , partial , sqrt , frac , tfrac frac , dfrac frac
    , cfrac frac , E , KL , Var , Cov , cdot * , times * , mid | , vert | , lvert (abs , rvert abs) , | || , Vert || , parallel ||
    , colon : , coloneqq := , triangleq := , doteq := , le <= , leq <= , leqslant <= , ge >= , geq >= , geqslant >= , ne !=
    , neq != , lt < , gt > , propto , approx , sim ~ , succ , prec , in , notin , ni , to , infty , { [ , } ] , lbrace [
    , rbrace ] , lbrack [ , rbrack ] , quad , qquad quad , \ newline , equiv := , ldots dots , cdots dots , dots , odot *
    , underset , arcsin , langle (in , rangle in) , binom , tbinom binom , dbinom binom"""
)
"""What a command means."""
SPACING = {
    *table(", , ; , : , ! , > , displaystyle , textstyle , limits , nolimits , nonumber , notag , big , Big , bigg , Bigg"),
    " ",
    "\n",
}
SPACING |= set(
    table("bigl , bigr , Bigl , Bigr , biggl , biggr , Biggl , Biggr , bigm , Bigm , rm , bf , it , sf , tt , left , right , middle")
)
FONTS = set(
    table("mathrm , mathbb , mathcal , mathbf , mathit , mathsf , mathtt , mathscr , mathfrak , bm , boldsymbol , bold , pmb , mathop")
)
FONTS |= set(
    table("text , textrm , textit , textbf , textsf , texttt , textsc , textnormal , mbox , hbox , mathbbm , mathnormal , operatorname")
)
ACCENTS = table("hat , widehat hat , tilde , widetilde tilde , bar , overline bar , dot , check , breve") | {"vec": ""}
WORDS = GREEK.keys() | table(
    "log , exp , sigmoid , max , min , argmax , argmin , sum , prod , nabla , grad , sqrt , clip , mean , std , abs , E , Var , Cov , KL"
    " , KLdiv , DKL , Pr , ref , old , new , star , expert , where , with , and , at , let , so , up , to , for , softmax , inner"
    " , binom , arcsin"
)
"""Words that are names wherever they stand; other runs of one or two letters in LaTeX are letters side by side."""
SEPARATORS = {"where", "with", "and", "at", "for", "let", "quad", "if"}
FUNCTIONS = table("log , ln log , exp , sigma , sigmoid sigma , sqrt , arcsin , abs")
KL_KEYS = {"KL", "KLdiv", "DKL", "D_KL", "D^KL", "D_kl", "kl", "KL_div"}

INDICES = table(
    r"""
    x , x' , x_0 , y tau , y' tau' , y'' tau'' , y_0 tau_0 , y_1 tau_1 , y_2 tau_2 , tau , tau' , tau'' , tau_0 , tau_1 , tau_2
    , y_w w , y_l l , y^w w , y^l l , y^+ w , y^- l , w , l , y_i i , y_j j , o_i i , s , s' , a , a' , b , i , j , k , h , t , u , m
    , t' , h' , n , l' , tau_i i , tau_j j , s_0 , y_+ w , y_- l , g , c , c' , draw , row , place"""
)
"""An index as it is spelled, and its name in the tree: a response is tau, whatever letter a paper gives it."""
KINDS = table("x , tau , w tau , l tau , i tau , j tau , k tau , s , c , a , b a , h time , t time , u time , row , place")
"""What an index runs over, by its first letter."""


def kind(index: str) -> str:
    """What an index runs over: x prompts, tau responses, s states, a tokens, time steps, row and place a padded batch; "" where only a
    range can tell.

    >>> kind("tau'"), kind("x_0"), kind("w"), kind("m")
    ('tau', 'x', 'tau', '')
    """
    return KINDS.get(index.rstrip("'").partition("_")[0], "")


ALIASES = {key: letter for letter, keys in SPELLINGS.items() for key in (letter, *keys)}
"""A letter's key, and the letter that it is in the tree.  What is in neither this table nor among the symbols is a letter of its own."""
