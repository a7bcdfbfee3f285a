"""Contrast agents: dose, injection, relaxivity, and the phases that are usual with each.

Relaxivity differs between plasma, whole blood and hepatocytes, because water does not pass membranes at once.
The value of blood belongs to the concentration in whole blood, that of plasma to the concentration in plasma
or, in a tissue, to that in the whole tissue.

Sources
-------
- Gadobutrol, plasma at 1.5 T and 3 T and blood at 3 T: Szomolanyi P et al., Invest Radiol 2019;54:559.  Blood
  at 1.5 T: its 3 T value times the ratio of the fields in human whole blood, 4.6 / 4.5, of Shen Y et
  al. 2015 (assumed; the two works differ in blood at 3 T: 3.47 and 4.5).
- Gadoxetate, blood: 7.2 (1.5 T) and 5.5 (3 T), Shen 2015.  Plasma 8.1 and 6.4 and hepatocytes 14.6 and 9.8:
  as tabulated in the library dcmri, which names Rohrer M et al., Invest Radiol 2005;40:715 for plasma.
- Rates of injection are habits, assumed.
"""

from __future__ import annotations

from dataclasses import dataclass

from mtinet.config import DEFAULT_PHASES, Phase, SimulationSettings


@dataclass(frozen=True)
class Agent:
    """A contrast agent.

    Attributes
    ----------
    name : str
    dose_mmol_kg : float
        Label dose.
    concentration_M : float
        Of the solution that is injected, mol/L.
    injection_ml_s : float
        Usual rate of injection.
    r1_plasma, r1_blood, r1_hepatocyte : tuple of float
        Longitudinal relaxivity at 1.5 T and 3 T, 1/(mM s).
    hepatobiliary : bool
        Taken up by hepatocytes.
    phases : tuple of Phase
    """

    name: str
    dose_mmol_kg: float
    concentration_M: float
    injection_ml_s: float
    r1_plasma: tuple[float, float]
    r1_blood: tuple[float, float]
    r1_hepatocyte: tuple[float, float]
    hepatobiliary: bool
    phases: tuple[Phase, ...]


AGENTS: dict[str, Agent] = {
    agent.name: agent
    for agent in (
        Agent(
            name="gadobutrol",
            dose_mmol_kg=0.1,
            concentration_M=1.0,
            injection_ml_s=2.0,
            r1_plasma=(4.78, 4.97),
            r1_blood=(3.55, 3.47),
            # no hepatocyte takes it up; the plasma's value keeps the field defined
            r1_hepatocyte=(4.78, 4.97),
            hepatobiliary=False,
            phases=DEFAULT_PHASES,
        ),
        Agent(
            name="gadoxetate",
            dose_mmol_kg=0.025,
            concentration_M=0.25,
            injection_ml_s=1.0,
            r1_plasma=(8.1, 6.4),
            r1_blood=(7.2, 5.5),
            r1_hepatocyte=(14.6, 9.8),
            hepatobiliary=True,
            phases=("pre", "arterial", "portal_venous", "transitional", "hepatobiliary"),
        ),
    )
}


def agent_of(settings: SimulationSettings) -> Agent:
    """The agent of a cohort."""
    return AGENTS[settings.agent]


def dose_of(settings: SimulationSettings) -> float:
    """The dose of a cohort, mmol/kg."""
    return agent_of(settings).dose_mmol_kg if settings.dose_mmol_kg is None else settings.dose_mmol_kg


def phases_of(settings: SimulationSettings) -> tuple[Phase, ...]:
    """The phases of a cohort."""
    return agent_of(settings).phases if settings.phases is None else settings.phases
