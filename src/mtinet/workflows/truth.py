"""What only a simulation can tell of a study, as files: ``truth/<study>/`` of a virtual cohort."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from mtinet import files

if TYPE_CHECKING:
    from mtinet.phantom.patient import Truth

CONVENTION = (
    "displacement_<phase>.nii.gz: the fourth axis holds mm along the grid's axes i, j, k (not along the "
    "world's); what is seen at x in a phase lies at x - d(x) in the reference phase"
)


def write_truth(folder: Path, truth: Truth) -> list[Path]:
    """Write a patient's truth; every file lies on the grid of the study's images.

    ``tissue.nii.gz`` (``uint8`` groups of tissues in the reference phase), ``noise_free_<phase>.nii.gz``
    (``float32``, in the images' units), ``displacement_<phase>.nii.gz`` (``float32``, four axes, mm) and
    ``truth.json``: the names of the groups, the parameters of every part and the convention of the fields.

    Parameters
    ----------
    folder : Path
    truth : Truth

    Returns
    -------
    list of Path
        What was written.
    """
    written = [folder / "tissue.nii.gz"]
    truth.tissue.write_nifti(written[0])
    for phase, image in truth.noise_free.items():
        written.append(folder / f"noise_free_{phase}.nii.gz")
        image.write_nifti(written[-1])
    for phase, field in truth.displacement_mm.items():
        written.append(folder / f"displacement_{phase}.nii.gz")
        _write_field(written[-1], field, truth.tissue.affine)
    described: dict[str, Any] = {
        "legend": truth.legend,
        "displacement": CONVENTION,
        "tissues": [asdict(tissue) for tissue in truth.tissues],
    }
    written.append(folder / "truth.json")
    files.write_json(written[-1], described)
    return written


def _write_field(path: Path, field: NDArray[np.float32], affine: NDArray[np.float64]) -> None:
    """Write a 4-D field atomically: a :class:`~mtinet.volume.Volume` has three axes only."""
    image = nib.Nifti1Image(np.asarray(field, dtype=np.float32), affine)
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    image.header.set_xyzt_units("mm")
    with files.atomic_path(path) as temporary:
        nib.save(image, temporary)
