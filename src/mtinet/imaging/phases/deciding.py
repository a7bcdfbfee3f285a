"""Every way to name the volumes of a study, weighed: the probability that a volume is a phase.

A hypothesis gives each volume a phase or none.  Phases rise along the order of acquisition where that is known;
where it is known in part only, within chains, every order of the named volumes that agrees with the chains is as
probable as the next, and a hypothesis counts with the share of those orders in which its phases rise.  Its weight
is the product of what speaks for each name (names, times, signal) and of how usual its set of phases is.  The sums
over all hypotheses are formed volume by volume.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mtinet.config import PHASES, Phase

NONE = len(PHASES)
"""Column of "none of the phases"."""

_INDEX = {phase: number for number, phase in enumerate(PHASES)}
_NEGLIGIBLE = 14.0
"""Hypotheses whose beginnings are less probable than the best one's by that much (log) are dropped."""

_REPEAT = {"pre": 1.0, "delayed": 1.0, "hepatobiliary": 1.0, "arterial": 2.5, "portal_venous": 2.5}
"""Cost (log) of another volume of the same phase; repeats before contrast and late are ordinary."""

_ABSENT: dict[Phase, float] = {"pre": 2.5, "arterial": 3.0, "portal_venous": 3.0}
"""Cost (log) of a study without the phase, whatever the agent."""


@dataclass(frozen=True)
class World:
    """What kind of study it may be."""

    weight: float
    absent: Mapping[Phase, float]
    present: Mapping[Phase, float]


EXTRACELLULAR = World(
    0.85, {**_ABSENT, "delayed": 2.0}, {"arterial_late": 1.2, "transitional": 4.0, "hepatobiliary": 6.5}
)
HEPATOSPECIFIC = World(
    0.15,
    {**_ABSENT, "transitional": 0.7, "hepatobiliary": 0.7},
    {"arterial_late": 1.2, "delayed": 3.0},
)
"""With gadoxetate the image at 2 to 5 min is transitional (hepatocytes already take it up), not delayed."""


@dataclass(frozen=True)
class Item:
    """A volume, or a gap where a series seems to be missing.

    Attributes
    ----------
    weights : ndarray, shape (8,)
        Log-weight of each of :data:`PHASES` and of none.
    chain : int
        Items of one chain are in the order of acquisition; nothing is known between chains.
    """

    weights: NDArray[np.float64]
    chain: int


State = tuple[int, int, int, int]
"""Phases used (bits), the last one of this chain, and how many items were named: in all, and in this chain."""

_TIED = math.log(2.0)
"""Two volumes of one phase may come in either order."""


def set_weight(used: int, world: World) -> float:
    """Log-weight of a study that holds just these phases (bits of ``used``)."""
    total = 0.0
    for phase, index in _INDEX.items():
        if used >> index & 1:
            total -= world.present.get(phase, 0.0)
        else:
            total -= world.absent.get(phase, 0.0)
    return total


def marginals(items: Sequence[Item], world: World) -> tuple[NDArray[np.float64], float]:
    """Probability of each phase for each item, and the log of the sum over all hypotheses.

    Returns
    -------
    probabilities : ndarray, shape (items, 8)
    log_sum : float
    """
    forward: list[dict[State, float]] = [{(0, 0, 0, 0): 0.0}]
    steps: list[list[tuple[State, State, int, float]]] = []
    apart = len({item.chain for item in items}) > 1
    for number, item in enumerate(items):
        fresh = number > 0 and items[number - 1].chain != item.chain
        moves = [move for state in forward[-1] for move in _moves(state, item, fresh, apart)]
        after: dict[State, float] = defaultdict(lambda: -math.inf)
        for before, state, _, weight in moves:
            after[state] = _log_add(after[state], forward[-1][before] + weight)
        least = max(after.values()) - _NEGLIGIBLE
        forward.append({state: weight for state, weight in after.items() if weight >= least})
        steps.append([move for move in moves if move[1] in forward[-1]])
    backward = {state: set_weight(state[0], world) for state in forward[-1]}
    log_sum = _log_sum([forward[-1][state] + weight for state, weight in backward.items()])
    table = np.zeros((len(items), len(PHASES) + 1))
    for number in range(len(items) - 1, -1, -1):
        earlier: dict[State, float] = defaultdict(lambda: -math.inf)
        for before, state, label, weight in steps[number]:
            if state not in backward:  # all that could follow was negligible
                continue
            onward = weight + backward[state]
            table[number, label] += math.exp(forward[number][before] + onward - log_sum)
            earlier[before] = _log_add(earlier[before], onward)
        backward = dict(earlier)
    return table, log_sum


def _moves(state: State, item: Item, fresh: bool, apart: bool) -> list[tuple[State, State, int, float]]:
    """What may follow a state: (before, after, label, log-weight).

    Of the m! orders of m named items, c! times fewer agree with a chain that holds c of them: where there are
    several chains (``apart``), each name brings its factor of that share.
    """
    used, last, named, inside = state
    if fresh:
        last, inside = 0, 0
    found = [(state, (used, last, named, inside), NONE, float(item.weights[NONE]))]
    share = math.log((inside + 1) / (named + 1)) if apart else 0.0
    after = (named + 1, inside + 1) if apart else (0, 0)
    for label in range(last, NONE):
        weight = float(item.weights[label])
        if weight < -25.0:
            continue
        if used >> label & 1:
            weight -= _REPEAT.get(PHASES[label], 2.0)
            if apart and not (inside and label == last):
                weight += _TIED
        found.append((state, (used | 1 << label, label, *after), label, weight + share))
    return found


def _log_add(a: float, b: float) -> float:
    high, low = (a, b) if a > b else (b, a)
    return high if low == -math.inf else high + math.log1p(math.exp(low - high))


def _log_sum(values: Sequence[float]) -> float:
    top = max(values)
    return top + math.log(sum(math.exp(value - top) for value in values))


@dataclass(frozen=True)
class Alternative:
    """One description of the same volumes.

    Attributes
    ----------
    items : tuple of Item
        Volumes and gaps.
    rows : tuple of int
        Which items are the volumes, in the order of the table that is wanted.
    world : World
    weight : float
        Prior log-weight.
    ordered : bool
        It believes the order that was found.
    """

    items: tuple[Item, ...]
    rows: tuple[int, ...]
    world: World
    weight: float
    ordered: bool = False


def mixed(alternatives: Sequence[Alternative]) -> tuple[NDArray[np.float64], list[float]]:
    """Probabilities of the volumes' phases over several descriptions, and each description's share."""
    tables, logs = [], []
    for one in alternatives:
        table, log_sum = marginals(one.items, one.world)
        tables.append(table[list(one.rows)])
        logs.append(log_sum + one.weight + math.log(one.world.weight))
    top = _log_sum(logs)
    shares = [math.exp(value - top) for value in logs]
    return np.asarray(np.tensordot(shares, np.stack(tables), axes=1)), shares
