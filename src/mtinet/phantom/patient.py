"""A virtual patient from settings and a number: the phantom's entry point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mtinet.cohort import NO_LESION, Study
from mtinet.config import Phase, SimulationSettings, SiteSettings
from mtinet.phantom import acquisition
from mtinet.phantom.acquisition import AcquisitionError, ScanGrid
from mtinet.phantom.anatomy import Canvas, draw_anatomy
from mtinet.phantom.circulation import draw_circulation
from mtinet.phantom.lesions import Host, Pattern, check_classes, grow, make_ball
from mtinet.phantom.placement import draw_diameters, draw_places
from mtinet.phantom.shapes import BoolArray, Box, FloatArray, box_mean
from mtinet.phantom.tissues import AGENTS, Tissue, concentrations, draw_organs, relative_signals
from mtinet.volume import Volume


@dataclass(frozen=True)
class VirtualLesion:
    """What is known of one lesion.

    Attributes
    ----------
    number : int
        Its value in the mask.
    label, subtype : str
        Class and sub-form.
    diameter_mm : float
        Of the ball with the lesion's volume.
    enhancement : dict
        Noise-free mean signal over its mask, by acquired phase, in units of the images.
    kinetics : dict
        The numbers behind it, by name.
    """

    number: int
    label: str
    subtype: str
    diameter_mm: float
    enhancement: dict[Phase, float]
    kinetics: dict[str, float]


@dataclass(frozen=True)
class VirtualPatient:
    """One simulated study.

    Attributes
    ----------
    study_id, patient_id : str
    site : SiteSettings
    label : str
        Class of the largest lesion, or ``none``.
    images : dict
        ``int16`` volume by phase; a missing phase is absent.
    mask : Volume
        ``uint8`` lesion numbers 1..K, on the reference phase.
    liver : Volume
        ``uint8``, 1 in the liver with its lesions and vessels.
    times_s : dict
        Seconds from the start of injection to the centre of k-space, by acquired phase after ``pre``.
    displacement_mm : dict
        How far breathing has moved the content along the grid's axes, by acquired phase.
    lesions : tuple of VirtualLesion
    """

    study_id: str
    patient_id: str
    site: SiteSettings
    label: str
    images: dict[Phase, Volume]
    mask: Volume
    liver: Volume
    times_s: dict[Phase, float]
    displacement_mm: dict[Phase, tuple[float, float, float]]
    lesions: tuple[VirtualLesion, ...]


class _Stream(IntEnum):
    """One independent source of randomness for each side of a patient."""

    ASSIGNMENT = 100
    ANATOMY = 101
    TISSUES = 102
    CIRCULATION = 103
    LESIONS = 104
    SCAN = 105
    NOISE = 106


@dataclass(frozen=True)
class _Grown:
    """A lesion on the fine grid."""

    box: Box
    inside: BoolArray
    pattern: Pattern


@dataclass(frozen=True)
class _Scan:
    """Everything drawn about an acquisition."""

    grid: ScanGrid
    phases: tuple[Phase, ...]
    times_s: dict[Phase, float]
    moves: dict[Phase, tuple[int, int, int]]
    affine: NDArray[np.float64]
    gain: float
    receive: FloatArray


def simulate_patient(settings: SimulationSettings, index: int) -> VirtualPatient:
    """Simulate patient number ``index`` of a cohort: a function of the settings and the number alone.

    Parameters
    ----------
    settings : SimulationSettings
    index : int
        From 0.  Patients may be simulated in any order, in any process.

    Returns
    -------
    VirtualPatient

    Raises
    ------
    LesionClassError
        A class that cannot be simulated.
    AcquisitionError
        An agent that is not known, a phase for which the site has no time, or a gain that saturates.
    """
    check_classes(settings.classes)
    if settings.agent not in AGENTS:
        raise AcquisitionError(f"agent: {settings.agent!r} cannot be simulated; valid: {', '.join(AGENTS)}")
    label, site = assign(settings, index)
    scan = _draw_scan(settings, site, index)
    organs = draw_organs(_rng(settings, _Stream.TISSUES, index), site.field_T)
    canvas = Canvas(scan.grid.fine, organs)
    liver = draw_anatomy(_rng(settings, _Stream.ANATOMY, index), canvas)
    scanned = np.zeros_like(liver)
    scanned[scan.grid.scanned] = liver[scan.grid.scanned]
    host = Host(site.field_T, settings.atypical_fraction)
    grown = [] if label == NO_LESION else _grow_lesions(settings, index, label, canvas, scanned, host)
    signals = _signals(settings, index, site, scan, canvas, organs["liver"])

    rng = _rng(settings, _Stream.NOISE, index)
    images = {}
    for phase in scan.phases:
        clean = acquisition.clean_image(scan.grid, canvas.labels, signals[phase], scan.moves[phase])
        received = clean * scan.receive
        acquisition.check_range(received, site, scan.gain)
        stored = acquisition.measured(rng, received, site.noise * scan.gain)
        images[phase] = Volume(stored, scan.affine)
    mask, lesions = _truth(scan, canvas, signals, grown, label)
    in_liver = (scan.grid.fraction(liver) >= 0.5) | (mask > 0)
    return VirtualPatient(
        study_id=f"v{index:04d}",
        patient_id=f"p{index:04d}",
        site=site,
        label=label,
        images=images,
        mask=Volume(mask, scan.affine),
        liver=Volume(in_liver.astype(np.uint8), scan.affine),
        times_s={phase: time for phase, time in scan.times_s.items() if phase in images},
        displacement_mm=acquisition.moves_mm(scan.grid, {phase: scan.moves[phase] for phase in images}),
        lesions=lesions,
    )


def assign(settings: SimulationSettings, index: int) -> tuple[str, SiteSettings]:
    """Class and site of a patient, spread evenly over the numbers.

    Of the first n patients ``no_lesion_fraction · n``, rounded, have no lesion; among the others every block
    of classes x sites holds each combination once, in an order drawn from the seed.
    """
    fraction = settings.no_lesion_fraction
    without_before, without = (int(np.floor(n * fraction + 0.5)) for n in (index, index + 1))
    if without > without_before:
        order = _shuffled(settings, 0, len(settings.sites), without_before)
        return NO_LESION, settings.sites[order]
    combination = _shuffled(settings, 1, len(settings.classes) * len(settings.sites), index - without_before)
    site, label = divmod(combination, len(settings.classes))
    return settings.classes[label], settings.sites[site]


def _shuffled(settings: SimulationSettings, group: int, size: int, position: int) -> int:
    """Entry ``position`` of an endless row of shuffled blocks, each holding 0..size-1 once."""
    block, within = divmod(position, size)
    rng = np.random.default_rng([settings.seed, _Stream.ASSIGNMENT, group, block])
    return int(rng.permutation(size)[within])


def _rng(settings: SimulationSettings, stream: _Stream, index: int) -> np.random.Generator:
    return np.random.default_rng([settings.seed, stream, 0, index])


def _draw_scan(settings: SimulationSettings, site: SiteSettings, index: int) -> _Scan:
    rng = _rng(settings, _Stream.SCAN, index)
    # the rule belongs to the cohort; it holds whichever phase is missing, for that is never the reference
    reference = Study("", {phase: Path() for phase in settings.phases}).reference_phase
    grid = acquisition.scan_grid(site, settings.breathing_mm)
    times = acquisition.draw_times(rng, site, settings.phases)
    moves = acquisition.draw_moves(rng, grid, settings.breathing_mm, settings.phases, reference)
    missing = acquisition.draw_missing(rng, settings.missing_phase_rate, settings.phases, reference)
    return _Scan(
        grid=grid,
        phases=tuple(phase for phase in settings.phases if phase != missing),
        times_s=times,
        moves=moves,
        affine=acquisition.draw_affine(rng, site),
        gain=site.gain * float(np.exp(0.15 * np.clip(rng.normal(), -2.0, 2.0))),
        receive=acquisition.draw_receive_field(rng, site.matrix, site.bias),
    )


def _grow_lesions(
    settings: SimulationSettings, index: int, label: str, canvas: Canvas, room: BoolArray, host: Host
) -> list[_Grown]:
    """Paint the patient's lesions, all of one class, into ``room``; each takes its own voxels."""
    rng = _rng(settings, _Stream.LESIONS, index)
    diameters = draw_diameters(rng, settings.diameter_mm, settings.median_diameter_mm, settings.extra_lesions)
    places = draw_places(rng, canvas.grid, room, diameters, settings.diameter_mm[0])
    free = room.copy()
    grown = []
    for centre, diameter in places:
        ball = make_ball(rng, canvas.grid, centre, diameter, float(rng.uniform(0.05, 0.13)))
        pattern, inside = grow(rng, canvas, free, label, ball, host)
        free[ball.box] &= ~inside
        grown.append(_Grown(ball.box, inside, pattern))
    return grown


def _signals(
    settings: SimulationSettings,
    index: int,
    site: SiteSettings,
    scan: _Scan,
    canvas: Canvas,
    liver: Tissue,
) -> dict[Phase, FloatArray]:
    """Signal of every part, by phase, in units of the images."""
    rng, last = _rng(settings, _Stream.CIRCULATION, index), max(scan.times_s.values(), default=0.0)
    flow = draw_circulation(rng, settings.dose_mmol_kg, last)
    # unenhanced images are taken before the injection, when there is nothing to hold
    times = [scan.times_s.get(phase, 0.0) for phase in scan.phases]
    relative = relative_signals(canvas.tissues, concentrations(canvas.tissues, flow, liver, times), site)
    return {
        phase: (scan.gain * relative[:, column]).astype(np.float32)
        for column, phase in enumerate(scan.phases)
    }


def _truth(
    scan: _Scan, canvas: Canvas, signals: Mapping[Phase, FloatArray], grown: Sequence[_Grown], label: str
) -> tuple[NDArray[np.uint8], tuple[VirtualLesion, ...]]:
    """Mask on the scanner's grid, and each lesion's noise-free signal under it, unmoved."""
    mask = np.zeros(scan.grid.matrix, dtype=np.uint8)
    lesions = []
    fine_mm3 = float(np.prod(scan.grid.fine.spacing_mm))
    for number, lesion in enumerate(grown, start=1):
        coarse, fine = scan.grid.covering(lesion.box)
        filled = np.zeros(scan.grid.fine.shape, dtype=np.bool_)
        filled[lesion.box] = lesion.inside
        share = box_mean(filled[fine].astype(np.float32), scan.grid.factor)
        # a lesion thinner than a slice fills no voxel by half; it keeps those it fills most
        marked = (share >= min(0.5, 0.8 * float(share.max()))) & (mask[coarse] == 0)
        mask[coarse][marked] = number
        enhancement = {}
        for phase, values in signals.items():
            clean = box_mean(values[canvas.labels[fine]], scan.grid.factor) * scan.receive[coarse]
            enhancement[phase] = float(clean[marked].mean(dtype=np.float64))
        volume = np.count_nonzero(lesion.inside) * fine_mm3
        lesions.append(
            VirtualLesion(
                number=number,
                label=label,
                subtype=lesion.pattern.subtype,
                diameter_mm=float((6.0 * volume / np.pi) ** (1.0 / 3.0)),
                enhancement=enhancement,
                kinetics=dict(lesion.pattern.kinetics),
            )
        )
    return mask, tuple(lesions)
