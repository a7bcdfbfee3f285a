"""``mtinet.save``: the files of one result."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from mtinet import files
from mtinet.inference.predictor import StudyPrediction
from mtinet.results import Result
from mtinet.workflows.predictions.audit import Audit
from mtinet.workflows.predictions.formats import (
    Output,
    check_instances,
    names_of,
    read_formats,
    software_of,
    write_output,
)
from mtinet.workflows.predictions.origins import origin_of_images
from mtinet.workflows.predictions.places import refuse_other_study


def save(
    result: Result | StudyPrediction,
    folder: Path | str,
    formats: str | Iterable[str] = ("nifti", "json"),
    images: Path | str | None = None,
) -> None:
    """Write the files of a result; all of them appear together.

    Parameters
    ----------
    result : Result or StudyPrediction
        What a model gives for a study; ``maps``, ``page``, ``pdf`` and ``picture`` need ``model.explain(study)``.
    folder : Path
        Where to write.  Files of these formats that this result does not have (a segmentation without a lesion) are
        removed there; others stay.
    formats : str or iterable of str
        One or some (``"nifti,json"`` will do) of ``nifti, json, csv, maps, picture, page, pdf, dicom-seg, dicom-sr``.
    images : Path, optional
        DICOM folder or zip that the study came from; ``dicom-seg`` and ``dicom-sr`` refer to its instances.

    Raises
    ------
    UserError
        An unknown format, or one that needs what is not given; or the folder holds the result of another study.
    """
    wanted = read_formats(formats)
    check_instances(wanted, images is not None)
    prediction = result if isinstance(result, StudyPrediction) else None
    plain = result.result if isinstance(result, StudyPrediction) else result
    origin = None if images is None else origin_of_images(Path(images))
    output = Output(plain, software_of(plain.model), prediction, origin, agent=None)
    place = Path(folder)
    refuse_other_study(place, plain.study_id, Audit(place))
    with files.atomic_files(place) as temporary:
        written = write_output(output, temporary, wanted)
    for name in names_of(wanted) - set(written):
        # of an earlier result: a PACS would be sent a lesion that this one does not have
        (place / name).unlink(missing_ok=True)
