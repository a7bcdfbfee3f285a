"""A study of a patient: an image a phase, and what is known about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mtinet.cohort.phase_names import guess_phase
from mtinet.config import DEFAULT_PHASES, PHASES, Phase
from mtinet.errors import UnusableError
from mtinet.files import readable
from mtinet.volume import Volume, read_nifti

NO_LESION = "none"
"""The label of a study without lesion."""

ALL_SITES = "all"
"""What tables of results call all sites together: no site can have that name."""

MASK_SOURCES = ("reader", "program", "box")
"""Where a mask comes from: drawn by a reader, by a program, or a lesion's bounding box filled."""

MAX_LESIONS = 255
"""Lesions that a mask can number: prepared masks are stored in eight bits."""

ACQUISITION = ("dose_mmol_kg", "field_T", "tr_ms", "te_ms", "flip_deg", "study_day")
"""Names of the numbers that a study may give about its acquisition."""


REFERENCE_ORDER: tuple[Phase, ...] = ("portal_venous", "delayed", "arterial", "pre", *PHASES)
"""The first of these phases that a study has is its reference."""


class CohortError(UnusableError):
    """A cohort cannot be used; the message lists every reason with its repair."""


@dataclass(frozen=True)
class Study:
    """One study of a patient: an image a phase, and what is known about it.

    Attributes
    ----------
    study_id, patient_id, site : str
    label : str
        Class of the dominant lesion, ``none`` for a study without lesion, empty for unknown.
    images : dict
        Path by phase; a phase that the study lacks is left out.
    mask : Path or None
        Lesion numbers 1..K; None = not segmented.
    mask_phase : str
        Phase on whose grid ``mask`` was drawn; empty = the reference phase.
    mask_source : str
        One of :data:`MASK_SOURCES`; empty = a reader.
    liver_mask, mask_2 : Path or None
        Liver, and the second reader's lesions.
    times_s : dict
        Seconds from the start of injection to the centre of k-space, by phase; unknown ones are left out.
    agent : str
        Contrast agent; empty = unknown.  A study of a cohort has the cohort's where it names none of its own.
    acquisition : dict
        ``dose_mmol_kg, field_T, tr_ms, te_ms, flip_deg, study_day`` where known.
    prior_study_id : str
    loaded : mapping of str to Volume
        Images that are in memory already (read from DICOM, for example), by phase; their path in ``images``
        is then a name and no file.
    unused : tuple of Path
        Images beside the others that are neither one of a phase nor a mask by their names.
    """

    study_id: str
    images: dict[Phase, Path]
    patient_id: str = ""
    site: str = ""
    label: str = ""
    mask: Path | None = None
    mask_phase: str = ""
    liver_mask: Path | None = None
    mask_2: Path | None = None
    times_s: dict[Phase, float] = field(default_factory=dict)
    agent: str = ""
    acquisition: dict[str, float] = field(default_factory=dict)
    prior_study_id: str = ""
    mask_source: str = ""
    loaded: Mapping[Phase, Volume] = field(default_factory=dict, repr=False, compare=False)
    unused: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        if not self.patient_id:
            object.__setattr__(self, "patient_id", self.study_id)

    @property
    def reference_phase(self) -> Phase:
        """Phase whose grid the masks and results lie on: portal venous, or the next best present."""
        for phase in REFERENCE_ORDER:
            if phase in self.images:
                return phase
        raise CohortError(f"study {self.study_id} has no image of any phase; add one or remove the row")

    def image(self, phase: Phase) -> Volume:
        """The image of a phase, from memory or from its file.

        Raises
        ------
        VolumeError
            The file cannot be read.
        """
        return self.loaded[phase] if phase in self.loaded else read_nifti(self.images[phase])

    def paths(self) -> dict[str, Path]:
        """Every file of the study by its column."""
        named: dict[str, Path | None] = {
            **{str(phase): path for phase, path in self.images.items()},
            "mask": self.mask,
            "liver_mask": self.liver_mask,
            "mask_2": self.mask_2,
        }
        return {column: path for column, path in named.items() if path is not None}

    @property
    def phase_livers(self) -> dict[Phase, Path]:
        """The liver as it was drawn on each phase: ``liver_mask_<phase>`` beside ``liver_mask``, where there is one.

        They serve to judge the registration and are no columns of the table.
        """
        if self.liver_mask is None:
            return {}
        suffix = (
            "".join(self.liver_mask.suffixes[-2:])
            if self.liver_mask.suffix == ".gz"
            else self.liver_mask.suffix
        )
        place = self.liver_mask.parent
        drawn = {phase: place / f"liver_mask_{phase}{suffix}" for phase in self.images}
        return {phase: path for phase, path in drawn.items() if path.is_file()}

    @classmethod
    def from_folder(cls, folder: Path | str, known: Mapping[Phase, Path | None] | None = None) -> Study:
        """A study from a folder that holds ``<phase>.nii.gz`` (or ``.nii``) files, some absent.

        Other common names of a phase will do (:func:`~mtinet.cohort.phase_names.guess_phase`); a file that is
        called as the phase itself goes before them.  ``mask``, ``liver_mask`` and ``mask_2`` are taken when they
        lie beside them.

        Parameters
        ----------
        folder : Path
        known : mapping of str to Path or None, optional
            By phase its file, whatever it is called; None = the study lacks the phase.

        Raises
        ------
        CohortError
            There is no such folder, its name is not UTF-8, or it holds no image of a phase, or two of one phase.
        """
        folder, known = Path(folder), dict(known or {})
        if not folder.is_dir():
            raise CohortError(f"{folder} is not a folder; give a folder with <phase>.nii.gz files")
        files = nifti_files(folder)
        free = {path: name for path, name in files.items() if path not in known.values()}
        images = {phase: known[phase] if phase in known else _of_phase(phase, free) for phase in PHASES}
        found = {phase: path for phase, path in images.items() if path is not None}
        if not found:
            lies_there = f" (it holds {', '.join(path.name for path in files)})" if files else ""
            raise CohortError(
                f"{folder} holds no <phase>.nii.gz{lies_there}; name the images {', '.join(DEFAULT_PHASES)}, or "
                "say which is which with --phase-names"
            )
        study_id = folder.resolve().name
        if study_id != readable(study_id):
            raise CohortError(
                f"{readable(str(folder))}: the folder's name, by which the study is called, is not UTF-8 and can "
                "stand in no result; rename the folder"
            )
        return cls(
            study_id,
            found,
            mask=_called("mask", free),
            liver_mask=_called("liver_mask", free),
            mask_2=_called("mask_2", free),
            unused=tuple(
                path
                for path, name in free.items()
                if path not in found.values() and not name.startswith(("mask", "liver_mask"))
            ),
        )


def nifti_files(folder: Path) -> dict[Path, str]:
    """Name without suffix by NIfTI file of a folder; ``.nii.gz`` goes before ``.nii``."""
    named = {path: path.name for path in sorted(folder.iterdir())}
    return {
        path: name.removesuffix(suffix)
        for suffix in (".nii.gz", ".nii")
        for path, name in named.items()
        # what a Mac leaves behind (._pre.nii.gz) is no image
        if name.endswith(suffix) and not name.startswith(".") and path.is_file()
    }


def _called(name: str, files: Mapping[Path, str]) -> Path | None:
    return next((path for path, own in files.items() if own == name), None)


def _of_phase(phase: Phase, files: Mapping[Path, str]) -> Path | None:
    """The file of a phase, None without one."""
    exact = _called(phase, files)
    if exact is not None:
        return exact
    named = {name: _called(name, files) for name in files.values() if guess_phase(name) == phase}
    if len(named) > 1:
        first, second, *_ = (path for path in named.values() if path is not None)
        raise CohortError(
            f"{first.parent}: {first.name} and {second.name} both are {phase} by their names; call the right one "
            f"{phase}.nii.gz, or say which it is with --phase-names, such as {phase}={first.name}"
        )
    return next(iter(named.values()), None)
