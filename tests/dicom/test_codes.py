"""The table of codes: complete, within the lengths of DICOM, and never without a concept."""

from pathlib import Path

import pytest
from pydicom.sr.codedict import codes as standard

from mtinet.cohort.tables import SNOMED_CT
from mtinet.dicom import codes
from mtinet.results import Certainty, Lesion, Measurement


def lesion(**changes) -> Lesion:
    values = {
        "number": 1,
        "volume_mm3": 1000.0,
        "diameter_mm": 12.4,
        "centre_mm": (1.0, 2.0, 3.0),
        "confidence": 0.8,
        "probabilities": {"hcc": 0.7, "fnh": 0.3},
        "enhancement": {"pre": 100.0, "arterial": 250.0},
        "relative_enhancement_percent": {"arterial": 150.0},
        "measured": {"pre": 99.0, "arterial": 248.0},
    }
    return Lesion(**{**values, **changes})


def test_every_entry_fits_and_has_a_known_unit():
    concepts = [concept for concept, _ in codes.MEASUREMENTS.values()]
    for concept in [*concepts, *codes.OUTCOMES.values()]:
        assert 0 < len(concept.meaning) <= 64, concept
        assert concept.scheme in ("SCT", "DCM", codes.PRIVATE), concept
        coded = concept.coded
        assert (coded.value, coded.meaning) == (concept.value, concept.meaning)
    assert len({(c.value, c.scheme) for c in concepts}) == len(concepts)
    assert {unit for _, unit in codes.MEASUREMENTS.values() if unit} <= set(codes.UNITS)


@pytest.mark.parametrize(
    ("concept", "official"),
    [
        (codes.LIVER, standard.SCT.Liver),
        (codes.LESION, standard.SCT.Lesion),
        (codes.ABNORMAL, standard.SCT.MorphologicallyAbnormalStructure),
        (codes.FINDING, standard.DCM.Finding),
        (codes.PRESENT, standard.SCT.Present),
        (codes.ABSENT, standard.SCT.Absent),
        (codes.NOT_ASSESSABLE, standard.SCT.Undetermined),
        (codes.MEASUREMENTS["volume"][0], standard.SCT.Volume),
        (codes.MEASUREMENTS["longest_axial_diameter"][0], standard.SCT.LongAxis),
        (codes.MEASUREMENTS["lesion_probability"][0], standard.DCM.CertaintyOfFinding),
        (codes.OUTCOMES["persistent"], standard.DCM.PersistentDelayedPhaseType1Curve),
        (codes.OUTCOMES["plateau"], standard.DCM.PlateauDelayedPhaseType2Curve),
        (codes.OUTCOMES["washout"], standard.DCM.WashoutDelayedPhaseType3Curve),
    ],
)
def test_public_codes_are_those_of_the_standard(concept, official):
    assert (concept.value, concept.scheme) == (official.value, official.scheme_designator)


def test_unknown_names_units_and_outcomes_become_private_words():
    odd = Measurement("mosaic_index", 2.0, "furlong", finding="chequered")
    assert codes.concept_of(odd) == codes.Concept("mosaic-index", codes.PRIVATE, "mosaic index")
    assert codes.unit_of(odd) == codes.Concept("furlong", "UCUM", "furlong")
    assert codes.outcome_of(odd).meaning == "chequered"


def test_no_text_parts_a_value_in_two():
    """What a header, a class or a flag says may hold DICOM's separator, line breaks, or be long."""
    coded = codes.private("a\\b", "agent written as 'A\\B'\nand " + 40 * "so on ").coded
    assert coded.CodeValue == "a/b"
    assert coded.CodeMeaning.startswith("agent written as 'A/B' and so on")
    assert len(coded.CodeMeaning) <= 64


def test_a_plain_number_takes_the_unit_of_the_table():
    assert codes.unit_of(Measurement("signal", 2.0)).value == "[arb'U]"
    assert codes.unit_of(Measurement("lesions", 2.0)).value == "1"
    assert codes.unit_of(Measurement("volume", 2.0, "mm3")).value == "mm3"


def test_phases_of_one_quantity_have_codes_apart():
    names = ("signal", "predicted_signal", "relative_enhancement", "mosaic_index")
    phases = ("", "pre", "arterial", "arterial_late", "portal_venous", "hepatobiliary")
    values = [codes.concept_of(Measurement(n, 1.0, phase=p)) for n in names for p in phases]
    assert len({(c.value, c.scheme) for c in values}) == len(values)
    assert len({c.coded.meaning for c in values}) == len(values)


def test_canonical_classes_have_their_codes():
    """As SNOMED CT names them; the check digit alone would not find an exchanged code."""
    named = {
        "hemangioma": ("400210000", "Hemangioma"),
        "hcc": ("25370001", "Hepatocellular carcinoma"),
        "fnh": ("278527001", "Focal nodular hyperplasia of liver"),
        "metastasis": ("94381002", "Metastatic malignant neoplasm to liver"),
        "icc": ("109842005", "Intrahepatic cholangiocarcinoma"),
        "cyst": ("85057007", "Cyst of liver"),
        "abscess": ("27916005", "Abscess of liver"),
    }
    assert named.keys() == SNOMED_CT.keys()
    for name, (code, meaning) in named.items():
        assert codes.class_concept(name, {}) == (code, "SCT", meaning)


def test_classes_are_coded_by_the_cohort_first():
    assert codes.class_concept("hcc", {}).value == SNOMED_CT["hcc"]
    assert codes.class_concept("hcc", {"hcc": "1"}) == codes.Concept("1", "SCT", "hcc")
    assert codes.class_concept("adenoma", {"adenoma": "2"}).scheme == "SCT"
    assert codes.class_concept("big_thing", {}) == codes.Concept("big-thing", codes.PRIVATE, "big thing")
    assert set(codes.CLASS_MEANINGS) == set(SNOMED_CT)


def test_a_measurement_goes_before_the_field_of_the_same_name():
    own = lesion(measurements=(Measurement("volume", 1.25, "mL"), Measurement("washout", finding="absent")))
    found = codes.lesion_quantities(own)
    assert [m.value for m in found if m.name == "volume"] == [1.25]
    assert [m.finding for m in found if m.name == "washout"] == ["absent"]
    assert {(m.name, m.phase) for m in found} >= {("signal", "arterial"), ("predicted_signal", "pre")}


def test_no_field_fills_a_gap_that_the_measurements_leave():
    """A phase that does not show the lesion is not measured, and of what is not assessable there is no number."""
    own = lesion(
        measurements=(
            Measurement("signal", 248.0, phase="arterial"),
            Measurement("relative_enhancement", None, "%", "", "not assessable", "no pre phase"),
        )
    )
    found = codes.lesion_quantities(own)
    assert [(m.phase, m.value) for m in found if m.name == "signal"] == [("arterial", 248.0)]
    assert [m.value for m in found if m.name == "relative_enhancement"] == [None]


def test_intervals_and_the_probability_of_a_lesion_come_from_its_certainty():
    sure = Certainty(0.9, (900.0, 1200.0), ("hcc",), {"arterial": (200.0, 300.0)}, 0.9)
    found = {(m.name, m.phase): m.value for m in codes.lesion_quantities(lesion(certainty=sure))}
    assert found["lesion_probability", ""] == pytest.approx(90.0)
    # an interval is told with how often it is meant to hold the truth
    assert found["interval_coverage", ""] == pytest.approx(90.0)
    assert (found["volume_low", ""], found["volume_high", ""]) == (0.9, 1.2)
    assert (found["predicted_signal_low", "arterial"], found["predicted_signal_high", "arterial"]) == (
        200,
        300,
    )
    plain = {m.name: m.value for m in codes.lesion_quantities(lesion())}
    # how sure the network is of the voxels is not how often such a component is a lesion
    assert plain["mask_confidence"] == pytest.approx(80.0)
    assert "lesion_probability" not in plain
    assert "volume_low" not in plain
    assert "interval_coverage" not in plain


def test_the_documentation_describes_every_name():
    page = (Path(__file__).parents[2] / "docs" / "measurements.md").read_text(encoding="utf-8")
    named = {*codes.MEASUREMENTS, "class", "class_set", "probability_<class>"}
    assert {name for name in named if f"`{name}`" not in page} == set()
