from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mtinet.config.variation import ScoringVariation
from mtinet.errors import UserError
from mtinet.evaluation.convergence import TASKS
from mtinet.experiments.catalogue import EXPERIMENTS
from mtinet.experiments.gather import gather, gather_folder, made_otherwise, read_folder, row_means
from mtinet.experiments.plan import Choice, Experiment, Plan, Row, plan
from mtinet.records import Course, RunRecord


@pytest.fixture
def planned(pair: Experiment, fast: Choice) -> Plan:
    return plan(pair, fast)


@pytest.fixture
def records(finished) -> tuple[RunRecord, ...]:
    return finished[1]


def of_revision(record: RunRecord, sources: str, created: str) -> RunRecord:
    revision = record.revision.model_copy(update={"sources": sources})
    return record.model_copy(
        update={"revision": revision, "id": sources, "manifest": {**record.manifest, "created": created}}
    )


def test_records_come_by_row_whatever_their_order(planned: Plan, records):
    gathered = gather(planned, reversed(records))
    assert {name: [r.id for r in own] for name, own in gathered.records.items()} == {
        "full": [records[0].id],
        "no-tdd": [records[1].id],
    }
    assert not gathered.missing
    assert gathered.rows == planned.experiment.rows


def test_what_lacks_is_said(pair: Experiment, fast: Choice, records):
    wider = plan(pair, replace(fast, folds=(0, 3)))
    gathered = gather(wider, records[:1])
    assert [(name, [c.fold for c in cells]) for name, cells in gathered.missing.items()] == [
        ("full", [3]),
        ("no-tdd", [0, 3]),
    ]
    assert any("full (1 of 2), no-tdd (2 of 2)" in note for note in gathered.notes)


def test_a_record_without_a_scoring_of_the_row_is_missing(pair: Experiment, fast: Choice, records):
    noisy = replace(pair.rows[0], scorings=(ScoringVariation(noise=0.3),))
    asked = plan(replace(pair, rows=(noisy, pair.rows[1])), fast)
    assert list(gather(asked, records).missing) == ["full"]


def test_a_record_without_a_scoring_hides_none_that_has_it(pair: Experiment, fast: Choice, records):
    noisy = ScoringVariation(noise=0.3)
    rows = tuple(replace(row, scorings=(noisy,)) for row in pair.rows)
    scored = [
        of_revision(r, "older", "2030").model_copy(
            update={"scorings": (*r.scorings, r.scorings[0].model_copy(update={"variation": noisy}))}
        )
        for r in records
    ]
    newer = [of_revision(r, "newer", "2031") for r in records]
    gathered = gather(plan(replace(pair, rows=rows), fast), [*scored, *newer])
    assert not gathered.missing
    assert {own.revision.sources for row in gathered.records.values() for own in row} == {"older"}


def test_rows_that_did_not_come_to_rest_are_named(planned: Plan, records):
    moved = ({"loss_percent": 0.0, "dice_points": 0.5}, {"loss_percent": 0.0, "dice_points": -0.7})
    flat = Course(step=(9, 10, 11), numbers=dict.fromkeys(TASKS, (1.0, 1.0, 1.0)))
    restless = [
        r.model_copy(update={"plateau": own, "course": flat}) for r, own in zip(records, moved, strict=True)
    ]
    named = [note for note in gather(planned, restless).notes if "Not converged" in note]
    assert named == [
        "Not converged, so no claim rests on them: no-tdd (loss +0.0 % [+0.0, +0.0], Dice -0.7 points)."
    ]


def test_mixed_revisions_are_refused_unless_asked_for(planned: Plan, records):
    mixed = [records[0], of_revision(records[1], "other", "2031")]
    with pytest.raises(UserError, match=r"2 revisions.*other.*no-tdd.*ask for mixed"):
        gather(planned, mixed)
    gathered = gather(planned, mixed, allow_mixed=True)
    assert not gathered.missing
    assert any("2 revisions of code or libraries stand side by side" in note for note in gathered.notes)
    assert not gather(planned, mixed, revision=records[0].revision, allow_mixed=True).missing


def test_of_mixed_revisions_each_run_is_the_newest(planned: Plan, records):
    made = [(records[0], "newest", "2040"), (records[0], "newer", "2030"), (records[1], "old", "2020")]
    gathered = gather(planned, [of_revision(*one) for one in made], allow_mixed=True)
    assert [r.revision.sources for own in gathered.records.values() for r in own] == ["newest", "old"]


def test_the_newest_revision_that_has_every_row_is_taken(planned: Plan, records):
    old = [of_revision(record, "old", "2020") for record in records]
    new = [of_revision(record, "new", "2030") for record in records]
    newest = [of_revision(records[0], "newest", "2040")]
    gathered = gather(planned, [*newest, *old, *new])
    assert {r.revision.sources for own in gathered.records.values() for r in own} == {"new"}
    only = gather(planned, [*newest, *old, *new], revision=newest[0].revision)
    assert list(only.missing) == ["no-tdd"]


def test_records_of_two_cohorts_are_refused(planned: Plan, records):
    other = records[1].model_copy(update={"manifest": {**records[1].manifest, "content": "else"}})
    with pytest.raises(UserError, match="2 states of cohorts"):
        gather(planned, [records[0], other])
    assert list(gather(planned, [records[0], other], content="else").missing) == ["full"]


def test_a_folder_of_records_is_all_that_is_needed(
    pair: Experiment, fast: Choice, records, whole_cohort, tmp_path
):
    for record in records:
        record.write(tmp_path / f"{record.id}.json")
    for cohort in (None, whole_cohort):
        gathered, findings = gather_folder(pair, tmp_path, fast, cohort)
        assert not gathered.missing
        assert not findings
    with pytest.raises(UserError, match=r"holds 2 records, and none of row full.*give --preset"):
        gather_folder(pair, tmp_path, replace(fast, assignments=()))
    other = replace(whole_cohort, studies=whole_cohort.studies[1:])
    with pytest.raises(UserError, match=r"none of row full.*cohort toy as it is"):
        gather_folder(pair, tmp_path, fast, other)
    with pytest.raises(UserError, match="give the cohort too"):
        gather_folder(EXPERIMENTS["sites"], tmp_path)


def test_records_of_another_revision_need_not_be_those_of_this_code(
    pair: Experiment, fast: Choice, records, tmp_path
):
    """Tables of a campaign are made after it, by whatever code there is then."""
    for record in records:
        old = of_revision(record, "old", "2020")
        old.write(tmp_path / f"{record.id}.json")
    assert not gather_folder(pair, tmp_path, fast)[0].missing


def test_what_would_be_done_again_is_said(planned: Plan, records):
    content, revision = records[0].manifest["content"], records[0].revision
    assert not made_otherwise(planned, records, content, revision)
    assert not made_otherwise(planned, [], content, revision)
    changed = revision.model_copy(update={"versions": {**revision.versions, "torch": "9.9"}})
    (code,) = made_otherwise(planned, records, content, changed)
    assert code.id == "record-of-other-code"
    assert code.meaning.startswith("2 of the runs")
    assert f"torch {revision.versions['torch']}, here 9.9" in code.meaning
    assert "sources" not in code.meaning
    (cohort,) = made_otherwise(planned, records, "elsewhere", revision)
    assert cohort.id == "record-of-another-cohort"
    assert f"content {content}; here elsewhere" in cohort.meaning
    # one that was done again already is not
    old = of_revision(records[0], "old", "2020")
    assert not made_otherwise(planned, [old, *records], content, revision)


def test_damaged_records_are_findings(records, tmp_path: Path):
    records[0].write(tmp_path / "good.json")
    (tmp_path / "bad.json").write_text("{")
    read, findings = read_folder(tmp_path)
    assert read == [records[0]]
    assert [finding.case for finding in findings] == ["bad"]


def test_means_are_those_of_the_method_that_a_row_stands_for(records):
    studies = [study for study in records[0].scorings[0].studies if study.label and study.true]
    for method, field in (("read_out", "measured_error"), ("training_mean", "mean_error")):
        row = Row("r", "R", enhancement=method, classes="majority")
        means = row_means(row, records[:1])
        values = [getattr(study, field) for study in studies]
        assert means["enhancement_error"] == pytest.approx(sum(values) / len(values))
        right = [study.baselines["majority"] == study.label for study in studies]
        assert means["accuracy"] == pytest.approx(sum(right) / len(right))


def test_a_study_without_a_lesion_has_no_part_in_the_mean_dice(records):
    (scoring,) = records[0].scorings
    sick = scoring.studies[0].model_copy(update={"dice": 0.8, "volume_ml": 1.0})
    healthy = sick.model_copy(update={"dice": 0.0, "volume_ml": 0.0, "label": "none"})
    scoring = scoring.model_copy(update={"studies": (sick, healthy)})
    record = records[0].model_copy(update={"scorings": (scoring,)})
    assert row_means(Row("r", "R"), [record])["dice"] == 0.8
