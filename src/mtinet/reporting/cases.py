"""Studies worth a look: which ones, and what the page shows of each."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mtinet.cohort import NO_LESION
from mtinet.reporting import slices
from mtinet.reporting.drawing import Picture, chart
from mtinet.reporting.inputs import Evaluated, View
from mtinet.reporting.kinetics import Curve, paint_kinetics
from mtinet.reporting.slices import Box
from mtinet.reporting.words import class_name, count_of, number, phase_name

MAX_CASES = 4
SOURCES = ("true", "noise_free", "predicted", "measured")
"""Columns of the lesions' table that make a curve, and kinds of :class:`Curve`."""


@dataclass(frozen=True)
class Panel:
    """One phase of a slice; ``image`` is empty where the study lacks the phase."""

    caption: str
    image: str


@dataclass(frozen=True)
class SliceView:
    """A slice in every phase with its outlines; lengths in mm of the displayed slice.

    Attributes
    ----------
    panels : tuple of Panel
    width, height : float
        Of the whole slice.
    body, zoom : Box
        The parts that are shown; ``zoom`` is around the largest lesion, None where there is no outline.
    truth, predicted : str
        SVG path data, empty without lesion.
    """

    panels: tuple[Panel, ...]
    width: float
    height: float
    body: Box
    zoom: Box | None
    truth: str
    predicted: str


@dataclass(frozen=True)
class Probability:
    """A class with its probability, and whether it is the true one."""

    name: str
    percent: float
    is_true: bool


@dataclass(frozen=True)
class Case:
    """What the page shows of a study."""

    study_id: str
    reason: str
    facts: tuple[tuple[str, str], ...]
    view: SliceView | None
    kinetics: Picture | None
    probabilities: tuple[Probability, ...]


# ---------------------------------------------------------------------- which
def example_cases(evaluated: Evaluated) -> list[Case]:
    """The best study, the median one, and a typical one of each class."""
    studies = evaluated.studies
    scored = studies[(studies["outcome"] == "scored") & (studies["n_found"] > 0)]
    scored = scored.sort_values(["dice", "study_id"])
    if scored.empty:
        return []
    chosen = {str(scored.iloc[-1]["study_id"]): "Best Dice"}
    chosen.setdefault(str(scored.iloc[len(scored) // 2]["study_id"]), "Median Dice")
    for label in evaluated.classes:
        own = scored[(scored["label"] == label) & ~scored["study_id"].isin(list(chosen))]
        if len(own):
            chosen[str(own.iloc[len(own) // 2]["study_id"])] = f"Typical {class_name(label)}"
    return [describe(evaluated, study_id, reason) for study_id, reason in list(chosen.items())[:MAX_CASES]]


def worst_cases(evaluated: Evaluated) -> list[Case]:
    """Failures of each kind first, then the lowest Dice."""
    chosen: dict[str, str] = {}
    for study_id, reason in _failures(evaluated):
        if len(chosen) < MAX_CASES:
            chosen.setdefault(study_id, reason)
    return [describe(evaluated, study_id, reason) for study_id, reason in chosen.items()]


def _failures(evaluated: Evaluated) -> Iterator[tuple[str, str]]:
    studies = evaluated.studies
    missed = studies[studies["outcome"] == "missed"].sort_values("reference_volume_mm3", ascending=False)
    invented = studies[studies["outcome"] == "hallucinated"]
    invented = invented.sort_values("predicted_volume_mm3", ascending=False)
    wrong = _wrong_classes(evaluated)
    scored = studies[studies["outcome"] == "scored"].sort_values("dice")
    # the first of each kind, then more of the same kinds, then the merely poor masks
    kinds = [
        [(i, "Missed: no lesion was found") for i in missed["study_id"]],
        [(i, "Hallucinated: a lesion where there is none") for i in invented["study_id"]],
        [(i, "Wrong class, and the surest of it") for i in wrong["study_id"]],
        [(i, "Lowest Dice of the scored studies") for i in scored["study_id"][:1]],
    ]
    for place in range(MAX_CASES):
        yield from (kind[place] for kind in kinds if place < len(kind))
    yield from ((i, "Low Dice") for i in scored["study_id"])


def _wrong_classes(evaluated: Evaluated) -> pd.DataFrame:
    """Found dominant lesions whose class is wrong, the most confident first."""
    found = evaluated.found
    columns = [f"p_{name}" for name in evaluated.classes if f"p_{name}" in found]
    if "predicted_label" not in found or not columns:
        return found.iloc[:0]
    wrong = found[found["dominant"] & (found["label"] != "") & (found["predicted_label"] != found["label"])]
    return wrong.assign(sure=wrong[columns].max(axis=1)).sort_values("sure", ascending=False)


# ---------------------------------------------------------------------- what of it
def describe(evaluated: Evaluated, study_id: str, reason: str) -> Case:
    """Collect what the page shows of a study."""
    study = evaluated.studies[evaluated.studies["study_id"] == study_id].iloc[0]
    lesion = _main_lesion(evaluated.lesions, study_id)
    view = evaluated.view(study_id)
    return Case(
        study_id=study_id,
        reason=reason,
        facts=tuple(_facts(study, lesion)),
        view=None if view is None else slice_view(view, evaluated.phases),
        kinetics=None if lesion is None else _kinetics(evaluated, study_id, lesion, view),
        probabilities=() if lesion is None else _probabilities(lesion, evaluated.classes),
    )


def slice_view(view: View, phases: tuple[str, ...]) -> SliceView:
    """Images, outlines and frames of a stored slice."""
    levels = slices.window(view.images, view.present)
    spacing = (float(view.spacing_yx_mm[0]), float(view.spacing_yx_mm[1]))
    truth, predicted = (slices.outlines(labels, spacing) for labels in (view.truth, view.predicted))
    panels = []
    for phase, image, present, time_s in zip(phases, view.images, view.present, view.times_s):
        time = f", {time_s:.0f} s" if math.isfinite(time_s) and phase != "pre" else ""
        panels.append(Panel(phase_name(phase) + time, slices.grey(image, levels) if present else ""))
    width, height = slices.size_mm(view.images.shape[1:], spacing)
    return SliceView(
        panels=tuple(panels),
        width=width,
        height=height,
        body=slices.body_box(view.images, view.present, spacing),
        zoom=slices.zoom_box(truth or predicted, (width, height)),
        truth=slices.path_data(truth),
        predicted=slices.path_data(predicted),
    )


def _main_lesion(lesions: pd.DataFrame, study_id: str) -> pd.Series | None:
    """The dominant reference lesion of a study, or else its largest false positive."""
    own = lesions[lesions["study_id"] == study_id].sort_values("diameter_mm", ascending=False)
    reference = own[own["reference"].notna()]
    first = reference[reference["dominant"]] if reference["dominant"].any() else reference
    rows = first if len(first) else own
    return rows.iloc[0] if len(rows) else None


def _facts(study: pd.Series, lesion: pd.Series | None) -> Iterator[tuple[str, str]]:
    yield "class", _class_fact(study, lesion)
    if math.isfinite(float(study["dice"])):
        yield "Dice", number(float(study["dice"]), 2)
        yield "HD95", f"{number(float(study['hd95_mm']), 1)} mm"
    if lesion is not None:
        whose = "predicted diameter" if pd.isna(lesion["reference"]) else "diameter"
        yield whose, f"{number(float(lesion['diameter_mm']), 0)} mm"
    lesions = count_of(int(study["n_reference"]), "lesion")
    yield "found", f"{int(study['n_found'])} of {lesions}, {int(study['n_false_positive'])} false positive"
    if str(study["site"]):
        yield "site", str(study["site"])


def _class_fact(study: pd.Series, lesion: pd.Series | None) -> str:
    """True class and the one that is scored: that of the component that found the largest lesion."""
    if lesion is None or pd.isna(lesion["reference"]):
        truth, predicted = str(study["label"]), str(study.get("predicted_label", ""))
    else:
        truth, predicted = str(lesion["label"]), str(lesion.get("predicted_label", ""))
        if pd.isna(lesion["predicted"]):
            return f"{class_name(truth)} → not found ✗"
    said = class_name(predicted) if predicted else "no answer"
    return f"{class_name(truth)} → {said}" + (" ✗" if truth and predicted and truth != predicted else "")


def _kinetics(evaluated: Evaluated, study_id: str, lesion: pd.Series, view: View | None) -> Picture | None:
    curves = []
    for kind in SOURCES:
        signal = {p: float(lesion[f"{kind}_{p}"]) for p in evaluated.phases if f"{kind}_{p}" in lesion}
        if np.isfinite(list(signal.values())).any():
            curves.append(Curve(kind, signal))
    if not curves:
        return None
    times = None if view is None else [float(t) for t in view.times_s]
    return chart(
        lambda axes: paint_kinetics(axes, evaluated.phases, curves, times),
        f"Time-intensity curves of {study_id}: truth, regressed, measured",
        (4.7, 3.0),
    )


def _probabilities(lesion: pd.Series, classes: tuple[str, ...]) -> tuple[Probability, ...]:
    values = {name: float(lesion.get(f"p_{name}", math.nan)) for name in classes}
    if not np.isfinite(list(values.values())).all():
        return ()
    truth = str(lesion["label"])
    return tuple(
        Probability(class_name(name), 100.0 * p, name == truth and truth != NO_LESION)
        for name, p in sorted(values.items(), key=lambda item: -item[1])
    )
