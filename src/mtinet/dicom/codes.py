"""Codes of what a result says: one table from mtinet's own names to concepts of SNOMED CT, DICOM and UCUM.

What no public dictionary names has a concept of the private scheme ``99MTINET``, whose meaning says in words
what it is; a reader that does not know the code still shows the words.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from mtinet.cohort.tables import SNOMED_CT
from mtinet.results import Lesion, Measurement

if TYPE_CHECKING:
    from highdicom.sr import CodedConcept

PRIVATE = "99MTINET"
"""Coding scheme designator of mtinet's own concepts."""

_LONGEST_MEANING = 64
"""Characters of a code meaning (value representation LO)."""


class Concept(NamedTuple):
    """A coded concept: its value, the scheme that defines it, and its meaning in words."""

    value: str
    scheme: str
    meaning: str

    @property
    def coded(self) -> CodedConcept:
        """The concept as highdicom takes it."""
        from highdicom.sr import CodedConcept

        # a backslash would part a value in two
        value, meaning = (" ".join(text.replace("\\", "/").split()) for text in (self.value, self.meaning))
        return CodedConcept(value, self.scheme, meaning[:_LONGEST_MEANING].strip())


def private(value: str, meaning: str) -> Concept:
    """A concept of mtinet's own scheme."""
    return Concept(value, PRIVATE, meaning)


LIVER = Concept("10200004", "SCT", "Liver")
LESION = Concept("52988006", "SCT", "Lesion")
ABNORMAL = Concept("49755003", "SCT", "Morphologically Abnormal Structure")
MRI = Concept("113091000", "SCT", "Magnetic resonance imaging")
ENGLISH = Concept("en-US", "RFC5646", "English (United States)")
FINDING = Concept("121071", "DCM", "Finding")
PRESENT = Concept("52101004", "SCT", "Present")
ABSENT = Concept("272519000", "SCT", "Absent")
NOT_ASSESSABLE = Concept("373068000", "SCT", "Undetermined")
PREDICTED_CLASS = private("predicted-class", "Predicted class of the lesion")
CLASS_SET = private("class-set", "Class in the conformal set")
FLAG = private("flag", "Flag of the software")
USE = private("use", "Permitted use")
RESEARCH = private("research-use-only", "Research use only. Not a medical device; not for diagnosis.")
SEARCH = private("search", "Outcome of the search for lesions")
NO_LESION = private("no-lesion", "No lesion found by the software")
NO_LESION_OF_READER = private("no-lesion-of-reader", "No lesion in the reader's mask that could be measured")

MEASUREMENTS: Mapping[str, tuple[Concept, str]] = {
    # name: concept, UCUM unit ("" for a sign or a kind)
    "volume": (Concept("118565006", "SCT", "Volume"), "mL"),
    "longest_axial_diameter": (Concept("103339001", "SCT", "Long Axis"), "mm"),
    "equivalent_diameter": (
        private("equivalent-diameter", "Diameter of the ball of the same volume"),
        "mm",
    ),
    "lesion_probability": (Concept("111012", "DCM", "Certainty of Finding"), "%"),
    "mask_confidence": (private("mask-confidence", "Mean lesion probability of its voxels"), "%"),
    "interval_coverage": (private("interval-coverage", "Nominal coverage of class set and intervals"), "%"),
    "volume_low": (private("volume-low", "Volume, lower end of the interval"), "mL"),
    "volume_high": (private("volume-high", "Volume, upper end of the interval"), "mL"),
    "signal": (private("signal", "Mean MR signal under the mask"), "[arb'U]"),
    "predicted_signal": (private("predicted-signal", "Mean MR signal, regressed by the network"), "[arb'U]"),
    "predicted_signal_low": (
        private("predicted-signal-low", "Regressed signal, lower end of interval"),
        "[arb'U]",
    ),
    "predicted_signal_high": (
        private("predicted-signal-high", "Regressed signal, upper end of interval"),
        "[arb'U]",
    ),
    "relative_enhancement": (private("relative-enhancement", "Relative enhancement"), "%"),
    "signal_to_liver": (private("signal-to-liver", "Signal, liver around the lesion = 100"), "%"),
    "signal_to_aorta": (private("signal-to-aorta", "Signal, aorta = 100"), "%"),
    "arterial_hyperenhancement": (
        private("arterial-hyperenhancement", "Arterial phase hyperenhancement"),
        "",
    ),
    "rim_arterial_hyperenhancement": (private("rim-hyperenhancement", "Rim hyperenhancement"), ""),
    "hyperenhancing_core": (private("hyperenhancing-core", "Hyperenhancing share of the core"), "%"),
    "hyperenhancing_shell": (private("hyperenhancing-shell", "Hyperenhancing share of the shell"), "%"),
    "liver_to_lesion": (private("liver-to-lesion", "Signal of liver, lesion = 100"), "%"),
    "washout": (private("washout", "Washout"), ""),
    "capsule": (private("capsule", "Enhancing rim (capsule)"), ""),
    "half_of_liver": (private("half-of-liver", "Half of the liver's extent"), ""),
    "third_of_liver": (private("third-of-liver", "Third of the liver's extent"), ""),
    "curve_type": (private("curve-type", "Type of the enhancement curve"), ""),
    "wash_in_rate": (private("wash-in-rate", "Wash-in rate"), "%/min"),
    "wash_out_rate": (private("wash-out-rate", "Wash-out rate"), "%/min"),
    "growth": (private("growth", "Growth against the prior study"), ""),
    "volume_change": (private("volume-change", "Change of volume against the prior study"), "%"),
    "diameter_change": (private("diameter-change", "Change of long axis against the prior study"), "%"),
    "lesions": (private("lesions", "Number of lesions"), "1"),
    "vanished_lesions": (private("vanished-lesions", "Lesions of the prior study not found again"), "1"),
    "liver_signal": (private("liver-signal", "Mean MR signal of the liver"), "[arb'U]"),
    "liver_relative_enhancement": (
        private("liver-relative-enhancement", "Relative enhancement of the liver"),
        "%",
    ),
    "aorta_signal": (private("aorta-signal", "Mean MR signal of the aorta"), "[arb'U]"),
    "aorta_relative_enhancement": (
        private("aorta-relative-enhancement", "Relative enhancement of the aorta"),
        "%",
    ),
}
"""Concept and unit by the name of a :class:`~mtinet.results.Measurement`.

A name that is not here becomes a private concept of the same name; its unit is the measurement's own.
"""

UNITS: Mapping[str, str] = {
    "1": "no units",
    "%": "Percent",
    "%/min": "Percent per minute",
    "%/s": "Percent per second",
    "mm": "millimeter",
    "mm2": "square millimeter",
    "mm3": "cubic millimeter",
    "cm": "centimeter",
    "mL": "milliliter",
    "s": "second",
    "min": "minute",
    "d": "day",
    "[arb'U]": "arbitrary unit",
    "{ratio}": "ratio",
}
"""Meaning by UCUM unit."""

OUTCOMES: Mapping[str, Concept] = {
    "present": PRESENT,
    "absent": ABSENT,
    "not assessable": NOT_ASSESSABLE,
    "persistent": Concept("130597", "DCM", "Persistent delayed phase: Type 1 curve"),
    "plateau": Concept("130598", "DCM", "Plateau delayed phase: Type 2 curve"),
    "washout": Concept("130599", "DCM", "Washout delayed phase: Type 3 curve"),
}
"""Concept by the ``finding`` of a measurement; others are private."""

CLASS_MEANINGS: Mapping[str, str] = {
    "hemangioma": "Hemangioma",
    "hcc": "Hepatocellular carcinoma",
    "fnh": "Focal nodular hyperplasia of liver",
    "metastasis": "Metastatic malignant neoplasm to liver",
    "icc": "Intrahepatic cholangiocarcinoma",
    "cyst": "Cyst of liver",
    "abscess": "Abscess of liver",
}
"""What the canonical classes' SNOMED CT codes mean."""


def concept_of(measurement: Measurement) -> Concept:
    """The concept of a measurement's name; one that belongs to a phase has the phase in it."""
    name, phase = measurement.name, measurement.phase
    known, _ = MEASUREMENTS.get(name, (private(_slug(name), _words(name)), ""))
    if not phase:
        return known
    return private(f"{_slug(name)}:{_slug(phase)}", f"{known.meaning}, {_words(phase)}")


def unit_of(measurement: Measurement) -> Concept:
    """The unit as a UCUM concept; the table's where the measurement has a plain number."""
    unit = measurement.unit or "1"
    if unit == "1":
        unit = MEASUREMENTS.get(measurement.name, (None, ""))[1] or unit
    return Concept(unit, "UCUM", UNITS.get(unit, unit))


def outcome_of(measurement: Measurement) -> Concept:
    """The concept of what a sign or kind was found to be."""
    return OUTCOMES.get(measurement.finding, private(_slug(measurement.finding), measurement.finding))


def class_concept(label: str, codes: Mapping[str, str]) -> Concept:
    """The concept of a lesion class.

    Parameters
    ----------
    label : str
    codes : mapping of str to str
        SNOMED CT code by class, as the cohort gave them; the canonical classes need none.
    """
    code = codes.get(label) or SNOMED_CT.get(label, "")
    if not code:
        return private(_slug(label), _words(label)) if label else LESION
    canonical = code == SNOMED_CT.get(label)
    return Concept(code, "SCT", CLASS_MEANINGS[label] if canonical else _words(label))


def probability_concept(label: str) -> Concept:
    """The concept of the probability of a class."""
    return private(f"probability:{_slug(label)}", f"Probability of the class {_words(label)}")


def lesion_quantities(lesion: Lesion) -> tuple[Measurement, ...]:
    """Everything measured on a lesion, its own fields (volume, signal, ...) first, in one form.

    A field stands in only where :attr:`~mtinet.results.Lesion.measurements` have no entry of its name: what they do
    not give of a phase, or call not assessable, is not known.
    """
    certainty = lesion.certainty
    found = [
        Measurement("volume", lesion.volume_mm3 / 1000.0, "mL"),
        Measurement("equivalent_diameter", lesion.diameter_mm, "mm"),
        Measurement("mask_confidence", 100.0 * lesion.confidence, "%"),
    ]
    if certainty is not None and certainty.existence is not None:
        found.append(Measurement("lesion_probability", 100.0 * certainty.existence, "%"))
    if certainty is not None and certainty.coverage is not None:
        # an interval says nothing without how often it is meant to hold the truth
        found.append(Measurement("interval_coverage", 100.0 * certainty.coverage, "%"))
    if certainty is not None and certainty.volume_interval_mm3 is not None:
        low, high = certainty.volume_interval_mm3
        found += [
            Measurement("volume_low", low / 1000.0, "mL"),
            Measurement("volume_high", high / 1000.0, "mL"),
        ]
    found += [Measurement("signal", v, "[arb'U]", p) for p, v in lesion.measured.items()]
    found += [Measurement("predicted_signal", v, "[arb'U]", p) for p, v in lesion.enhancement.items()]
    for phase, (low, high) in () if certainty is None else certainty.enhancement_interval.items():
        found += [
            Measurement("predicted_signal_low", low, "[arb'U]", phase),
            Measurement("predicted_signal_high", high, "[arb'U]", phase),
        ]
    relative = lesion.relative_enhancement_percent
    found += [Measurement("relative_enhancement", v, "%", p) for p, v in relative.items()]
    given = {m.name for m in lesion.measurements}
    return (*(m for m in found if m.name not in given), *lesion.measurements)


def _slug(text: str) -> str:
    return text.strip().lower().replace("_", "-").replace(" ", "-")


def _words(text: str) -> str:
    return text.replace("_", " ").strip()
