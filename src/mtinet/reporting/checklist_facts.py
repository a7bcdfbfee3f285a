"""What the records of an experiment tell the reporting checklists."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mtinet.config import Config
from mtinet.evaluation.compared import Comparison
from mtinet.evaluation.pooling import RowRecords
from mtinet.records import RunRecord
from mtinet.reporting.experiment_tables import QUANTITIES
from mtinet.reporting.words import number


def experiment_facts(comparison: Comparison, rows: Sequence[RowRecords], question: str) -> dict[str, str]:
    """Facts by name, for :func:`mtinet.reporting.checklists.filled_checklists`.

    Parameters
    ----------
    comparison : Comparison
    rows : sequence of RowRecords
        Those that were compared.
    question : str
        What the experiment answers.
    """
    base = next(row for row in rows if row.name == comparison.reference)
    records = [record for row in rows for record in row.records]
    config, settings = base.records[0].config, comparison.settings
    return {
        "method": f"Deep learning: {_listed(record.config.model for record in records)}",
        "aims": question,
        "scored": f"{comparison.row(base.name).patients} patients scored by the reference row; the tables "
        "give the number behind every value",
        "preprocessing": _preprocessing(config),
        "subsets": f"Contrast phases {', '.join(config.phases)}; "
        + (
            "slices, a network in 2-D" if config.spatial_dims == 2 else "volumes in patches, a network in 3-D"
        ),
        "missing_data": "A missing phase never enters the network; a missing label leaves its loss term out; "
        "a number that is not defined is left out of the means, and counted",
        "partition": _partition(records),
        "disjoint": "Patients: all studies of one lie on one side",
        "model": f"{_listed(record.config.model for record in records)} of mtinet; the settings of every row "
        "are in its records",
        "software": _software(records),
        "initialisation": f"Random, without pre-training; seeds {_listed(str(r.seed) for r in records)}",
        "training": _training(config),
        "selection": "The last weights (moving average where training.ema is on); no checkpoint was chosen on "
        "the patients that it is scored on",
        "ensembling": _ensembling(rows),
        "metrics": ", ".join(QUANTITIES[endpoint.name].label for endpoint in comparison.endpoints),
        "statistics": f"Paired by patient: permutation of signs, McNemar, DeLong within folds; Holm at "
        f"{settings.level:g} over rows and endpoints; {settings.bootstrap} patient-level resamples",
        "detectable": _detectable(comparison),
        "interpretability": "Attention over phases is shown for right and wrong cases; it is not called an "
        "explanation",
        "limitations": " ".join(comparison.notes).rstrip("."),
        "internal": f"Out of fold on cohort {comparison.cohort} (hash {comparison.cohort_hash}): every patient "
        "scored was held out from the training that scores it",
        "performance": "Tables and forest plots of this experiment, with 95 % intervals",
        "availability": "mtinet, Apache-2.0; revision of the sources "
        f"{_listed(record.revision.sources[:12] for record in records)}; settings in every record",
        "imbalance": "Training draws every class equally often"
        if config.sampling.cases_per_class == "balanced"
        else "Training draws studies as they come",
        "output": "A lesion mask, the enhancement of each phase and a probability for each class; no threshold "
        "is set for use",
    }


def _preprocessing(config: Config) -> str:
    settings = config.preparation
    registration = "none" if settings.registration == "none" else f"{settings.registration} to the reference"
    spacing = " x ".join("own" if mm is None else f"{mm:g}" for mm in settings.spacing_mm)
    bias = "; N4 bias field, one for all phases" if settings.n4 else ""
    return (
        f"Registration of phases: {registration}; voxels {spacing} mm; one gain a study for all its phases "
        f"({settings.gain_percentile:g}th percentile of the body), no offset{bias}"
    )


def _partition(records: Sequence[RunRecord]) -> str:
    sites = sorted({r.learning.held_out_site for r in records if r.learning.held_out_site is not None})
    if sites:
        return f"One site held out after the other: {', '.join(sites)}"
    folds = sorted({record.fold for record in records})
    return (
        f"{records[0].folds} folds by patient, stratified by class; held out in turn: "
        f"{', '.join(map(str, folds))}"
    )


def _training(config: Config) -> str:
    training = config.training
    return (
        f"Of the reference: {training.steps} steps of {training.batch_size}, {training.optimizer}, learning rate "
        f"{training.learning_rate:g} ({training.schedule}), augmentation "
        f"{'on' if config.augmentation.enabled else 'off'}, loss weights {config.objective.weighting}"
    )


def _ensembling(rows: Sequence[RowRecords]) -> str:
    alone = "a patient is scored by the one model that did not see it"
    several = [row.title for row in rows if row.scoring.asks_several]
    if not several:
        return f"None: {alone}"
    return f"Of the rows {'; '.join(several)}, by models that did not see the patient; in the others {alone}"


def _software(records: Sequence[RunRecord]) -> str:
    return "; or ".join(dict.fromkeys(map(_versions, records)))


def _versions(record: RunRecord) -> str:
    python, versions = record.manifest.get("python"), record.revision.versions
    parts = [f"Python {python}"] if python else []
    return ", ".join([*parts, *(f"{name} {version}" for name, version in versions.items() if version)])


def _detectable(comparison: Comparison) -> str:
    parts = []
    for endpoint in comparison.endpoints:
        quantity = QUANTITIES[endpoint.name]
        values = [item.detectable for item in comparison.of(endpoint.name) if item.detectable > 0]
        if values and endpoint.family != "described":
            low, high = (number(quantity.factor * v, quantity.digits) for v in (min(values), max(values)))
            unit = f" {quantity.unit}" if quantity.unit else ""
            parts.append(f"{quantity.label} {low if low == high else f'{low} to {high}'}{unit}")
    if not parts:
        return ""
    return f"Detectable with {100 * comparison.settings.power:.0f} % power: {', '.join(parts)}"


def _listed(values: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(values))
