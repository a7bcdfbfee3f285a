"""Experiments on the model and its objective: rows that are settings and nothing else."""

from __future__ import annotations

from mtinet.experiments.plan import Experiment

EXPERIMENTS: tuple[Experiment, ...] = ()
