"""Run folders with plausible tables, made without any network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mtinet import config as settings
from mtinet import files, provenance
from mtinet.config import Config
from mtinet.config.comparison import ComparisonSettings
from mtinet.evaluation import readouts
from mtinet.evaluation.compared import DEFAULT_ENDPOINTS
from mtinet.evaluation.comparison import compare
from mtinet.evaluation.pooling import RowRecords
from mtinet.evaluation.summary import summarise, to_table
from mtinet.reporting.experiment import ExperimentResults, write_results
from mtinet.reporting.texts import Text
from mtinet.results import Finding
from mtinet.runs import RUN_FORMAT, Run

TIMES_S = (np.nan, 22.0, 65.0, 180.0)
KINETICS = {"hemangioma": (0.55, 0.95, 1.25, 1.3), "hcc": (0.6, 1.45, 1.05, 0.85)}
OTHER = (0.58, 1.1, 1.1, 1.0)
SHAPE_YX, SPACING_YX_MM = (72, 92), (3.4, 3.8)


@dataclass
class RunMaker:
    """What a run folder shall hold; change the fields, then call :meth:`write`."""

    classes: Sequence[str] = ("hemangioma", "hcc")
    sites: Sequence[str] = ("A", "B")
    studies: int = 14
    healthy: int = 2
    prefix: str = "v"
    missed: int = 1
    hallucinated: int = 1
    wrong: int = 2
    times_s: Sequence[float] = TIMES_S
    virtual: bool = True
    views: bool = True
    adversarial: bool = True
    trained: bool = True
    findings: Sequence[Finding] = field(default_factory=list)
    config: Config = field(default_factory=settings.PRESETS["small"])

    def write(self, folder: Path) -> Run:
        config = self.config.model_copy(
            update={"evaluation": self.config.evaluation.model_copy(update={"bootstrap": 200})}
        )
        ids = [f"{self.prefix}{i:03d}" for i in range(self.studies)]
        manifest = provenance.manifest(
            format=RUN_FORMAT, id="0123456789ab", cohort="virtual", cohort_hash="cafe", seed=0, licence=""
        )
        split = {
            "train": [f"t{i}" for i in range(40)],
            "test": ids,
            "fold": 0,
            "folds": 3,
            "cohort_hash": "cafe",
        }
        run = Run.create(
            folder,
            config,
            {"manifest": manifest, "split": split, "classes": {"classes": list(self.classes), "codes": {}}},
        )
        run.add_findings(self.findings)
        for record in training_records(config.training.steps, self.adversarial) if self.trained else ():
            run.append_metrics(record)
        self._write_tables(run, ids)
        return run

    def _write_tables(self, run: Run, ids: Sequence[str]) -> None:
        rng = np.random.default_rng([3, len(ids)])
        studies, lesions = [], []
        for index, study_id in enumerate(ids):
            row, own = self._study(rng, index, study_id, list(run.config.phases))
            studies.append(row)
            lesions += own
            if self.views:
                write_view(run, rng, study_id, own, self.times_s)
        columns = ["study_id", "patient_id", "site", "reference", "predicted", "diameter_mm", "iou", "dice"]
        table = pd.DataFrame(
            lesions, columns=None if lesions else [*columns, "dominant", "label", "predicted_label"]
        )
        frame, config = pd.DataFrame(studies), run.config
        fitted = None
        if self.classes and len(table):
            fitted = readouts.fit(training_lesions(rng, self.classes), config.phases, self.classes)
        summary = summarise(frame, table, config.phases, self.classes, config.evaluation, 0, fitted)
        run.predictions.mkdir(exist_ok=True)
        frame.to_csv(run.predictions / "studies.csv", index=False)
        table.to_csv(run.predictions / "lesions.csv", index=False)
        to_table(summary).to_csv(run.predictions / "table.csv", index=False)

        files.write_json(run.predictions / "summary.json", summary.to_dict())

    def _study(
        self, rng: np.random.Generator, index: int, study_id: str, phases: list[str]
    ) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        sick = index < self.studies - self.healthy
        label = self.classes[index % len(self.classes)] if sick else "none"
        missed = sick and index < self.missed
        invented = not sick and index - (self.studies - self.healthy) < self.hallucinated
        identity = {
            "study_id": study_id,
            "patient_id": f"p{index}",
            "site": self.sites[index // 2 % len(self.sites)],
        }
        gain = (900.0, 300.0)[index // 2 % 2]
        lesions = []
        if sick or invented:
            wrong = self.missed <= index < self.missed + self.wrong
            kind = "missed" if missed else "found" if sick else "invented"
            lesions.append(identity | self._lesion(rng, kind, label, gain, wrong, phases))
        outcome = ("missed" if missed else "scored") if sick else ("hallucinated" if invented else "absent")
        dice = {
            "scored": lesions[0]["dice"] if lesions else 0.0,
            "missed": 0.0,
            "hallucinated": 0.0,
            "absent": np.nan,
        }
        first = lesions[0] if lesions else {}
        return {
            **identity,
            "label": label,
            "predicted_label": first.get("predicted_label") or "none",
            "gain": gain,
            "outcome": outcome,
            "dice": dice[outcome],
            "iou": dice[outcome] / (2 - dice[outcome]),
            "hd95_mm": {"scored": 30 * (1 - dice["scored"]), "absent": np.nan}.get(outcome, 420.0),
            "nsd": dice[outcome],
            "reference_volume_mm3": 9000.0 + index if sick else 0.0,
            "predicted_volume_mm3": 8000.0 if outcome in ("scored", "hallucinated") else 0.0,
            "n_reference": int(sick),
            "n_predicted": int(outcome in ("scored", "hallucinated")),
            "n_found": int(outcome == "scored"),
            "n_false_positive": int(invented),
        }, lesions

    def _lesion(
        self, rng: np.random.Generator, kind: str, label: str, gain: float, wrong: bool, phases: list[str]
    ) -> dict[str, Any]:
        truth = gain * np.array(KINETICS.get(label, OTHER)) * rng.normal(1, 0.08)
        found = kind == "found"
        iou = float(rng.uniform(0.35, 0.9)) if found else 0.0
        row: dict[str, Any] = {
            "reference": None if kind == "invented" else 1,
            "predicted": None if kind == "missed" else 1,
            "diameter_mm": float(rng.uniform(8, 45)),
            "iou": iou,
            "dice": 2 * iou / (1 + iou),
            "dominant": kind != "invented",
            "label": "" if kind == "invented" else label,
            "predicted_label": "",
        }

        def add(name: str, values: Any) -> None:
            row.update({f"{name}_{p}": float(v) for p, v in zip(phases, values)})

        if kind != "invented":
            add("true", truth)
            add("mean", gain * np.array(OTHER))
            add("oracle", truth * rng.normal(1, 0.05, 4))
            row["oracle_label"] = label
            if self.virtual:
                add("noise_free", truth * rng.normal(1, 0.02, 4))
        if kind != "missed":
            add("predicted", truth * rng.normal(1, 0.08, 4))
            add("measured", truth * rng.normal(1, 0.1, 4))
            others = [name for name in self.classes if name != label]
            guess = others[0] if wrong and others else label if label in self.classes else self.classes[0]
            sure = float(rng.uniform(0.6, 0.97)) if others else 1.0
            share = (1 - sure) / max(len(others), 1)
            row |= {f"p_{name}": sure if name == guess else share for name in self.classes}
            row["predicted_label"] = guess
            add("attention", rng.dirichlet((2, 8, 5, 6)))
            add("fusion", rng.uniform(0.35, 0.65, 4))
            if self.adversarial:
                add("tdd_attention", rng.dirichlet((5, 5, 5, 5)))
        return row


def training_records(steps: int, adversarial: bool) -> list[dict[str, float]]:
    rng = np.random.default_rng(1)
    records = []
    for step in range(10, steps + 1, 10):
        noise = rng.normal(0, 0.05, 8)
        fall = float(np.exp(-3 * step / steps))
        record = {
            "step": step,
            "learning_rate": 2e-3 * (1 - step / steps),
            "total": 1.5 * fall + 0.3 + noise[0],
            "segmentation": fall + 0.2 + noise[1],
            "regression": 0.5 * fall + 0.1 + noise[2],
            "classification": 0.7 * fall + 0.2 + noise[3],
            "gradient": 2 + noise[4],
        }
        if adversarial and step > 0.3 * steps:
            record |= {"tim": 0.1 + noise[5] / 4, "adversarial": 0.7 + noise[6]}
            record |= {"discriminator_accuracy": 0.7 + noise[7], "discriminator_gap": 0.4 + noise[0]}
        if step % 50 == 0:
            record |= {"cosine_segmentation_regression": 0.2 + noise[1], "fusion_spread": 0.08}
        if step % 250 == 0:
            record["held_out_dice"] = 0.8 - 0.6 * fall
        records.append(record)
    return records


def training_lesions(rng: np.random.Generator, classes: Sequence[str]) -> pd.DataFrame:
    rows = []
    for index in range(40):
        label = classes[index % len(classes)]
        signal = np.array(KINETICS.get(label, OTHER)) * rng.normal(1, 0.15, 4)
        names = ("pre", "arterial", "portal_venous", "delayed")
        rows.append(
            {"patient_id": f"t{index}", "label": label} | {f"true_{p}": s for p, s in zip(names, signal)}
        )
    return pd.DataFrame(rows)


def write_view(
    run: Run,
    rng: np.random.Generator,
    study_id: str,
    lesions: Sequence[dict[str, Any]],
    times_s: Sequence[float],
) -> None:
    """A body with a liver on the patient's right, and the lesion's two masks slightly apart."""
    y, x = np.meshgrid(*(np.arange(n) - n / 2 for n in SHAPE_YX), indexing="ij")
    y, x = y * SPACING_YX_MM[0], x * SPACING_YX_MM[1]
    body = (x / 160) ** 2 + (y / 112) ** 2 < 1
    liver = ((x - 60) / 78) ** 2 + ((y - 8) / 82) ** 2 < 1
    at = (rng.uniform(35, 85), rng.uniform(-25, 35))
    truth, predicted = np.zeros(SHAPE_YX, np.uint8), np.zeros(SHAPE_YX, np.uint8)
    for lesion in lesions:
        radius = lesion["diameter_mm"] / 2
        if lesion["reference"]:
            truth[np.hypot(x - at[0], y - at[1]) < radius] = 1
        if lesion["predicted"]:
            predicted[np.hypot(x - at[0] - 4, y - at[1] + 3) < 0.95 * radius] = 1
    images = []
    for phase, level in zip(run.config.phases, (0.6, 0.7, 1.1, 1.0)):
        signal = np.where(body, 0.5, 0.0)
        signal[liver] = level
        signal[truth > 0] = lesions[0].get(f"true_{phase}", 500.0) / 600.0 if lesions else 1.0
        images.append(np.abs(signal + 0.04 * rng.standard_normal(SHAPE_YX)))
    path = run.predictions / "views" / f"{study_id}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        path,
        images=np.stack(images).astype(np.float16),
        present=np.array([True, True, study_id[-1] != "3", True]),
        truth=truth,
        predicted=predicted,
        spacing_yx_mm=np.array(SPACING_YX_MM),
        times_s=np.array(times_s),
        slice=np.asarray(7),
    )


@pytest.fixture
def run_maker(monkeypatch: pytest.MonkeyPatch) -> RunMaker:
    """Small: five studies without views and training; charts are painted, but not rendered (it is slow)."""
    monkeypatch.setattr(
        "mtinet.reporting.drawing._svg", lambda figure: b"<svg xmlns='http://www.w3.org/2000/svg'/>"
    )
    return RunMaker(studies=5, views=False, trained=False)


@pytest.fixture(scope="session")
def full_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a run with everything in it; shared, because drawing it takes seconds."""
    from mtinet.reporting.page import write_report

    finding = Finding(
        "fusion-inert", "train", "warning", "weights hardly vary", "Lower mdief.tau.", step=500, value=0.01,
        threshold=0.02,
    )  # fmt: skip
    run = RunMaker(findings=[finding]).write(tmp_path_factory.mktemp("runs") / "full")
    return write_report(run)


# ---------------------------------------------------------------------- an experiment
@pytest.fixture(scope="session")
def experiment_rows(record_maker):
    make = record_maker(patients=36)
    poor = make.row(1, dice=-0.1, error=15.0, right=0.1)
    return (
        RowRecords("full", "MTI-Net", make.row(0, seeds=2), number=0.0, curve="with TIM"),
        RowRecords("poor", "<b>no & MdIEF</b>", poor, number=1.0, curve="with TIM"),
        RowRecords("unet", "BasicUNet", make.row(2, classes=False, course=False), cells=("a", "b", "c", "d")),
        RowRecords("late", "Not yet there", make.row(3, dice=0.3, converged=False)),
    )


@pytest.fixture(scope="session")
def experiment_comparison(experiment_rows):
    return compare(
        experiment_rows,
        "full",
        (*DEFAULT_ENDPOINTS, "volume_bias_ml"),
        ComparisonSettings(permutations=999, bootstrap=100),
    )


@pytest.fixture(scope="session")
def experiment_results(experiment_rows, experiment_comparison):
    table1 = Text("Cohort virtual", ("", "all"), (("Patients", "36"),))
    return ExperimentResults(
        "ablation", "What each part does", "Which part earns its place?",
        experiment_comparison, experiment_rows,
        axis="margin (voxels)", cohort_table=table1, cohort_facts={"virtual": "No people", "licence": "CC0"},
        manifest={"command": ["mtinet", "experiment", "ablation"], "created": "2026-01-01"},
    )  # fmt: skip


@pytest.fixture(scope="session")
def experiment_folder(experiment_results, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ablation")
    write_results(experiment_results, folder, latex=True)
    return folder
