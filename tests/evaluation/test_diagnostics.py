import pytest

from mtinet.config import EvaluationSettings
from mtinet.evaluation.diagnostics import run_findings
from mtinet.evaluation.readouts import fit
from mtinet.evaluation.summary import summarise

SOUND = {"right": 0.95, "missed": 2, "sites": ("A",)}
FAULTS = {
    "many-missed": {"missed": 20},
    "masks-fragmented": {"fragments": 4},
    "many-hallucinated": {"hallucinated": 5},
    "class-at-chance": {"right": 0.55},
    "class-below-majority": {"right": 0.2},
    "regression-worse-than-read-out": {"head_error": 0.3, "read_error": 0.02},
    "regression-no-better-than-mean": {"head_error": 0.9},
}


@pytest.fixture
def findings(make_tables, training_lesions, phases, classes):
    def run(change=None, **settings):
        studies, lesions = make_tables(**{**SOUND, **settings})
        lesions = lesions if change is None else change(lesions)
        readouts = fit(training_lesions, phases, classes)
        summary = summarise(studies, lesions, phases, classes, EvaluationSettings(bootstrap=300), 0, readouts)
        return {finding.id: finding for finding in run_findings(summary, lesions)}

    return run


def test_a_sound_run_is_silent(findings) -> None:
    assert findings() == {}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found(findings, fault) -> None:
    found = findings(**FAULTS[fault])[fault]
    assert found.stage == "evaluate"
    assert found.severity == "warning"
    assert found.value is not None
    assert found.threshold is not None
    assert found.meaning
    assert found.action


def test_one_class_predicted(findings) -> None:
    def always(lesions):
        found = lesions["predicted_label"] != ""
        return lesions.assign(
            predicted_label=lesions["predicted_label"].where(~found, "hcc"),
            p_hcc=lesions["p_hcc"].where(~found, 0.7),
            p_hemangioma=lesions["p_hemangioma"].where(~found, 0.3),
        )

    assert "hcc" in findings(always)["one-class-predicted"].meaning


def test_one_class_scored(findings) -> None:
    found = findings(lambda lesions: lesions[lesions["label"] != "hemangioma"])
    assert found["one-class-only"].severity == "note"
    assert "class-at-chance" not in found


def test_a_handful_of_studies_is_no_evidence(findings) -> None:
    assert findings(studies=3, missed=2, fragments=9, healthy=2, hallucinated=2, right=0.0) == {}
