"""A virtual patient from settings and a number: the phantom's entry point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mtinet.cohort import NO_LESION, Study
from mtinet.config import PHASES, Phase, SimulationSettings, SiteSettings
from mtinet.phantom import artefacts, motion
from mtinet.phantom.acquisition import ScanGrid, draw_affine, draw_missing, scan_grid
from mtinet.phantom.agents import agent_of, dose_of, phases_of
from mtinet.phantom.anatomy import draw_anatomy
from mtinet.phantom.artefacts import ComplexArray, Ghosts
from mtinet.phantom.canvas import Canvas
from mtinet.phantom.circulation import Circulation, draw_circulation, typical_circulation
from mtinet.phantom.disease import CYST, Grown, grow_cysts, grow_lesions
from mtinet.phantom.enhancement import relaxation, signals
from mtinet.phantom.host import Host, draw_host
from mtinet.phantom.lesions import check_classes
from mtinet.phantom.mimics import add_shunt
from mtinet.phantom.motion import Displacement
from mtinet.phantom.readers import second_reader
from mtinet.phantom.scanner import Scanner, draw_scanner
from mtinet.phantom.shapes import BoolArray, FloatArray
from mtinet.phantom.timing import draw_times, latest_s
from mtinet.phantom.tissues import Tissue, draw_organs
from mtinet.phantom.truth import Truth, VirtualLesion, describe, lesion_mask, lesion_numbers, tissue_map
from mtinet.volume import Volume

__all__ = ["Truth", "VirtualLesion", "VirtualPatient", "assign", "simulate_patient"]


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
    mask_2 : Volume or None
        The same by a second reader, if there is one.
    masks : dict
        Lesions where they lie in each acquired phase; that of the reference phase is ``mask``.
    liver : Volume
        ``uint8``, 1 in the liver with its lesions and vessels, on the reference phase.
    livers : dict
        The same where it lies in each acquired phase.
    times_s : dict
        Seconds from the start of injection to the centre of k-space, by acquired phase after ``pre``.
    displacement_mm : dict
        How far breathing has moved the liver on average along the grid's axes, by acquired phase.
    lesions : tuple of VirtualLesion
    parameters : dict
        What was drawn about the patient as a whole, by name: the liver's condition, the circulation, the
        study's ``gain`` (stored value of the nominal liver) and ``unrest``, how badly the breath-hold of the
        arterial phase failed (0 to 1).
    truth : Truth or None
        On request.
    """

    study_id: str
    patient_id: str
    site: SiteSettings
    label: str
    images: dict[Phase, Volume]
    mask: Volume
    mask_2: Volume | None
    masks: dict[Phase, Volume]
    liver: Volume
    livers: dict[Phase, Volume]
    times_s: dict[Phase, float]
    displacement_mm: dict[Phase, tuple[float, float, float]]
    lesions: tuple[VirtualLesion, ...]
    parameters: dict[str, float]
    truth: Truth | None


class _Stream(IntEnum):
    """One independent source of randomness for each side of a patient."""

    ASSIGNMENT = 100
    ANATOMY = 101
    TISSUES = 102
    CIRCULATION = 103
    LESIONS = 104
    SCAN = 105
    NOISE = 106
    HOST = 107
    CYSTS = 108
    SHUNTS = 109
    TIMING = 110
    MOTION = 111
    GHOSTS = 112
    FIELDS = 113
    READER = 114


@dataclass(frozen=True)
class _Body:
    """A patient before the scan."""

    canvas: Canvas
    liver_tissue: Tissue
    liver: BoolArray
    lesions: list[Grown]


@dataclass(frozen=True)
class _Scan:
    """Everything drawn about an acquisition; phases that are missing are left out."""

    scanner: Scanner
    affine: NDArray[np.float64]
    reference: Phase
    times_s: dict[Phase, float]
    moved: dict[Phase, Displacement]
    ghosts: dict[Phase, Ghosts]
    moving: artefacts.Sources
    near_gas: FloatArray


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
        A phase for which the site has no time, a field of view that is too small, or a gain that saturates.
    """
    check_classes(settings.classes)
    label, site = assign(settings, index)
    host = draw_host(_rng(settings, _Stream.HOST, index), settings, label, site.field_T)
    grid = scan_grid(site, settings.breathing_mm)
    body = _draw_body(settings, index, label, grid, host)
    flow = _draw_flow(settings, index, site)
    unrest = motion.draw_unrest(_rng(settings, _Stream.GHOSTS, index), settings.agent)
    unrest = unrest if site.artefacts > 0.0 else 0.0
    scan = _draw_scan(settings, index, site, grid, body, flow, unrest)
    clean = _noise_free(settings, scan, body, flow)
    images = {
        phase: scan.scanner.stored(image, scan.scanner.noise(_rng(settings, _Stream.NOISE, index, phase)))
        for phase, image in clean.items()
    }
    magnitude = {phase: np.abs(image) for phase, image in clean.items()}

    numbers = lesion_numbers(grid, body.lesions)
    masks = {phase: lesion_mask(grid, numbers, body.lesions, scan.moved[phase]) for phase in images}
    mask = masks[scan.reference]
    livers = {phase: _liver(grid, body.liver, masks[phase], scan.moved[phase]) for phase in images}
    liver = livers[scan.reference]
    lesions = describe(body.lesions, masks, magnitude)
    return VirtualPatient(
        study_id=f"v{index:04d}",
        patient_id=f"p{index:04d}",
        site=site,
        label=label,
        images={phase: Volume(image, scan.affine) for phase, image in images.items()},
        mask=Volume(mask, scan.affine),
        mask_2=_second_reader(settings, index, site, scan, mask, liver, lesions),
        masks={phase: Volume(found, scan.affine) for phase, found in masks.items()},
        liver=Volume(liver, scan.affine),
        livers={phase: Volume(found, scan.affine) for phase, found in livers.items()},
        times_s=scan.times_s,
        displacement_mm=_mean_displacement(scan, body.liver),
        lesions=lesions,
        parameters={**_numbers(host), **flow.parameters, "gain": scan.scanner.gain, "unrest": unrest},
        truth=_truth(scan, body, magnitude) if settings.truth else None,
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


def _rng(
    settings: SimulationSettings, stream: _Stream, index: int, phase: Phase | None = None
) -> np.random.Generator:
    """Randomness of one side of a patient, or of one phase of it: a missing phase changes no other."""
    part = 0 if phase is None else 1 + PHASES.index(phase)
    return np.random.default_rng([settings.seed, stream, part, index])


def _draw_body(settings: SimulationSettings, index: int, label: str, grid: ScanGrid, host: Host) -> _Body:
    """Organs, and what is wrong with the liver."""
    organs = draw_organs(_rng(settings, _Stream.TISSUES, index), host)
    canvas = Canvas(grid.fine, organs)
    liver = draw_anatomy(_rng(settings, _Stream.ANATOMY, index), canvas, host)
    rng = _rng(settings, _Stream.SHUNTS, index)
    if rng.random() < settings.shunt_fraction:
        add_shunt(rng, canvas, liver)
    room = np.zeros_like(liver)
    room[grid.scanned] = liver[grid.scanned]
    rng = _rng(settings, _Stream.LESIONS, index)
    lesions = grow_lesions(rng, settings, label, canvas, liver, room, host)
    rng = _rng(settings, _Stream.CYSTS, index)
    cysts = grow_cysts(rng, settings, lesions, canvas, liver, room, host)
    if CYST in settings.classes:
        lesions = [*lesions, *cysts]
    return _Body(canvas, organs["liver"], liver, lesions)


def _draw_flow(settings: SimulationSettings, index: int, site: SiteSettings) -> Circulation:
    """The agent on its way through the patient."""
    return draw_circulation(
        _rng(settings, _Stream.CIRCULATION, index),
        agent_of(settings),
        dose_of(settings),
        site.injection_ml_s,
        latest_s(site, phases_of(settings)),
    )


def _draw_scan(
    settings: SimulationSettings,
    index: int,
    site: SiteSettings,
    grid: ScanGrid,
    body: _Body,
    flow: Circulation,
    unrest: float,
) -> _Scan:
    phases, agent = phases_of(settings), agent_of(settings)
    # the rule belongs to the cohort; it holds whichever phase is missing, for that is never the reference
    reference = Study("", {phase: Path() for phase in phases}).reference_phase
    usual = typical_circulation(agent, dose_of(settings), site.injection_ml_s, 60.0)
    late_s = flow.parameters["arrival_s"] - usual.parameters["arrival_s"]
    times = draw_times(_rng(settings, _Stream.TIMING, index), site, phases, late_s)
    labels, tissues = body.canvas.labels, body.canvas.tissues
    share = motion.mobility(grid, labels, tissues, body.liver)
    restless: Phase | None = "arterial" if unrest > 0.0 else None
    moved = motion.draw_displacements(
        _rng(settings, _Stream.MOTION, index), grid, share, settings.breathing_mm, phases, reference, restless
    )
    rng = _rng(settings, _Stream.SCAN, index)
    missing = draw_missing(rng, settings.missing_phase_rate, phases, reference)
    ghosts = {
        phase: artefacts.draw_ghosts(
            _rng(settings, _Stream.GHOSTS, index, phase), site, unrest if phase == restless else 0.0
        )
        for phase in phases
    }
    return _Scan(
        scanner=draw_scanner(_rng(settings, _Stream.FIELDS, index), site, grid),
        affine=draw_affine(rng, site),
        reference=reference,
        times_s={phase: time for phase, time in times.items() if phase != missing},
        moved={phase: field for phase, field in moved.items() if phase != missing},
        ghosts=ghosts,
        moving=artefacts.sources(grid, labels, tissues, share),
        near_gas=artefacts.signal_near_gas(grid, labels, tissues, site),
    )


def _noise_free(
    settings: SimulationSettings, scan: _Scan, body: _Body, flow: Circulation
) -> dict[Phase, ComplexArray]:
    """Images before noise, by acquired phase."""
    scanner, canvas = scan.scanner, body.canvas
    grid, site = scanner.grid, scanner.site
    # unenhanced images are taken before the injection, when there is nothing to hold
    times = [scan.times_s.get(phase, 0.0) for phase in scan.moved]
    added = relaxation(canvas.tissues, flow, agent_of(settings), body.liver_tissue, site.field_T, times)
    tables = (scanner.gain * signals(canvas.tissues, added, site, scanner.b1)).astype(np.float32)
    images = {}
    for column, (phase, displacement) in enumerate(scan.moved.items()):
        signal = scanner.tissue_signal(canvas.labels, tables[:, column], displacement)
        image = scanner.received(signal, artefacts.kept(grid, scan.near_gas, displacement))
        ghosted = artefacts.with_ghosts(image, scan.moving, scan.ghosts[phase], site.spacing_mm)
        images[phase] = scanner.filtered(ghosted)
    return images


def _numbers(host: Host) -> dict[str, float]:
    return {"cirrhosis": host.cirrhosis, "fat_fraction": host.fat_fraction}


def _liver(
    grid: ScanGrid, liver: BoolArray, lesions: NDArray[np.uint8], displacement: Displacement
) -> NDArray[np.uint8]:
    """Voxels of a phase that the liver fills by half, and its lesions there."""
    return ((grid.filled(displacement.view(liver)) >= 0.5) | (lesions > 0)).astype(np.uint8)


def _mean_displacement(scan: _Scan, liver: BoolArray) -> dict[Phase, tuple[float, float, float]]:
    columns = scan.scanner.grid.view(liver).sum(axis=2)
    return {phase: displacement.mean_mm(columns) for phase, displacement in scan.moved.items()}


def _second_reader(
    settings: SimulationSettings,
    index: int,
    site: SiteSettings,
    scan: _Scan,
    mask: NDArray[np.uint8],
    liver: NDArray[np.uint8],
    lesions: Sequence[VirtualLesion],
) -> Volume | None:
    if settings.readers < 2:
        return None
    labels = {lesion.number: lesion.label for lesion in lesions}
    rng = _rng(settings, _Stream.READER, index)
    return Volume(second_reader(rng, mask, site.spacing_mm, labels, within=liver > 0), scan.affine)


def _truth(scan: _Scan, body: _Body, magnitude: Mapping[Phase, FloatArray]) -> Truth:
    tissue, legend = tissue_map(scan.scanner.grid, body.canvas.labels, body.canvas.tissues)
    return Truth(
        tissue=Volume(tissue, scan.affine),
        legend=legend,
        noise_free={phase: Volume(image, scan.affine) for phase, image in magnitude.items()},
        displacement_mm={phase: displacement.field_mm() for phase, displacement in scan.moved.items()},
        tissues=tuple(body.canvas.tissues),
    )
