"""What the images of a study cannot tell: findings that a result is read with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from mtinet.cohort import Study
from mtinet.config import PHASES, Phase
from mtinet.dicom.contrast import agent_kind
from mtinet.imaging.magnitude import BELOW_ZERO, NO_MAGNITUDE, share_below_zero
from mtinet.results import Finding, Severity
from mtinet.volume import Volume

GREY_LEVELS = 256
"""An image of eight bits holds at most so many values; MR magnitudes hold thousands."""


def image_limits(study: Study, phases: Sequence[Phase]) -> list[Finding]:
    """Findings about a study whose images are loaded: what is not used, grey levels, slices, times, agent.

    Parameters
    ----------
    study : Study
        With ``loaded`` images.
    phases : sequence of str
        Those that the model knows.
    """
    found: list[Finding] = []

    def add(id: str, severity: Severity, meaning: str, action: str) -> None:
        found.append(Finding(id, "predict", severity, meaning, action, study.study_id))

    if study.unused:
        add(
            "image-not-used",
            "warning",
            f"by their names these files of the study are neither a phase nor a mask, and are not used: "
            f"{', '.join(path.name for path in study.unused)}",
            "If one is a phase, name it as docs/formats.md lists, or say it with --phase-names (delayed=NAME); a "
            "liver's outline is liver_mask.nii.gz.",
        )
    strange = [phase for phase in study.images if phase not in phases]
    if strange:
        add("phase-not-used", "warning", *_about_not_used(strange, phases, "arterial" in study.images))
    eight_bit = [phase for phase, volume in study.loaded.items() if _is_eight_bit(volume.array)]
    if eight_bit:
        add(
            "eight-bit",
            "warning",
            f"{', '.join(eight_bit)}: at most {GREY_LEVELS} grey levels (8 bit), so the images were windowed for "
            "display and phases have no common scale; signal, enhancement and what follows from them mean little",
            "Predict on the images as the scanner stored them (DICOM, or NIfTI converted from it).",
        )
    shares = {phase: share_below_zero(volume) for phase, volume in study.loaded.items()}
    if negative := [phase for phase, share in shares.items() if share > BELOW_ZERO]:
        add(
            "below-zero",
            "warning",
            f"{', '.join(negative)}: many voxels are below zero, so {NO_MAGNITUDE}",
            "Predict on the images as the scanner stored them.",
        )
    if _slices(study.loaded[study.reference_phase]) == 1:
        add(
            "single-slice",
            "warning",
            "the study is a single slice: volumes are that of one slice, and whether a lesion goes on above or below "
            "is unknown",
            "Predict on the whole series.",
        )
    timed = [phase for phase in study.images if phase in study.times_s and phase != "pre"]
    if not timed:
        add(
            "no-times",
            "warning",
            "the times of the phases after injection are unknown: their names are taken for granted, and rates of "
            "wash-in and wash-out cannot be computed",
            "Predict on DICOM that has them, or give time_<phase>_s in a cohort.",
        )
    if not agent_kind(study.agent):
        late = [p for p in study.images if p in ("delayed", "transitional", "hepatobiliary")]
        about = (
            f"whether {late[0]} shows washout or uptake by hepatocytes (gadoxetate) cannot be known"
            if late
            else "what late phases would show cannot be known"
        )
        add(
            "no-agent",
            "warning",
            f"the contrast agent is unknown{f' (written as {study.agent!r})' if study.agent else ''}: {about}",
            "Name the substance with --agent, or give agent in a cohort (brand or substance); name a hepatobiliary "
            "phase as such.",
        )
    return found


def trusted_times(
    times_s: Mapping[Phase, float], study_id: str
) -> tuple[dict[Phase, float], tuple[Finding, ...]]:
    """The phases' times, or none and a finding where they do not rise in the order of the phases."""
    rising = [times_s[phase] for phase in PHASES if phase in times_s]
    if rising == sorted(rising):
        return dict(times_s), ()
    return {}, (
        Finding(
            "times-contradict",
            "predict",
            "warning",
            "the times of the phases after injection do not rise in their order, so they are not used",
            "Compare the images with the names of their phases; name them with --phase-names, or correct "
            "time_<phase>_s in the cohort.",
            study_id,
        ),
    )


def _about_not_used(strange: Sequence[Phase], known: Sequence[Phase], early: bool) -> tuple[str, str]:
    """What it means that the model does not know phases of a study, and what to do.

    Parameters
    ----------
    strange, known : sequence of str
        Phases that the model does not know, and those that it does.
    early : bool
        The study has the early arterial phase.
    """
    meaning = f"not used: {', '.join(strange)}; the model was trained on {', '.join(known)}"
    action = "Predict with a model that was trained on it, or look at the images themselves"
    if "arterial_late" in strange and "arterial" in known:
        signs = "measured on the early one" if early else "not assessed"
        meaning += f"; LI-RADS prefers the late arterial phase, and signs of the arterial phase are {signs}"
        action += "; to read the late one in its place: --phase-names arterial=SERIES,arterial_late="
    return meaning, f"{action}."


def _is_eight_bit(array: NDArray[np.generic]) -> bool:
    """Whole numbers from 0 to 255, of which the brightest are used: a count of 200 is no window."""
    values = np.asarray(array, dtype=np.float32)
    low, high = float(values.min(initial=0.0)), float(values.max(initial=0.0))
    if low < 0 or not 0.9 * GREY_LEVELS <= high < GREY_LEVELS:
        return False
    return bool(np.array_equal(values, np.rint(values)))


def _slices(volume: Volume) -> int:
    return min(volume.shape)
