"""What a method says about a study: the run's own network, or another program through its files.

Another program's folder holds a mask a study, ``<study_id>.nii.gz`` or ``masks/<study_id>.nii.gz``, on the
grid of the study's reference phase: lesion numbers, or one value for all (connected parts are then numbered
from the largest to the smallest).  Where the folder holds the ``dataset.json`` of nnU-Net, which its
prediction writes there, values are classes and connected parts of a class are lesions of that class.
Optional tables say more: ``lesions.csv`` (``study_id, lesion``, any of
``p_<class>``, ``predicted_<phase>`` in raw signal) and ``studies.csv`` (``study_id``, and ``predicted_label``
or ``p_<class>``, which then hold for each of the study's lesions that ``lesions.csv`` does not name).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mtinet.cohort import NO_LESION
from mtinet.data.prepared import PreparedStudy
from mtinet.data.variation import shuffled
from mtinet.errors import UnusableError, UserError
from mtinet.evaluation.tables import read_table
from mtinet.imaging.masks import components, number_by_class, voxel_counts
from mtinet.imaging.resampling import resample_labels
from mtinet.inference.forward import Reading
from mtinet.inference.reader import Reader
from mtinet.volume import SNAP_VOXELS, Volume, grid_distance_mm, read_nifti
from mtinet.workflows.imports.nnunet_dataset import meaning_of, read_labels_of


@dataclass(frozen=True)
class Claim:
    """What a method says about one study.

    Attributes
    ----------
    mask : ndarray of int
        Lesion numbers on the reference phase's own grid.
    labels : ndarray of int, shape (Z, Y, X)
        The same lesions on the prepared grid.
    label : str
        Class of the study (that of its largest lesion), ``none`` without lesion, empty where not said.
    enhancement : dict of ndarray, shape (P,)
        Normalised signal by lesion number; a lesion about which the method says nothing is left out.
    probabilities : dict of dict
        Probability by class, by lesion number; likewise.
    readings, oracle : dict of Reading
        What the network reads under its own and under the reference mask; empty for other programs.
    """

    mask: NDArray[Any]
    labels: NDArray[Any]
    label: str
    enhancement: Mapping[int, NDArray[np.float64]] = field(default_factory=dict)
    probabilities: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    readings: Mapping[int, Reading] = field(default_factory=dict)
    oracle: Mapping[int, Reading] = field(default_factory=dict)


class Claims(Protocol):
    """A method that says something about every study.

    ``classifies`` tells whether it names classes at all: one that does and leaves a lesion unnamed is wrong there.
    """

    classifies: bool

    def claim(self, study: PreparedStudy) -> Claim:
        """What it says about ``study``."""
        ...


class NetworkClaims:
    """The claims of a run's own network, or of a panel."""

    def __init__(self, reader: Reader, classes: tuple[str, ...]) -> None:
        self.reader = reader
        self.classes = classes
        self.classifies = reader.config.objective.classification > 0

    def claim(self, study: PreparedStudy) -> Claim:
        """Predict the study, and read its reference lesions too."""
        labels, mask = self.reader.outline(study, self.reader.vote(study).probability)
        readings = self.reader.read(study, labels)
        oracle: dict[int, Reading] = {}
        if study.mask is not None:
            oracle = self.reader.read(study, np.asarray(study.mask))
        probabilities = {
            number: dict(zip(self.classes, map(float, reading.probabilities), strict=True))
            for number, reading in readings.items()
            if reading.probabilities is not None
        }
        label = NO_LESION
        if readings:  # the largest is number 1
            label = _most_probable(probabilities[1]) if probabilities else ""
        return Claim(
            mask=mask.array,
            labels=labels,
            label=label,
            enhancement={
                number: reading.enhancement
                for number, reading in readings.items()
                if reading.enhancement is not None
            },
            probabilities=probabilities,
            readings=readings,
            oracle=oracle,
        )


class ShuffledClaims:
    """What a method says about studies whose phases changed places, told of the phases as they truly are.

    A signal that the method read from the arterial image counts as arterial, wherever that image stood.
    """

    def __init__(self, claims: Claims, seed: int) -> None:
        self.claims = claims
        self.classifies = claims.classifies
        self.seed = seed

    def claim(self, study: PreparedStudy) -> Claim:
        """What it says about ``study`` in another order."""
        moved, order = shuffled(study, self.seed)
        said = self.claims.claim(moved)
        back = np.argsort(order)

        def restored(readings: Mapping[int, Reading]) -> dict[int, Reading]:
            return {
                number: replace(
                    reading,
                    enhancement=None if reading.enhancement is None else reading.enhancement[back],
                    attention=None if reading.attention is None else reading.attention[back],
                    fusion=None if reading.fusion is None else reading.fusion[back],
                )
                for number, reading in readings.items()
            }

        return replace(
            said,
            enhancement={number: curve[back] for number, curve in said.enhancement.items()},
            readings=restored(said.readings),
            oracle=restored(said.oracle),
        )


class OutsideClaims:
    """The claims of another program, from a folder of masks and optional tables (see the module)."""

    def __init__(self, folder: Path, classes: tuple[str, ...]) -> None:
        if not folder.is_dir():
            raise UnusableError(f"{folder} is not a folder; give one with <study_id>.nii.gz masks")
        self.folder = folder
        self.classes = classes
        self.studies = _by_study(folder / "studies.csv", ("study_id",))
        self.lesions = _by_study(folder / "lesions.csv", ("study_id", "lesion"))
        self.values = _class_values(folder / "dataset.json", classes)
        rows = itertools.chain(*self.studies.values(), *self.lesions.values())
        self.classifies = any(name in classes for name in (self.values or {}).values()) or any(
            self._probabilities(row) for row in rows
        )

    def claim(self, study: PreparedStudy) -> Claim:
        """Read the study's mask and its rows.

        Raises
        ------
        UnusableError
            The mask is missing or lies on another grid.
        """
        mask, classes = self._mask(study)
        volume = Volume(mask, study.source_affine)
        shape = (study.shape[2], study.shape[1], study.shape[0])
        labels = resample_labels(volume, shape, study.affine).array.transpose(2, 1, 0)
        sizes = voxel_counts(mask)
        enhancement, probabilities = {}, {}
        of_study = self._probabilities(self.studies.get(study.study_id, [{}])[0])
        rows = {int(row["lesion"]): row for row in self.lesions.get(study.study_id, [])}
        for number in sizes:
            row = rows.get(number, {})
            said = self._probabilities(row) or self._certain(classes.get(number, "")) or of_study
            if said:
                probabilities[number] = said
            curve = np.array([float(row.get(f"predicted_{p}", math.nan)) for p in study.phases])
            if np.isfinite(curve[np.asarray(study.present)]).any():
                enhancement[number] = curve / study.gain
        label = NO_LESION
        if sizes:
            largest = probabilities.get(max(sizes, key=lambda number: sizes[number]), {})
            label = _most_probable(largest) if largest else ""
        return Claim(mask, labels, label, enhancement, probabilities)

    def _mask(self, study: PreparedStudy) -> tuple[NDArray[np.int32], dict[int, str]]:
        """Lesion numbers, and the class of each where the mask's values say it."""
        name = f"{study.study_id}.nii.gz"
        path = next((p for p in (self.folder / name, self.folder / "masks" / name) if p.is_file()), None)
        if path is None:
            raise UnusableError(
                f"{self.folder} has no mask {name}; predict every held-out study (an empty mask is an answer)"
            )
        mask = read_nifti(path, labels=True)
        off = grid_distance_mm(mask.shape, mask.affine, study.source_shape, study.source_affine)
        if off > SNAP_VOXELS * min(mask.spacing_mm):
            raise UnusableError(
                f"{path} does not lie on the grid of the study's {study.reference_phase} image (shape "
                f"{mask.shape} against {study.source_shape}, off by {off:.2f} mm); resample it"
            )
        array: NDArray[np.int32] = mask.array
        if self.values is not None:
            return number_by_class(array, self.values)
        return (components(array) if array.max(initial=0) <= 1 else array), {}

    def _probabilities(self, row: Mapping[str, Any]) -> dict[str, float]:
        """Class probabilities of a row; a bare label counts as certain."""
        given = {name: float(row.get(f"p_{name}", math.nan)) for name in self.classes}
        if any(math.isfinite(value) for value in given.values()):
            return {name: 0.0 if math.isnan(value) else value for name, value in given.items()}
        return self._certain(row.get("predicted_label", ""))

    def _certain(self, label: str) -> dict[str, float]:
        return {name: float(name == label) for name in self.classes} if label in self.classes else {}


def _most_probable(probabilities: Mapping[str, float]) -> str:
    return max(probabilities, key=lambda name: probabilities[name])


def _class_values(path: Path, classes: tuple[str, ...]) -> dict[int, str] | None:
    """Class by mask value from nnU-Net's ``dataset.json``; None where there is none."""
    if not path.is_file():
        return None
    labels = read_labels_of(path)
    own = {value: name for value, name in labels.items() if name in classes}
    try:
        return meaning_of({v: n for v, n in labels.items() if v not in own}, {}).classes | own
    except UserError:
        raise UnusableError(
            f"{path} has labels that are no class of the run ({', '.join(labels.values())}; the run knows "
            f"{', '.join(classes)}); rename them in it, or remove it and the values count as lesion numbers"
        ) from None


def _by_study(path: Path, needed: tuple[str, ...]) -> dict[str, list[dict[str, Any]]]:
    if not path.is_file():
        return {}
    table: pd.DataFrame = read_table(path)
    lacking = [column for column in needed if column not in table]
    if lacking or table[list(needed)].isna().any(axis=None):
        raise UnusableError(
            f"{path} needs the column(s) {', '.join(lacking or needed)} filled in every row; add them, or "
            "remove the table and only the masks are scored"
        )
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in table.to_dict("records"):
        rows.setdefault(str(row["study_id"]), []).append({str(k): v for k, v in row.items()})
    return rows
