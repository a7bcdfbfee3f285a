"""The experiments by name."""

from __future__ import annotations

from mtinet.errors import UserError
from mtinet.experiments.catalogue import baselines, data, model
from mtinet.experiments.plan import Experiment

EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment
    for experiment in (*baselines.EXPERIMENTS, *model.EXPERIMENTS, *data.EXPERIMENTS)
}
"""All experiments, in the order in which they are listed."""


def experiment(name: str) -> Experiment:
    """The experiment of that name.

    Raises
    ------
    UserError
        There is none; the message lists those that there are.
    """
    if name not in EXPERIMENTS:
        raise UserError(f"there is no experiment {name}; there are {', '.join(EXPERIMENTS)}")
    return EXPERIMENTS[name]
