"""Measurements and signs on virtual patients whose truth is known: ``python benchmarks/lesion_signs.py``.

Patients of six classes and six sites, of seeds that nothing else uses, are prepared as ``mtinet predict``
does and measured under their true masks; with ``--model RUN`` patients of that model's two classes also under
the masks that it predicts.  Prints the tables; ``--docs docs`` also fills docs/measurements.md and writes
docs/results/lesion-signs.csv.  ``--seed`` other than the table's is for looking before a number is chosen.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from page import markdown, put_into
from scipy import ndimage, stats

from mtinet import files
from mtinet.cohort import Study
from mtinet.config import MeasurementSettings, SimulationSettings, resolve, resolve_simulation
from mtinet.data.preparation import prepare_study
from mtinet.imaging.masks import voxel_counts
from mtinet.inference.measure import measure
from mtinet.inference.observed import Observed
from mtinet.inference.predictor import Predictor
from mtinet.phantom.agents import phases_of
from mtinet.phantom.patient import VirtualLesion, VirtualPatient, simulate_patient
from mtinet.results import Measurement
from mtinet.volume import Volume
from mtinet.workflows.pool import for_each

SEED = 6100
"""The table's patients; every number was chosen on those of ``LOOKED_AT`` or before any."""

LOOKED_AT = 6000
PATIENTS = 72
"""A multiple of classes times sites, so that each combination comes equally often."""

MEDIAN_MM = 30.0
"""Median diameter of the largest lesions: smaller than the presets', so that small ones are there."""

AGENTS = ("gadobutrol", "gadoxetate")
FOUND_IOU = 0.1

HYPERVASCULAR = frozenset(
    (
        "hcc_small",
        "hcc_classic",
        "hcc_mosaic",
        "fnh_scar",
        "fnh_plain",
        "metastasis_hypervascular",
        "icc_hypervascular",
        "hemangioma_flash",
    )
)
"""Sub-forms that are bright in the arterial phase as a whole or, within, in part (docs/virtual-patients.md)."""

RIM = frozenset(("metastasis_rim", "icc_rim"))
"""Sub-forms with a rim that enhances early."""

NODULAR = frozenset(("hemangioma_typical", "hemangioma_sclerosed"))
"""Sub-forms that enhance from the periphery, in nodules and not as a rim."""


# ---------------------------------------------------------------------- truth
@dataclass(frozen=True)
class Truth:
    """Which signs a lesion has, known without measuring; None where the truth does not say.

    Attributes
    ----------
    by_form : dict
        From the simulated sub-form and its parts.
    by_signal : dict
        From noise-free means of the lesion, where it lies in each phase, and of the known liver tissue.
    """

    by_form: dict[str, bool | None]
    by_signal: dict[str, bool | None]


def truth_of(patient: VirtualPatient, lesion: VirtualLesion, settings: MeasurementSettings) -> Truth:
    """What is known of a lesion's signs."""
    form = lesion.subtype
    signal, liver = lesion.enhancement, liver_signal(patient, lesion.number)
    by_signal: dict[str, bool | None] = {}
    complete = {"pre", "arterial"} <= signal.keys()
    if complete:
        gains = signal["arterial"] - signal["pre"] > liver["arterial"] - liver["pre"]
        brighter = signal["arterial"] > liver["arterial"]
        # a mean tells nothing of a lesion that is bright in a part of it only
        whole = form not in RIM | NODULAR
        by_signal["arterial_hyperenhancement"] = bool(gains and brighter) if whole else None
    for phase, cutoff in cutoffs(patient, settings).items():
        if not complete or phase not in signal:
            continue
        enhances = signal["arterial"] > (1 + settings.arterial_enhancement_percent / 100) * signal["pre"]
        ratio, early = (100 * liver[p] / signal[p] for p in (phase, "arterial"))
        washes_out = enhances and ratio > early and ratio > cutoff
        # a cyst's mean rises by what blurs into it; that it enhances is not what its sub-form says
        by_signal[f"washout {phase}"] = bool(washes_out and form not in RIM and lesion.label != "cyst")
    by_form = {
        "arterial_hyperenhancement": form in HYPERVASCULAR,
        "rim_arterial_hyperenhancement": form in RIM,
        "capsule": "capsule_mm" in lesion.kinetics,
    }
    return Truth(by_form, by_signal)


def cutoffs(patient: VirtualPatient, settings: MeasurementSettings) -> dict[str, float]:
    """Cut-off of washout in the phases that can show it."""
    found = {"portal_venous": settings.washout_portal_venous}
    late_s = patient.times_s.get("delayed")
    if late_s is not None:
        late = late_s >= settings.delayed_from_s
        found["delayed"] = settings.washout_delayed if late else settings.washout_equilibrium
    return found


def liver_signal(patient: VirtualPatient, number: int) -> dict[str, float]:
    """Noise-free mean of the tissue that is liver, within 30 mm of a lesion, by phase.

    The tissue is known in the reference phase; voxels next to another tissue are left out, because breathing
    moves what lies there.
    """
    truth = patient.truth
    assert truth is not None
    (name,) = [n for n, tissue in truth.legend.items() if tissue == "liver"]
    spacing = truth.tissue.spacing_mm
    tissue = ndimage.binary_erosion(truth.tissue.array == name, iterations=1)
    apart = ndimage.distance_transform_edt(patient.mask.array != number, sampling=spacing)
    near = tissue & (apart <= 30.0)
    chosen = near if near.sum() >= 30 else tissue
    return {phase: float(image.array[chosen].mean()) for phase, image in truth.noise_free.items()}


# ---------------------------------------------------------------------- measuring
@cache
def loaded(model: Path) -> Predictor:
    """The model, loaded once a process."""
    return Predictor.load(model, "cpu")


def rows_of(
    settings: SimulationSettings, measurement: MeasurementSettings, model: Path | None, index: int
) -> list[dict[str, Any]]:
    """A patient's lesions, measured under the true mask or, with a model, under the predicted one."""
    patient = simulate_patient(settings, index)
    phases = phases_of(settings) if model is None else loaded(model).config.phases
    preparation = resolve("small").preparation if model is None else loaded(model).config.preparation
    with tempfile.TemporaryDirectory() as place:
        study = written(patient, settings, Path(place))
        prepared = prepare_study(study, phases, preparation, Path(place) / "cache")
        true_mask = np.asarray(prepared.mask)
        begin = time.perf_counter()
        of_truth = measure(Observed.of(prepared, true_mask, settings.agent), patient.mask, measurement)
        seconds = time.perf_counter() - begin
        taken: Mapping[int, Sequence[Measurement]] = of_truth.lesions
        if model is not None:
            found = loaded(model).predict_prepared(prepared, settings.agent).result
            assert found.mask is not None
            pairs = matched(patient.mask, found.mask)
            by_number = {lesion.number: lesion.measurements for lesion in found.lesions}
            taken = {number: by_number[other] for number, other in pairs.items() if other in by_number}
    return [
        {
            "agent": settings.agent,
            "masks": "true" if model is None else "predicted",
            "study": patient.study_id,
            "lesion": lesion.number,
            "label": lesion.label,
            "subtype": lesion.subtype,
            "diameter_mm": lesion.diameter_mm,
            "found": lesion.number in taken,
            "aorta": any(m.name == "aorta_signal" and m.value is not None for m in of_truth.study),
            "seconds": seconds,
            **compared(lesion, of_truth.lesions.get(lesion.number, ()), taken.get(lesion.number, ())),
            **truths(truth_of(patient, lesion, measurement)),
        }
        for lesion in patient.lesions
    ]


def written(patient: VirtualPatient, settings: SimulationSettings, folder: Path) -> Study:
    """The patient as files."""
    volumes = {**patient.images, "mask": patient.mask, "liver_mask": patient.liver}
    for name, volume in volumes.items():
        volume.write_nifti(folder / f"{name}.nii.gz")
    study = Study.from_folder(folder)
    return replace(study, study_id=patient.study_id, times_s=patient.times_s, agent=settings.agent)


def matched(true: Volume, found: Volume) -> dict[int, int]:
    """Found lesion by true one: that of the largest overlap, from an IoU of 0.1 on."""
    pairs = {}
    for number in voxel_counts(true.array):
        there = true.array == number
        shared = voxel_counts(np.where(there, found.array, 0))
        best = max(shared, key=lambda n: shared[n], default=0)
        if best and shared[best] / np.count_nonzero(there | (found.array == best)) >= FOUND_IOU:
            pairs[number] = best
    return pairs


def compared(
    lesion: VirtualLesion,
    under_truth: Sequence[Measurement],
    taken: Sequence[Measurement],
) -> dict[str, Any]:
    """Signs as they were found, and errors of the numbers."""
    row: dict[str, Any] = {
        f"{m.name} {m.phase}".strip(): m.finding for m in taken if m.name in (*SIGNS, "washout")
    }
    # one sign whatever the phase
    for name in SIGNS:
        row[name] = next((m.finding for m in taken if m.name == name), None)
    numbers = {(m.name, m.phase): m.value for m in taken if m.value is not None}
    of_truth = {(m.name, m.phase): m.value for m in under_truth if m.value is not None}
    volume_ml = np.pi / 6 * lesion.diameter_mm**3 / 1000.0
    if ("volume", "") in numbers:
        row["volume error %"] = 100 * (numbers["volume", ""] / volume_ml - 1)
        row["diameter error mm"] = (
            numbers["longest_axial_diameter", ""] - of_truth["longest_axial_diameter", ""]
        )
    before = lesion.enhancement.get("pre", 0.0)
    for phase, signal in lesion.enhancement.items():
        measured = numbers.get(("relative_enhancement", phase))
        if measured is not None and before > 0:
            row[f"enhancement error {phase}"] = measured - 100 * (signal / before - 1)
    return row


def truths(truth: Truth) -> dict[str, bool | None]:
    """The truth as columns."""
    return {
        **{f"form: {name}": value for name, value in truth.by_form.items()},
        **{f"signal: {name}": value for name, value in truth.by_signal.items()},
    }


SIGNS = ("arterial_hyperenhancement", "rim_arterial_hyperenhancement", "capsule")


# ---------------------------------------------------------------------- tables
QUESTIONS = (
    ("arterial_hyperenhancement", "form", "sub-form", False),
    ("arterial_hyperenhancement", "signal", "noise-free mean", False),
    ("rim_arterial_hyperenhancement", "form", "sub-form", False),
    ("washout portal_venous", "signal", "noise-free mean", False),
    ("washout portal_venous", "signal", "noise-free mean; hypervascular sub-forms alone", True),
    ("washout delayed", "signal", "noise-free mean", False),
    ("washout delayed", "signal", "noise-free mean; hypervascular sub-forms alone", True),
    ("capsule", "form", "a capsule was simulated", False),
)
"""Signs, the truth that each is held against, and whether among hypervascular sub-forms alone."""


def sign_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Sensitivity and specificity of every sign under every kind of mask, with the failures."""
    found = []
    for (masks, agent), part in rows.groupby(["masks", "agent"], sort=False):
        for name, source, meant, hypervascular in QUESTIONS:
            if name not in part or f"{source}: {name}" not in part:
                continue
            known = part[part[f"{source}: {name}"].notna()]
            known = known[known["subtype"].isin(HYPERVASCULAR)] if hypervascular else known
            truth = known[f"{source}: {name}"].astype(bool)
            assessed = known[name].isin(["present", "absent"])
            if not assessed.any():
                continue
            present = known[name] == "present"
            found.append(
                {
                    "masks": masks,
                    "agent": agent,
                    "sign": name,
                    "truth": meant,
                    "sensitivity": rate(present[truth & assessed]),
                    "specificity": rate(~present[~truth & assessed]),
                    "not assessable": int((known[name] == "not assessable").sum()),
                    "not found": int((~known["found"]).sum()),
                    "missed": failures(known["subtype"][truth & assessed & ~present]),
                    "false": failures(known["subtype"][~truth & assessed & present]),
                }
            )
    return pd.DataFrame(found)


def rate(right: pd.Series[bool]) -> str:
    """A share with its Wilson interval and count."""
    if right.empty:
        return "none"
    ends = stats.binomtest(int(right.sum()), len(right)).proportion_ci(method="wilson")
    return f"{right.mean():.2f} [{ends.low:.2f}, {ends.high:.2f}] of {len(right)}"


def failures(forms: pd.Series[str], most: int = 4) -> str:
    """The commonest sub-forms among failures."""
    counts = forms.value_counts()
    return ", ".join(f"{name} {count}" for name, count in counts.head(most).items())


def error_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Medians and quartiles of the errors of numbers."""
    found = []
    columns = [c for c in rows if " error" in str(c)]
    for (masks, agent), part in rows.groupby(["masks", "agent"], sort=False):
        for column in columns:
            errors = part[column].dropna()
            if errors.empty or (masks == "true" and column == "diameter error mm"):
                continue
            low, middle, high = np.percentile(errors, (25, 50, 75))
            found.append(
                {
                    "masks": masks,
                    "agent": agent,
                    "quantity": column,
                    "median error": float(middle),
                    "quartiles": f"{low:.3g} to {high:.3g}",
                    "median absolute error": float(errors.abs().median()),
                    "lesions": len(errors),
                }
            )
    return pd.DataFrame(found)


def page_text(rows: pd.DataFrame) -> str:
    """Both tables as they stand in the page."""
    tables = [
        markdown(list(table.columns), table.astype(object).to_numpy().tolist())
        for table in (sign_table(rows), error_table(rows))
    ]
    studies = rows.drop_duplicates(["masks", "agent", "study"])
    found = studies["aorta"]
    tables.append(
        f"The aorta was found in {found.sum()} of {len(studies)} studies. Measuring a study under true masks "
        f"took {1000 * studies['seconds'].median():.0f} ms (median; all lesions, liver and aorta)."
    )
    return "\n\n".join(tables)


# ---------------------------------------------------------------------- command
def simulation_of(agent: str, seed: int, patients: int, model: bool) -> SimulationSettings:
    """The patients of a part of the table; a model meets the classes and sites that it knows."""
    chosen = {
        "agent": agent,
        "seed": seed,
        "subjects": patients,
        "truth": True,
        "no_lesion_fraction": 0.0,
        "missing_phase_rate": 0.0,
        "median_diameter_mm": MEDIAN_MM,
    }
    return resolve_simulation("demo" if model else "multicentre").model_copy(update=chosen)


def main() -> None:
    """Simulate, measure, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patients", type=int, default=PATIENTS, help="for each agent, and for the model")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--model", type=Path, help="run folder: signs under its masks as well")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="measurement.*")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument(
        "--docs", type=Path, help="folder to write results/lesion-signs.csv into, and its page's table"
    )
    options = parser.parse_args()
    measurement = resolve("small", None, options.set).measurement
    rows: list[dict[str, Any]] = []
    parts: list[tuple[str, Path | None]] = [(agent, None) for agent in AGENTS]
    parts += [(AGENTS[0], options.model)] if options.model else []
    for agent, model in parts:
        settings = simulation_of(agent, options.seed, options.patients, model is not None)
        work = partial(rows_of, settings, measurement, model)
        rows += [row for study in for_each(work, range(options.patients), options.workers) for row in study]
    table = pd.DataFrame(rows)
    text = page_text(table)
    print(text)
    if options.docs is not None:
        files.write_text(
            options.docs / "results" / "lesion-signs.csv", table.drop(columns="seconds").to_csv(index=False)
        )
        put_into(options.docs / "measurements.md", "signs", text)


if __name__ == "__main__":
    main()
