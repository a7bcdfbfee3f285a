"""The records of an experiment by row: what its tables read, and what is still missing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mtinet.cohort import Cohort
from mtinet.errors import UserError
from mtinet.evaluation.convergence import in_words, is_at_rest, mean_movement
from mtinet.evaluation.pooling import ENHANCEMENT_ERRORS
from mtinet.experiments.identity import cell_key, cohort_content
from mtinet.experiments.plan import Cell, Choice, Experiment, Plan, Row
from mtinet.experiments.plan import plan as plan_of
from mtinet.records import Revision, RunRecord, StudyScore
from mtinet.results import Finding


@dataclass(frozen=True)
class Gathered:
    """Records of an experiment.

    Attributes
    ----------
    plan : Plan
    records : dict
        By the row's name, in the order of its cells.
    missing : dict
        Cells without a record, or without all their scorings, by the row's name; rows that lack nothing are
        not in it.
    notes : tuple of str
        What a table of these records has to say, a sentence each.
    """

    plan: Plan
    records: dict[str, tuple[RunRecord, ...]]
    missing: dict[str, tuple[Cell, ...]]
    notes: tuple[str, ...]

    @property
    def planned(self) -> tuple[Row, ...]:
        """The rows that were asked for, in the experiment's order."""
        return tuple(row for row in self.plan.experiment.rows if row.name in self.plan.rows)

    @property
    def rows(self) -> tuple[Row, ...]:
        """Those of them that have a record."""
        return tuple(row for row in self.planned if self.records.get(row.name))


def read_folder(folder: Path) -> tuple[list[RunRecord], list[Finding]]:
    """Every record of a folder, and a finding for each file that is none."""
    records, findings = [], []
    for path in sorted(folder.glob("*.json")):
        try:
            records.append(RunRecord.read(path))
        except UserError as error:
            findings.append(
                Finding(
                    "record-damaged",
                    "experiment",
                    "warning",
                    str(error),
                    "It is left out of the tables.",
                    path.stem,
                )
            )
    return records, findings


def gather(
    plan: Plan,
    records: Iterable[RunRecord],
    *,
    content: str | None = None,
    revision: Revision | None = None,
    allow_mixed: bool = False,
) -> Gathered:
    """The records of a plan's cells.

    Parameters
    ----------
    plan : Plan
    records : iterable of RunRecord
        Of any experiments.
    content : str, optional
        Only runs on this state of a cohort count (:func:`~mtinet.experiments.identity.cohort_content`).
    revision : Revision, optional
        Only runs of this code and these libraries count; it is not looked at where mixing is allowed.
    allow_mixed : bool
        Take runs of different revisions where no single one has them all, and say so.

    Raises
    ------
    UserError
        The records are of several cohorts, or of several revisions and that was not asked for.
    """
    only = None if allow_mixed else revision
    found: dict[str, list[RunRecord]] = defaultdict(list)
    for record in records:
        if content in (None, record.manifest.get("content")) and only in (None, record.revision):
            found[_key(record)].append(record)
    wanted = {name: [cell_name(cell) for cell in cells] for name, cells in plan.rows.items()}
    for cell in plan.cells:
        # a record without the scorings hides none that has them, be it of newer code
        key = cell_name(cell)
        found[key] = [record for record in found[key] if _has(record, cell)] or found[key]
    matching = [record for keys in wanted.values() for key in keys for record in found.get(key, [])]
    _refuse_cohorts(matching)
    chosen, notes = _choose(wanted, found, allow_mixed)
    by_row: dict[str, tuple[RunRecord, ...]] = {}
    missing: dict[str, tuple[Cell, ...]] = {}
    for name, cells in plan.rows.items():
        pairs = [(cell, chosen.get(key)) for cell, key in zip(cells, wanted[name], strict=True)]
        complete = [(cell, record) for cell, record in pairs if record is not None and _has(record, cell)]
        by_row[name] = tuple(record for _, record in complete)
        if len(complete) < len(pairs):
            missing[name] = tuple(c for c, r in pairs if r is None or not _has(r, c))
    return Gathered(plan, by_row, missing, (*notes, *_notes(plan, by_row, missing)))


def gather_folder(
    experiment: Experiment,
    folder: Path,
    choice: Choice | None = None,
    cohort: Cohort | None = None,
    *,
    allow_mixed: bool = False,
) -> tuple[Gathered, list[Finding]]:
    """What a folder of records holds of an experiment: no run and no code of the runs is needed.

    Parameters
    ----------
    experiment : Experiment
    folder : Path
        Of the records.
    choice : Choice, optional
        As the runs were made: preset, settings, folds, seeds.
    cohort : Cohort, optional
        Only records of this state of it count; without, the records have to be of one cohort.
    allow_mixed : bool
        As for :func:`gather`.

    Raises
    ------
    UserError
        There is no such folder, no record in it is one of the reference row with these settings, or they do
        not go together.
    """
    if experiment.division == "sites" and cohort is None:
        raise UserError(f"experiment {experiment.name} goes by the sites of the cohort: give the cohort too")
    sites = () if cohort is None else tuple(study.site for study in cohort.studies)
    content = None if cohort is None else cohort_content(cohort)
    if not folder.is_dir():
        raise UserError(
            f"{folder} is no folder of records: give the campaign's records (OUT/records) by --records"
        )
    records, findings = read_folder(folder)
    gathered = gather(plan_of(experiment, choice, sites), records, content=content, allow_mixed=allow_mixed)
    if not gathered.records[experiment.reference]:
        of_cohort = "" if cohort is None else f" and of cohort {cohort.name} as it is (content {content})"
        raise UserError(
            f"{folder} holds {len(records)} records, and none of row {experiment.reference} of experiment "
            f"{experiment.name} with these settings and folds{of_cohort}: give --preset, --config, --set and "
            "--folds as for the runs"
        )
    return gathered, findings


def made_otherwise(
    plan: Plan, records: Iterable[RunRecord], content: str, revision: Revision
) -> list[Finding]:
    """Findings on runs that have no record here and now, but one of another cohort's state or by other code.

    They would be done again, and their records could not stand in one table with the earlier ones.

    Parameters
    ----------
    plan : Plan
    records : iterable of RunRecord
    content, revision : str, Revision
        Of the cohort and of the code as they are.
    """
    by_key: dict[str, list[RunRecord]] = defaultdict(list)
    for record in records:
        by_key[_key(record)].append(record)
    elsewhere: list[RunRecord] = []
    otherwise: list[RunRecord] = []
    for key in dict.fromkeys(cell_name(cell) for cell in plan.cells):
        here = [record for record in by_key[key] if record.manifest.get("content") == content]
        if not any(record.revision == revision for record in here):
            otherwise += here[-1:]
            elsewhere += [] if here else by_key[key][-1:]
    findings = []
    if elsewhere:
        theirs = ", ".join(sorted({f"{r.cohort}, content {r.manifest.get('content')}" for r in elsewhere}))
        findings.append(
            Finding(
                "record-of-another-cohort",
                "experiment",
                "warning",
                f"{len(elsewhere)} of the runs have a record on another cohort or another state of it "
                f"({theirs}; here {content}), and will be done again",
                "Stop, if they were to be one table.  Virtual patients have the same bytes where they are "
                "simulated with the same kernels of OpenBLAS and NumPy (docs/experiments.md).",
            )
        )
    if otherwise:
        changes = sorted({change for record in otherwise for change in _changes(record.revision, revision)})
        findings.append(
            Finding(
                "record-of-other-code",
                "experiment",
                "warning",
                f"{len(otherwise)} of the runs have a record that other code or libraries made "
                f"({'; '.join(changes)}), and will be done again",
                "Stop, if they were to be one table, and go on with the commit and the libraries of the records.",
            )
        )
    return findings


def row_means(row: Row, records: Sequence[RunRecord]) -> dict[str, float | None]:
    """Plain means over the held-out studies with a lesion: ``dice``, ``enhancement_error``, ``accuracy``.

    None = undefined.  For a first look: intervals and tests are those of a comparison.
    """
    studies = [study for record in records for study in record.scorings[0].studies]
    classes = {name for record in records for name in record.classes}
    right = [
        float(predicted_class(row, study) == study.label)
        for study in studies
        if study.label in classes and predicted_class(row, study)
    ]
    return {
        "dice": _mean(study.dice for study in studies if study.volume_ml),
        "enhancement_error": _mean(
            getattr(study, name)
            for name in ENHANCEMENT_ERRORS.get(row.enhancement, ())[:1]
            for study in studies
        ),
        "accuracy": _mean(right),
    }


def predicted_class(row: Row, study: StudyScore) -> str:
    """Class that the row's method gives a study's dominant lesion; empty where it gives none."""
    if row.classes == "network":
        return study.predicted_label
    return study.oracle_label if row.classes == "oracle_mask" else study.baselines.get(row.classes, "")


def cell_name(cell: Cell) -> str:
    """The same for cells that one run serves, whatever cohort and code."""
    return cell_key(cell.config, cell.learning, cell.seed, cell.fold, cell.folds)


# ---------------------------------------------------------------------- parts
def _changes(theirs: Revision, ours: Revision) -> list[str]:
    """What differs between two revisions: ``torch 2.1, here 2.2``."""
    one, other = ({"sources": r.sources[:8], **r.versions} for r in (theirs, ours))
    return [
        f"{name} {one.get(name, 'none')}, here {other.get(name, 'none')}"
        for name in sorted({*one, *other})
        if one.get(name) != other.get(name)
    ]


def _key(record: RunRecord) -> str:
    return cell_key(record.config, record.learning, record.seed, record.fold, record.folds)


def _has(record: RunRecord, cell: Cell) -> bool:
    return set(cell.scorings) <= {scoring.variation for scoring in record.scorings}


def _refuse_cohorts(records: Sequence[RunRecord]) -> None:
    # neither its name nor those of its files tell a cohort apart: runs are shared by content
    states = {record.cohort_identity: record for record in records}
    if len(states) > 1:
        names = ", ".join(sorted(f"{r.cohort} ({r.cohort_hash}, content {c})" for c, r in states.items()))
        raise UserError(
            f"the records are of {len(states)} states of cohorts: {names}; a table takes those of one: move "
            "the others to another folder"
        )


def _revision_name(revision: Revision) -> str:
    return revision.model_dump_json()


def _choose(
    wanted: Mapping[str, Sequence[str]], found: Mapping[str, Sequence[RunRecord]], allow_mixed: bool
) -> tuple[dict[str, RunRecord], list[str]]:
    """One record a key: of the newest revision that has them all, else of all there are if that is allowed."""
    keys = {key for row in wanted.values() for key in row}
    present = {key for key in keys if found.get(key)}
    by_revision: dict[str, dict[str, RunRecord]] = defaultdict(dict)
    for key in present:
        for record in found[key]:
            by_revision[_revision_name(record.revision)][key] = record
    ranked = sorted(by_revision.values(), key=lambda own: max(_made(r) for r in own.values()), reverse=True)
    for own in ranked:
        if set(own) == present:
            return own, []
    if len(ranked) < 2:
        return {}, []
    listed = "; ".join(f"{_describe(own)}: {_rows_of(own, wanted)}" for own in ranked)
    if not allow_mixed:
        raise UserError(
            f"the rows were made by {len(ranked)} revisions of code or libraries ({listed}); run the older "
            "ones again, or ask for mixed revisions"
        )
    # later revisions first: setdefault keeps theirs
    chosen: dict[str, RunRecord] = {}
    for own in ranked:
        for key, record in own.items():
            chosen.setdefault(key, record)
    return chosen, [f"Runs of {len(ranked)} revisions of code or libraries stand side by side ({listed})."]


def _made(record: RunRecord) -> str:
    return str(record.manifest.get("created", ""))


def _describe(own: Mapping[str, RunRecord]) -> str:
    record = next(iter(own.values()))
    return f"sources {record.revision.sources[:8]}, torch {record.revision.versions.get('torch', '?')}"


def _rows_of(own: Mapping[str, RunRecord], wanted: Mapping[str, Sequence[str]]) -> str:
    return ", ".join(name for name, keys in wanted.items() if any(key in own for key in keys))


def _notes(
    plan: Plan, records: Mapping[str, Sequence[RunRecord]], missing: Mapping[str, Sequence[Cell]]
) -> list[str]:
    notes = [plan.experiment.reading] if plan.experiment.reading else []
    unfinished = [f"{name} ({len(cells)} of {len(plan.rows[name])})" for name, cells in missing.items()]
    if unfinished:
        notes.append(f"Runs are missing: {', '.join(unfinished)}.")
    moved = {name: mean_movement(own) for name, own in records.items() if own}
    moving = [f"{name} ({in_words(mean)})" for name, mean in moved.items() if not is_at_rest(mean)]
    if moving:
        notes.append(f"Not converged, so no claim rests on them: {', '.join(moving)}.")
    return notes


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
