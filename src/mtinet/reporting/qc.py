"""The page of a cohort before anything is learned from it: findings, inclusion, and every study in pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mtinet import files
from mtinet.cohort import Cohort, Study
from mtinet.config import Phase
from mtinet.data.prepared import PreparedStudy
from mtinet.imaging.resampling import resample
from mtinet.reporting import slices
from mtinet.reporting.cases import Panel
from mtinet.reporting.overview import grouped_findings
from mtinet.reporting.slices import Box
from mtinet.reporting.templates import page_template
from mtinet.reporting.words import class_name, count_of, moved_by, number, phase_name
from mtinet.results import RESEARCH_USE, Finding
from mtinet.volume import Volume, VolumeError, read_nifti

QC_PAGE = "qc.html"
"""Name of the page in the folder of a cohort."""

_FINEST_MM = 1.0
"""Pictures need no smaller pixels; a page of a hundred studies stays a few megabytes."""


class Step(Protocol):
    """A line of the inclusion table."""

    @property
    def step(self) -> str:
        """What was done."""

    @property
    def studies(self) -> int:
        """How many were left out there."""

    @property
    def reason(self) -> str:
        """Why."""


@dataclass(frozen=True)
class Row:
    """One slice in every phase, with the lesions' outline; lengths in mm of the displayed slice."""

    title: str
    panels: tuple[Panel, ...]
    width: float
    height: float
    body: Box
    outline: str


@dataclass(frozen=True)
class StudyPictures:
    """What the page shows of a study.

    Attributes
    ----------
    rows : tuple of Row
        The phases as imported; where a prepared study has a registration record, before and after it.
    registrations : tuple of (phase, facts)
    problem : str
        Why there is no picture.
    """

    rows: tuple[Row, ...] = ()
    registrations: tuple[tuple[str, str], ...] = ()
    problem: str = ""


def draw_study(study: Study, prepared: PreparedStudy | None = None) -> StudyPictures:
    """Draw a study's phases at the slice that holds most of its lesions, else in the middle.

    The phases are shown where world coordinates put them, on the grid of the phase that the mask was drawn
    on, with one window for all.

    Parameters
    ----------
    study : Study
    prepared : PreparedStudy, optional
        Shown as it is registered beside the phases as they were, if it has a registration record.
    """
    try:
        images = {phase: read_nifti(path).canonical() for phase, path in study.images.items()}
        mask = None if study.mask is None else read_nifti(study.mask, labels=True).canonical()
    except VolumeError as error:
        return StudyPictures(problem=str(error))
    if not images:
        return StudyPictures(problem="no image")
    phase = study.mask_phase or study.reference_phase
    if phase not in images:
        return StudyPictures(problem=f"the mask was drawn on {phase}, which the study lacks")
    base = images[phase]
    labels = np.zeros(base.shape, np.uint8) if mask is None or mask.shape != base.shape else mask.array
    rows = [_row("", _planes(images, base, _slice_of(labels)), labels[:, :, _slice_of(labels)].T, base)]
    if prepared is None or not prepared.registrations:
        return StudyPictures(tuple(rows))
    return StudyPictures((*rows, *_before_and_after(images, prepared)), tuple(_records(prepared)))


def _before_and_after(images: Mapping[Phase, Volume], prepared: PreparedStudy) -> list[Row]:
    z, y, x = prepared.shape
    grid = Volume(np.broadcast_to(np.float32(0), (x, y, z)), prepared.affine)
    labels = np.zeros((z, y, x), np.uint8) if prepared.mask is None else np.asarray(prepared.mask)
    k = _slice_of(labels.transpose(2, 1, 0))
    before = _planes(images, grid, k)
    after = {
        phase: np.asarray(prepared.image[index, k]) * prepared.gain
        for index, phase in enumerate(prepared.phases)
        if prepared.present[index]
    }
    shown = {phase: plane for phase, plane in before.items() if phase in after}
    return [
        _row("Before registration", shown, labels[k], grid),
        _row("After registration", after, labels[k], grid),
    ]


def _slice_of(labels: NDArray[Any]) -> int:
    """The slice (third axis) with most of the mask, or the middle one."""
    areas = np.count_nonzero(labels, axis=(0, 1))
    return int(areas.argmax()) if areas.any() else labels.shape[2] // 2


def _planes(images: Mapping[Phase, Volume], base: Volume, k: int) -> dict[Phase, NDArray[np.float32]]:
    """Every phase in one slice of a grid, axes (y, x)."""
    affine = base.affine.copy()
    affine[:3, 3] = (base.affine @ np.array([0, 0, k, 1]))[:3]
    shape = (base.shape[0], base.shape[1], 1)
    return {phase: resample(volume, shape, affine).array[:, :, 0].T for phase, volume in images.items()}


def _row(title: str, planes: Mapping[Phase, NDArray[Any]], labels: NDArray[Any], grid: Volume) -> Row:
    spacing = (grid.spacing_mm[1], grid.spacing_mm[0])
    stack = np.stack(list(planes.values()))
    present = np.ones(len(stack), dtype=bool)
    levels = slices.window(stack, present)
    step = max(1, int(_FINEST_MM / min(spacing)))
    panels = tuple(
        Panel(phase_name(phase), slices.grey(plane[::step, ::step], levels))
        for phase, plane in planes.items()
    )
    width, height = slices.size_mm(labels.shape, spacing)
    return Row(
        title,
        panels,
        width,
        height,
        slices.body_box(stack, present, spacing),
        slices.path_data(slices.outlines(labels, spacing)),
    )


def _records(prepared: PreparedStudy) -> list[tuple[str, str]]:
    """What registration says of each phase."""
    lines = []
    for phase, record in prepared.registrations.items():
        facts = [moved_by(record)]
        facts += [
            f"{name.replace('_', ' ')} {number(float(value), 3)}"
            for name, value in record.items()
            if isinstance(value, (int, float)) and not isinstance(value, bool)
        ]
        lines.append((phase_name(phase), "; ".join(facts)))
    return lines


# ---------------------------------------------------------------------- the page
def write_page(
    path: Path,
    cohort: Cohort,
    pictures: Sequence[StudyPictures],
    findings: Sequence[Finding],
    inclusion: Sequence[Step],
    imported: Mapping[str, Mapping[str, Any]],
) -> None:
    """Write the page; it needs no other file and no network.

    Parameters
    ----------
    path : Path
    cohort : Cohort
    pictures : sequence of StudyPictures
        In the order of the cohort's studies.
    findings : sequence of Finding
        Worst first.
    inclusion : sequence
        Lines of the inclusion table; empty where the cohort was not imported.
    imported : mapping
        By study what an import decided (``import.json``); empty where there is none.
    """
    by_case: dict[str, list[Finding]] = {}
    for finding in findings:
        by_case.setdefault(finding.case, []).append(finding)
    content = {
        "title": cohort.name,
        "notice": RESEARCH_USE,
        "subtitle": f"{count_of(len(cohort), 'study', 'studies')}, "
        f"{count_of(len({s.patient_id for s in cohort.studies}), 'patient')}, "
        f"phases {', '.join(phase_name(p) for p in cohort.phases)}",
        "findings": grouped_findings(list(findings)),
        "inclusion": inclusion,
        "left_out": [(i, entry["left_out"]) for i, entry in imported.items() if entry.get("left_out")],
        "studies": [
            _study(study, drawn, imported.get(study.study_id, {}), by_case.get(study.study_id, []))
            for study, drawn in zip(cohort.studies, pictures, strict=True)
        ],
    }
    files.write_text(path, page_template("qc.html").render(content))


def _study(
    study: Study, drawn: StudyPictures, imported: Mapping[str, Any], findings: Sequence[Finding]
) -> dict[str, Any]:
    # notes are grouped at the head of the page: beside the pictures they would hide what matters
    findings = [finding for finding in findings if finding.severity != "note"]
    facts = [("patient", study.patient_id), ("class", class_name(study.label)), ("site", study.site)]
    if study.mask is None or not study.images:
        facts.append(("mask", "none" if study.mask is None else "there"))
    else:
        facts.append(("mask", f"on {phase_name(study.mask_phase or study.reference_phase)}"))
    facts += [("agent", study.agent)]
    return {
        "id": study.study_id,
        "facts": [(name, value) for name, value in facts if value],
        "pictures": drawn,
        "worst": findings[0].severity if findings else "",
        "findings": findings,
        "phases": [_phase(name, entry, study) for name, entry in imported.get("phases", {}).items() if entry],
        "missing": imported.get("missing", []),
        "excluded": imported.get("excluded", []),
    }


def _phase(name: str, entry: Mapping[str, Any], study: Study) -> dict[str, Any]:
    grid = entry["grid"]
    part = f", volume {entry['volume'] + 1} of {entry['n_volumes']}" if entry["n_volumes"] > 1 else ""
    time = study.times_s.get(name)  # type: ignore[call-overload]
    return {
        "name": phase_name(name),
        "series": f"{entry['series'] or entry['series_uid']}{part}",
        "description": entry["description"],
        "confidence": f"{entry['confidence']:.2f}",
        "evidence": entry["evidence"],
        "grid": f"{'×'.join(map(str, grid['shape']))} at "
        f"{' × '.join(number(mm) for mm in grid['spacing_mm'])} mm",
        "time": "" if time is None else f"{number(time, 0)} s",
        "comparable": entry["comparable"],
    }
