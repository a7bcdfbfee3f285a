"""When images are taken: seconds from the start of injection to the centre of k-space."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mtinet.config import Phase, SiteSettings
from mtinet.phantom.acquisition import AcquisitionError

_LARGEST_JITTER = 2.5
"""Jitter is cut at so many standard deviations."""

_EARLIEST_S = 5.0
"""Neither the first phase after the injection starts nor two phases follow each other sooner."""

_LARGEST_SHIFT_S = 20.0
"""Nobody waits longer than that for the agent, or starts so much earlier (assumed)."""


def draw_times(
    rng: np.random.Generator, site: SiteSettings, phases: Sequence[Phase], late_s: float = 0.0
) -> dict[Phase, float]:
    """Draw the time of every phase after ``pre``.

    Parameters
    ----------
    rng : numpy.random.Generator
    site : SiteSettings
        Habitual times and their jitter.  With ``timing = "fixed"`` the clock starts with the injection; with
        ``"bolus"`` the operator sees the agent arrive, and all times shift with it.
    phases : sequence of str
    late_s : float
        How much later than usual the agent arrives in this patient's aorta; negative = earlier.

    Returns
    -------
    dict
        Seconds, rounded to 0.1, in the order of ``phases``; in the order of the site's times they rise by at
        least 5 s.

    Raises
    ------
    AcquisitionError
        The site has no time for a phase.
    """
    late = _timed(site, phases)
    shift = late_s if site.timing == "bolus" else 0.0
    shift = float(np.clip(shift, -_LARGEST_SHIFT_S, _LARGEST_SHIFT_S))
    times: dict[Phase, float] = {}
    earliest = _EARLIEST_S
    for phase in sorted(late, key=lambda name: site.times_s[name]):
        jitter = site.timing_jitter_s * float(np.clip(rng.normal(), -_LARGEST_JITTER, _LARGEST_JITTER))
        times[phase] = round(max(site.times_s[phase] + shift + jitter, earliest), 1)
        earliest = times[phase] + _EARLIEST_S
    return {phase: times[phase] for phase in late}


def latest_s(site: SiteSettings, phases: Sequence[Phase]) -> float:
    """A time that no phase drawn by :func:`draw_times` exceeds, seconds from the start of injection."""
    late = _timed(site, phases)
    reach = _LARGEST_JITTER * site.timing_jitter_s + _LARGEST_SHIFT_S + _EARLIEST_S * (len(late) + 1)
    return max((site.times_s[phase] for phase in late), default=0.0) + reach


def _timed(site: SiteSettings, phases: Sequence[Phase]) -> list[Phase]:
    """The phases after ``pre``, each with a time."""
    late: list[Phase] = [phase for phase in phases if phase != "pre"]
    unknown = [phase for phase in late if phase not in site.times_s]
    if unknown:
        raise AcquisitionError(
            f"site {site.name}: no time for the phase {', '.join(unknown)}; add it to the site's times_s "
            f"(it has {', '.join(site.times_s)}) or leave the phase out of phases"
        )
    return late
