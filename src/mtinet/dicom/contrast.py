"""The contrast agent and its dose, where what was written tells enough to know them."""

from __future__ import annotations

import re
from typing import Literal

_MMOL_PER_ML = {
    # mol/L of the solutions on sale (package leaflets); names as they are written into headers
    1.0: r"gado?butrol|gadavist|gadovist",
    # EOB (ethoxybenzyl) is in no other agent; alone it is too short to be looked for inside a word
    0.25: r"gadoxet|primovist|eovist|普美显|gd[ _-]?eob|(?<![^\W\d_])eob",
    0.5: (
        r"gadoter|dotarem|clariscan|gadopent|magnevist|gadobenate|gadobenic|multihance|prohance|gadodiamid|omniscan"
        r"|gadopiclenol|elucirem|vueway"
    ),
}
GADOXETATE = re.compile(_MMOL_PER_ML[0.25], re.IGNORECASE)
"""Names of gadoxetate, in what is written about an agent or a series."""

EXTRACELLULAR = re.compile("|".join((_MMOL_PER_ML[1.0], _MMOL_PER_ML[0.5])), re.IGNORECASE)
"""Names of the other agents."""

AgentKind = Literal["extracellular", "gadoxetate", ""]
"""Gadoxetate is taken up by hepatocytes within the dynamic phases; empty = the agent is not known."""

_WEIGHT_KG = (20.0, 300.0)
_DOSE_MMOL_KG = (0.005, 0.4)


def agent_kind(agent: str) -> AgentKind:
    """How an agent behaves within the first minutes.

    Gadobenate counts as extracellular: hepatocytes take up little of it, and late.

    Parameters
    ----------
    agent : str
        A brand or the substance, with anything around it.
    """
    if GADOXETATE.search(agent):
        return "" if EXTRACELLULAR.search(agent) else "gadoxetate"
    return "extracellular" if EXTRACELLULAR.search(agent) else ""


def dose_mmol_kg(agent: str, volume_ml: float | None, weight_kg: float | None) -> float | None:
    """Dose of an agent whose concentration is known, mmol per kg of body weight.

    Parameters
    ----------
    agent : str
        ContrastBolusAgent as written: a brand or the substance, with anything around it.
    volume_ml : float or None
        ContrastBolusTotalDose or ContrastBolusVolume.
    weight_kg : float or None
        PatientWeight.

    Returns
    -------
    float or None
        None where a part is missing or the numbers make no dose that is given to people: scanners write 0, a
        weight of 1 kg, or the volume of the saline flush.
    """
    concentrations = {c for c, names in _MMOL_PER_ML.items() if re.search(names, agent, re.IGNORECASE)}
    if len(concentrations) != 1 or volume_ml is None or weight_kg is None:
        return None
    if not _WEIGHT_KG[0] <= weight_kg <= _WEIGHT_KG[1]:
        return None
    dose = concentrations.pop() * volume_ml / weight_kg
    return dose if _DOSE_MMOL_KG[0] <= dose <= _DOSE_MMOL_KG[1] else None
