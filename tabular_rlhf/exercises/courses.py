"""The exercises by course and problem: which of them a course would set, under which heading.

A sheet is a Python file.  To its author it names the exercises (`grade --exercises SHEET`), to a student it is what is to be filled in.

>>> COURSES["preferences"].title
'Preferences and reward models'
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from textwrap import wrap

from tabular_rlhf.errors import InputError
from tabular_rlhf.exercises.record import EXERCISES
from tabular_rlhf.registry import Registry, one_of


@dataclass(frozen=True)
class Course:
    """A course.  slug: its name.  title.  problems: heading -> names of exercises, in the order in which they are set."""

    slug: str
    title: str
    problems: Mapping[str, tuple[str, ...]]

    def __post_init__(self) -> None:
        for slug in self.exercises:
            one_of(EXERCISES, slug, "a course must be made of exercises", where=f"course {self.slug!r}")
        if len(set(self.exercises)) < len(self.exercises):
            raise InputError("a course must set an exercise once", got=", ".join(self.exercises), where=self.slug, remedy="drop one")

    @property
    def exercises(self) -> tuple[str, ...]:
        """All exercises of the course."""
        return tuple(slug for slugs in self.problems.values() for slug in slugs)


INDENT = "    "
COURSES: Registry[Course] = Registry("course", key="slug")

for _course in (
    Course(
        "policy-gradients",
        "Policy gradients",
        {
            "The gradient": ("logit-gradient", "entropy-bonus-slope"),
            "Returns": ("returns-to-go", "gae-of-a-batch"),
            "Baselines": ("best-baseline", "baseline-of-a-state", "leave-one-out"),
            "Importance weights": ("response-ratios", "geometric-ratios", "prefix-ratios"),
        },
    ),
    Course(
        "trainer",
        "PPO and GRPO in a trainer",
        {
            "Means under a mask": ("token-mean", "sequence-mean"),
            "Groups": ("group-normalized", "grpo-advantage", "leave-one-out"),
            "The clipped loss": ("clipped-surrogate", "clipped-token-loss", "flat-tokens", "clipped-slope"),
            "Rewards and critic": ("rewards-with-kl", "gae-of-a-batch", "critic-loss"),
            "KL estimators": ("three-estimators", "token-k3"),
        },
    ),
    Course(
        "preferences",
        "Preferences and reward models",
        {
            "Bradley-Terry": ("win-probabilities", "comparison-loss", "preference-slope", "fit-exists"),
            "Labels": ("soft-label-slope", "unbiased-loss", "halved-ties"),
            "DPO": ("policy-reward", "pair-loss", "dpo-slopes", "smoothed-pair-loss", "ipo-loss"),
        },
    ),
    Course(
        "inference",
        "RLHF as inference",
        {
            "The Gibbs optimum": ("gibbs-by-hand", "gibbs-probabilities", "best-value", "regret"),
            "Divergences": ("both-directions", "kl-by-states", "forward-projection"),
            "Expansions": ("kl-to-second-order", "value-at-large-beta", "entropy-drift"),
            "Selection": ("best-of-n-law", "best-of-n-slack", "acceptance"),
        },
    ),
):
    COURSES.add(_course)


def find(name: str) -> Course:
    """The course of a name.  Raises InputError with the nearest names."""
    return COURSES[one_of(COURSES, name, "a course must be in the table", remedy=f"use one of {', '.join(COURSES)}")]


def as_sheet(course: Course, chosen: Collection[str]) -> str:
    """A problem sheet: the exercises `chosen` of a course, each a function to be filled in, and what each is worth.

    >>> [line for line in as_sheet(COURSES["inference"], ["gibbs-by-hand"]).splitlines() if line.startswith("def")]
    ['def gibbs_by_hand():']
    """
    lines = [f'"""{course.title}: a sheet of tabular_rlhf."""', "", "import numpy as np", ""]
    lines += ["POINTS = {", *(f'    "{slug}": 1.0,' for slug in course.exercises if slug in chosen), "}"]
    for heading, slugs in course.problems.items():
        here = [EXERCISES[slug] for slug in slugs if slug in chosen]
        lines += ["", "", f"# {heading}"] if here else []
        for e in here:
            asked = "\n".join(wrap(e.asked, 130, initial_indent=INDENT, subsequent_indent=INDENT, break_long_words=False))
            lines += ["", "", e.signature, f'{INDENT}r"""', f"{INDENT}{e.title}", "", asked, f'{INDENT}"""', f"{INDENT}..."]
    return "\n".join(lines)
