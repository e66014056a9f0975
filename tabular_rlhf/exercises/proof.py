r"""An exercise that asks for a derivation: from where to where, with which letters, in how many steps at least.

    Proof("prove-regret", ..., start="V(x) - J_x", end="beta*KL(p, p_star)", fewest=4)

An answer is a text (`derivations.own_text`), or a function that returns one.  Every line is executed on all small worlds (`check.proof`),
and a derivation that breaks earns the share of its steps up to the first that does not follow.
"""

from __future__ import annotations

from dataclasses import dataclass

from tabular_rlhf.errors import InputError, quoted
from tabular_rlhf.exercises.record import EXERCISES, Asked
from tabular_rlhf.registry import Registry

RELATIONS = ("=", "<=", ">=")
"""What a proof may show."""


@dataclass(frozen=True, eq=False)
class Proof(Asked):
    """One exercise that asks for a derivation; its statement says what is to be shown.

    start, end: formulas, as plain typing or LaTeX; relation between them.  letters: all that may occur (empty: any).  without: letters
    that would give it away.
    fewest: steps.  bind: letters that a course reads otherwise; free: conventions that it leaves open
    (`formula.freedoms`).  solution: a text that is right.
    """

    start: str
    end: str
    solution: str
    relation: str = "="
    letters: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    fewest: int = 2
    bind: tuple[tuple[str, str], ...] = ()
    free: tuple[str, ...] = ()
    minutes: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(self.relation in RELATIONS, f"the relation must be one of {', '.join(RELATIONS)}", self.relation)
        self.require(self.fewest >= 1, "a proof must have a step", self.fewest)

    @property
    def asked(self) -> str:
        """The statement with what an answer must be."""
        allowed = f" Letters: {', '.join(self.letters)}." if self.letters else ""
        banned = f" Without {', '.join(self.without)}." if self.without else ""
        steps = f"{self.fewest} step{'s' if self.fewest > 1 else ''} or more"
        free = f" You choose: {', '.join(self.free)}." if self.free else ""
        return f"{self.statement} From {self.start} to {self.end}, in {steps}, one relation a line.{allowed}{banned}{free}"

    @property
    def signature(self) -> str:
        """The suggested first line of an answer: a function without parameters that returns the text."""
        return f"def {self.name}():"


PROOFS: Registry[Proof] = Registry("exercise", key="slug")


def add(proof: Proof) -> Proof:
    """Enter a proof into the table, refusing a second exercise of the same name."""
    if proof.slug in EXERCISES:
        raise InputError("an exercise must have a name of its own", got=quoted(proof.slug), remedy="choose another slug")
    return PROOFS.add(proof)


add(
    Proof(
        slug="prove-regret",
        chapter=4,
        notebook="04",
        title="What a policy gives away",
        statement="Show that what a policy gives away is beta times its divergence from the Gibbs optimum.",
        hint="Put r = beta log(Z p*/p_ref), which is the Gibbs optimum solved for the reward, into the mean.",
        rows=("regret-is-kl",),
        start="V(x) - J_x",
        end="beta*KL(p, p_star)",
        fewest=4,
        solution="""
V(x) - J_x
 = V(x) - E_p[r - beta*log(p/p_ref)]
 = V(x) - E_p[beta*log(Z*p_star/p_ref) - beta*log(p/p_ref)]
 = V(x) - beta*log Z + beta*E_p[log(p/p_star)]
 = beta*KL(p, p_star)
""",
    )
)
add(
    Proof(
        slug="prove-score-mean",
        chapter=7,
        notebook="07",
        title="A baseline costs nothing",
        statement="Show that a baseline that does not depend on the response leaves the gradient as it is.",
        hint="p times the gradient of log p is the gradient of p, and probabilities sum to 1.",
        rows=("zero-mean-score",),
        start="E_p[V(x) nabla log p]",
        end="0",
        fewest=3,
        solution="""
E_p[V(x) nabla log p]
 = V(x)*sum_tau p nabla log p
 = V(x)*nabla sum_tau p
 = V(x)*nabla 1
 = 0
""",
    )
)
add(
    Proof(
        slug="prove-k3",
        chapter=8,
        notebook="08",
        title="k3 is unbiased",
        statement="Show that the mean of k3 is the divergence from the reference.",
        hint="Under p the mean of p_ref/p is 1.",
        rows=("k3",),
        start="E_p[p_ref/p - 1 - log(p_ref/p)]",
        end="KL(p, p_ref)",
        fewest=2,
        without=("k_3",),
        solution="""
E_p[p_ref/p - 1 - log(p_ref/p)]
 = sum_tau p_ref - 1 + E_p[log(p/p_ref)]
 = KL(p, p_ref)
""",
    )
)
