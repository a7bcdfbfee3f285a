"""The page of one study: flags, every lesion in pictures and numbers, method and limits, in one file."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtinet.data.prepared import PreparedStudy
from mtinet.dicom.codes import lesion_quantities, unit_of
from mtinet.inference.curves import NOT_ASSESSABLE
from mtinet.inference.predictor import StudyPrediction
from mtinet.reporting import slices
from mtinet.reporting.drawing import Picture, chart
from mtinet.reporting.kinetics import Curve, paint_kinetics
from mtinet.reporting.overview import grouped_findings
from mtinet.reporting.slices import Box, Polygon
from mtinet.reporting.templates import page_template
from mtinet.reporting.words import (
    UNKNOWN,
    class_name,
    count_of,
    diameter_of,
    moved_by,
    number,
    phase_name,
    plain_name,
    sentence,
    spoken,
)
from mtinet.results import RESEARCH_USE, UNNAMED, Lesion, Measurement, PhaseSource, Result

MAX_SHOWN = 12
"""Lesions with pictures and outlines; further ones stand in the table, so that noise makes no endless page."""

NAMES = {
    "signal": "Mean signal under the mask",
    "predicted_signal": "Mean signal, regressed",
    "arterial_hyperenhancement": "Arterial phase hyperenhancement",
    "rim_arterial_hyperenhancement": "Rim arterial phase hyperenhancement",
    "hyperenhancing_core": "Hyperenhancing share of the core",
    "hyperenhancing_shell": "Hyperenhancing share of the shell",
    "signal_to_liver": "Signal, liver around it = 100",
    "signal_to_aorta": "Signal, aorta = 100",
    "liver_to_lesion": "Signal of liver, lesion = 100",
    "capsule": "Enhancing rim (capsule)",
    "half_of_liver": "Half of the liver's extent",
    "third_of_liver": "Third of the liver's extent",
    "equivalent_diameter": "Diameter of the ball of the same volume",
    "longest_axial_diameter": "Longest axial diameter",
    "lesion_probability": "Probability that it is a lesion",
    "mask_confidence": "Mean lesion probability of its voxels",
    "volume_change": "Change of volume since the prior study",
    "diameter_change": "Change of the longest axial diameter since the prior study",
    "growth": "Growth since the prior study",
    "vanished_lesions": "Lesions of the prior study that were not found again",
    "wash_in_rate": "Wash-in rate",
    "wash_out_rate": "Wash-out rate",
}
"""Names of quantities where the technical name without underscores is not enough."""

DIGITS = {"lesions": 0, "vanished_lesions": 0, "volume_change": 1, "diameter_change": 1}
"""Decimals of quantities that three significant digits do not suit."""

UNIT_WORDS = {"[arb'U]": "a.u.", "1": "", "{ratio}": ""}


@dataclass(frozen=True)
class Outline:
    """An outline in one panel; ``x, y`` is where its number stands, mm."""

    number: int
    path: str
    x: float
    y: float
    main: bool


@dataclass(frozen=True)
class View:
    """One part of a slice in every phase: SVG coordinates are mm of the displayed slice.

    Attributes
    ----------
    title : str
    images : tuple of str
        ``data:`` address by phase, empty where the phase is missing.
    place : Box
        Where the images lie.
    frame : Box
        What is shown of them.
    outlines : tuple of Outline
    bar_mm : int
        Length of the scale bar.
    """

    title: str
    images: tuple[str, ...]
    place: Box
    frame: Box
    outlines: tuple[Outline, ...]
    bar_mm: int


def study_page(prediction: StudyPrediction, software: str, agent: str | None = "") -> str:
    """The page as HTML that needs no other file, no script and no network.

    Parameters
    ----------
    prediction : StudyPrediction
    software : str
        Version of mtinet and of the model.
    agent : str or None
        Contrast agent; empty = unknown, None = the page says nothing about it.
    """
    result, study = prediction.result, prediction.study
    shown = result.lesions[:MAX_SHOWN]
    drawn = slices.only(prediction.labels, [lesion.number for lesion in shown])
    content = {
        "result": result,
        "notice": RESEARCH_USE,
        "findings": grouped_findings(result.findings),
        "summary": [_summary(lesion) for lesion in result.lesions],
        "phases": [phase_name(phase) for phase in study.phases],
        "lesions": [_lesion(prediction, drawn, lesion) for lesion in shown],
        "left_out": len(result.lesions) - len(shown),
        "are_sure": any(one.certainty and one.certainty.existence is not None for one in result.lesions),
        "overview": [] if shown else [_middle_view(study)],
        "whole": _tables(result.measurements, study.phases),
        "images": _image_rows(study, result.sources),
        "agent": None if agent is None else agent or "unknown",
        "by_reader": result.outlined_by_reader,
        "facts": _facts(result, study, software),
        "classes": [class_name(name) for name in result.classes],
        "named": result.classes != UNNAMED,
        "regressed": all(lesion.enhancement for lesion in result.lesions),
        "coverage": _coverage(result.lesions),
        "count_of": count_of,
    }
    return page_template("study.html").render(content)


# ---------------------------------------------------------------------- lesions
def _summary(lesion: Lesion) -> dict[str, str]:
    sure = lesion.certainty.existence if lesion.certainty is not None else None
    doubt = f"{100 * sure:.0f} %" if sure is not None and sure < 0.5 else ""
    return {
        "number": str(lesion.number),
        "label": class_name(lesion.label),
        "probability": f"{100 * lesion.probabilities[lesion.label]:.0f} %",
        "diameter": _diameter(lesion),
        "size": diameter_of(lesion),
        "volume": f"{number(lesion.volume_mm3 / 1000)} mL",
        "sure": UNKNOWN if sure is None else f"{100 * sure:.0f} %",
        "doubt": doubt,
    }


def _diameter(lesion: Lesion) -> str:
    return UNKNOWN if lesion.longest_axial_mm is None else f"{number(lesion.longest_axial_mm, 0)} mm"


def _lesion(prediction: StudyPrediction, drawn: NDArray[Any], lesion: Lesion) -> dict[str, Any]:
    study, result = prediction.study, prediction.result
    quantities = lesion_quantities(lesion)
    return {
        **_summary(lesion),
        "views": _views(study, drawn, lesion.number),
        "kinetics": _kinetics(result, study, lesion),
        "probabilities": _probabilities(lesion),
        "has_set": lesion.certainty is not None and lesion.certainty.class_set is not None,
        "tables": _tables(quantities, study.phases),
    }


def _views(study: PreparedStudy, labels: NDArray[Any], lesion: int) -> list[View]:
    """The slice in which a lesion is largest, and the lesion enlarged."""
    areas = np.count_nonzero(labels == lesion, axis=(1, 2))
    k = int(areas.argmax())
    planes, present = np.asarray(study.image[:, k]), np.asarray(study.present)
    spacing = (study.spacing_mm[1], study.spacing_mm[2])
    levels = slices.window(planes, present)
    polygons = slices.numbered_outlines(labels[k], spacing)
    size = slices.size_mm(planes.shape[1:], spacing)
    outlines = tuple(_outline(n, found, n == lesion) for n, found in polygons.items() if found)
    whole = Box(0.0, 0.0, *size)
    body = slices.body_box(planes, present, spacing)
    title = f"slice {k + 1} of {study.shape[0]}"
    views = [View(title, _greys(planes, present, levels), whole, body, outlines, 50)]
    zoom = slices.zoom_box(polygons.get(lesion, []), size)
    if zoom is not None:
        cut, place = _cut(planes, zoom, spacing)
        views.append(View("enlarged", _greys(cut, present, levels), place, zoom, outlines, 10))
    return views


def _middle_view(study: PreparedStudy) -> View:
    """The middle slice of a study without lesion."""
    k = study.shape[0] // 2
    planes, present = np.asarray(study.image[:, k]), np.asarray(study.present)
    spacing = (study.spacing_mm[1], study.spacing_mm[2])
    whole = Box(0.0, 0.0, *slices.size_mm(planes.shape[1:], spacing))
    greys = _greys(planes, present, slices.window(planes, present))
    body = slices.body_box(planes, present, spacing)
    return View(f"middle slice, {k + 1} of {study.shape[0]}", greys, whole, body, (), 50)


def _outline(lesion: int, polygons: Sequence[Polygon], main: bool) -> Outline:
    x, y = max(polygons, key=len).max(0)
    return Outline(lesion, slices.path_data(polygons), float(x), float(y), main)


def _greys(planes: NDArray[Any], present: NDArray[Any], levels: tuple[float, float]) -> tuple[str, ...]:
    return tuple(slices.grey(plane, levels) if here else "" for plane, here in zip(planes, present))


def _cut(planes: NDArray[Any], box: Box, spacing: tuple[float, float]) -> tuple[NDArray[Any], Box]:
    """Whole pixels that cover a box of the displayed slice, and where they lie."""
    shown = slices.displayed(planes)
    rows, columns = shown.shape[-2:]
    top, left = int(box.top / spacing[0]), int(box.left / spacing[1])
    bottom = min(rows, math.ceil((box.top + box.height) / spacing[0]))
    right = min(columns, math.ceil((box.left + box.width) / spacing[1]))
    cut = slices.displayed(shown[..., top:bottom, left:right])
    place = Box(left * spacing[1], top * spacing[0], (right - left) * spacing[1], (bottom - top) * spacing[0])
    return cut, place


def _kinetics(result: Result, study: PreparedStudy, lesion: Lesion) -> Picture:
    interval = {} if lesion.certainty is None else lesion.certainty.enhancement_interval
    curves = [Curve("predicted", lesion.enhancement, interval), Curve("measured", lesion.measured)]
    for kind in ("liver", "aorta"):
        signal = {
            m.phase: m.value
            for m in result.measurements
            if m.name == f"{kind}_signal" and m.phase and m.value is not None
        }
        if signal:
            curves.append(Curve(kind, signal))
    # a network that learned no enhancement has measured alone
    kind, signals = ("regressed", lesion.enhancement) if lesion.enhancement else ("measured", lesion.measured)
    told = "; ".join(f"{phase_name(phase)} {number(value)}" for phase, value in signals.items())
    return chart(
        lambda axes: paint_kinetics(axes, study.phases, curves, study.times_s),
        f"Time-intensity curve of lesion {lesion.number}, {kind} signal: {told}",
        (4.9, 3.2),
    )


def _probabilities(lesion: Lesion) -> list[dict[str, Any]]:
    chosen = () if lesion.certainty is None else (lesion.certainty.class_set or ())
    ranked = sorted(lesion.probabilities.items(), key=lambda item: -item[1])
    return [
        {"name": class_name(name), "percent": 100.0 * value, "in_set": name in chosen}
        for name, value in ranked
    ]


def _coverage(lesions: Sequence[Lesion]) -> str:
    """Nominal coverage of sets and intervals; empty where there is none."""
    stated = [c.coverage for lesion in lesions if (c := lesion.certainty) and c.coverage is not None]
    return f"{100 * stated[0]:.0f} %" if stated else ""


# ---------------------------------------------------------------------- numbers
def _tables(measurements: Sequence[Measurement], phases: Sequence[str]) -> dict[str, Any]:
    """Measurements by phase and of no phase, and in a sentence each what could not be assessed for one reason.

    A quantity that could be assessed in one phase keeps its row, with the reason in the cells of the others.
    """
    told: dict[str, dict[str, Measurement]] = {}
    for item in measurements:
        told.setdefault(item.name, {})[item.phase if item.phase in phases else ""] = item
    reasons: dict[str, list[str]] = {}
    for name, items in told.items():
        why = {item.reason for item in items.values()}
        if len(why) == 1 and all(item.finding == NOT_ASSESSABLE for item in items.values()):
            reasons.setdefault(why.pop(), []).append(name)
    unknown = {name for names in reasons.values() for name in names}
    known = [item for item in measurements if item.name not in unknown]
    return {
        "by_phase": _by_phase(known, phases),
        "numbers": _plain_rows(known, phases),
        "unknown": [(spoken(why), [_name(name, "") for name in names]) for why, names in reasons.items()],
    }


def _by_phase(measurements: Sequence[Measurement], phases: Sequence[str]) -> list[dict[str, Any]]:
    """Quantities that belong to a phase: a row a quantity, a cell a phase."""
    rows: dict[str, dict[str, Measurement]] = {}
    for item in measurements:
        if item.phase in phases:
            rows.setdefault(item.name, {})[item.phase] = item
    ends = _interval_ends(rows)
    found = []
    for name, cells in rows.items():
        if name in ends:
            continue
        low, high = rows.get(f"{name}_low", {}), rows.get(f"{name}_high", {})
        texts = [_cell(cells.get(p), low.get(p), high.get(p)) for p in phases]
        found.append({"name": _name(name, _ucum(next(iter(cells.values())))), "cells": texts})
    return found


def _interval_ends(names: Iterable[str]) -> set[str]:
    """Names of the ends of another quantity's interval: they stand beside it."""
    return {f"{name}_{end}" for name in names for end in ("low", "high")}


def _cell(item: Measurement | None, low: Measurement | None, high: Measurement | None) -> tuple[str, str]:
    """What stands in a cell, and its interval or remark."""
    if item is None:
        return UNKNOWN, ""
    if low is not None and high is not None and low.value is not None and high.value is not None:
        return _value(item), f"{number(low.value)} to {number(high.value)}"
    return _value(item), spoken(item.reason)


def _plain_rows(measurements: Sequence[Measurement], phases: Sequence[str]) -> list[dict[str, str]]:
    """Quantities of no phase: name, value with unit, remark."""
    plain = {item.name: item for item in measurements if item.phase not in phases}
    ends = _interval_ends(plain)
    rows = []
    for name, item in plain.items():
        if name in ends:
            continue
        low, high = plain.get(f"{name}_low"), plain.get(f"{name}_high")
        remark = spoken(item.reason)
        if low is not None and high is not None and low.value is not None and high.value is not None:
            remark = f"{number(low.value)} to {number(high.value)} {_unit(_ucum(item))}".strip()
        value = f"{_value(item)} {_unit(_ucum(item)) if item.value is not None else ''}".strip()
        rows.append({"name": _name(name, ""), "value": value, "remark": remark})
    return rows


def _value(item: Measurement) -> str:
    if item.value is not None and math.isfinite(item.value):
        return number(item.value, DIGITS.get(item.name))
    return item.finding or UNKNOWN


def _name(name: str, unit: str) -> str:
    words = NAMES.get(name, sentence(plain_name(name)))
    return f"{words} ({_unit(unit)})" if _unit(unit) else words


def _ucum(item: Measurement) -> str:
    """Unit of a measurement; a signal is a plain number in arbitrary units."""
    return unit_of(item).value


def _unit(unit: str) -> str:
    return UNIT_WORDS.get(unit, unit)


# ---------------------------------------------------------------------- method
def _image_rows(study: PreparedStudy, sources: Mapping[str, PhaseSource]) -> list[dict[str, str]]:
    """Every phase: acquired or not, when, how it was brought to the others, and where it was taken from."""
    rows = []
    for phase, present, time_s in zip(study.phases, study.present, study.times_s):
        record: Mapping[str, Any] = study.registrations.get(phase, {})
        moved = "reference" if phase == study.reference_phase else "as positioned by the scanner"
        if record:
            moved = spoken(moved_by(record))
        source = sources.get(phase)
        rows.append(
            {
                "series": "" if source is None else source.name,
                "confidence": "" if source is None else f"{source.confidence:.2f}",
                "evidence": "" if source is None else "".join(source.evidence[:1]),
                "phase": phase_name(phase),
                "time": _time(phase, time_s),
                "moved": moved,
                "present": "yes" if present else "no",
            }
        )
    return rows


def _time(phase: str, time_s: float) -> str:
    if phase == "pre":
        return "before it"
    return f"{time_s:.0f} s" if math.isfinite(time_s) else "unknown"


def _facts(result: Result, study: PreparedStudy, software: str) -> list[tuple[str, str]]:
    grid = " × ".join(str(n) for n in reversed(study.shape))
    voxel = " × ".join(number(mm) for mm in reversed(study.spacing_mm))
    model = result.model
    return [
        ("Study", result.study_id),
        ("Software", f"mtinet {software}"),
        ("Network", f"{model.get('network', 'unknown')}, run {model.get('run') or 'unknown'}"),
        *_opinions(model),
        ("Images on one grid", f"{grid} voxels of {voxel} mm"),
        ("Reference phase", phase_name(result.reference_phase)),
        ("Liver mask", "given" if study.has_liver else "none: lesions are looked for everywhere"),
    ]


def _opinions(model: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Who was asked beside the one network, where somebody was."""
    runs, samples = len(model.get("ensemble") or ()), model.get("dropout_samples") or 0
    asked = [
        *([f"mean of {runs} runs, of which this is the first"] if runs > 1 else []),
        *(["the mirrored study as well"] if model.get("flips") else []),
        *([f"{count_of(samples, 'thinned network')} a run"] if samples else []),
    ]
    return [("Opinions", "; ".join(asked))] if asked else []
