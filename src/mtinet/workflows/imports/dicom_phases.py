"""Which volume of a DICOM study is which phase: as identified, or as the user says."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from mtinet.config import PHASES, Phase
from mtinet.dicom.study import DicomSeries, DicomStudy, DicomVolume
from mtinet.errors import UserError
from mtinet.results import Finding
from mtinet.workflows.imports.screening import import_finding

MIN_CONFIDENCE = 0.6
"""A phase that is identified with less is left empty: the user decides."""

_CORRECTIONS = ("ND", "NORM", "DIS2D", "DIS3D")
"""Words of ImageType for corrections that change intensities or places."""

_BESIDE_PHASES = ("missing", "excluded")
"""What an entry of ``mtinet phases --json`` holds beside phases."""

Overruling = Mapping[str, Mapping[str, Any] | None]
"""By phase: ``series_uid`` (or ``series``) and ``volume``; None = the study lacks it."""


@dataclass(frozen=True)
class ChosenVolume:
    """The volume that a phase is taken from, and why."""

    series: DicomSeries
    volume: DicomVolume
    confidence: float
    evidence: tuple[str, ...]


@dataclass(frozen=True)
class PhaseChoice:
    """What a study's phases are taken from.

    Attributes
    ----------
    chosen : dict
        By phase; phases without a usable volume are left out.
    missing, excluded : list of dict
        As in the JSON of ``mtinet phases``: what is not there and what was set aside, with reasons.
    findings : list of Finding
    """

    chosen: dict[Phase, ChosenVolume]
    missing: list[dict[str, str]]
    excluded: list[dict[str, str]]
    findings: list[Finding]


def choose_phases(study: DicomStudy, overruling: Overruling | None, use_pixels: bool = True) -> PhaseChoice:
    """Identify a study's phases; what the user says goes before what was found.

    Raises
    ------
    UserError
        The user names a series or volume that the study lacks.
    """
    from mtinet.imaging.phases import identify_files

    found = identify_files([series.info for series in study.series], use_pixels=use_pixels)
    told = found.to_dict()
    choice = PhaseChoice({}, list(told["missing"]), list(told["excluded"]), [])
    for phase in PHASES:
        picked = found.phases.get(phase)
        if picked is None:
            continue
        if picked.confidence < MIN_CONFIDENCE and phase not in (overruling or {}):
            choice.missing.append({"phase": phase, "reason": "identified with too little confidence"})
            choice.findings.append(_unsure(phase, picked))
            continue
        series, volume = _volume(study.series, picked.series_uid, picked.volume, phase)
        choice.chosen[phase] = ChosenVolume(series, volume, picked.confidence, tuple(picked.evidence))
    if overruling:
        _overrule(study, overruling, choice)
    choice.findings.extend(_mixed_reconstructions(choice.chosen))
    return choice


def _mixed_reconstructions(chosen: Mapping[Phase, ChosenVolume]) -> list[Finding]:
    """Whether the phases are corrected in one way."""
    corrected = {
        phase: " ".join(part for part in map(str.upper, c.volume.info.image_type) if part in _CORRECTIONS)
        for phase, c in chosen.items()
    }
    if len(set(corrected.values())) < 2:
        return []
    told = ", ".join(f"{phase} {kind or 'none'}" for phase, kind in corrected.items())
    return [
        import_finding(
            "mixed-reconstructions",
            "warning",
            "phases are corrected for intensity and distortion in different ways (corrections named in ImageType: "
            f"{told}), so enhancement between them may be wrong",
            "Name series of one kind for all phases (--phases-json, or --phase-names of predict), or export them.",
        )
    ]


def _is_number(volume: object) -> bool:
    return isinstance(volume, int) and not isinstance(volume, bool) and volume >= 0


def _unsure(phase: Phase, picked: Any) -> Finding:
    return import_finding(
        "phase-unsure",
        "warning",
        f"{phase} is left empty: series {picked.series_number or picked.series_uid}, volume {picked.volume} is the "
        f"best candidate, but with a confidence of {picked.confidence:.2f} only ({'; '.join(picked.evidence)})",
        "Look at the series; if it is right (or another one is), say so in a file for --phases-json (import.json "
        "shows the form), or with --phase-names of predict.",
    )


def named_volumes(
    study: DicomStudy, overruling: Overruling | None
) -> dict[Phase, tuple[DicomSeries, DicomVolume]]:
    """The series and volume that the user names for each phase.

    Raises
    ------
    UserError
        The study has no such series or volume, or several, or one is named for two phases.
    """
    named: dict[Phase, tuple[DicomSeries, DicomVolume]] = {}
    for name, entry in (overruling or {}).items():
        if entry is None:
            continue
        phase = cast("Phase", name)
        found = _named_volume(study, phase, entry)
        twice = next((other for other, (_, volume) in named.items() if volume is found[1]), None)
        if twice is not None:
            raise UserError(f"{twice} and {phase} are said to be one volume; name another one, or null")
        named[phase] = found
    return named


def _overrule(study: DicomStudy, overruling: Overruling, choice: PhaseChoice) -> None:
    """Put what the user says in the place of what was identified."""
    named = named_volumes(study, overruling)
    before = dict(choice.chosen)
    choice.missing[:] = [item for item in choice.missing if item.get("phase") not in overruling]
    for phase, chosen in before.items():
        now = next((name for name, (_, volume) in named.items() if volume is chosen.volume), phase)
        if phase in overruling:
            del choice.chosen[phase]
        elif now != phase:
            # a volume has one phase
            del choice.chosen[phase]
            choice.missing.append({"phase": phase, "reason": f"the user says that its volume is {now}"})
    for name, entry in overruling.items():
        if entry is None:
            choice.missing.append({"phase": name, "reason": "the user says that it was not acquired"})
    for phase, (series, volume) in named.items():
        same = phase in before and before[phase].volume is volume
        evidence = ("the user says so", *(before[phase].evidence if same else ()))
        choice.chosen[phase] = ChosenVolume(series, volume, 1.0, evidence)


def _named_volume(
    study: DicomStudy, phase: Phase, entry: Mapping[str, Any]
) -> tuple[DicomSeries, DicomVolume]:
    uid = str(entry.get("series_uid") or "")
    series = [s for s in study.series if s.info.series_uid == uid] if uid else []
    number = str(entry.get("series", ""))
    if not series:
        series = [s for s in study.series if number and s.info.series_number == number]
    if len(series) != 1:
        what = uid or f"number {number or '(none)'}"
        raise UserError(
            f"phase {phase}: {len(series)} series have {what}; give the series_uid of one of: "
            + ", ".join(f"{s.info.series_uid} ({s.info.description})" for s in study.series)
        )
    return _volume(study.series, series[0].info.series_uid, int(entry.get("volume") or 0), phase)


def _volume(
    series: Sequence[DicomSeries], uid: str, index: int, phase: Phase
) -> tuple[DicomSeries, DicomVolume]:
    found = next(s for s in series if s.info.series_uid == uid)
    name = found.info.series_number or uid
    if not 0 <= index < len(found.volumes):
        raise UserError(
            f"{phase}: series {name} holds {len(found.volumes)} volume(s), numbered from 0; "
            f"there is no volume {index}"
        )
    return found, found.volumes[index]


def read_overruling(path: Path | None) -> dict[str, Overruling]:
    """What the user says about phases, by study: a file like that of ``mtinet phases --json`` or ``import.json``.

    Only phases that a study's entry names are overruled; ``null`` says that the study lacks the phase.

    Raises
    ------
    UserError
    """
    if path is None:
        return {}
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        studies = told.get("studies", told)
        entries = {key: value for key, value in studies.items() if key != "schema"}
        result: dict[str, Overruling] = {}
        for key, entry in entries.items():
            by_phase = entry.get("phases", entry)
            result[str(key)] = {str(p): by_phase[p] for p in PHASES if p in by_phase}
            if unknown := by_phase.keys() - {*PHASES, *_BESIDE_PHASES}:
                raise ValueError(f"{key} names {', '.join(sorted(unknown))}; phases are {', '.join(PHASES)}")
            for item in result[str(key)].values():
                if item is not None and not (isinstance(item, dict) and _is_number(item.get("volume", 0))):
                    raise ValueError(f"a phase of {key} is neither null nor an object with a volume from 0")
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}); correct the path of --phases-json"
        ) from None
    except (ValueError, AttributeError, TypeError) as error:
        raise UserError(
            f"{path} is not a phase file ({error}); write it like the output of mtinet phases --json: "
            '{"schema": 1, STUDY: {"arterial": {"series_uid": UID, "volume": 0}}}'
        ) from None
    return result
