"""Does attention follow what hiding a phase does?  Rank correlation within each study.

The records must hold scorings under which one phase at a time was hidden.  Attention is called an explanation
nowhere: this measures how far it would be one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mtinet.config.comparison import ComparisonSettings
from mtinet.config.variation import ScoringVariation
from mtinet.evaluation.paired import sign_flip_test
from mtinet.evaluation.pooling import RowRecords, block_of, scored_studies
from mtinet.evaluation.statistics import Estimate, FloatArray, PatientBootstrap
from mtinet.records import RunRecord, StudyScore

EFFECTS = ("class", "enhancement")
"""Drop of the true class's probability, and rise of the enhancement error in the phases that are shown."""

MIN_PHASES = 3
"""A rank correlation over fewer phases says nothing."""


@dataclass(frozen=True)
class Agreement:
    """Mean rank correlation (Spearman) of attention with the effect of hiding each phase.

    Attributes
    ----------
    effect : str
        One of :data:`EFFECTS`.
    group : {"all", "right", "wrong", "right - wrong"}
        Lesions by whether the whole study was classified rightly.
    estimate : Estimate
        Mean over patients with its 95 % interval.
    p : float
        Of no correlation (permutation of signs); NaN for the difference of the groups, which its interval
        judges.
    """

    effect: str
    group: str
    estimate: Estimate
    p: float


def correlations(row: RowRecords) -> pd.DataFrame:
    """One row a study, seed and effect: ``patient_id, seed, block, effect, rho, right``.

    Studies that were missed, with any phase or without one, have no attention or no effect and are left out.
    """
    lines = []
    for record in row.records:
        hidden = _hidden(record)
        if len(hidden) < MIN_PHASES:
            continue
        for score in scored_studies(row, record):
            # a study that has no other phase cannot be scored without this one
            own = {p: studies[score.study_id] for p, studies in hidden.items() if score.study_id in studies}
            known = bool(score.predicted_label) and score.label in record.classes
            for effect in EFFECTS:
                rho = _correlation(score, own, effect)
                if math.isfinite(rho):
                    lines.append(
                        {
                            "patient_id": score.patient_id,
                            "seed": record.seed,
                            "block": block_of(record),
                            "effect": effect,
                            "rho": rho,
                            "right": score.predicted_label == score.label if known else None,
                        }
                    )
    columns = ["patient_id", "seed", "block", "effect", "rho", "right"]
    return pd.DataFrame(lines, columns=columns)


def agreements(row: RowRecords, settings: ComparisonSettings | None = None) -> list[Agreement]:
    """How attention agrees with the effect of hiding phases; empty without the scorings that it needs."""
    settings = settings or ComparisonSettings()
    table = correlations(row)
    if table.empty:
        return []
    bootstrap = PatientBootstrap(table["patient_id"], settings.bootstrap, settings.seed)
    found = []
    for effect, own in table.groupby("effect", sort=False):
        groups = {"all": own, "right": own[own["right"].eq(True)], "wrong": own[own["right"].eq(False)]}
        for name, group in groups.items():
            means = group.groupby("patient_id")["rho"].mean()
            estimate = bootstrap.mean(means.index.to_numpy(), means.to_numpy())
            p = sign_flip_test(means.to_numpy(), settings.permutations, settings.seed)
            found.append(Agreement(str(effect), name, estimate, p))
        if len(groups["right"]) and len(groups["wrong"]):
            found.append(Agreement(str(effect), "right - wrong", _contrast(own, bootstrap), math.nan))
    return found


def _hidden(record: RunRecord) -> dict[str, Mapping[str, StudyScore]]:
    """Scores by study, by the one phase that was hidden."""
    phases = record.config.phases
    found: dict[str, Mapping[str, StudyScore]] = {}
    for phase in phases:
        kept = tuple(other for other in phases if other != phase)
        wanted = ScoringVariation(phases=kept)
        for scoring in record.scorings:
            if scoring.variation == wanted:
                found[phase] = {score.study_id: score for score in scoring.studies}
    return found


def _correlation(score: StudyScore, hidden: Mapping[str, StudyScore], effect: str) -> float:
    from scipy.stats import spearmanr

    pairs = [
        (score.attention[phase], change)
        for phase, without in hidden.items()
        if phase in score.attention and math.isfinite(change := _change(score, without, effect))
    ]
    attention, changes = np.array(pairs, dtype=np.float64).reshape(-1, 2).T
    if len(pairs) < MIN_PHASES or np.ptp(attention) == 0 or np.ptp(changes) == 0:
        return math.nan
    return float(spearmanr(attention, changes).statistic)


def _change(score: StudyScore, without: StudyScore, effect: str) -> float:
    if effect == "class":
        before, after = (own.probabilities.get(score.label, math.nan) for own in (score, without))
        return before - after
    # in the same phases: the hidden one's own error would come and go with it; ranks need no unit
    shown = [phase for phase in without.predicted if phase in score.predicted and phase in score.true]
    if not shown:
        return math.nan
    errors = [
        np.mean([abs(said[phase] - score.true[phase]) for phase in shown])
        for said in (without.predicted, score.predicted)
    ]
    return float(errors[0] - errors[1])


def _contrast(own: pd.DataFrame, bootstrap: PatientBootstrap) -> Estimate:
    """Mean correlation of right minus wrong lesions, on the same resamples of patients."""
    known = own[own["right"].notna()]
    rho, right = known["rho"].to_numpy(np.float64), known["right"].to_numpy(dtype=bool)

    def difference(weights: FloatArray) -> dict[str, FloatArray]:
        with np.errstate(divide="ignore", invalid="ignore"):
            means = [(weights[:, part] @ rho[part]) / weights[:, part].sum(-1) for part in (right, ~right)]
        return {"difference": means[0] - means[1]}

    return bootstrap.estimates(known["patient_id"].to_numpy(), difference)["difference"]
