"""The two tables that evaluation reads: one row a study, one row a lesion.

``studies``: ``study_id, patient_id, site, label, predicted_label, gain``, the fields of
:class:`~mtinet.evaluation.metrics.MaskScores` and of :class:`~mtinet.evaluation.detection.LesionCounts`; where
studies have a second reader's mask, ``second_dice, second_iou, second_nsd, second_hd95_mm``.

``lesions``: one row a reference lesion and one a false-positive component: ``study_id, patient_id, site,
reference, predicted`` (numbers, empty = none), ``diameter_mm, iou, dice, dominant`` (the largest reference
lesion of its study), ``label`` (empty = unknown), ``predicted_label``, ``p_<class>``, ``oracle_label``, and
by phase, in raw signal units, empty where absent: ``true_<phase>`` (observed truth), ``predicted_<phase>``
(the head), ``measured_<phase>`` (mean signal under the predicted component), ``mean_<phase>`` (the training
mean), ``oracle_<phase>`` (the head under the reference mask), ``noise_free_<phase>`` (virtual patients).
A method whose columns are not in the table is not scored.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mtinet.errors import UserError
from mtinet.evaluation.detection import LesionCounts
from mtinet.evaluation.metrics import OUTCOMES, OVERLAPS, MaskScores

TEXT_COLUMNS = ("study_id", "patient_id", "site", "label", "predicted_label", "oracle_label", "outcome")
STUDY_COLUMNS = (
    "study_id",
    "patient_id",
    "site",
    *(field.name for field in fields(MaskScores)),
    *(field.name for field in fields(LesionCounts)),
)
LESION_COLUMNS = (
    "study_id",
    "patient_id",
    "site",
    "reference",
    "predicted",
    "diameter_mm",
    "dominant",
    "label",
)
SOURCES = ("true", "predicted", "measured", "mean", "oracle", "noise_free")
PROBABILITY_TOLERANCE = 1e-3


def read_table(path: Path) -> pd.DataFrame:
    """A studies' or lesions' table from CSV; ids, sites and classes stay text (``007``, ``NA``)."""
    try:
        text = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as a table ({error}); write it as CSV in UTF-8") from error
    for name in text.columns.difference(list(TEXT_COLUMNS)):
        text[name] = _parsed(text[name])
    return text


def check_tables(
    studies: pd.DataFrame, lesions: pd.DataFrame, phases: Sequence[str], classes: Sequence[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The two tables with their types set; every fault is listed at once.

    Parameters
    ----------
    studies, lesions : DataFrame
        See the module.
    phases, classes : sequence of str

    Raises
    ------
    UserError
        Columns are missing, ids do not fit, or values are not valid.
    """
    faults = [f"studies lack the column {c}" for c in STUDY_COLUMNS if c not in studies]
    faults += [f"lesions lack the column {c}" for c in LESION_COLUMNS if c not in lesions]
    if faults:
        raise UserError("tables cannot be scored: " + "; ".join(faults))
    signals = {f"{source}_{phase}" for source in SOURCES for phase in phases}
    numbers = {*signals, *(f"p_{label}" for label in classes), *STUDY_COLUMNS, *LESION_COLUMNS, "gain"}
    numbers |= {f"second_{name}" for name in OVERLAPS}
    numbers -= {*TEXT_COLUMNS, "dominant"}
    studies, study_faults = _typed("studies", studies, numbers)
    lesions, lesion_faults = _typed("lesions", lesions, numbers)
    if study_faults or lesion_faults:
        raise UserError("tables cannot be scored: " + "; ".join([*study_faults, *lesion_faults]))
    faults = [*_study_faults(studies), *_lesion_faults(studies, lesions, classes)]
    if faults:
        raise UserError("tables cannot be scored: " + "; ".join(faults))
    return studies, lesions


def is_found(lesions: pd.DataFrame) -> pd.Series[bool]:
    """Whether each row is a reference lesion with a predicted component."""
    return lesions["reference"].notna() & lesions["predicted"].notna()


def dominant_lesions(lesions: pd.DataFrame) -> pd.DataFrame:
    """The largest reference lesion of each study, found or not."""
    return lesions[lesions["reference"].notna() & lesions["dominant"]].reset_index(drop=True)


def _parsed(column: pd.Series[str]) -> pd.Series[Any]:
    """Truth values or numbers (empty = NaN) where every value is one; the text itself otherwise."""
    lowered = column.str.lower()
    if lowered.isin(["true", "false"]).any() and lowered.isin(["true", "false", ""]).all():
        return lowered == "true"
    numbers = pd.to_numeric(column, errors="coerce")
    return column if (numbers.isna() & ~lowered.isin(["", "nan"])).any() else numbers


def _typed(kind: str, table: pd.DataFrame, numbers: set[str]) -> tuple[pd.DataFrame, list[str]]:
    """The table with text as text and ``numbers`` as float64; and the columns that hold something else."""
    table, faults = table.reset_index(drop=True).copy(), []
    for name in table.columns.intersection(list(TEXT_COLUMNS)):
        table[name] = table[name].astype(object).where(table[name].notna(), "").astype(str).astype(object)
    for name in table.columns.intersection(sorted(numbers)):
        values = pd.to_numeric(table[name], errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
        if (np.isnan(values) & table[name].notna().to_numpy()).any():
            faults.append(
                f"{kind} hold text in the column {name}; write numbers, and leave unknown ones empty"
            )
        table[name] = values
    if "dominant" in table:
        odd = table["dominant"][table["dominant"].notna() & ~table["dominant"].isin([True, False])].unique()
        if len(odd):
            faults.append(f"{kind} hold {_some(odd)} in the column dominant; write True or False")
        table["dominant"] = table["dominant"].eq(True)
    return table, faults


def _study_faults(studies: pd.DataFrame) -> Iterator[str]:
    if studies.empty:
        yield "there is no study; score at least one"
    twice = studies.loc[studies["study_id"].duplicated(), "study_id"].unique()
    if len(twice):
        yield f"studies {_some(twice)} have more than one row; keep one"
    odd = studies.loc[~studies["outcome"].isin(OUTCOMES), "outcome"].unique()
    if len(odd):
        yield f"outcome {_some(odd)} is not valid; use {', '.join(OUTCOMES)}"


def _lesion_faults(studies: pd.DataFrame, lesions: pd.DataFrame, classes: Sequence[str]) -> Iterator[str]:
    lost = lesions.loc[~lesions["study_id"].isin(studies["study_id"]), "study_id"].unique()
    if len(lost):
        yield f"lesions of the studies {_some(lost)} have no row among the studies; add it"
    for name in ("patient_id", "site"):
        theirs = lesions["study_id"].map(studies.drop_duplicates("study_id").set_index("study_id")[name])
        differ = lesions.loc[theirs.notna() & (theirs != lesions[name]), "study_id"].unique()
        if len(differ):
            yield f"lesions of {_some(differ)} have another {name} than their study; give them the same"
    known = ["", *classes]
    odd = lesions.loc[lesions["reference"].notna() & ~lesions["label"].isin(known), "label"].unique()
    if len(odd):
        yield f"label {_some(odd)} is not a class ({', '.join(classes)}); correct it, or leave it empty"
    largest = dominant_lesions(lesions)["study_id"]
    if largest.duplicated().any():
        twice = largest[largest.duplicated()].unique()
        yield f"studies {_some(twice)} have more than one dominant lesion; mark the largest only"
    columns = [f"p_{label}" for label in classes]
    if set(columns) <= set(lesions.columns):
        # a found lesion without any was given no class
        total = lesions.loc[is_found(lesions), columns].sum(axis=1, min_count=1)
        wrong = lesions.loc[total.index[(total - 1.0).abs() > PROBABILITY_TOLERANCE], "study_id"].unique()
        if len(wrong):
            yield f"the class probabilities of {_some(wrong)} do not sum to 1; give one a class, softmaxed"


def _some(names: Iterable[Any]) -> str:
    names = [str(name) for name in names]
    shown = ", ".join(names[:5])
    return shown + (f" and {len(names) - 5} more" if len(names) > 5 else "")
