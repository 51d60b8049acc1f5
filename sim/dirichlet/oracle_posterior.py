"""The next category of a record, given its categories so far: the exact posterior predictive of the Dirichlet stream.

L = length, C = categories, S = slots, d = distinct categories seen, n = events seen, n_c of them of category c.

Given the weights W of the categories (sums of their slots' priors) and alpha, the urn gives a sequence the probability

    prod_c (alpha W_c)^(↑n_c) / alpha^(↑n),   x^(↑n) = x (x+1) … (x+n-1) = sum_t |s(n, t)| x^t   (Stirling, first kind)

Let category c hold m_c >= 1 of the slots and the unseen ones together e = S - sum m_c: so it is in S! / (prod m_c! e!)
(C-d)^e of the C^S draws, and W ~ Dirichlet(m, e). Its moments are, with the gamma function G and T = sum t_c,
E prod W_c^t_c = G(S) / G(S+T) prod G(m_c+t_c) / G(m_c). Summed over all t and m:

    P(sequence) = S!/C^S sum_m (C-d)^e / e! sum_t G(S) / G(S+T) E[alpha^T / alpha^(↑n)] prod_c p_c(m_c, t_c)
    p_c(m, t) = |s(n_c, t)| G(m+t) / (G(m) m!)

A category's p_c are the coefficients of a polynomial in two variables, exponents m and t; the product of all takes
d - 1 convolutions, and the rest is one linear functional of it. alpha occurs in that alone: its integral is a table
over (n, T), made once, by quadrature in log(alpha). Every term is positive, so nothing cancels. Taking n_c! out of each
polynomial and n! out of the functional keeps every number well inside of float64 (tests: n = 512, any alpha).
The next event is c with probability P(sequence, c) / P(sequence).
"""

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.arrays.jit import compiled
from sim.dirichlet.stream import DirichletSettings
from sim.errors import SimError

NODES: Final = 64  # of the quadrature over alpha; twice as many change nothing (docs/oracle.md)
LONGEST: Final = 512  # events of a record for which the tests show that no number over- or underflows

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Urn:
    """The law of a record's categories, as tables that are made once for all records."""

    factors: Floats  # [S, L+1, L+1] of m_c - 1, n_c, t_c: |s(n_c, t_c)| / n_c! G(m_c+t_c) / (G(m_c) m_c!)
    ends: Floats  # [L+1, L+1] of n, T: n! G(S) / G(S+T) E[alpha^T / alpha^(↑n)]
    spare: Floats  # [S+1, S+1] of d, e: (C-d)^e / e!
    categories: int

    def predict(self, category_L: NDArray[np.int32]) -> Floats:
        """Return the probability of each category at each event, given the events before it, [L, C]."""
        predicted_LC = np.empty((len(category_L), self.categories))
        _predict(category_L, self.factors, self.ends, self.spare, predicted_LC)
        return predicted_LC


def urn(settings: DirichletSettings, nodes: int = NODES) -> Urn:
    """Return the tables for the records of a stream.

    Raises:
        SimError: The records are longer than LONGEST.
    """
    slots, length = settings.slots, settings.length
    if length > LONGEST:
        raise SimError(f"The oracle knows records of {LONGEST} events at most, not {length}; make them shorter.")
    t = np.arange(length + 1)
    log_choices_St = [_rising(x + 1, t) - _rising(1, t) - math.lgamma(x + 2) for x in range(slots)]
    unseen = [max(settings.categories - d, 0) for d in range(slots + 1)]
    return Urn(
        factors=np.exp(log_choices_St)[:, None] * _stirling(length),
        ends=_expected(settings, length, nodes),
        spare=np.array([[float(u**e) / math.factorial(e) for e in range(slots + 1)] for u in unseen]),
        categories=settings.categories,
    )


def _stirling(length: int) -> Floats:
    """Return |s(n, t)| t! / n! for n and t up to length."""
    table = np.zeros((length + 1, length + 1))
    table[0, 0] = 1
    t = np.arange(1, length + 1)
    for n in range(length):
        table[n + 1, 1:] = (t * table[n, :-1] + n * table[n, 1:]) / (n + 1)
    return table


def _expected(settings: DirichletSettings, length: int, nodes: int) -> Floats:
    """Return n! G(S) / G(S+T) E[alpha^T / alpha^(↑n)] for T <= n, by Gauss-Legendre quadrature in log(alpha)."""
    low, high = math.log(settings.alpha_low), math.log(settings.alpha_high)
    place_Q, weight_Q = np.polynomial.legendre.leggauss(nodes)
    log_alpha_Q = (low + high) / 2 + (high - low) / 2 * place_Q
    weight_Q = weight_Q * np.exp(log_alpha_Q - high)  # alpha's law is uniform in alpha, not in its logarithm
    log_weight_Q = np.log(weight_Q / weight_Q.sum())
    n = np.arange(length + 1)
    fixed_T, log_factorial_N = -_rising(settings.slots, n), _rising(1, n)
    table = np.zeros((length + 1, length + 1))
    for count in range(length + 1):
        rising_Q = np.log(np.exp(log_alpha_Q)[:, None] + n[:count]).sum(axis=1)
        log_QT = (log_weight_Q - rising_Q)[:, None] + log_alpha_Q[:, None] * n[: count + 1]
        table[count, : count + 1] = np.exp(log_QT + fixed_T[: count + 1] + log_factorial_N[count]).sum(axis=0)
    return table


def _rising(x: float, n: NDArray[np.int64]) -> Floats:
    """Return log(x (x+1) … (x+n-1)) for n = 0, 1, 2, …."""
    return np.concatenate([[0.0], np.cumsum(np.log(x + n[:-1]))])


@compiled
def _predict(category_L: Any, factors: Any, ends: Any, spare: Any, predicted_LC: Any) -> None:
    """Fill predicted_LC, event after event. Polynomials are [excess of slots over one for each category, T]."""
    slots, length = factors.shape[0], len(category_L)
    place_C = np.full(predicted_LC.shape[1], -1)
    seen_S, count_S = np.zeros(slots, np.int64), np.zeros(slots, np.int64)
    before = np.zeros((slots + 1, slots + 1, length + 1))  # [d, …]: product of the first d seen categories
    before[0, 0, 0] = 1
    d = 0
    for n in range(length):
        _predict_next(predicted_LC[n], n, d, seen_S, count_S, before, factors, ends, spare)
        place = place_C[category_L[n]]
        if place < 0:
            place = place_C[category_L[n]] = d
            seen_S[d] = category_L[n]
            d += 1
        count_S[place] += 1


@compiled
def _predict_next(
    out_C: Any, n: int, d: int, seen_S: Any, count_S: Any, before: Any, factors: Any, ends: Any, spare: Any
) -> None:
    """Write the probability of each category after n events with d categories."""
    slots = factors.shape[0]
    degree = 0
    for c in range(d):
        _multiply(before[c + 1], before[c], degree, factors, count_S[c], slots - d)
        degree += count_S[c]
    whole = _value(before[d], n, n, ends, spare[d], slots - d) * (n + 1)
    after, rest, spread = np.zeros_like(before[0]), np.zeros_like(before[0]), np.zeros_like(before[0])
    out_C[:] = 0
    if d < slots and d < len(out_C):
        _multiply(spread, before[d], n, factors, 1, slots - d - 1)
        out_C[:] = _value(spread, n + 1, n + 1, ends, spare[d + 1], slots - d - 1) / whole
    after[0, 0] = 1
    for c in range(d - 1, -1, -1):
        degree -= count_S[c]
        _product(rest, before[c], degree, after, n - degree - count_S[c], slots - d)
        _multiply(spread, rest, n - count_S[c], factors, count_S[c] + 1, slots - d)
        value = _value(spread, n + 1, n + 1, ends, spare[d], slots - d)
        out_C[seen_S[c]] = (count_S[c] + 1) * value / whole
        _multiply(rest, after, n - degree - count_S[c], factors, count_S[c], slots - d)
        after, rest = rest, after


@compiled
def _multiply(out: Any, a: Any, degree: int, factors: Any, count: int, most: int) -> None:
    """Write into `out` a, of this degree in T, times the polynomial of a category seen `count` times."""
    _product(out, a, degree, factors[:, count], count, most)


@compiled
def _product(out: Any, a: Any, degree_a: int, b: Any, degree_b: int, most: int) -> None:
    """Write into `out` a times b, up to the excess `most`."""
    for x in range(most + 1):
        for total in range(degree_a + degree_b + 1):
            out[x, total] = 0
    for x in range(most + 1):
        for y in range(most + 1 - x):
            for t in range(degree_b + 1):
                scale, row, onto = b[y, t], a[x], out[x + y, t:]
                if scale != 0:
                    for total in range(degree_a + 1):
                        onto[total] += scale * row[total]


@compiled
def _value(polynomial: Any, degree: int, n: int, ends: Any, spare_S: Any, most: int) -> Any:
    """Return the linear functional of the product of d categories: the probability of its n events."""
    total = 0.0
    for x in range(most + 1):
        part = 0.0
        for t in range(degree + 1):
            part += polynomial[x, t] * ends[n, t]
        total += part * spare_S[most - x]
    return total
