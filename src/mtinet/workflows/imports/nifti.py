"""NIfTI files by the pattern of their names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mtinet.cohort import Cohort, Study
from mtinet.config import PHASES, Phase
from mtinet.errors import UnusableError, UserError
from mtinet.files import walk
from mtinet.results import Finding
from mtinet.workflows.imports.inclusion import Inclusion
from mtinet.workflows.imports.labels import with_labels
from mtinet.workflows.imports.masks import numbered
from mtinet.workflows.imports.phase_names import parse_assignments, phases_of, said_mapping
from mtinet.workflows.imports.screening import import_finding
from mtinet.workflows.imports.writing import (
    ImportOptions,
    ImportOutcome,
    refuse_occupied,
    refuse_unsafe,
    source_folder,
    study_folder,
    write_import,
)

PLACEHOLDERS = ("patient", "study", "site", "phase")
MASK_PLACEHOLDERS = ("patient", "study", "site")
Key = tuple[str, str, str]
"""Site, patient and study as the names have them; empty where the pattern has no such placeholder."""


@dataclass
class _Found:
    images: dict[str, Path] = field(default_factory=dict)
    mask: Path | None = None
    liver: Path | None = None


def import_nifti(
    src: Path,
    out: Path,
    pattern: str,
    *,
    phases: Sequence[str] = (),
    mask_pattern: str = "",
    liver_pattern: str = "",
    mask_phase: str = "",
    labels: Path | None = None,
    name: str = "",
    options: ImportOptions | None = None,
) -> ImportOutcome:
    """Make a cohort of image files by the pattern of their paths.

    Parameters
    ----------
    src, out : Path
    pattern : str
        Path of an image inside ``src``, for example ``{patient}/{phase}.nii.gz``.  Placeholders:
        ``{patient}``, ``{study}``, ``{site}``, ``{phase}`` (each a part of one name); ``*`` stands for
        anything in one name.
    phases : sequence of str
        ``NAME=PHASE`` by the names that the files have; otherwise common names are known.
    mask_pattern, liver_pattern : str
        Path of the lesions' and the liver's mask, with the same placeholders but ``{phase}``.
    mask_phase : str
        Phase on which the masks were drawn; empty = the reference phase.
    labels : Path, optional
        Table of what else is known (:mod:`mtinet.workflows.imports.labels`).
    name : str
        Name of the cohort; by default the folder's.
    options : ImportOptions, optional

    Raises
    ------
    UserError
        The pattern is wrong or fits no file (what was found is listed), or a name is no phase.
    """
    src = source_folder(src, "the folder that holds the images")
    refuse_occupied(out)
    if mask_phase and mask_phase not in PHASES:
        raise UserError(f"--mask-phase {mask_phase} is not a phase; valid: {', '.join(PHASES)}")
    paths = sorted(p.relative_to(src).as_posix() for p in walk(src) if p.is_file())
    paths = [p for p in paths if not any(part.startswith(".") for part in p.split("/"))]
    if out.resolve().is_relative_to(src):
        inside = out.resolve().relative_to(src).as_posix() + "/"
        paths = [p for p in paths if not p.startswith(inside)]
    # {phase} also fits the name of a mask that lies beside the images
    masks = [compile_pattern(p, MASK_PLACEHOLDERS) for p in (mask_pattern, liver_pattern) if p]
    images_only = [p for p in paths if not any(expression.fullmatch(p) for expression in masks)]
    found = _images(images_only, pattern, src)
    written = list(dict.fromkeys(phase for item in found.values() for phase in item.images))
    known, unknown = phases_of(written, parse_assignments(phases, "--phase"), "--phase")
    if not known:
        raise UserError(
            f"none of the names {', '.join(unknown[:10])} is a known phase; say which is which: "
            f"--phase {unknown[0] if unknown else 'NAME'}=arterial"
        )
    findings = _said(known, unknown, found)
    findings += _add_masks(found, paths, mask_pattern, liver_pattern, src)
    ids = _ids(found)
    refuse_unsafe(study for study, _ in ids.values())
    inclusion = Inclusion((study for study, _ in ids.values()), "studies by the pattern")
    studies = []
    drawn: dict[str, Path] = {}
    for key, item in found.items():
        study_id, patient = ids[key]
        images: dict[Phase, Path] = {known[n]: path for n, path in item.images.items() if n in known}
        if not images:
            inclusion.leave_out(study_id, "phases", "no file of a known phase")
            continue
        studies.append(Study(study_id, images, patient_id=patient, site=key[0], liver_mask=item.liver))
        if item.mask is not None:
            drawn[study_id] = item.mask
    labelled, classes, said = with_labels(studies, labels)
    # masks are written once the labels are known to fit
    masked = [_with_mask(study, drawn.get(study.study_id), mask_phase, out) for study in labelled]
    cohort = Cohort(name or src.name, tuple(masked), classes)
    return write_import(out, cohort, inclusion, [*findings, *said], options or ImportOptions())


def compile_pattern(pattern: str, allowed: Iterable[str] = PLACEHOLDERS) -> re.Pattern[str]:
    """The regular expression of a pattern; a placeholder that comes twice must have the same text twice.

    Raises
    ------
    UserError
        A placeholder that does not exist.
    """
    allowed = tuple(allowed)
    seen: set[str] = set()
    text = ""
    for part in re.split(r"(\{[^{}]*\}|\*)", pattern):
        if part == "*":
            text += "[^/]*"
        elif part.startswith("{") and part.endswith("}"):
            name = part[1:-1]
            if name not in allowed:
                raise UserError(
                    f"the pattern {pattern!r} has the placeholder {part}; valid: "
                    f"{', '.join('{' + known + '}' for known in allowed)}"
                )
            text += f"(?P={name})" if name in seen else f"(?P<{name}>[^/]+?)"
            seen.add(name)
        else:
            text += re.escape(part)
    return re.compile(text)


def _with_mask(study: Study, drawn: Path | None, mask_phase: str, out: Path) -> Study:
    """The study with its lesions numbered, and the phase that its masks were drawn on."""
    if drawn is not None:
        study = replace(study, mask=numbered(drawn, study_folder(out, study.study_id) / "mask.nii.gz").path)
    elif study.liver_mask is None:
        return study
    return replace(study, mask_phase=study.mask_phase or mask_phase)


def _images(paths: Sequence[str], pattern: str, src: Path) -> dict[Key, _Found]:
    expression = compile_pattern(pattern)
    if "phase" not in expression.groupindex or not {"patient", "study"} & set(expression.groupindex):
        raise UserError(
            f"the pattern {pattern!r} needs {{phase}} and {{patient}} (or {{study}}), for example "
            "'{patient}/{phase}.nii.gz'"
        )
    found: dict[Key, _Found] = {}
    for path in paths:
        match = expression.fullmatch(path)
        if match is None:
            continue
        item = found.setdefault(_key(match), _Found())
        earlier = item.images.setdefault(match["phase"], src / path)
        if earlier != src / path:
            raise UserError(
                f"{earlier.relative_to(src).as_posix()} and {path} are the same phase of the same study; add "
                "{study} to the pattern, or leave out the *"
            )
    if not found:
        shown = "".join(f"\n  {path}" for path in paths[:10]) or "\n  no file"
        raise UnusableError(
            f"no file of {src} fits the pattern {pattern!r}; it holds ({len(paths)} files):{shown}"
        )
    return found


def _key(match: re.Match[str]) -> Key:
    groups = match.groupdict()
    return (groups.get("site") or "", groups.get("patient") or "", groups.get("study") or "")


def _ids(found: dict[Key, _Found]) -> dict[Key, tuple[str, str]]:
    """Study and patient id: the shortest that tells all of them apart, with the site in front if need be."""
    sites: dict[str, set[str]] = {}
    for site, patient, study in found:
        sites.setdefault(patient or study, set()).add(site)
    ids = {}
    for site, patient, study in found:
        person = patient or study
        person = f"{site}_{person}" if len(sites[person]) > 1 else person
        ids[site, patient, study] = (f"{person}_{study}" if patient and study else person, person)
    names = [study for study, _ in ids.values()]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(f"two studies get the same id {', '.join(twice[:5])}; rename their folders")
    return ids


def _add_masks(
    found: dict[Key, _Found], paths: Sequence[str], mask: str, liver: str, src: Path
) -> list[Finding]:
    """Put the masks to their studies; masks that fit no study and patterns that fit no file are said."""
    findings = []
    for option, pattern, column in (("--mask", mask, "mask"), ("--liver", liver, "liver")):
        if not pattern:
            continue
        expression = compile_pattern(pattern, MASK_PLACEHOLDERS)
        matches = [(path, m) for path in paths if (m := expression.fullmatch(path))]
        if not matches:
            raise UnusableError(
                f"no file of {src} fits {option} {pattern!r}; it holds, for example, {', '.join(paths[:5])}"
            )
        lost = []
        names = set(expression.groupindex)
        for path, match in matches:
            wanted = _key(match)
            fits = [
                key
                for key in found
                if all(
                    key[i] == wanted[i]
                    for i, name in enumerate(("site", "patient", "study"))
                    if name in names
                )
            ]
            if len(fits) > 1:
                raise UserError(
                    f"{path} fits several studies ({option} {pattern!r}); add what tells them apart"
                )
            if not fits:
                lost.append(path)
            elif getattr(found[fits[0]], column) is not None:
                raise UserError(f"{path} is a second file of its study for {option} {pattern!r}; keep one")
            else:
                setattr(found[fits[0]], column, src / path)
        if lost:
            findings.append(
                import_finding(
                    "mask-without-images",
                    "warning",
                    f"{len(lost)} file(s) of {option} belong to no study: {', '.join(lost[:5])}",
                    "Correct their names if they should.",
                )
            )
    return findings


def _said(known: dict[str, Phase], unknown: list[str], found: dict[Key, _Found]) -> list[Finding]:
    findings = [
        import_finding(
            "phases",
            "note",
            f"names are taken as phases: {said_mapping(known)}",
            "If one is wrong, say it with --phase NAME=PHASE and import again.",
        )
    ]
    if unknown:
        files = sum(name in item.images for item in found.values() for name in unknown)
        findings.append(
            import_finding(
                "name-set-aside",
                "warning",
                f"{files} file(s) named {', '.join(unknown[:10])} are no known phase and are left out",
                "Map each with --phase NAME=PHASE, or NAME=ignore.",
            )
        )
    return findings
