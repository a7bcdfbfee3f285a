"""Who and what a cohort holds: the "Table 1" of a paper."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from mtinet.cohort import NO_LESION, Cohort, Study
from mtinet.config import Phase
from mtinet.reporting.texts import INDENT, Text
from mtinet.reporting.words import UNKNOWN, class_name, number, phase_name

MAX_SITES = 8
"""With more sites than this the table has no column a site."""

NOT_STATED = "not stated"


@dataclass(frozen=True)
class MeasuredLesion:
    """A reference lesion.

    Attributes
    ----------
    label : str
        Class; empty = unknown.
    diameter_mm : float
        Of the ball of the same volume.
    volume_ml : float
    """

    label: str
    diameter_mm: float
    volume_ml: float


@dataclass(frozen=True)
class Described:
    """A study with its reference lesions; None where it has no mask, or one that cannot be read."""

    study: Study
    lesions: tuple[MeasuredLesion, ...] | None


Cell = Callable[[Sequence[Described]], str]


def cohort_table(cohort: Cohort, described: Sequence[Described]) -> Text:
    """Patients, acquisition and lesions of a cohort, all together and by site.

    Parameters
    ----------
    cohort : Cohort
    described : sequence of Described
        Its studies.

    Returns
    -------
    Text
        A first column of names, one for all, one a site where there are 2 to :data:`MAX_SITES`.
    """
    sites = sorted({item.study.site for item in described})
    groups = [list(described)]
    heads = ["", "all"]
    if 2 <= len(sites) <= MAX_SITES:
        groups += [[item for item in described if item.study.site == site] for site in sites]
        heads += [f"site {site}" if site else "site not stated" for site in sites]
    rows = tuple((name, *(cell(group) for group in groups)) for name, cell in _lines(cohort, described))
    return Text(f"Cohort {cohort.name}: patients, acquisition and lesions", tuple(heads), rows)


def _lines(cohort: Cohort, described: Sequence[Described]) -> Iterable[tuple[str, Cell]]:
    yield "Patients", lambda group: str(len({item.study.patient_id for item in group}))
    yield "Studies", lambda group: str(len(group))
    yield "Sites", lambda group: str(len({item.study.site for item in group if item.study.site}))
    yield "Studies by class of the largest lesion", lambda _: ""
    for label in _labels(cohort, described):
        yield f"{INDENT}{class_name(label)}", _studies_with(label)
    yield "Field strength (T)", _counts(lambda study: _given(study, "field_T"))
    yield "Contrast agent", _counts(lambda study: study.agent or NOT_STATED)
    for name, unit, column in (
        ("Dose", "mmol/kg", "dose_mmol_kg"),
        ("Repetition time", "ms", "tr_ms"),
        ("Echo time", "ms", "te_ms"),
        ("Flip angle", "°", "flip_deg"),
    ):
        yield f"{name} ({unit}), median (range)", _spread(column)
    yield "Phase missing", lambda _: ""
    for phase in cohort.phases:
        yield f"{INDENT}{phase_name(phase)}", _missing(phase)
    yield "Time after injection (s), median (range)", lambda _: ""
    for phase in cohort.phases:
        if phase != "pre":
            yield f"{INDENT}{phase_name(phase)}", _times(phase)
    yield "Reference masks", _counts(_mask_source(cohort))
    yield (
        "Second reader's masks",
        lambda group: _share(sum(item.study.mask_2 is not None for item in group), len(group)),
    )
    yield "Reference lesions", lambda group: str(len(_lesions(group)))
    for label in _lesion_labels(described):
        yield f"{INDENT}{class_name(label)}", _lesions_with(label)
    yield "Lesions a study with any, median (range)", _lesions_a_study
    yield (
        "Lesion diameter (mm), median (IQR)",
        lambda group: _quartiles([lesion.diameter_mm for lesion in _lesions(group)], 0),
    )
    yield (
        "Lesion volume (mL), median (IQR)",
        lambda group: _quartiles([lesion.volume_ml for lesion in _lesions(group)], 1),
    )


# ---------------------------------------------------------------------- what is counted
def _labels(cohort: Cohort, described: Sequence[Described]) -> list[str]:
    present = {_label(item) for item in described}
    known = [label for label in (*cohort.classes, NO_LESION) if label in present]
    return [*known, *sorted(present - set(known))]


def _label(item: Described) -> str:
    """The study's label, else that of its largest lesion."""
    if item.study.label or not item.lesions:
        return item.study.label
    return max(item.lesions, key=lambda lesion: lesion.volume_ml).label


def _lesion_labels(described: Sequence[Described]) -> list[str]:
    present = {lesion.label for lesion in _lesions(described)}
    return sorted(present, key=lambda label: (not label, label))


def _lesions(group: Sequence[Described]) -> list[MeasuredLesion]:
    return [lesion for item in group for lesion in item.lesions or ()]


def _studies_with(label: str) -> Cell:
    return lambda group: _share(sum(_label(item) == label for item in group), len(group))


def _lesions_with(label: str) -> Cell:
    def cell(group: Sequence[Described]) -> str:
        lesions = _lesions(group)
        return _share(sum(lesion.label == label for lesion in lesions), len(lesions))

    return cell


def _missing(phase: Phase) -> Cell:
    return lambda group: _share(sum(phase not in item.study.images for item in group), len(group))


def _counts(value: Callable[[Study], str]) -> Cell:
    def cell(group: Sequence[Described]) -> str:
        counts = Counter(value(item.study) for item in group)
        order = sorted(counts, key=lambda name: (name == NOT_STATED, -counts[name], name))
        return "; ".join(f"{name}: {_share(counts[name], len(group))}" for name in order)

    return cell


def _given(study: Study, column: str) -> str:
    value = study.acquisition.get(column)
    return NOT_STATED if value is None else f"{value:g}"


def _mask_source(cohort: Cohort) -> Callable[[Study], str]:
    """Who drew a mask; one whose source is not given was drawn by a reader, or by the simulator."""
    names = {"": "simulator" if cohort.virtual else "reader", "box": "filled bounding box"}

    def source(study: Study) -> str:
        return "none" if study.mask is None else names.get(study.mask_source, study.mask_source)

    return source


def _spread(column: str) -> Cell:
    return lambda group: _range(
        [item.study.acquisition[column] for item in group if column in item.study.acquisition], len(group)
    )


def _times(phase: Phase) -> Cell:
    return lambda group: _range(
        [item.study.times_s[phase] for item in group if phase in item.study.times_s],
        sum(phase in item.study.images for item in group),
    )


def _lesions_a_study(group: Sequence[Described]) -> str:
    return _range([float(len(item.lesions)) for item in group if item.lesions], None)


# ---------------------------------------------------------------------- how it is written
def _share(count: int, total: int) -> str:
    return f"{count} ({100 * count / total:.0f} %)" if total else "0"


def _range(values: Sequence[float], expected: int | None) -> str:
    """Median and range, with the number that it is known for where some lack it."""
    if not values:
        return NOT_STATED if expected else UNKNOWN
    text = f"{np.median(values):.4g} ({min(values):.4g}–{max(values):.4g})"
    return text if expected is None or len(values) == expected else f"{text}, known for {len(values)}"


def _quartiles(values: Sequence[float], digits: int) -> str:
    if not values:
        return UNKNOWN
    low, middle, high = (number(float(q), digits) for q in np.percentile(values, (25, 50, 75)))
    return f"{middle} ({low}–{high})"


def cohort_facts(cohort: Cohort, described: Sequence[Described]) -> dict[str, str]:
    """What the checklists take from a cohort, by the names of their facts."""
    patients = len({item.study.patient_id for item in described})
    sites = len({item.study.site for item in described if item.study.site})
    size = f"{patients} patients, {len(described)} studies, {sites} sites"
    missing = {phase: sum(phase not in item.study.images for item in described) for phase in cohort.phases}
    fields = _counts(lambda study: _given(study, "field_T"))(described)
    agents = _counts(lambda study: study.agent or NOT_STATED)(described)
    facts = {
        "included": size,
        "characteristics": f"Table 1 ({size})",
        "acquisition": f"Field strength (T) {fields}; agent {agents}; phases "
        f"{', '.join(phase_name(phase) for phase in cohort.phases)}; Table 1 has doses, times and sequence",
        "missing_phases": ", ".join(f"{phase_name(p)} in {n}" for p, n in missing.items() if n)
        or "no phase is missing",
        "mask_source": f"Masks by: {_counts(_mask_source(cohort))(described)}",
        "licence": cohort.licence or NOT_STATED,
    }
    return facts | origin_facts(cohort.name, virtual=cohort.virtual)


def origin_facts(name: str, *, virtual: bool) -> dict[str, str]:
    """What the checklists take from where the patients of a cohort come from."""
    if not virtual:
        return {"data_source": f"Cohort {name}"}
    return {
        "data_source": f"Virtual patients simulated by mtinet (cohort {name})",
        "virtual": "No people: every patient was simulated",
        "reference_standard": "The simulator's own lesions, known exactly",
    }
