"""Masks of a DICOM study: DICOM SEG and RTSTRUCT, NIfTI and NRRD, brought to the phase they were drawn on."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mtinet.cohort import MAX_LESIONS, REFERENCE_ORDER
from mtinet.config import Phase
from mtinet.dicom.contained import UnreadableError, shared_reader
from mtinet.dicom.headers import MASK_CLASSES
from mtinet.dicom.mask_images import IMAGE_SUFFIXES
from mtinet.dicom.masks import MaskOnVolume, read_mask_image, read_masks
from mtinet.dicom.sources import SourceFile
from mtinet.dicom.structures import Kind
from mtinet.dicom.study import DicomStudy
from mtinet.errors import UserError
from mtinet.files import walk
from mtinet.imaging.masks import components, voxel_counts
from mtinet.results import Finding
from mtinet.volume import SNAP_VOXELS, Volume
from mtinet.workflows.imports.dicom_phases import ChosenVolume
from mtinet.workflows.imports.screening import import_finding

_PART_OF_A_NAME = re.compile(r"[_-](?:mask|seg|lesion|liver)", re.IGNORECASE)


@dataclass
class StudyMasks:
    """The masks of a study.

    Attributes
    ----------
    phase : Phase or None
        On whose grid they lie; None = there is none.
    lesions, liver : Volume or None
    source : str
        What the lesions come from, for example ``SEG``.
    kinds : dict
        What every structure was taken for, by its name.
    findings : list of Finding
    """

    phase: Phase | None = None
    lesions: Volume | None = None
    liver: Volume | None = None
    source: str = ""
    kinds: dict[str, Kind] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


class MaskFolder:
    """The masks in a folder, each looked at once, and which of them belong to a study.

    DICOM SEG and RTSTRUCT belong by their StudyInstanceUID.  Images belong when their name, or that of a folder
    above them, is the study's UID, the patient's id or an id of the cohort.

    Parameters
    ----------
    folder : Path

    Raises
    ------
    UserError
        There is no such folder.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise UserError(f"{folder} is not a folder; give the folder that holds the masks")
        self.folder = folder
        self._by_name: dict[Path, set[str]] = {}
        self._by_uid: dict[Path, str] = {}
        self._unreadable: dict[Path, UnreadableError] = {}
        for path in sorted(p for p in walk(folder) if p.is_file()):
            if path.name.lower().endswith(IMAGE_SUFFIXES):
                places = [*path.relative_to(folder).parts[:-1], _stem(path)]
                self._by_name[path] = {*places, *(_PART_OF_A_NAME.split(place)[0] for place in places)}
                continue
            try:
                uid = _study_uid(path)
            except UnreadableError as error:
                self._unreadable[path] = error
            else:
                if uid is not None:
                    self._by_uid[path] = uid
        self._studies: dict[Path, list[str]] = {}

    def of(self, study: DicomStudy, study_id: str, patient_id: str) -> tuple[SourceFile, ...]:
        """The files that belong to a study, which has these ids in the cohort; not those that it holds itself."""
        own = {mask.path.resolve() for mask in study.masks if not mask.member}
        names = {study.study_uid, study.patient_id, study_id, patient_id} - {""}
        found = [path for path, told in self._by_name.items() if names & told]
        found += [path for path, uid in self._by_uid.items() if uid == study.study_uid]
        for path in found:
            self._studies.setdefault(path, []).append(study_id)
        return tuple(_file(path) for path in sorted(found) if path.resolve() not in own)

    def findings(self) -> list[Finding]:
        """Files that cannot be read or belong to no study, and those that several studies of a patient were given."""
        findings = [
            import_finding(
                "mask-left-out",
                "warning",
                f"a mask is left out: it {error.why}",
                "Export or copy it again, or remove it, and import again.",
                path.relative_to(self.folder).as_posix(),
            )
            for path, error in self._unreadable.items()
        ]
        lost = [path for path in sorted({*self._by_name, *self._by_uid}) if path not in self._studies]
        if lost:
            names = [path.relative_to(self.folder).as_posix() for path in lost]
            findings.append(
                import_finding(
                    "mask-without-study",
                    "warning",
                    f"{len(names)} mask(s) belong to no study: {', '.join(names[:10])}"
                    f"{', ...' if len(names) > 10 else ''}",
                    "Name an image by the patient's id or the study's UID; a DICOM file must bear the study's UID.",
                )
            )
        shared = {path: ids for path, ids in self._studies.items() if len(ids) > 1}
        for path, ids in shared.items():
            findings.append(
                import_finding(
                    "mask-of-several-studies",
                    "warning",
                    f"a mask names a patient with {len(ids)} studies and was given to each whose grid it has: "
                    f"{path.relative_to(self.folder).as_posix()}",
                    "Name it by the study's UID, or by its study_id in the cohort.",
                )
            )
        return findings


def _stem(path: Path) -> str:
    lower = path.name.lower()
    suffix = max((s for s in IMAGE_SUFFIXES if lower.endswith(s)), key=len)
    return path.name[: -len(suffix)]


def _file(path: Path) -> SourceFile:
    return SourceFile(path, "", path.name, path.stat().st_size, claims=True)


def _study_uid(path: Path) -> str | None:
    """StudyInstanceUID of a DICOM mask, empty where its header lacks it; None for any other file.

    Raises
    ------
    UnreadableError
        It is damaged, or takes more memory or time than any image or mask.
    """
    try:
        with path.open("rb") as stream:
            if stream.read(132)[128:] != b"DICM":
                return None
    except OSError as error:
        raise UnreadableError(path.name, "damaged", error.strerror or str(error)) from None
    try:
        # in the child with its limits, as images: what breaks them is never opened here
        header = shared_reader().header(_file(path))
    except UnreadableError as error:
        if error.kind != "not-dicom":
            raise
        return ""
    return header.study["study_uid"] if header.sop_class in MASK_CLASSES else None


def read_study_masks(
    files: Sequence[SourceFile],
    study: DicomStudy,
    chosen: Mapping[Phase, ChosenVolume],
    images: Mapping[Phase, Volume],
) -> StudyMasks:
    """Read every mask of a study and put its lesions together.

    Lesions of several files on one phase are numbered on.  A mask of a volume that is no phase counts for the
    phase with the same grid; where there is none it is left out, with a finding.  Where several phases have the
    grid and the file does not tell one, it counts for that of the study's other masks, or the reference phase.

    Parameters
    ----------
    files : sequence of SourceFile
    study : DicomStudy
    chosen : mapping
        The volume that each phase was taken from.
    images : mapping of phase to Volume
    """
    masks = StudyMasks()
    read: list[tuple[Path, list[Phase], MaskOnVolume]] = []
    for file in files:
        path = file.path / file.member
        try:
            read.append((path, *_read(file, study, chosen, images)))
        except UserError as error:
            masks.findings.append(_left_out(str(error).replace(str(path), path.name)))
    # those that tell their phase decide about those that do not
    for path, phases, on in sorted(read, key=lambda one: len(one[1]) > 1):
        masks.kinds |= on.kinds
        if on.liver is None and on.kinds and set(on.kinds.values()) == {"other"}:
            continue
        if masks.phase is None:
            masks.phase = phases[0]
        elif masks.phase not in phases:
            masks.findings.append(
                _left_out(
                    f"{path.name} was drawn on {phases[0]}, another mask of the study on {masks.phase}; draw both "
                    "on one phase"
                )
            )
            continue
        masks.findings += on.findings
        _add(masks, on, path)
    if masks.lesions is not None:
        _number_parts(masks, masks.lesions)
    _name_structures(masks)
    return masks


def _name_structures(masks: StudyMasks) -> None:
    """Say what structures were taken for, unless all call themselves lesions."""
    if set(masks.kinds.values()) <= {"lesion"}:
        return
    told = {
        "liver": "liver",
        "lesion": "lesion",
        "unknown": "lesion (its name tells nothing)",
        "passed over": "neither (its name tells nothing, and others are called lesions)",
        "other": "neither",
    }
    guessed = not {"unknown", "passed over"}.isdisjoint(masks.kinds.values())
    masks.findings.append(
        import_finding(
            "mask-structures",
            "warning" if guessed else "note",
            "structures of the masks were taken for: "
            + "; ".join(f"{name!r}: {told[kind]}" for name, kind in masks.kinds.items()),
            "Where one is wrong, rename it (liver, lesion) or remove it from the file, and import again.",
        )
    )


def _read(
    file: SourceFile, study: DicomStudy, chosen: Mapping[Phase, ChosenVolume], images: Mapping[Phase, Volume]
) -> tuple[list[Phase], MaskOnVolume]:
    """The phases that a mask may have been drawn on, the likeliest first, and the mask."""
    path = file.path / file.member
    if path.name.lower().endswith(IMAGE_SUFFIXES):
        on = read_mask_image(path, [c.volume for c in chosen.values()], _name_without_ids(path, study))
    else:
        on = read_masks(file.path, study.series, file.member)
    keys = {(c.series.info.series_uid, c.volume.info.index): phase for phase, c in chosen.items()}
    fitting = {keys[key] for key in on.candidates if key in keys} or {
        phase
        for phase, image in images.items()
        if image.corner_distance_mm(on.labels) <= SNAP_VOXELS * min(image.spacing_mm)
    }
    if fitting:
        return [phase for phase in dict.fromkeys(REFERENCE_ORDER) if phase in fitting], on
    raise UserError(
        f"{path.name} was drawn on a series that is no phase of the study, and no phase has its grid; "
        "name the phase with --phases-json, or draw it on a phase"
    )


def _name_without_ids(path: Path, study: DicomStudy) -> str:
    """The name of a file; a patient may be called ``HCC_012``."""
    name = _stem(path)
    for known in filter(None, (study.patient_id, study.study_uid)):
        name = name.replace(known, "")
    return name.strip("_- ")


def _add(masks: StudyMasks, on: MaskOnVolume, path: Path) -> None:
    """Put one file's regions among the study's."""
    labels = on.labels
    if on.liver is not None:
        before = False if masks.liver is None else masks.liver.array != 0
        masks.liver = on.liver.with_array(((on.liver.array != 0) | before).astype(np.uint8))
        if not labels.array.any():
            return
    if masks.lesions is None:
        masks.lesions, masks.source = labels.with_array(np.zeros(labels.shape, np.uint8)), on.source
    array = masks.lesions.array.copy()
    # where two lesions overlap, the one read first keeps the voxel
    free = np.where(array == 0, labels.array, 0)
    numbers = sorted(voxel_counts(free))
    first = int(array.max()) + 1
    if first + len(numbers) - 1 > MAX_LESIONS:
        masks.findings.append(_left_out(f"with {path.name} the study has more than {MAX_LESIONS} lesions"))
        return
    if taken := int(np.count_nonzero(labels.array) - np.count_nonzero(free)):
        masks.findings.append(
            import_finding(
                "masks-overlap",
                "warning",
                f"{taken} voxels of {path.name} are lesion in a mask that was read before, which keeps them",
                "Remove one if both outline the same lesion; a second reader's belongs into mask_2 of cohort.csv.",
            )
        )
    for number, label in enumerate(numbers, first):
        array[free == label] = number
    masks.lesions = labels.with_array(array)


def _number_parts(masks: StudyMasks, lesions: Volume) -> None:
    """Where one number is all there is, its separate parts become a lesion each."""
    if len(voxel_counts(lesions.array)) != 1:
        return
    parts = components(lesions.array)
    if 1 < parts.max() <= MAX_LESIONS:
        masks.lesions = lesions.with_array(parts.astype(np.uint8))
        masks.findings.append(
            import_finding(
                "mask-parts-numbered",
                "note",
                f"the mask marks {int(parts.max())} separate parts with one number: each became a lesion",
                "Nothing to do if they are separate lesions; otherwise give them one connected outline.",
            )
        )


def _left_out(why: str) -> Finding:
    return import_finding(
        "mask-left-out",
        "warning",
        f"a mask is left out: {why}",
        "Correct or remove the file (ids in its name are shown as pseudonyms here) and import again.",
    )
