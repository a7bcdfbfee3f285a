"""The rows of an evaluation's tables: what is claimed of a study beside what its reference says."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from mtinet.cohort import NO_LESION, Cohort, Study
from mtinet.config import Config
from mtinet.data.prepared import PreparedStudy
from mtinet.evaluation.detection import LesionMatch, count_lesions, match_lesions
from mtinet.evaluation.metrics import OVERLAPS, score_masks
from mtinet.imaging.masks import equivalent_diameter_mm
from mtinet.inference.lesions import measured_signal
from mtinet.model.build import build_discriminator
from mtinet.model.tdd import TaskDiscriminator
from mtinet.results import Finding
from mtinet.runs import Run
from mtinet.volume import SNAP_VOXELS, VolumeError, grid_distance_mm, read_geometry, read_nifti
from mtinet.workflows.claims import Claim


class StudyRows:
    """Rows of the studies' and lesions' tables (:mod:`mtinet.evaluation.tables`) for one study."""

    def __init__(self, run: Run, config: Config, cohort: Cohort, study: PreparedStudy, claim: Claim) -> None:
        self.config = config
        self.cohort = cohort
        self.prepared = study
        self.claim = claim
        self.classes = run.classes
        self.training_mean = run.document("preparation")["enhancement"]["phase_mean"]
        self.reference = reference_mask(cohort[study.study_id], study)
        self.findings: list[Finding] = []
        self.second = self._second_reader(cohort[study.study_id])
        self.matches: list[LesionMatch] = []
        if self.reference is not None:
            threshold = config.evaluation.detection_iou
            self.matches = match_lesions(self.reference, claim.mask, threshold)
        self.measured = measured_signal(study, claim.labels)
        self.identity = {
            "study_id": study.study_id,
            "patient_id": study.patient_id,
            "site": study.site,
        }
        self.spacing_mm = np.linalg.norm(study.source_affine[:3, :3], axis=0)

    def study(self) -> dict[str, Any]:
        """The row of the studies' table."""
        evaluation = self.config.evaluation
        scores = score_masks(
            self.reference, self.claim.mask, self.spacing_mm.tolist(), evaluation.nsd_tolerance_mm
        )
        return {
            **self.identity,
            "label": self._label(),
            "predicted_label": self.claim.label,
            "gain": self.prepared.gain,
            **asdict(scores),
            **asdict(count_lesions(self.matches)),
            **self._second_scores(),
        }

    def _label(self) -> str:
        """Class of the study, or of its largest lesion where the study names none; empty = unknown."""
        label = self.prepared.label
        if not label:
            lesion = next((one for one in self.prepared.lesions if one.number == self._dominant()), None)
            label = "" if lesion is None else lesion.label
        return label if label in (*self.classes, NO_LESION) else ""

    def _dominant(self) -> int | None:
        """Number of the largest reference lesion."""
        voxels = {m.reference: m.reference_voxels for m in self.matches if m.reference is not None}
        return max(voxels, key=lambda n: (voxels[n], -n)) if voxels else None

    def _second_scores(self) -> dict[str, float]:
        """Scores of the second reader's mask, in the place of the network's."""
        if self.second is None:
            return {}
        tolerance_mm = self.config.evaluation.nsd_tolerance_mm
        scores = score_masks(self.reference, self.second, self.spacing_mm.tolist(), tolerance_mm)
        return {f"second_{name}": getattr(scores, name) for name in OVERLAPS}

    def _second_reader(self, study: Study) -> NDArray[np.int32] | None:
        """The second reader's lesion numbers on the grid of the reference; None without both readers."""
        if self.reference is None or study.mask_2 is None:
            return None
        prepared = self.prepared
        try:
            drawn_on = (
                (prepared.source_shape, prepared.source_affine)
                if study.mask is None
                else read_geometry(study.mask)
            )
            off = grid_distance_mm(*read_geometry(study.mask_2), *drawn_on)
            if off > SNAP_VOXELS * float(np.linalg.norm(drawn_on[1][:3, :3], axis=0).min()):
                raise VolumeError(
                    f"{study.mask_2} lies on another grid than the first reader's; export it on that one"
                )
            return _as_drawn(study.mask_2, study, prepared)
        except VolumeError as error:
            cause, _, repair = str(error).partition("; ")
            text = f"the second reader's mask is not scored: {cause}"
            repair = f"{repair[:1].upper()}{repair[1:]}, or empty the cell mask_2 of cohort.csv."
            self.findings.append(
                Finding("second-reader-unusable", "evaluate", "warning", text, repair, study.study_id)
            )
            return None

    def lesions(self) -> list[dict[str, Any]]:
        """The rows of the lesions' table."""
        dominant = self._dominant()
        return [self._lesion(match, match.reference == dominant) for match in self.matches]

    def _lesion(self, match: LesionMatch, dominant: bool) -> dict[str, Any]:
        voxel_mm3 = float(np.prod(self.spacing_mm))
        voxels = match.reference_voxels if match.reference is not None else match.predicted_voxels
        row: dict[str, Any] = {
            **self.identity,
            "reference": match.reference,
            "predicted": match.predicted,
            "diameter_mm": equivalent_diameter_mm(voxels * voxel_mm3),
            "iou": match.iou,
            "dice": match.dice,
            "dominant": bool(dominant and match.reference is not None),
            "label": "",
            "predicted_label": "",
        }
        if match.reference is not None:
            row |= self._reference_columns(match.reference)
        if match.predicted is not None:
            row |= self._predicted_columns(match.predicted)
        return row

    def _reference_columns(self, number: int) -> dict[str, Any]:
        lesion = next((item for item in self.prepared.lesions if item.number == number), None)
        truth = {} if lesion is None else lesion.enhancement
        label = "" if lesion is None else lesion.label
        columns: dict[str, Any] = {"label": label if label in self.classes else ""}
        columns |= self._signals("true", [truth.get(p, math.nan) for p in self.prepared.phases])
        columns |= self._signals("mean", self.training_mean)
        if number in self.claim.oracle:
            reading = self.claim.oracle[number]
            if reading.probabilities is not None:
                columns["oracle_label"] = self.classes[int(np.argmax(reading.probabilities))]
            if reading.enhancement is not None:
                columns |= self._signals("oracle", reading.enhancement)
        return columns | self._noise_free(number)

    def _predicted_columns(self, number: int) -> dict[str, Any]:
        columns: dict[str, Any] = {}
        if number in self.measured:
            columns |= self._signals("measured", self.measured[number])
        if number in self.claim.enhancement:
            columns |= self._signals("predicted", self.claim.enhancement[number])
        probabilities = self.claim.probabilities.get(number)
        if probabilities:
            columns |= {f"p_{name}": probabilities.get(name, 0.0) for name in self.classes}
            columns["predicted_label"] = max(probabilities, key=lambda name: probabilities[name])
        reading = self.claim.readings.get(number)
        if reading is not None:
            for name, values in (("attention", reading.attention), ("fusion", reading.fusion)):
                if values is not None:
                    columns |= {
                        f"{name}_{phase}": v if present else math.nan
                        for phase, v, present in zip(
                            self.prepared.phases, values, self.prepared.present, strict=True
                        )
                    }
        return columns

    def _signals(self, name: str, normalised: Sequence[float] | NDArray[Any]) -> dict[str, float]:
        """Columns of a curve in the study's own units; an absent phase stays empty."""
        return {
            f"{name}_{phase}": float(value) * self.prepared.gain if present else math.nan
            for phase, value, present in zip(
                self.prepared.phases, normalised, self.prepared.present, strict=True
            )
        }

    def _noise_free(self, number: int) -> dict[str, float]:
        table = self.cohort.lesions
        columns = [f"noise_free_{p}" for p in self.prepared.phases if f"noise_free_{p}" in table.columns]
        if not columns:
            return {}
        rows = table[(table["study_id"] == self.prepared.study_id) & (table["lesion"].astype(int) == number)]
        return {c: float(rows[c].iloc[0]) if len(rows) and rows[c].iloc[0] else math.nan for c in columns}


def reference_mask(study: Study, prepared: PreparedStudy) -> NDArray[np.int32] | None:
    """The reference's lesion numbers on the reference phase's own grid; None where they are unknown."""
    if not prepared.has_mask:
        return None
    if study.mask is None:
        return np.zeros(prepared.source_shape, dtype=np.int32)
    return _as_drawn(study.mask, study, prepared)


def _as_drawn(path: Path, study: Study, prepared: PreparedStudy) -> NDArray[np.int32]:
    """Lesion numbers of a reader's mask on the reference phase's own grid."""
    mask = read_nifti(path, labels=True)
    if study.mask_phase and study.mask_phase != study.reference_phase:
        # it moves with the phase on which it was drawn
        motion = prepared.motion(study.mask_phase)
        mask = motion.labels(mask, prepared.source_shape, prepared.source_affine)
    return np.asarray(mask.array, dtype=np.int32)


def lesion_table(
    rows: list[dict[str, Any]], gains: Mapping[str, float], config: Config, run: Run
) -> pd.DataFrame:
    """The lesions' table, with the discriminator's attention, and its columns even without any lesion."""
    columns = ["study_id", "patient_id", "site", "reference", "predicted", "diameter_mm", "iou", "dice"]
    columns += ["dominant", "label", "predicted_label"]
    table = pd.DataFrame(rows) if rows else pd.DataFrame(columns=columns)
    for name in ("reference", "predicted"):
        table[name] = table[name].astype("Int64")
    for name in ("label", "predicted_label", "oracle_label"):
        if name in table:
            table[name] = table[name].fillna("")
    _add_what_found_nothing(table, config.phases)
    if run.has_discriminator and f"predicted_{config.phases[0]}" in table:
        _add_discriminator_attention(table, gains, config, run)
    return table


def _add_what_found_nothing(table: pd.DataFrame, phases: Sequence[str]) -> None:
    """Empty columns of the methods that had no lesion to read: they take the training mean, and stay scored.

    Every mask is read out.  A network that says the enhancement under the reference mask has a head.
    """
    methods = (
        ["measured", "predicted"] if any(f"oracle_{phase}" in table for phase in phases) else ["measured"]
    )
    for name in (f"{method}_{phase}" for method in methods for phase in phases):
        if name not in table:
            table[name] = math.nan


def _add_discriminator_attention(
    table: pd.DataFrame, gains: Mapping[str, float], config: Config, run: Run
) -> None:
    discriminator: TaskDiscriminator = build_discriminator(config, len(run.classes))
    run.fill(discriminator, "discriminator")
    discriminator.eval()
    known = table["predicted_label"].isin(run.classes)
    if not known.any():
        return
    curves = table.loc[known, [f"predicted_{p}" for p in config.phases]].to_numpy(np.float32, copy=True)
    gain = table.loc[known, "study_id"].map(gains).to_numpy(np.float32)[:, None]
    classes = table.loc[known, [f"p_{name}" for name in run.classes]].to_numpy(np.float32, copy=True)
    present = torch.from_numpy(np.isfinite(curves))
    attention = discriminator.attention(
        torch.from_numpy(np.nan_to_num(curves / gain)), torch.from_numpy(classes), present
    ).numpy()
    for index, phase in enumerate(config.phases):
        table.loc[known, f"tdd_attention_{phase}"] = np.where(present[:, index], attention[:, index], np.nan)
