"""The experiments on the data name settings and variations that exist and differ in what they say."""

from __future__ import annotations

import pytest

from mtinet.config import DEFAULT_PHASES
from mtinet.config.variation import ScoringVariation
from mtinet.experiments.catalogue.data import EXPERIMENTS, OCCLUDED, SHOWN, UNCERTAINTY
from mtinet.experiments.plan import Choice, Experiment, plan


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda experiment: experiment.name)
def test_every_row_becomes_cells_of_its_own(experiment: Experiment):
    cells = plan(experiment, sites=("A", "B", "C")).rows
    assert set(cells) == {row.name for row in experiment.rows}
    told = [(row[0].config, row[0].learning, row[0].scorings) for row in cells.values()]
    assert all(one != other for i, one in enumerate(told) for other in told[:i])
    assert all(
        len({scoring.name for scoring in row[0].scorings}) == len(row[0].scorings) for row in cells.values()
    )


def test_every_subset_of_the_phases_is_shown_once():
    shown = [frozenset(variation.phases or ()) for variation in SHOWN]
    assert len(shown) == len(set(shown)) == 2 ** len(DEFAULT_PHASES) - 2
    hidden = [set(DEFAULT_PHASES) - set(variation.phases or ()) for variation in OCCLUDED]
    assert sorted(phase for one in hidden for phase in one) == sorted(DEFAULT_PHASES)
    assert ScoringVariation() not in (*SHOWN, *OCCLUDED)


def test_networks_are_asked_together_where_there_are_enough():
    def asked(seeds: int) -> list[tuple[int, int]]:
        cells = plan(UNCERTAINTY, Choice(seeds=seeds, rows=(), folds=(0,))).cells
        return [(cell.seed, cell.networks) for cell in cells]

    assert asked(1) == [(0, 1)]
    assert asked(3) == [(1, 1), (2, 1), (0, 3)]  # last, when the others are there
    assert asked(4) == [(2, 1), (3, 1), (0, 3), (1, 3)]
