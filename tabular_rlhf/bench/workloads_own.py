r"""What a reader hands in: a derivation of one's own, tried on all small worlds, again after one line was edited.  As in `workloads`."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from typing import Any

from tabular_rlhf.bench.peers import Runner
from tabular_rlhf.bench.workloads import Bar, Workload, nobody, workload
from tabular_rlhf.derivations import derive

REGRET = """
V(x) - J_x
 = V(x) - E_p[r - beta*log(p/p_ref)]
 = V(x) - E_p[beta*log(Z*p_star/p_ref) - beta*log(p/p_ref)]
 = V(x) - beta*log Z + beta*E_p[log(p/p_star)]
 = EDIT*beta*KL(p, p_star)
"""
GRADIENT = """
nabla E_p[r]
 = nabla sum_tau p*r
 = sum_tau r*nabla p
 = sum_tau p*r*nabla log p
 = EDIT*E_p[r*nabla log p]
"""


@dataclass(frozen=True)
class Text:
    """A derivation; EDIT stands where it is edited."""

    name: str
    text: str


TEXTS = (Text("regret, 5 lines", REGRET), Text("gradient, 5 lines", GRADIENT))
WORKLOADS: list[Workload] = []


@workload(WORKLOADS, "own-derivation", {}, nobody, Bar(1.0, "one second"), cases=TEXTS, quick=TEXTS[:1])
def our_edited(case: Text) -> Runner:
    """a derivation of one's own on all small worlds, again after one line was edited"""
    edits = count(1)

    def run() -> Any:
        k = next(edits)
        found = derive(case.text.replace("EDIT", f"({k}/{k})"))
        return found.holds, found.worlds

    run()  # tried once; then every run is another edit of the last line, which is still right
    return run
