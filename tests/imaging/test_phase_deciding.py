"""Weighing every way to name the volumes: what is known of their order, and what is not."""

from __future__ import annotations

import math
from itertools import combinations, permutations

import numpy as np
import pytest

from mtinet.config import PHASES
from mtinet.imaging.phases.deciding import EXTRACELLULAR, NONE, Item, marginals

ABLE = [
    ("pre", "arterial", "delayed"),
    ("pre", "portal_venous"),
    ("arterial", "delayed"),
    ("portal_venous", "hepatobiliary"),
]
"""No phase is open to three volumes: the share of orders of more than two of one phase is an approximation, and
every volume has one: the orders are those of the volumes that are named."""


def items(chains: list[int]) -> list[Item]:
    rng = np.random.default_rng(7)
    made = []
    for chain, phases in zip(chains, ABLE):
        weights = np.full(NONE + 1, -99.0)
        for phase in phases:
            weights[PHASES.index(phase)] = rng.normal()
        made.append(Item(weights, chain))
    return made


@pytest.mark.parametrize("chains", [[0, 0, 0, 0], [0, 0, 1, 1], [0, 1, 1, 2], [0, 1, 2, 3]])
def test_an_unknown_order_is_the_mean_over_all_orders_that_agree_with_the_chains(chains):
    given = items(chains)
    agreeing = [
        order
        for order in permutations(range(4))
        if all(
            order.index(a) < order.index(b) for a, b in combinations(range(4), 2) if chains[a] == chains[b]
        )
    ]
    tables, sums = [], []
    for order in agreeing:
        table, log_sum = marginals([Item(given[n].weights, 0) for n in order], EXTRACELLULAR)
        tables.append(table[[order.index(n) for n in range(4)]])
        sums.append(math.exp(log_sum))
    table, log_sum = marginals(given, EXTRACELLULAR)
    assert log_sum == pytest.approx(math.log(np.mean(sums)), abs=1e-4)
    np.testing.assert_allclose(table, np.average(tables, axis=0, weights=sums), atol=1e-4)


def test_volumes_of_one_name_say_nothing_about_their_order():
    one = np.zeros(NONE + 1)
    one[NONE] = -2.5
    one[[PHASES.index("transitional"), PHASES.index("hepatobiliary"), PHASES.index("arterial_late")]] = -99.0
    one[PHASES.index("delayed")] = -99.0
    known = marginals([Item(one, 0)] * 2, EXTRACELLULAR)[1]
    unknown = marginals([Item(one, 0), Item(one, 1)], EXTRACELLULAR)[1]
    assert unknown == pytest.approx(known)
