"""Agents: published numbers, and what a cohort's settings make of them."""

from __future__ import annotations

import pytest

from mtinet.config import SimulationSettings
from mtinet.phantom.agents import AGENTS, Agent, agent_of, dose_of, phases_of


def test_labels_and_relaxivities_are_the_published() -> None:
    gadobutrol, gadoxetate = AGENTS["gadobutrol"], AGENTS["gadoxetate"]
    assert (gadobutrol.dose_mmol_kg, gadobutrol.concentration_M) == (0.1, 1.0)
    assert (gadoxetate.dose_mmol_kg, gadoxetate.concentration_M) == (0.025, 0.25)
    assert gadobutrol.r1_plasma == (4.78, 4.97)
    assert gadobutrol.r1_blood[1] == 3.47
    assert gadoxetate.r1_blood == (7.2, 5.5)


@pytest.mark.parametrize("agent", AGENTS.values(), ids=lambda agent: agent.name)
def test_both_agents_are_injected_as_the_same_volume(agent: Agent) -> None:
    # 0.1 mL/kg of either solution
    assert agent.dose_mmol_kg / agent.concentration_M == pytest.approx(0.1)


@pytest.mark.parametrize("agent", AGENTS.values(), ids=lambda agent: agent.name)
def test_red_cells_hinder_relaxation(agent: Agent) -> None:
    for blood, plasma in zip(agent.r1_blood, agent.r1_plasma, strict=True):
        assert blood < plasma


def test_settings_override_the_label() -> None:
    settings = SimulationSettings(agent="gadoxetate")
    assert agent_of(settings) is AGENTS["gadoxetate"]
    assert dose_of(settings) == 0.025
    assert "hepatobiliary" in phases_of(settings)
    assert dose_of(settings.model_copy(update={"dose_mmol_kg": 0.05})) == 0.05
    assert phases_of(settings.model_copy(update={"phases": ("pre", "arterial")})) == ("pre", "arterial")
