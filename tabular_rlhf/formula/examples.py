r"""The notation, an example of each kind, to be executed: what `tabular-rlhf formulas` prints."""

from __future__ import annotations

EXAMPLES: dict[str, tuple[tuple[str, str], ...]] = {
    "letters, bare and at indices": (
        (r"\beta \log\frac{p}{p_{ref}}", "a number for each prompt and response"),
        (r"r(x, y) - r(x, y')", "two responses: two axes"),
        (r"\pi_\theta(y \mid x)", "a policy's law over responses"),
        (r"\pi(a \mid s)", "its tokens in every state"),
        (r"V(s + a) - V(s)", "a token leads from a state to the next; at the end of a response V is r"),
        (r"Q^\pi(s, a) - V^\pi(s)", "of a policy, A^\\pi: means of r from there on; Q and V alone are the soft ones of p*"),
        (r"p(s + a)", "the mass of the responses through a token"),
    ),
    "sums and products": (
        (r"\sum_y \pi_{ref}(y \mid x)\, e^{r(x, y)/\beta}", "over responses"),
        (r"\sum_s d_\pi(s) \sum_a \pi(a \mid s)\, Q(s, a)", "over states and tokens"),
        (r"\sum_h \log\frac{\pi(a_h \mid s_h)}{\pi_{ref}(a_h \mid s_h)}", "along each response"),
        (r"\prod_h \pi(a_h \mid s_h)", "of the tokens of each response"),
        (r"\sum_{h=1}^{H} (1 - \beta)^h", "over numbers"),
        (r"\sum_{k=0}^{H} \binom{H}{k} (1 - \beta)^k", "of as many as are chosen"),
        (r"\sum_{\tau \ni s + a} p(\tau)", "over the responses through a token"),
        (r"\max_y r(x, y)", "the best response that the reference allows"),
        (r"\frac{\sum_{row, place} mask \cdot token_losses}{\sum_{row, place} mask}", "over the tokens of a padded batch"),
        ("(sum_row (sum_place mask*token_losses)/(sum_place mask))/(sum_row 1)", "over its responses, each one's mean"),
    ),
    "means": (
        (r"\mathbb{E}_p[r]", "under a law, for each prompt"),
        (r"\mathbb{E}_{x \sim \mu,\, y \sim \pi_\theta}[r(x, y)]", "under the prompts, too"),
        (r"\mathbb{E}[r]", "without a law: that of the setting, mu and p"),
        (r"\mathbb{E}[r \mid s, a]", "given a state and a token"),
        (r"-\mathbb{E}_{(x, y_w, y_l) \sim D}\left[ \log\sigma(r(x, y_w) - r(x, y_l)) \right]", "over pairs, w the preferred one"),
        (r"\mathrm{Var}_p(r)", "a variance; Cov, with two"),
    ),
    "laws": (
        (r"D_{KL}(p \| p_{ref})", r"also KL(p, q), \mathbb{D}_{KL}[p || q]"),
        (r"D_{KL}(\pi(\cdot \mid s) \| \pi_{ref}(\cdot \mid s))", "of the tokens in every state"),
        (r"\mathcal{H}(p)", "an entropy; H alone is the horizon"),
        (r"P(y \succ y')", "a preference"),
        (r"p_{ref}(r \le r(y))", "an event: bare letters are drawn, those at an index stand still"),
        (r"\mathbb{1}[r(y) > 0]", "1 where it holds"),
    ),
    "derivatives": (
        (r"\nabla\, \mathbb{E}_p[r]", "in the logits of every prompt, state and token"),
        (r"\langle \nabla \log p(y), \nabla \log p(y') \rangle", "an inner product of two of them"),
        (r"\frac{d}{d\beta} \mathbb{E}_{p^*}[r]", "in a letter, with all that depends on it"),
        (r"\frac{\partial}{\partial p(y)} \sum_{y'} p(y')\, r(y')", "in one probability, the others held fixed"),
    ),
    "definitions": (
        (r"\mathbb{E}_p[u - 1 - \log u], \quad u = \frac{p_{ref}}{p}", r"behind \quad, where, with, at"),
        ("E_p[f(u)] where f(z) = z - 1 - log(z), u = p_ref/p", "plain typing is read as well"),
    ),
}
