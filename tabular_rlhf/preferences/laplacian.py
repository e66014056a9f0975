r"""Equations of a graph: (D - A) x = b, for A the weights of pairs that were compared and D their sums (plus a prior's part).

**Algorithm.**  Two, and each is slow only where the other is fast.

    conjugate gradients   a step carries what an item is told one comparison further, so as many are needed as the graph is long:
                          a few where everybody was compared with anybody, 10^4 where 10^5 players met only their likes.
    elimination           a long graph is narrow: numbered from one end to the other (Cuthill and McKee 1969), items are linked to those
                          near by only, and A is a chain of small blocks, N/m of m items.  With S_k what elimination leaves of block k,

                              S_k = D_k - C_k^T S_{k-1}^{-1} C_k,      C_k the weights between block k - 1 and block k,

                          x costs N m numbers, and the diagonal of the inverse as many again, from the last block to the first:

                              G_k = S_k^{-1} + S_k^{-1} C_{k+1} G_{k+1} C_{k+1}^T S_k^{-1}.

A Laplacian has the common shift in its null space.  One item of each linked set is held by a spring of its own weight: where b sums to
zero the spring stays slack, so that x is exact.  What rounding leaves is taken off by solving for the residual.

Sources: Cuthill and McKee (1969), Reducing the bandwidth of sparse symmetric matrices; Takahashi, Fagan and Chin (1973) on the diagonal.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tabular_rlhf.errors import SolveError
from tabular_rlhf.logspace import Array

PATIENCE = 300
"""Steps of conjugate gradients after which a graph is long enough for elimination to be asked."""
ROOM, WORK = 25_000_000, 5e9
"""Numbers that elimination may store, twice (400 MB), and products that it may take."""
BLOCK = 24
"""Least size of a block: of smaller ones there are too many."""


class Laplacian:
    """(D - A) x = b for weights that change, between pairs that do not.

    Args: product, v -> (D - A) v; weights, () -> A, sparse (CSR) and symmetric; both at the weights of the moment; held, whether D is
    more than the sums of A (a prior), so that nothing lies in the null space.
    """

    def __init__(self, product: Callable[[Array], Array], weights: Callable[[], Any], *, held: bool = False) -> None:
        self.product, self.weights, self.held = product, weights, held
        self.order: Any = None

    def solve(self, diagonal: Array, b: Array, goal: float, noise: Array) -> Array:
        """x for b in the range, up to its `noise` or to a relative residual `goal`.  Args: diagonal, D (N,)."""
        if self.order is None:
            try:
                return conjugate_gradients(self.product, diagonal, b, goal, noise, PATIENCE)
            except SolveError:
                self.order = narrow(self.weights())
        if not len(self.order):
            return conjugate_gradients(self.product, diagonal, b, goal, noise)
        chain = Chain(self.weights(), diagonal, self.order, held=self.held)
        x = chain.solve(b)
        for _ in range(2):
            x = x + chain.solve(b - self.product(x))
        return x


def conjugate_gradients(
    product: Callable[[Array], Array], diagonal: Array, b: Array, goal: float, noise: Array, steps: int | None = None
) -> Array:
    """Solve A x = b for positive semidefinite A and b in its range, up to its `noise` or to a relative residual `goal`.

    Raises: SolveError after so many steps, ten an unknown by default.
    """
    x, residual = np.zeros_like(b), b.copy()
    scaled = residual / diagonal
    direction, size = scaled, float(np.dot(residual, scaled))
    enough = max(goal**2 * size, float(np.dot(noise, noise / diagonal)))
    for _ in range(10 * len(b) + 50 if steps is None else steps):
        if size <= enough:
            return x
        along = product(direction)
        share = size / float(np.dot(direction, along))
        x = x + share * direction
        residual = residual - share * along
        scaled = residual / diagonal
        size, old = float(np.dot(residual, scaled)), size
        direction = scaled + (size / old) * direction
    raise SolveError(f"conjugate gradients did not reach a relative residual of {goal:.3g}")


def narrow(A: Any) -> Any:
    """An order of the items in which those that are linked are near each other, (N,); empty where that is too far for elimination.

    >>> from scipy.sparse import csr_array
    >>> [int(k) for k in narrow(csr_array([[0.0, 0.0, 1.0], [0.0, 0.0, 1.0], [1.0, 1.0, 0.0]]))]  # 0 - 2 - 1
    [1, 2, 0]
    """
    from scipy.sparse.csgraph import reverse_cuthill_mckee

    order = reverse_cuthill_mckee(A, symmetric_mode=True)
    size = max(BLOCK, _width(A, _places(order)))
    return order if len(order) * size <= ROOM and len(order) * size**2 <= WORK else order[:0]


def _places(order: Any) -> Any:
    place = np.empty(len(order), dtype=np.intp)
    place[order] = np.arange(len(order))
    return place


def _width(A: Any, place: Any) -> int:
    """How far apart two linked items stand, at most."""
    return int(np.max(np.abs(np.repeat(place, np.diff(A.indptr)) - place[A.indices]), initial=0))


class Chain:
    """D - A eliminated block by block.  Args: A, diagonal, held, as in `Laplacian`; order, in which linked items are near each other.

    linked (N,): the number of each item's linked set.  Raises: SolveError where weights vanish, and a block is singular.
    """

    def __init__(self, A: Any, diagonal: Array, order: Any, *, held: bool = False) -> None:
        from scipy.sparse.csgraph import connected_components

        self.place, N = _places(order), len(order)
        self.linked = connected_components(A, directed=False)[1]
        size = max(BLOCK, _width(A, self.place))
        count = -(-N // size)
        D = diagonal.copy()
        if not held:
            D[np.unique(self.linked, return_index=True)[1]] *= 2.0  # a spring to one item of each set
        S, C = np.zeros((count, size, size)), np.zeros((count, size, size))
        S[:, range(size), range(size)] = np.append(D[order], np.ones(count * size - N)).reshape(count, size)
        i, j = np.repeat(self.place, np.diff(A.indptr)), self.place[A.indices]
        for table, ahead in ((S, 0), (C, 1)):
            here = j // size - i // size == ahead
            np.add.at(table, (i[here] // size, i[here] % size, j[here] % size), (2 * ahead - 1) * A.data[here])
        self.inverse, self.back = S, C  # eliminated where they stand: C_{k+1} becomes S_k^{-1} C_{k+1}
        passed = np.zeros((size, size))  # C_k^T S_{k-1}^{-1} C_k
        for k in range(count):
            S[k] = _inverse(S[k] - passed)
            coupling, C[k] = C[k].copy(), S[k] @ C[k]
            passed = coupling.T @ C[k]

    def solve(self, b: Array) -> Array:
        """x (N,), for b (N,) that sums to zero in each linked set unless it is held."""
        x = np.zeros(self.inverse.shape[:2])
        x.ravel()[self.place] = b
        for k in range(1, len(x)):
            x[k] += self.back[k - 1].T @ x[k - 1]
        x = np.matmul(self.inverse, x[:, :, None])[:, :, 0]
        for k in range(len(x) - 2, -1, -1):
            x[k] += self.back[k] @ x[k + 1]
        return np.asarray(x.ravel()[self.place])

    def variances(self) -> Array:
        """The diagonal of the inverse, (N,), in the gauge in which every linked set has mean zero: of a Laplacian, its pseudo-inverse's."""
        out = np.empty(self.inverse.shape[:2])
        G = self.inverse[-1]
        for k in range(len(out) - 1, -1, -1):
            G = self.inverse[k] + (self.back[k] @ G @ self.back[k].T if k < len(out) - 1 else 0.0)
            out[k] = np.diag(G)
        shift, size = self.solve(np.ones(len(self.place))), np.bincount(self.linked)
        mean = np.bincount(self.linked, shift) / size
        return np.asarray(out.ravel()[self.place] + ((mean[self.linked] - 2.0 * shift) / size[self.linked]))


def _inverse(S: Array) -> Array:
    try:
        inverse = np.linalg.inv(S)
    except np.linalg.LinAlgError:
        raise SolveError("a block of comparisons is singular: some weigh nothing beside the others") from None
    return np.asarray(0.5 * (inverse + inverse.T))
