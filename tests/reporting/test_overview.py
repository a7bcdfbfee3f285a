"""The parts of a report that say what was done."""

from mtinet.reporting.overview import grouped_findings
from mtinet.results import Finding


def lacks(phase, case, severity="warning", action="Nothing to do if it was not acquired."):
    return Finding("missing-phase", "check", severity, f"the study lacks {phase}", action, case)


def test_what_is_told_of_a_study_is_true_of_it():
    found = [
        lacks("delayed", "a"),
        lacks("pre", "b"),
        lacks("delayed", "c"),
        lacks("pre", "d", action="Look at series 5."),
    ]
    (group,) = grouped_findings(found)
    assert (group.meaning, group.cases) == ("The study lacks delayed", ("a", "c"))
    assert group.others == (
        ("The study lacks pre", ("b",)),
        ("The study lacks pre. Look at series 5.", ("d",)),
    )


def test_findings_of_other_kinds_and_severities_stay_apart_and_errors_come_first():
    groups = grouped_findings([lacks("pre", "a"), lacks("pre", "b", "error"), lacks("pre", "a")])
    assert [(group.finding.severity, group.cases) for group in groups] == [
        ("error", ("b",)),
        ("warning", ("a",)),
    ]
