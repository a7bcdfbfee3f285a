"""What is true of a patient as a whole, before anything is drawn: the liver's condition and the field."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mtinet.config import SimulationSettings

CIRRHOSIS = {"hcc": 0.7, "icc": 0.25, "hemangioma": 0.3}
"""Share of patients with cirrhosis by class (assumed); others as in `OTHERWISE_CIRRHOTIC`.

That of hemangioma is high because it is told from HCC where the liver is ill.
"""

OTHERWISE_CIRRHOTIC = 0.1
"""Share of patients with cirrhosis in all other classes and without lesion (assumed)."""


@dataclass(frozen=True)
class Host:
    """What organs and lesions depend on.

    Attributes
    ----------
    field_T : float
    cirrhosis : float
        0 = a healthy liver, up to 1 = a shrunken, nodular one.
    fat_fraction : float
        Share of the liver's signal that fat would give without fat suppression, 0 to 0.4.
    """

    field_T: float
    cirrhosis: float = 0.0
    fat_fraction: float = 0.0


def draw_host(rng: np.random.Generator, settings: SimulationSettings, label: str, field_T: float) -> Host:
    """Draw a patient's condition; the class of the lesion decides how likely cirrhosis is.

    Severity is even between 0.1 and 1, the fat of a fatty liver between 0.06 and 0.35, that of another below
    0.04 (assumed).
    """
    rate = settings.cirrhosis_fraction
    if rate is None:
        rate = CIRRHOSIS.get(label, OTHERWISE_CIRRHOTIC)
    cirrhotic, severity = rng.random() < rate, float(rng.uniform(0.1, 1.0))
    fatty, fat = rng.random() < settings.fatty_fraction, float(rng.uniform(0.06, 0.35))
    return Host(field_T, severity if cirrhotic else 0.0, fat if fatty else float(rng.uniform(0.0, 0.04)))
