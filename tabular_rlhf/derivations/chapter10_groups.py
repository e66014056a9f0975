r"""Chapter 10 as derivations: groups.  Bernstein's polynomial, the order of MaxRL, pass at k, and three ways to drop silent groups.

Every first line is a mean over all groups, one by one; every line runs as it is printed.
"""

from __future__ import annotations

from string import Template

from tabular_rlhf.derivations.record import derivation
from tabular_rlhf.terms.conditions import decided, few
from tabular_rlhf.terms.letters import TABLE, U, pulled
from tabular_rlhf.terms.sizes import table_size

MIXED = r"\sum_{m=1}^{G-1} \binom{G}{m} u^m (1-u)^{G-m}"
REST = r"u^{m-1} (1-u)^{G-1-m}"


def affordable(P: int, N: int, G: int, p: object, success: object) -> bool:
    """All groups can be written out, and no prompt is hopeless or certain."""
    return few(P, N, G) and decided(p, success)


derivation(
    slug="group-bernstein",
    title="What a table of advantages ascends",
    chapter=10,
    rows=("group-bernstein",),
    source="by counts.",
    where=affordable,
    largest=30,
    most=24,
    scale=lambda H, G, p, success: 64.0 * table_size(H, G),
    letters={**U, **pulled("A=group_pull"), "c_0": "credit_0", "c_1": "credit_1", "c_2": "credit_2"},
    text=Template(r"""
    g_A  # The mean of one group's update (1/G) sum of A score, over all groups; A is a table A(m) for right responses.
    = ${MIXED}\, \frac{1}{G} \left(m A(m)\, \nabla \log u - (G - m) \frac{m A(m)}{G - m}\, \nabla \log(1 - u)\right), \quad ${TABLE}
        # Given how many are right, right responses are drawn from the right ones alone: their score has the mean of the gradient of log u,
        a wrong one's that of log(1 - u).  The advantages of a group sum to zero.
      not ${MIXED}\, \frac{1}{G} m A(m)\, \nabla \log u  # wrong responses are not pushed
      not ${MIXED} (m A(m)\, \nabla \log u - (G - m) \frac{m A(m)}{G - m}\, \nabla \log(1 - u))  # sum over the group for its mean
      not ${MIXED}\, \frac{1}{G} (m A(m)\, \nabla \log u + (G - m) A(m)\, \nabla \log(1 - u))  # wrong responses get the same advantage
    = ${MIXED}\, \frac{m A(m)}{G}\, \frac{\nabla u}{u (1 - u)}  # 1/u and 1/(1 - u) add up to 1/(u (1 - u)).
      not ${MIXED}\, \frac{m A(m)}{G}\, \left(\frac{1}{u} - \frac{1}{1 - u}\right) \nabla u  # their difference taken
      not ${MIXED}\, \frac{m A(m)}{G}\, \frac{\nabla u}{u}  # only 1/u
    = \sum_{m=1}^{G-1} \frac{m}{G} \binom{G}{m} ${REST} A(m)\, \nabla u  # Powers cancel: every mixed group has a factor u (1 - u).
      not \sum_{m=1}^{G-1} \frac{m}{G} \binom{G}{m} u^{m-1} (1-u)^{G-m} A(m)\, \nabla u  # of degree G - 1: only u cancels
    = \sum_{m=1}^{G-1} \binom{G-1}{m-1} ${REST} A(m)\, \nabla u  # m/G of the ways to choose m are the ways to choose the others.
      not \sum_{m=1}^{G-1} \binom{G-1}{m} ${REST} A(m)\, \nabla u  # the others are as many
      not \sum_{m=1}^{G-1} \binom{G}{m} ${REST} A(m)\, \nabla u  # m/G forgotten
    = \sum_{m=1}^{G-1} \binom{G-2}{m-1} ${REST}\, \frac{G-1}{G-m} A(m)\, \nabla u
        # In Bernstein's basis of degree G - 2, so that the factors beside it are the coefficients of the weight.
      not \sum_{m=1}^{G-1} \binom{G-2}{m-1} ${REST}\, \frac{G-m}{G-1} A(m)\, \nabla u  # upside down
    so \sum_{m=1}^{G-1} \binom{G-2}{m-1} ${REST}\, \frac{G-1}{G-m} \frac{G-m}{G-1}\, \nabla u
        # For RLOO, a right response's advantage is its 1 less the mean of the others, (G - m)/(G - 1).
    = \nabla u  # All coefficients are 1, and Bernstein's basis sums to 1: REINFORCE.
      not \frac{G-1}{G}\, \nabla u  # (G - 1)/G of it, as for the group's mean
      not \nabla \log u  # the gradient of log u
    """).substitute(MIXED=MIXED, REST=REST, TABLE=TABLE),
)

derivation(
    slug="maxrl-order",
    title="To which order MaxRL is log u",
    chapter=10,
    rows=("maxrl-order",),
    source="Tajwar et al. (2026), arXiv:2602.02710.",
    where=affordable,
    largest=30,
    most=24,
    scale=lambda H, G, p, success: 16.0 * table_size(H, G),
    letters={**U, **pulled("r=maxrl_raw", "d=maxrl_dropped")},
    text=r"""
    g_r  # The mean of (1/m) sum of r score over all groups, m how many are right, 0 where none is.
    = \left(\sum_{m=1}^{G} \binom{G}{m} u^m (1-u)^{G-m}\right) \nabla \log u
        # Given m, the m right responses have the mean score of right ones, and 1/m averages them.
      not \left(\sum_{m=0}^{G} \binom{G}{m} u^m (1-u)^{G-m}\right) \nabla \log u  # groups without a right one count, too
      not \left(\sum_{m=1}^{G-1} \binom{G}{m} u^m (1-u)^{G-m}\right) \nabla \log u  # groups of right ones alone are silent
    = (1 - (1-u)^G)\, \frac{\nabla u}{u}  # Some response is right unless all are wrong.
      not \frac{\nabla u}{u}  # the limit of many
      not \nabla (1 - (1-u)^G)  # pass@G: its gradient
    = \sum_{k=1}^{G} (1-u)^{k-1}\, \nabla u  # A geometric sum, with 1 - u for its ratio.
      not \sum_{k=1}^{G-1} (1-u)^{k-1}\, \nabla u  # one term fewer
      not \sum_{k=1}^{G} u^{k-1}\, \nabla u  # powers of u
    = \nabla \left(-\sum_{k=1}^{G} \frac{(1-u)^k}{k}\right)  # Term by term: log u is this sum without an end.
      not \nabla \left(-\sum_{k=1}^{G} (1-u)^k\right)  # k forgotten
    so g_d  # Now with the mean score taken away, and groups without a right response dropped.
    = g_r + (1-u)^G\, \nabla \log(1 - u)
        # Over all groups the mean score is 0, so over those that are kept it is minus what it is where all are wrong.
      not g_r  # the mean score is a free baseline
      not g_r - (1-u)^G\, \nabla \log(1 - u)  # sign flipped
    = \sum_{k=1}^{G} (1-u)^{k-1}\, \nabla u - (1-u)^{G-1}\, \nabla u  # The slope of log(1 - u) is -1/(1 - u).
      not \sum_{k=1}^{G} (1-u)^{k-1}\, \nabla u - (1-u)^G\, \nabla u  # one power more
    = \sum_{k=1}^{G-1} (1-u)^{k-1}\, \nabla u  # The last term falls out: order G - 1, and with two responses the success rate itself.
      not \sum_{k=1}^{G} (1-u)^{k-1}\, \nabla u  # order G
    """,
)

derivation(
    slug="pass-at-k",
    title="Pass at k, and what centering costs",
    chapter=10,
    rows=("pass-at-k",),
    source="Chen et al. (2021), arXiv:2107.03374; Walder and Karkhanis (2025), arXiv:2505.15201.",
    where=affordable,
    largest=30,
    most=24,
    scale=lambda H, G, p, success: 16.0 * table_size(H, G),
    letters={**U, **pulled("k=pass_pull", "c=pass_centered_pull"), "k": "tries"},
    text=r"""
    \sum_{m=0}^{G} \binom{G}{m} u^m (1-u)^{G-m}\, \frac{\binom{G-m}{k}}{\binom{G}{k}}
        # The mean share of k-subsets in which nobody is right.
    = \sum_{m=0}^{G} \binom{G-k}{m} u^m (1-u)^{G-m}  # Choose the subset first: then the m right ones are among the G - k others.
      not \sum_{m=0}^{G} \binom{G}{m} u^m (1-u)^{G-m}  # the subset is chosen from all
      not \sum_{m=0}^{G} \binom{G}{m} u^m (1-u)^{G-m} \left(1 - \frac{m}{G}\right)^k  # plug-in: k draws with replacement
    = (1-u)^k \sum_{m=0}^{G} \binom{G-k}{m} u^m (1-u)^{G-k-m}  # k of the failures are those of the subset.
      not (1-u)^G \sum_{m=0}^{G} \binom{G-k}{m} u^m (1-u)^{G-k-m}  # all failures taken out
    = (1-u)^k  # The binomial theorem: the estimate is unbiased.
      not 1 - u^k  # 1 - u^k
      not 1 - u  # one failure
    so g_k  # Now the gradient: each member is credited with its share of the k-subsets that hold a right one.
    = \nabla (1 - (1-u)^k)
        # Subset by subset: the best of its members, times the sum of their scores, has the gradient of the chance for its mean; scores of
        non-members have mean 0.
      not k\, \nabla (1 - (1-u)^k)  # each of k members is credited with everything
      not G\, \nabla (1 - (1-u)^k)  # a sum over the group
    so g_c  # Now with the group's mean share taken away.
    = g_k - \frac{k}{G}\, \nabla (1 - (1-u)^k)
        # The mean share is k/G of the estimate, and the estimate times the sum of all scores has the same gradient for its mean.
      not g_k  # centering is free
      not g_k - \frac{1}{G}\, \nabla (1 - (1-u)^k)  # as without subsets, 1/G
    = \left(1 - \frac{k}{G}\right) \nabla (1 - (1-u)^k)  # A factor that is 0 where k is all of the group: every member then gets the same.
      not \frac{G}{G - k + 1}\, \nabla (1 - (1-u)^k)  # its inverse
    """,
)

SILENT = r"u^G + (1-u)^G"

derivation(
    slug="dynamic-sampling",
    title="Three ways to drop silent groups",
    chapter=10,
    rows=("dynamic-sampling",),
    source="Yu et al. (2025), arXiv:2503.14476.",
    where=affordable,
    largest=30,
    most=24,
    scale=lambda H, G, p, success: 4e4 * table_size(H, G),
    letters={
        **U,
        **pulled("r=redrawn_pull"),
        "g_f": "sum_x sum_tau filled_pull(x, tau)*score(x, tau)",
        "g_s": "sum_x sum_tau surviving_pull(x, tau)*score(x, tau)",
    },
    text=r"""
    g_r  # RLOO, each prompt's group drawn again until it is mixed: the mean over all mixed groups.
    = \frac{\sum_{m=1}^{G-1} \binom{G}{m} u^m (1-u)^{G-m} \frac{m}{G} \frac{G-m}{G-1} (\nabla \log u - \nabla \log(1-u))}{1 - u^G - (1-u)^G}
        # A mixed group has its binomial probability over that of being mixed; a right response's advantage is (G - m)/(G - 1).
      not \sum_{m=1}^{G-1} \binom{G}{m} u^m (1-u)^{G-m} \frac{m}{G} \frac{G-m}{G-1} (\nabla \log u - \nabla \log(1-u))
        # unconditional for conditional
      not \frac{\sum_{m=1}^{G-1} \binom{G}{m} u^m (1-u)^{G-m} \frac{m}{G} \frac{G-m}{G-1} (\nabla \log u - \nabla \log(1-u))}{1 - (1-u)^G}
        # only groups without a right one are drawn again
    = \frac{\nabla u}{1 - u^G - (1-u)^G}  # The sum is RLOO's over all groups, for silent ones push nothing: the gradient of u.
      not \frac{G-1}{G}\, \frac{\nabla u}{1 - u^G - (1-u)^G}  # (G - 1)/G of it
    so g_f  # Now the batch is filled with mixed groups of whatever prompts.
    = \frac{\mathbb{E}_{x \sim \mu}[\nabla u]}{\mathbb{E}_{x \sim \mu}[1 - u^G - (1-u)^G]}
        # A group that is kept is of prompt x in proportion to its chance to be mixed, which cancels.
      not \frac{\mathbb{E}_{x \sim \mu}[\nabla u]}{\mathbb{E}_{x \sim \mu}[u^G + (1-u)^G]}  # in proportion to the chance of silence
      not \mathbb{E}_{x \sim \mu}[\nabla u]  # filling does nothing
    = \frac{\nabla\, \mathbb{E}_{x \sim \mu}[u]}{\mathbb{E}_{x \sim \mu}[1 - u^G - (1-u)^G]}
        # One number divides all: a longer step in the same direction.
      not \frac{\nabla\, \mathbb{E}_{x \sim \mu}[u]}{\mathbb{E}_{x \sim \mu}[1 - (1-u)^G]}  # failures alone are silent
    so g_s  # Last, a batch of two groups, averaged over those that are mixed.
    = 2 \mathbb{E}_{x \sim \mu}[1 - u^G - (1-u)^G] \left(\mathbb{E}_{x \sim \mu}[u^G + (1-u)^G] + \frac{1}{2} \mathbb{E}_{x \sim \mu}[1 -
        u^G - (1-u)^G]\right) g_f
        # Either of the two is mixed, and has weight 1 beside a silent one, 1/2 beside a mixed one.
      not g_f  # as if filled
      not \mathbb{E}_{x \sim \mu}[1 - u^G - (1-u)^G]\, g_f  # as if the other were always mixed
    = (1 + \mathbb{E}_{x \sim \mu}[u^G + (1-u)^G])\, \nabla\, \mathbb{E}_{x \sim \mu}[u]
        # Between the plain mean, which counts silent groups, and the filled batch.
      not \nabla\, \mathbb{E}_{x \sim \mu}[u]  # the plain mean
    """,
)
