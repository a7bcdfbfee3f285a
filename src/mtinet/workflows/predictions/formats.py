"""Files out: one writer a format."""

from __future__ import annotations

import csv
import io
import math
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from mtinet import files, provenance
from mtinet.data.prepared import to_source_grid
from mtinet.dicom import codes
from mtinet.dicom.made import Software
from mtinet.dicom.origin import Origin
from mtinet.errors import UserError
from mtinet.inference.certainty import method_key
from mtinet.inference.predictor import StudyPrediction
from mtinet.results import Lesion, Measurement, Result
from mtinet.volume import Volume

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

Format = Literal["nifti", "json", "csv", "maps", "picture", "page", "pdf", "dicom-seg", "dicom-sr"]
FORMATS: tuple[Format, ...] = get_args(Format)
DEFAULT_FORMATS: tuple[Format, ...] = ("nifti", "json", "picture", "page")
LIVER_FILE = "liver_mask.nii.gz"
TABLE_FILE = "measurements.csv"
TABLE_HEAD = ("study_id", "lesion", "quantity", "phase", "value", "unit", "finding", "reason")
FILES: Mapping[Format, tuple[str, ...]] = {
    "nifti": ("mask.nii.gz",),
    "json": ("result.json",),
    "csv": (TABLE_FILE,),
    "maps": ("probability.nii.gz", "entropy.nii.gz", "information.nii.gz"),
    "picture": ("picture.png",),
    "page": ("page.html",),
    "pdf": ("page.pdf", "page.dcm"),
    "dicom-seg": ("segmentation.dcm",),
    "dicom-sr": ("report.dcm",),
}
"""Files that each format may have of a result; a liver's outline beside them may be the user's own, and is not one."""

DICOM_FORMATS: tuple[Format, ...] = ("dicom-seg", "dicom-sr")


@dataclass(frozen=True)
class Output:
    """A result with all that its files are made of.

    Attributes
    ----------
    result : Result
    software : Software
    prediction : StudyPrediction or None
        With the prepared images, for pictures and pages.
    origin : Origin or None
        The DICOM instances that the images came from.
    class_codes : mapping of str to str
        SNOMED CT code by class, where the cohort gave one.
    agent : str or None
        Contrast agent, for the page; empty = unknown, None = nothing is said about it.
    liver : Path or None
        The liver's outline where it was drawn for this result; it is kept beside the mask.
    """

    result: Result
    software: Software
    prediction: StudyPrediction | None = None
    origin: Origin | None = None
    class_codes: Mapping[str, str] = field(default_factory=dict)
    agent: str | None = ""
    liver: Path | None = None

    @property
    def instances(self) -> Origin:
        """The origin, which DICOM formats need."""
        if self.origin is None:
            raise UserError(_without_instances(self.result.study_id))
        return self.origin

    @property
    def explained(self) -> StudyPrediction:
        """The prediction, which pictures need."""
        if self.prediction is None:
            raise UserError(
                f"study {self.result.study_id}: maps, picture, page and pdf show images, which a result does not hold; "
                "save what predictor.explain(study) gives, or use mtinet predict"
            )
        return self.prediction

    @cached_property
    def segmentation(self) -> Dataset | None:
        """The segmentation, made once: the report refers to it."""
        from mtinet.dicom.seg_out import segmentation

        return segmentation(self.result, self.instances, self.software, self.class_codes)

    @cached_property
    def page(self) -> str:
        """The page, drawn once: the PDF is made of it."""
        from mtinet.reporting.study_page import study_page

        return study_page(self.explained, self.software.text, self.agent)


def software_of(model: Mapping[str, Any], reader: str = "") -> Software:
    """What made a result.

    Parameters
    ----------
    model : mapping
        What the result says about its model.  Several opinions are another software than the first run alone.
    reader : str
        Digest of a mask that a reader drew.
    """
    several = any(model.get(name) for name in ("ensemble", "flips", "dropout_samples"))
    digest = method_key(model) if several else str(model.get("digest", ""))
    return Software(provenance.versions()["mtinet"], digest, reader)


def read_formats(names: str | Iterable[str] | None) -> tuple[Format, ...]:
    """The formats of these names, each once, in the order in which they are written.

    Parameters
    ----------
    names : str or iterable of str or None
        Names, also in one text with commas; None = the default ones.

    Raises
    ------
    UserError
        An unknown name, or ``pdf`` without WeasyPrint.
    """
    if isinstance(names, str):
        names = [name for part in names.split(",") if (name := part.strip())]
    wanted = list(DEFAULT_FORMATS if names is None else names)
    unknown = [name for name in wanted if name not in FORMATS]
    if unknown or not wanted:
        raise UserError(
            f"unknown formats: {', '.join(map(repr, unknown))}; choose from {', '.join(FORMATS)}"
            if unknown
            else f"no format is given; choose from {', '.join(FORMATS)}"
        )
    if "pdf" in wanted:
        from mtinet.reporting.pdf import check_weasyprint

        check_weasyprint()
    return tuple(name for name in FORMATS if name in wanted)


def names_of(formats: Iterable[Format], *, liver: bool = False) -> set[str]:
    """Names of the files that some formats may have, with the liver's outline where one may be drawn."""
    names = {name for form in formats for name in FILES[form]}
    return names | {LIVER_FILE} if liver and "mask.nii.gz" in names else names


def check_instances(formats: Iterable[Format], has_instances: bool) -> None:
    """Refuse DICOM formats before any work where there are no instances to refer to.

    Raises
    ------
    UserError
    """
    if not has_instances and any(name in DICOM_FORMATS for name in formats):
        raise UserError(_without_instances(""))


def write_output(output: Output, folder: Path, formats: Sequence[Format]) -> list[str]:
    """Write the files of some formats into a folder and return their names.

    Raises
    ------
    UserError
        A format cannot be made of this result.
    OSError
        The disk.
    """
    for name in formats:
        WRITERS[name](output, folder)
    return sorted(path.name for path in folder.iterdir())


# ---------------------------------------------------------------------- writers
def _nifti(output: Output, folder: Path) -> None:
    mask = output.result.mask
    if mask is None:
        raise UserError(
            f"study {output.result.study_id}: the result has no mask to write; read it with its mask.nii.gz (of a "
            "batch it lies in the study's folder), or leave nifti out"
        )
    mask.write_nifti(folder / "mask.nii.gz")
    if output.liver is not None:
        shutil.copyfile(output.liver, folder / LIVER_FILE)


def _json(output: Output, folder: Path) -> None:
    files.write_json(folder / "result.json", output.result.to_dict())


def _csv(output: Output, folder: Path) -> None:
    write_table(folder / TABLE_FILE, [output.result])


def write_table(path: Path, results: Iterable[Result]) -> None:
    """Write the quantities of some results as a table, atomically; their masks are not needed."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(TABLE_HEAD)
    for result in results:
        for item in result.measurements:
            writer.writerow(_row(result.study_id, "", item))
        for lesion in result.lesions:
            number = str(lesion.number)
            named = []
            if lesion.is_named:
                named = [Measurement(f"probability_{name}", p) for name, p in lesion.probabilities.items()]
                named.insert(0, Measurement("class", finding=lesion.label))
            for item in (*named, *_class_set(lesion), *codes.lesion_quantities(lesion)):
                writer.writerow(_row(result.study_id, number, item))
    files.write_text(path, text.getvalue())


def _class_set(lesion: Lesion) -> list[Measurement]:
    """The conformal set, an entry a class; of an empty one, which says something too, an entry without a class."""
    chosen = None if lesion.certainty is None else lesion.certainty.class_set
    if chosen is None:
        return []
    empty = Measurement("class_set", reason="empty: the lesion is unlike those of every class")
    return [Measurement("class_set", finding=name) for name in chosen] or [empty]


def _row(study_id: str, lesion: str, item: Measurement) -> tuple[str, ...]:
    # what is not finite is empty, as it is null in result.json
    value = "" if item.value is None or not math.isfinite(item.value) else f"{item.value:.8g}"
    unit = codes.unit_of(item).value
    # an id is the name of a folder, a class that of a user: neither is a formula
    study_id, finding, reason = map(files.as_cell, (study_id, item.finding, item.reason))
    return (study_id, lesion, item.name, item.phase, value, unit, finding, reason)


def _maps(output: Output, folder: Path) -> None:
    """Lesion probability, its entropy (bits) and what opinions disagree about (bits), on the source grid."""
    vote, study = output.explained.vote, output.explained.study
    named = {"probability": vote.probability, "entropy": vote.entropy, "information": vote.information}
    for name, values in named.items():
        if values is not None:
            volume = Volume(to_source_grid(values, study).astype(np.float32), study.source_affine)
            volume.write_nifti(folder / f"{name}.nii.gz")


def _picture(output: Output, folder: Path) -> None:
    from mtinet.reporting.picture import study_picture

    prediction = output.explained
    study = prediction.study
    study_picture(
        study.image,
        study.present,
        study.phases,
        prediction.labels,
        study.spacing_mm,
        output.result.lesions,
        folder / "picture.png",
        title=study.study_id,
    )


def _page(output: Output, folder: Path) -> None:
    files.write_text(folder / "page.html", output.page)


def _pdf(output: Output, folder: Path) -> None:
    from mtinet.reporting.pdf import page_to_pdf

    content = page_to_pdf(output.page)
    with files.atomic_path(folder / "page.pdf") as temporary:
        temporary.write_bytes(content)
    if output.origin is not None:
        from mtinet.dicom.pdf_out import encapsulated_pdf

        _save(encapsulated_pdf(output.result, output.origin, output.software, content), folder / "page.dcm")


def _dicom_seg(output: Output, folder: Path) -> None:
    # without a lesion there is nothing to segment; the report says so
    if output.segmentation is not None:
        _save(output.segmentation, folder / "segmentation.dcm")


def _dicom_sr(output: Output, folder: Path) -> None:
    from mtinet.dicom.sr_out import structured_report

    written = (folder / "segmentation.dcm").is_file()
    report = structured_report(
        output.result,
        output.instances,
        output.software,
        output.class_codes,
        output.segmentation if written else None,
    )
    _save(report, folder / "report.dcm")


def _save(dataset: Dataset, path: Path) -> None:
    from mtinet.dicom.write import save

    with files.atomic_path(path) as temporary:
        save(dataset, temporary)


WRITERS: Mapping[Format, Callable[[Output, Path], None]] = {
    "nifti": _nifti,
    "json": _json,
    "csv": _csv,
    "maps": _maps,
    "picture": _picture,
    "page": _page,
    "pdf": _pdf,
    "dicom-seg": _dicom_seg,
    "dicom-sr": _dicom_sr,
}
"""What writes each format; the segmentation comes before the report that refers to it."""


def _without_instances(study_id: str) -> str:
    return (
        f"{'study ' + study_id + ': ' if study_id else ''}dicom-seg and dicom-sr refer to DICOM images, and there "
        "are none; give the DICOM folder of the study (predict takes --images FOLDER and --mapping FILE for a "
        "cohort that was imported from DICOM, mtinet.save takes images=FOLDER), or leave these formats out"
    )
