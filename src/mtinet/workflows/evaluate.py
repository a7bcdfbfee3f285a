"""Evaluate: score a run, or another program's predictions, on studies that the run never trained on."""

from __future__ import annotations

import math
import shlex
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from mtinet import files
from mtinet.cohort import NO_LESION, Cohort, Study
from mtinet.config import Config
from mtinet.config.variation import ScoringVariation
from mtinet.data import variation as vary
from mtinet.data.folds import Split
from mtinet.data.prepared import PreparedStudy
from mtinet.errors import UnusableError
from mtinet.evaluation import readouts
from mtinet.evaluation.detection import LesionMatch, count_lesions, match_lesions
from mtinet.evaluation.diagnostics import run_findings
from mtinet.evaluation.metrics import score_masks
from mtinet.evaluation.summary import Summary, summarise, to_table
from mtinet.imaging.masks import equivalent_diameter_mm
from mtinet.inference.lesions import measured_signal
from mtinet.model.build import build_discriminator
from mtinet.model.tdd import TaskDiscriminator
from mtinet.results import Finding
from mtinet.runs import Run
from mtinet.volume import Volume, read_nifti
from mtinet.workflows.claims import Claim, Claims, OutsideClaims
from mtinet.workflows.prepare import prepare
from mtinet.workflows.unseen import never_seen
from mtinet.workflows.varying import network_claims, refuse_unfit, with_a_phase
from mtinet.workflows.views import save_view

OnProgress = Callable[[int, int], None]

KEY_FIGURES = (
    ("Dice", "segmentation", "dice", ("network",)),
    ("sensitivity", "detection", "sensitivity", ("network",)),
    ("accuracy", "classification", "accuracy", ("network", *readouts.CLASSIFIERS, "majority")),
    ("enhancement error (raw)", "enhancement", "mae_raw", ("head", "read_out", "training_mean")),
    ("enhancement error (% of pre)", "enhancement", "mae_relative", ("head", "read_out", "training_mean")),
)
"""What is said first: title, and where it stands in the summary."""


@dataclass(frozen=True)
class Evaluation:
    """Tables and findings of an evaluation; ``folder`` holds them as files.

    ``study_s`` is the median time in seconds of a prepared study: finding its lesions and reading them, also
    under the reference mask.
    """

    folder: Path
    scored: Summary
    findings: tuple[Finding, ...]
    study_s: float

    @property
    def summary(self) -> dict[str, Any]:
        """The summary in JSON's types."""
        return self.scored.to_dict()

    @property
    def text(self) -> str:
        """The key figures in a few lines."""
        return key_figures(self.scored)


def evaluate(
    run_folder: Path,
    *,
    cohort: Path | None = None,
    predictions: Path | None = None,
    variation: ScoringVariation | None = None,
    others: Sequence[Path] = (),
    cache: Path | None = None,
    workers: int | None = None,
    on_progress: OnProgress | None = None,
) -> Evaluation:
    """Score a run and write tables, masks and views into its folder.

    Parameters
    ----------
    run_folder : Path
    cohort : Path, optional
        Another cohort to score on; by default the held-out studies of the run's own.
    predictions : Path, optional
        Masks and tables of another program, scored in the place of the run's network
        (:mod:`mtinet.workflows.claims`).
    variation : ScoringVariation, optional
        What is done to the studies before the network sees them (:mod:`mtinet.data.variation`), drawn from the
        run's seed, and who is asked.  The reference stays.  The tables go into a folder of their own, without
        masks and views.
    others : sequence of Path
        Runs that are asked too, as many as the variation wants.
    cache : Path, optional
        Where prepared studies are kept.
    workers : int, optional
        Processes that prepare; None = from the machine.
    on_progress : callable, optional
        Called as ``on_progress(done, total)``.

    Raises
    ------
    UserError
        There is nothing to score on, or a study's reference cannot be read.
    """
    run = Run.open(run_folder)
    config = run.config
    studies, names, relabelled = _studies_to_score(run, cohort)
    if predictions is not None:
        names = [*names, "-".join(predictions.resolve().parts[-2:])]
    variation = variation or ScoringVariation()
    refuse_unfit(variation, config, predictions)
    varied = variation != ScoringVariation()
    names = [*names, variation.name] if varied else names
    folder = run.predictions_on("-".join(names)) if names else run.predictions
    prepared, findings = prepare(studies, config, cache, workers)
    findings = [*findings, *relabelled]
    runs = [run, *map(Run.open, others)]
    for one_run in runs:
        prepared, trained_on = never_seen(one_run, studies, prepared)
        findings = [*findings, *trained_on]
    prepared, blind = with_a_phase(prepared, variation)
    findings = [*findings, *blind]
    if config.objective.segmentation == 0 and predictions is None:
        findings.append(_masks_not_learned())
    claims: Claims = (
        OutsideClaims(predictions, run.classes) if predictions else network_claims(runs, variation)
    )
    study_rows: list[dict[str, Any]] = []
    lesion_rows: list[dict[str, Any]] = []
    seconds: list[float] = []
    for done, one in enumerate(prepared, start=1):
        study = vary.scored(one, variation, config.training.seed)
        begun = time.perf_counter()
        claim = claims.claim(study)
        seconds.append(time.perf_counter() - begun)
        rows = _Rows(run, config, studies, study, claim)
        study_rows.append(rows.study())
        lesion_rows += rows.lesions()
        if not varied:
            mask = Volume(claim.mask, study.source_affine)
            mask.write_nifti(folder / "masks" / f"{study.study_id}.nii.gz")
            save_view(folder / "views" / f"{study.study_id}.npz", study, claim.labels)
        if on_progress is not None:
            on_progress(done, len(prepared))
    if not study_rows:
        raise UnusableError(
            f"none of the {len(studies)} studies can be scored: they could not be prepared (run mtinet "
            "check) or trained the model"
        )
    gains = {row["study_id"]: row["gain"] for row in study_rows}
    lesions = _lesion_table(lesion_rows, gains, config, run)
    if not claims.classifies:
        lesions = lesions.drop(columns="predicted_label")  # a column is an answer, and empty a wrong one
    study_s = statistics.median(seconds)
    return _finish(run, folder, studies, pd.DataFrame(study_rows), lesions, findings, study_s)


def key_figures(summary: Summary) -> str:
    """Dice, accuracy and enhancement error with their intervals, and the baselines beside them."""
    lines = []
    for title, task, metric, methods in KEY_FIGURES:
        parts = []
        for method in methods:
            row = summary.find(task, metric, method)
            if row is not None and math.isfinite(row.value):
                interval = f" [{row.low:.3g}, {row.high:.3g}]" if math.isfinite(row.low) else ""
                parts.append(f"{method} {row.value:.3g}{interval}")
        if parts:
            lines.append(f"{title}: {'; '.join(parts)}")
    counts = summary.counts.get("all", {})
    lines.append("studies: " + ", ".join(f"{n} {name}" for name, n in counts.items()))
    return "\n".join(lines)


# ---------------------------------------------------------------------- what is scored
def _studies_to_score(run: Run, cohort_folder: Path | None) -> tuple[Cohort, list[str], list[Finding]]:
    """The held-out studies, or another cohort with its name; and what changed of the studies that trained."""
    split = Split.from_dict(run.document("split"))
    cohort = Cohort.read(cohort_folder or Path(run.manifest["cohort_folder"]))
    if cohort.hash == split.cohort_hash:
        if not split.test:
            raise UnusableError(
                f"{run.path} trained on everybody (--all): there is no held-out study; give another --cohort"
            )
        return cohort.subset(list(split.test)), [], _relabelled(run, cohort)
    if cohort_folder is None:
        folder = run.manifest["cohort_folder"]
        raise UnusableError(
            f"cohort {cohort.name} is no longer as {run.path} was trained on it (hash {split.cohort_hash}, now "
            f"{cohort.hash}); restore its tables, or score all of it that did not train: "
            f"mtinet evaluate {shlex.quote(str(run.path))} --cohort {shlex.quote(folder)}"
        )
    return cohort, [cohort.name], []


def _relabelled(run: Run, cohort: Cohort) -> list[Finding]:
    """Training studies whose lesions had a class that they no longer have; the cohort's hash does not know of them."""
    learned: dict[str, Counter[str]] = defaultdict(Counter)
    for lesion in run.document("preparation")["lesions"]:
        if lesion["label"]:
            learned[lesion["study_id"]][lesion["label"]] += 1
    changed = []
    for study in cohort.studies:
        given = Counter(label for label in cohort.lesion_labels(study).values() if label)
        if given.total() < learned[study.study_id].total():
            given[study.label] += 1  # of the largest lesion, where it has no class of its own
        if learned[study.study_id] - given:
            changed.append(study.study_id)
    if not changed:
        return []
    return [
        Finding(
            "training-relabelled",
            "evaluate",
            "warning",
            f"lesions of {len(changed)} training studies had another class when the model learned them "
            f"({', '.join(changed[:5])}{', ...' if len(changed) > 5 else ''})",
            "Train again: the classes that are scored are the new ones, and model and read-outs learned the old ones.",
        )
    ]


# ---------------------------------------------------------------------- rows
class _Rows:
    """Rows of the studies' and lesions' tables (:mod:`mtinet.evaluation.tables`) for one study."""

    def __init__(self, run: Run, config: Config, cohort: Cohort, study: PreparedStudy, claim: Claim) -> None:
        self.config = config
        self.cohort = cohort
        self.prepared = study
        self.claim = claim
        self.classes = run.classes
        self.training_mean = run.document("preparation")["enhancement"]["phase_mean"]
        self.reference = reference_mask(cohort[study.study_id], study)
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
            "label": self.prepared.label if self.prepared.label in (*self.classes, NO_LESION) else "",
            "predicted_label": self.claim.label,
            "gain": self.prepared.gain,
            **asdict(scores),
            **asdict(count_lesions(self.matches)),
        }

    def lesions(self) -> list[dict[str, Any]]:
        """The rows of the lesions' table."""
        references = {m.reference: m.reference_voxels for m in self.matches if m.reference is not None}
        dominant = max(references, key=lambda n: (references[n], -n)) if references else None
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
    mask = read_nifti(study.mask, labels=True)
    if study.mask_phase and study.mask_phase != study.reference_phase:
        # it moves with the phase on which it was drawn
        motion = prepared.motion(study.mask_phase)
        mask = motion.labels(mask, prepared.source_shape, prepared.source_affine)
    return np.asarray(mask.array, dtype=np.int32)


# ---------------------------------------------------------------------- tables
def _lesion_table(
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
    if run.has_discriminator and f"predicted_{config.phases[0]}" in table:
        _add_discriminator_attention(table, gains, config, run)
    return table


def _add_discriminator_attention(
    table: pd.DataFrame, gains: Mapping[str, float], config: Config, run: Run
) -> None:
    discriminator: TaskDiscriminator = build_discriminator(config, len(run.classes))
    discriminator.load_state_dict(run.load_model("discriminator")[0])
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


def _finish(
    run: Run,
    folder: Path,
    cohort: Cohort,
    studies: pd.DataFrame,
    lesions: pd.DataFrame,
    findings: Sequence[Finding],
    study_s: float,
) -> Evaluation:
    config = run.config
    named = {s.label for s in cohort.studies} | {
        label for s in cohort.studies for label in cohort.lesion_labels(s).values()
    }
    unknown = sorted(named - {"", NO_LESION, *run.classes})
    if unknown:
        findings = [*findings, _unknown_classes(unknown)]
    summary = summarise(
        studies,
        lesions,
        config.phases,
        run.classes,
        config.evaluation,
        config.training.seed,
        fit_readouts(run),
    )
    found = [*findings, *run_findings(summary, lesions)]
    files.write_text(folder / "studies.csv", studies.to_csv(index=False))
    files.write_text(folder / "lesions.csv", lesions.to_csv(index=False))
    files.write_text(folder / "table.csv", to_table(summary).to_csv(index=False))
    files.write_json(folder / "summary.json", summary.to_dict())
    files.write_json(folder / "findings.json", [f.to_dict() for f in found])
    if folder == run.predictions:
        run.replace_findings("evaluate", [f for f in found if f.stage == "evaluate"])
    return Evaluation(folder, summary, tuple(found), study_s)


def fit_readouts(run: Run) -> readouts.Readouts | None:
    """The read-out baselines, fitted to a run's training lesions; None where none has a known class."""
    config = run.config
    training = pd.DataFrame(run.document("preparation")["lesions"])
    if not len(training) or not training["label"].isin(run.classes).any():
        return None
    columns = [f"true_{phase}" for phase in config.phases]
    training[columns] = training[columns].astype(float)
    return readouts.fit(training, config.phases, run.classes)


def _masks_not_learned() -> Finding:
    return Finding(
        "masks-not-learned",
        "evaluate",
        "warning",
        "the run learned no masks (objective.segmentation=0): what is scored under predicted masks means nothing",
        "Read the rows of the method oracle_mask, which is told the reference masks.",
    )


def _unknown_classes(names: Sequence[str]) -> Finding:
    return Finding(
        "class-not-learned",
        "evaluate",
        "warning",
        f"the cohort has classes that the model never learned: {', '.join(names)}",
        "Their lesions count for masks and enhancement, not for the class.",
    )
