"""Formulas as papers print them, read in their own spelling, executed, and compared with ours computed by NumPy from the world's tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tabular_rlhf.formula import Formula
from tabular_rlhf.gibbs import soft_bellman
from tabular_rlhf.logspace import log_sigmoid, log_softmax
from tabular_rlhf.policy import dirichlet
from tabular_rlhf.selection import best_of_n
from tabular_rlhf.symbols import Scope
from tabular_rlhf.world import World, random_world


class Own:
    """One world with its tables, all in probabilities: what the expected values are computed from."""

    def __init__(self, forbidden: float) -> None:
        rng = np.random.default_rng(11)
        self.world = random_world(rng=rng, V=3, H=2, P=2, beta=0.7, forbidden=forbidden)
        w, m = self.world, self.world.mdp
        self.mu, self.beta, self.r, self.ref = w.mu, w.beta, w.r, np.exp(w.log_p_ref)
        self.log_pi = log_softmax(np.where(np.isneginf(w.log_ref), -np.inf, rng.standard_normal(w.log_ref.shape)))
        self.log_old = log_softmax(np.where(np.isneginf(w.log_ref), -np.inf, rng.standard_normal(w.log_ref.shape)))
        self.pi, self.p, self.old = np.exp(self.log_pi), np.exp(m.path_sum(self.log_pi)), np.exp(m.path_sum(self.log_old))
        self.D = np.exp(m.path_sum(dirichlet(m, 1.0, rng=rng)))
        with np.errstate(divide="ignore", invalid="ignore"):
            self.L = np.where(self.ref > 0, np.log(self.p / self.ref), 0.0)
            self.rho = np.where(self.ref > 0, self.p / self.old, 0.0)
        self.gap = self.r[:, :, None] - self.r[:, None, :]
        self.P = np.exp(log_sigmoid(self.gap))
        self.pairs = 2 * self.mu[:, None, None] * self.ref[:, :, None] * self.ref[:, None, :] * self.P  # w, l
        self.h = self.beta * (self.L[:, :, None] - self.L[:, None, :])  # DPO's margin
        self.ell = m.lengths.astype(float)
        weight = self.ref * np.exp(self.r / self.beta)
        self.Z, self.star = weight.sum(axis=1), weight / weight.sum(axis=1, keepdims=True)

    def mean(self, f: Any, p: Any) -> Any:
        return np.sum(np.where(p > 0, p * np.where(p > 0, f, 0.0), 0.0), axis=-1)

    def kl(self, p: Any, q: Any) -> Any:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.sum(np.where(p > 0, p * np.log(np.where(p > 0, p, 1.0) / np.where(p > 0, q, 1.0)), 0.0), axis=-1)

    def tables(self) -> dict[str, Any]:
        return {"pi": self.pi, "pi_old": np.exp(self.log_old), "D_pretrain": self.D}

    @property
    def score(self) -> Any:
        """grad log p(tau) in the logits, (P, N, S, V), by its formula: 1 for the token, less the policy, in every state passed."""
        m = self.world.mdp
        through = np.array([m.subtree_sum(np.broadcast_to(np.eye(m.N)[k], (m.P, m.N)))[0] for k in range(m.N)])
        return through[None] - np.sum(through, axis=-1)[None, :, :, None] * self.pi[:, None]


def sigma(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


PAPERS: list[tuple[str, str, dict[str, Any], Callable[[Own], Any]]] = [
    (
        "RLHF objective (Rafailov 2023, eq. 3)",
        r"\max_{\pi_\theta} \mathbb{E}_{x \sim \mathcal{D}, y \sim \pi_\theta(y \mid x)}\bigl[r_\phi(x, y)\bigr]"
        r" - \beta \mathbb{D}_{\textrm{KL}}\bigl[\pi_\theta(y \mid x)\,||\,\pi_{\text{ref}}(y \mid x)\bigr]",
        {r"r_\phi": "r", r"\mathcal{D}": "mu"},
        lambda o: o.mu @ (o.mean(o.r, o.p) - o.beta * o.kl(o.p, o.ref)),
    ),
    (
        "RLHF objective (Ziegler 2019)",
        r"R(x, y) = r(x, y) - \beta \log \frac{\pi(y | x)}{\rho(y | x)}",
        {r"\rho": "pi_ref"},
        lambda o: np.where(o.ref > 0, o.r - o.beta * o.L, np.nan),
    ),
    (
        "RLHF with pretraining (Ouyang 2022, eq. 2)",
        r"\operatorname{objective}(\phi) = E_{(x, y) \sim D_{\pi_\phi^{\mathrm{RL}}}}\left[r_\theta(x, y)-\beta"
        r" \log\left(\pi_\phi^{\mathrm{RL}}(y \mid x) /"
        r" \pi^{\mathrm{SFT}}(y \mid x)\right)\right] + \gamma E_{x \sim"
        r" D_\textrm{pretrain}}\left[\log(\pi_\phi^{\mathrm{RL}}(x))\right]",
        {r"\pi_\phi^{RL}": "pi", r"\pi^{SFT}": "pi_ref", r"r_\theta": "r", r"\gamma": 0.4},
        lambda o: o.mu @ (o.mean(o.r, o.p) - o.beta * o.kl(o.p, o.ref)) + 0.4 * o.mu @ np.sum(o.D * np.log(o.p), axis=1),
    ),
    (
        "Gibbs optimum (Rafailov 2023, eq. 4)",
        r"\pi_r(y\mid x) = \frac{1}{Z(x)}\pi_\text{ref}(y\mid x)\exp\left(\frac{1}{\beta}r(x, y)\right)",
        {},
        lambda o: o.star,
    ),
    ("partition function", r"Z(x) = \sum_{y}\pi_{\text{ref}}(y\mid x)\exp\left(\tfrac{1}{\beta}r(x,y)\right)", {}, lambda o: o.Z),
    (
        "reward by its optimum (Rafailov 2023, eq. 5)",
        r"r(x,y) = \beta \log \frac{\pi_r(y \mid x)}{\pi_{\text{ref}}(y \mid x)} + \beta \log Z(x)",
        {},
        lambda o: np.where(o.ref > 0, o.r, np.nan),
    ),
    (
        "Bradley-Terry (Christiano 2017)",
        r"p^*(y_1\succ y_2 \mid x) = \frac{\exp(r^*(x, y_1))}{\exp(r^*(x, y_1)) + \exp(r^*(x, y_2))}",
        {"r^*": "r"},
        lambda o: o.P,
    ),
    (
        "reward model's loss (Ouyang 2022, eq. 1, K = 2)",
        r"-\mathbb{E}_{(x, y_w, y_l)\sim \mathcal{D}}\bigl[\log \sigma(r_\phi(x, y_w) - r_\phi(x, y_l))\bigr]",
        {r"r_\phi": "r"},
        lambda o: -np.sum(o.pairs * log_sigmoid(o.gap)),
    ),
    (
        "DPO loss (Rafailov 2023, eq. 7)",
        r"\mathcal{L}_\text{DPO}(\pi_{\theta}; \pi_\text{ref}) = -\mathbb{E}_{(x, y_w, y_l)\sim \mathcal{D}}\left[\log"
        r" \sigma \left(\beta \log"
        r" \frac{\pi_{\theta}(y_w\mid x)}{\pi_\text{ref}(y_w\mid x)} - \beta \log \frac{\pi_{\theta}(y_l\mid"
        r" x)}{\pi_\text{ref}(y_l\mid x)}\right)\right]",
        {},
        lambda o: -np.sum(o.pairs * log_sigmoid(o.h)),
    ),
    (
        "DPO gradient (Rafailov 2023, section 4)",
        r"-\beta\mathbb{E}_{(x, y_w, y_l) \sim \mathcal{D}} \bigg[\sigma(\hat{r}_\theta(x, y_l) - \hat{r}_\theta(x,"
        r" y_w))\bigg[\nabla_\theta\log"
        r" \pi_\theta(y_w \mid x) - \nabla_\theta\log\pi_\theta(y_l \mid x)\bigg]\bigg], \quad \hat{r}_\theta(x, y) = \beta \log"
        r" \frac{\pi_\theta(y \mid x)}{\pi_\text{ref}(y \mid x)}",
        {},
        lambda o: -o.beta * np.einsum("xwl,xwlsa->xsa", o.pairs * sigma(-o.h), o.score[:, :, None] - o.score[:, None]),
    ),
    (
        "DPO gradient, by differentiating",
        r"\nabla_\theta \left( -\mathbb{E}_{(x, y_w, y_l)\sim \mathcal{D}}\left[\log \sigma \left(\beta \log"
        r" \frac{\pi_{\theta}(y_w|x)}{\pi_\text{ref}(y_w|x)}"
        r" - \beta \log \frac{\pi_{\theta}(y_l|x)}{\pi_\text{ref}(y_l|x)}\right)\right] \right)",
        {},
        lambda o: -o.beta * np.einsum("xwl,xwlsa->xsa", o.pairs * sigma(-o.h), o.score[:, :, None] - o.score[:, None]),
    ),
    (
        "IPO loss (Azar 2023, eq. 17)",
        r"\underset{(y_w, y_l, x) \sim D}{\mathbb{E}} \left( h_\pi(y_w, y_l, x) - \frac{\tau^{-1}}{2} \right)^2, \quad h_\pi(y, y', x) ="
        r" \log\left(\frac{\pi(y|x)\pi_{\text{ref}}(y'|x)}{\pi(y'|x)\pi_{\text{ref}}(y|x)}\right)",
        {r"\tau": 0.3},
        lambda o: np.sum(o.pairs * (o.h / o.beta - 1 / 0.6) ** 2),
    ),
    (
        "SLiC-HF (Zhao 2023), hinge",
        r"\mathbb{E}_{(x,y_w,y_l) \sim \mathcal{D}}\left[\max\left(0, \delta - \log \pi_\theta(y_w|x) + \log"
        r" \pi_\theta(y_l|x)\right)\right]",
        {r"\delta": 1.0},
        lambda o: _hinge(o),
    ),
    (
        "SimPO loss (Meng 2024, eq. 6)",
        r"-\mathbb{E}_{(x,y_w,y_l)\sim\mathcal{D}}\left[\log\sigma\left(\frac{\beta}{|y_w|}\log\pi_\theta(y_w|x) -"
        r" \frac{\beta}{|y_l|}\log\pi_\theta(y_l|x)"
        r" - \gamma\right)\right]",
        {r"\gamma": 0.5},
        lambda o: _simpo(o),
    ),
    (
        "cDPO (Mitchell 2023)",
        r"-\mathbb{E}_{(x,y_w,y_l)\sim D}\left[(1-\epsilon)\log\sigma(h_w - h_l) + \epsilon\log\sigma(h_l - h_w)\right],"
        r" \quad h = \beta \log\frac{\pi_\theta(y|x)}{\pi_{ref}(y|x)}",
        {r"\epsilon": 0.1},
        lambda o: -np.sum(o.pairs * (0.9 * log_sigmoid(o.h) + 0.1 * log_sigmoid(-o.h))),
    ),
    (
        "KTO (Ethayarajh 2024), the value of a desired response",
        r"\lambda_D\,\sigma\left(\beta(r_\theta(x,y) - z_0)\right) \text{ where } r_\theta(x,y) ="
        r" \log\frac{\pi_\theta(y|x)}{\pi_{\text{ref}}(y|x)},"
        r"\; z_0 = \mathrm{KL}(\pi_\theta(y'|x)\|\pi_{\text{ref}}(y'|x))",
        {r"\lambda_D": 1.5},
        lambda o: np.where(o.ref > 0, 1.5 * sigma(o.beta * (o.L - o.kl(o.p, o.ref)[:, None])), np.nan),
    ),
    (
        "k1 (Schulman 2020)",
        r"k_1 = -\log r",
        {"r": "p_ref/p"},
        lambda o: np.where(o.ref > 0, o.L, np.nan),
    ),
    ("k2 (Schulman 2020)", r"\frac{1}{2}(\log r)^2", {"r": "p_ref/p"}, lambda o: np.where(o.ref > 0, o.L**2 / 2, np.nan)),
    ("k3 (Schulman 2020)", r"(r - 1) - \log r", {"r": "p_ref/p"}, lambda o: np.where(o.ref > 0, np.exp(-o.L) - 1 + o.L, np.nan)),
    (
        "KL by k3",
        r"\mathbb{E}_{y\sim\pi}\left[\tfrac{p(y)}{q(y)} - 1 - \log\tfrac{p(y)}{q(y)}\right]",
        {"p": "p_ref", "q": "p"},
        lambda o: o.kl(o.p, o.ref),
    ),
    (
        "GRPO advantage (Shao 2024)",
        r"\hat{A}_{i, t} = \widetilde{r}_i = \frac{r_i- {\rm mean}(\mathbf{r})}{{\rm std}(\mathbf{r})}",
        {"r": np.array([0.2, 1.0, 1.5])},
        lambda o: (np.array([0.2, 1.0, 1.5]) - 0.9) / np.std([0.2, 1.0, 1.5]),
    ),
    (
        "GRPO advantage (DeepSeek-R1)",
        r"A_i = \frac{r_i - \mathrm{mean}(\{r_1, r_2, \cdots, r_G\})}{\mathrm{std}(\{r_1, r_2, \cdots, r_G\})}",
        {"r": np.array([0.0, 1.0, 1.0, 0.5])},
        lambda o: (np.array([0.0, 1.0, 1.0, 0.5]) - 0.625) / np.std([0.0, 1.0, 1.0, 0.5]),
    ),
    (
        "GRPO's KL penalty (Shao 2024, eq. 4)",
        r"\frac{\pi_{ref}(o_i|x)}{\pi_{\theta}(o_i|x)}- \log\frac{\pi_{ref}(o_i|x)}{\pi_{\theta}(o_i|x)} - 1",
        {},
        lambda o: np.where(o.ref > 0, np.exp(-o.L) - 1 + o.L, np.nan),
    ),
    (
        "RLOO advantage (Ahmadian 2024)",
        r"r_i - \frac{1}{G - 1}\left( \sum_{j} r_j - r_i \right)",
        {"r": np.array([0.2, 1.0, 1.5]), "G": 3},
        lambda o: 1.5 * (np.array([0.2, 1.0, 1.5]) - 0.9),
    ),
    (
        "PPO clip (Schulman 2017, eq. 7), on responses",
        r"\mathbb{E}_{y \sim \pi_{\theta_{\text{old}}}}\left[\min\left(\rho(y) \hat{A}(y),\; \mathrm{clip}(\rho(y),"
        r" 1-\epsilon, 1+\epsilon)\hat{A}(y)\right)\right],"
        r" \quad \rho(y) = \frac{\pi_\theta(y|x)}{\pi_{\theta_{\text{old}}}(y|x)}",
        {r"\pi_{\theta_{old}}": "pi_old", r"\epsilon": 0.2, r"\hat{A}": "r"},
        lambda o: o.mean(np.minimum(o.rho * o.r, np.clip(o.rho, 0.8, 1.2) * o.r), o.old),
    ),
    (
        "importance sampling",
        r"\mathbb{E}_{y \sim \pi_{old}}\left[\frac{\pi_\theta(y|x)}{\pi_{old}(y|x)}\, r(x, y)\right]",
        {r"\pi_{old}": "pi_old"},
        lambda o: o.mean(o.r, o.p),
    ),
    (
        "REINFORCE (Williams 1992)",
        r"\mathbb{E}_{x \sim \mu,\, y \sim \pi_\theta}\left[(r(x, y) - b(x)) \nabla_\theta \log \pi_\theta(y |"
        r" x)\right], \quad b(x) = \mathbb{E}_{y \sim \pi_\theta}[r(x, y)]",
        {},
        lambda o: np.einsum("x,xn,xn,xnsa->xsa", o.mu, o.p, o.r - o.mean(o.r, o.p)[:, None], o.score),
    ),
    (
        "policy gradient theorem (Sutton 2000)",
        r"\nabla_\theta \sum_x \mu(x) \sum_\tau \pi_\theta(\tau | x)\, r(x, \tau)",
        {},
        lambda o: np.einsum("x,xn,xn,xnsa->xsa", o.mu, o.p, o.r, o.score),
    ),
    (
        "soft Bellman, value (Ziebart 2010)",
        r"V(s) = \beta \log \sum_a \pi_{\text{ref}}(a|s) \exp\left(Q(s,a)/\beta\right)",
        {},
        lambda o: soft_bellman(o.world.mdp, o.world.log_ref, o.r, o.beta).V,
    ),
    (
        "soft Bellman, policy (Haarnoja 2017)",
        r"\pi^*(a|s) = \pi_{\text{ref}}(a|s)\exp\left(\frac{Q(s,a)-V(s)}{\beta}\right)",
        {},
        lambda o: np.exp(soft_bellman(o.world.mdp, o.world.log_ref, o.r, o.beta).log_pi),
    ),
    (
        "token-level reward (Rafailov 2024)",
        r"\sum_{t} \beta\log\frac{\pi(a_t|s_t)}{\pi_{\text{ref}}(a_t|s_t)}",
        {},
        lambda o: np.where(o.ref > 0, o.beta * o.L, np.nan),
    ),
    (
        "sequence KL by tokens",
        r"\sum_s d_\pi(s)\, D_{\mathrm{KL}}\left(\pi(\cdot|s)\,\|\,\pi_{\text{ref}}(\cdot|s)\right)",
        {},
        lambda o: o.kl(o.p, o.ref),
    ),
    (
        "best of n, its law",
        r"\pi^{(n)}(y|x) = \pi_{\text{ref}}(y|x)\, \frac{F(y)^n - F_-(y)^n}{F(y) - F_-(y)}",
        {"n": 4},
        lambda o: np.where(o.ref > 0, np.exp(best_of_n(o.world.log_p_ref, o.r, 4)), np.nan),
    ),
    ("best of n, the bound on its KL (Stiennon 2020)", r"\log n - \frac{n-1}{n}", {"n": 4}, lambda o: np.log(4) - 0.75),
    (
        "variational formula (Donsker-Varadhan)",
        r"\beta \log \mathbb{E}_{y\sim\pi_{\text{ref}}(\cdot|x)}\left[e^{r(x,y)/\beta}\right]",
        {},
        lambda o: o.beta * np.log(o.Z),
    ),
    (
        "regret is a KL (Korbak 2022)",
        r"\beta \log Z(x) - \beta\, D_{\text{KL}}(\pi_\theta(\cdot|x) \,\|\, \pi^*(\cdot|x))",
        {},
        lambda o: o.mean(o.r, o.p) - o.beta * o.kl(o.p, o.ref),
    ),
    (
        "preference game (Munos 2023)",
        r"\mathcal{P}(\pi \succ \pi') = \sum_{y, y'} \pi(y|x)\, \pi_{\text{ref}}(y'|x)\, P(y \succ y' | x)",
        {},
        lambda o: np.einsum("xi,xj,xij->x", o.p, o.ref, o.P),
    ),
    ("preference game, short", r"P(\pi \succ \pi_{\text{ref}})", {}, lambda o: np.einsum("xi,xj,xij->x", o.p, o.ref, o.P)),
    (
        "entropy bonus (Mnih 2016)",
        r"\mathbb{E}_{y\sim\pi_\theta}[r(x,y)] + \alpha \mathcal{H}(\pi_\theta(\cdot|x))",
        {r"\alpha": 0.1},
        lambda o: o.mean(o.r, o.p) - 0.1 * np.sum(np.where(o.p > 0, o.p * np.log(np.where(o.p > 0, o.p, 1.0)), 0.0), axis=1),
    ),
    (
        "reward variance (Razin 2025)",
        r"\mathrm{Var}_{y \sim \pi_\theta(\cdot|x)}\left[r(x, y)\right]",
        {},
        lambda o: o.mean(o.r**2, o.p) - o.mean(o.r, o.p) ** 2,
    ),
    (
        "sensitivity of the optimum to beta",
        r"-\frac{1}{\beta^2}\mathrm{Var}_{\pi^*}(r) = \frac{d}{d\beta} \mathbb{E}_{\pi^*}[r]",
        {},
        lambda o: -(o.mean(o.r**2, o.star) - o.mean(o.r, o.star) ** 2) / o.beta**2,
    ),
    ("Plackett-Luce, first place", r"\frac{e^{r(x,y)}}{\sum_{y'} e^{r(x,y')}}", {}, lambda o: np.exp(log_softmax(o.r))),
    (
        "DPO gradient with its words (Rafailov 2023)",
        r"\underbrace{\sigma(\hat{r}_\theta(x, y_l) - \hat{r}_\theta(x, y_w))}_{\text{higher weight when the estimate is wrong}}",
        {r"\hat{r}_\theta": "beta*log(p/p_ref)"},
        lambda o: np.where((o.ref > 0)[:, :, None] & (o.ref > 0)[:, None, :], sigma(-o.h), np.nan),
    ),
    (
        "IPO's objective (Azar 2023, eq. 4)",
        r"\underset{\pi}{\max} \underset{\substack{x\sim\rho\\ y\sim\pi(.|x)\\ y'\sim\mu(.|x)}}{\mathbb{E}}[p^*(y\succ y'|x)]"
        r" - \tau D_{\mathrm{KL}}(\pi || \pi_{ref})",
        {r"\rho": "mu", r"\mu": "p_ref", r"\tau": 0.3},
        lambda o: o.mu @ (np.einsum("xi,xj,xij->x", o.p, o.ref, o.P) - 0.3 * o.kl(o.p, o.ref)),
    ),
    (
        "regularized preference (Munos 2023)",
        r"P(\pi \succ \pi_{ref}) - \tau \mathrm{KL}_\rho(\pi, \pi_{ref}), \quad \rho = \mu",
        {r"\tau": 0.3},
        lambda o: np.einsum("xi,xj,xij->x", o.p, o.ref, o.P) - 0.3 * (o.mu @ o.kl(o.p, o.ref)),
    ),
    (
        "f-divergence (Wang 2023)",
        r"\mathbb{E}_{y \sim \pi_{ref}}\left[ f\left(\frac{\pi_\theta(y|x)}{\pi_{ref}(y|x)}\right) \right], \quad f(u) = u \log u",
        {},
        lambda o: o.kl(o.p, o.ref),
    ),
    (
        "REINFORCE by tokens (Sutton and Barto 2018)",
        r"\mathbb{E}_{x \sim \mu, \tau \sim \pi_\theta}\left[\sum_{t=0}^{T} \nabla_\theta \log \pi_\theta(a_t|s_t)\, r(x, \tau)\right]",
        {},
        lambda o: np.einsum("x,xn,xn,xnsa->xsa", o.mu, o.p, o.r, o.score),
    ),
    (
        "log-probability of a response",
        r"\sum_{t=1}^{|y|} \log \pi_\theta(y_t \mid x, y_{<t})",
        {},
        lambda o: np.where(o.ref > 0, np.log(np.where(o.p > 0, o.p, 1.0)), np.nan),
    ),
    (
        "SimPO's reward (Meng 2024, eq. 4)",
        r"\frac{\beta}{|y|} \sum_{t=1}^{|y|} \log \pi_\theta(y_t \mid x, y_{<t})",
        {},
        lambda o: np.where(o.ref > 0, o.beta * np.log(np.where(o.p > 0, o.p, 1.0)) / o.ell, np.nan),
    ),
    ("Bradley-Terry 1952", r"P(i > j) = \frac{\pi_i}{\pi_i + \pi_j}", {r"\pi_i": "exp(r_i)"}, lambda o: o.P),
]


def _hinge(o: Own) -> Any:
    log_p = np.log(np.where(o.p > 0, o.p, 1.0))
    return np.sum(o.pairs * np.maximum(0.0, 1.0 - log_p[:, :, None] + log_p[:, None, :]))


def _simpo(o: Own) -> Any:
    s = o.beta * np.log(np.where(o.p > 0, o.p, 1.0)) / o.ell
    return -np.sum(o.pairs * log_sigmoid(s[:, :, None] - s[:, None, :] - 0.5))


OWN = [Own(0.0), Own(0.35)]


@pytest.mark.parametrize("k", range(len(PAPERS)), ids=[p[0] for p in PAPERS])
def test_a_paper_s_formula_is_read_executed_and_ours(k: int) -> None:
    """On a world of two prompts, beta 0.7, an uneven reference; and on one with forbidden tokens, where it is defined there."""
    name, tex, bind, expected = PAPERS[k]
    for own in OWN:
        if own is OWN[1] and ("pretraining" in name or "preference model" in name):
            continue  # a data distribution that the policy cannot make: -inf
        right = np.asarray(expected(own))
        f = Formula(tex, bind)
        named = " ".join([f.read_as, *(v for v in bind.values() if isinstance(v, str))])
        used = {key: table for key, table in own.tables().items() if key == "pi" or key in named}
        used = used if "exp(r_i)" not in named else {}
        if np.isnan(right).any():
            right, found = (np.where(np.isnan(right), 0.0, value) for value in (right, f.on(own.world, partial=True, **used)))
        else:
            found = f.on(own.world, **used)
        assert np.allclose(found, right, rtol=1e-9, atol=1e-9), f"{f.read_as}: {found} for {right}"


def test_there_are_enough() -> None:
    assert len(PAPERS) >= 40
    assert isinstance(OWN[0].world, World) and Scope(OWN[0].world, 0)["beta"] == 0.7  # noqa: PT018
