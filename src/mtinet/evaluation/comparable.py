"""What may stand in one table: rows of one cohort and one revision, and what limits reading them."""

from __future__ import annotations

from collections.abc import Sequence

from mtinet.errors import UserError
from mtinet.evaluation.convergence import in_words
from mtinet.evaluation.pooling import RowRecords
from mtinet.records import RunRecord


def check_cohort(records: Sequence[RunRecord]) -> RunRecord:
    """A record that stands for all in name, hash and classes of the cohort; other cohorts are refused."""
    if len({record.cohort_identity for record in records}) > 1:
        hashes = sorted({record.cohort_hash for record in records})
        raise UserError(
            f"the records are of different cohorts (hashes {', '.join(hashes)}); compare runs on one cohort"
        )
    if len({record.classes for record in records}) > 1:
        raise UserError("the records have different classes; compare runs of one cohort")
    return records[0]


def check_revisions(rows: Sequence[RowRecords], allow_mixed: bool) -> list[str]:
    """Refuse rows that different code made, or say (a sentence, or none) which did."""
    by_revision: dict[str, list[str]] = {}
    for row in rows:
        for record in row.records:
            versions = ",".join(f"{k}={v}" for k, v in sorted(record.revision.versions.items()))
            names = by_revision.setdefault(f"{record.revision.sources}|{versions}", [])
            if row.name not in names:
                names.append(row.name)
    if len(by_revision) < 2:
        return []
    listed = "; ".join(
        f"{key.partition('|')[0][:8]}: {', '.join(names)}" for key, names in by_revision.items()
    )
    if not allow_mixed:
        raise UserError(
            f"the rows were made by {len(by_revision)} revisions of code or libraries ({listed}); run the old "
            "ones again, or allow mixed revisions"
        )
    return [f"Rows of {len(by_revision)} revisions of code or libraries stand side by side ({listed})."]


def limits(rows: Sequence[RowRecords], done: Sequence[RowRecords], base: RowRecords) -> list[str]:
    """What a reader has to know before reading the differences, a sentence each.

    Parameters
    ----------
    rows, done : sequence of RowRecords
        All rows of the experiment, and those with a record.
    base : RowRecords
        The reference.
    """
    notes = []
    if absent := [row.title for row in rows if not row.records]:
        notes.append(f"Without a finished run, so not in the tables: {', '.join(absent)}.")
    partial = [
        f"{row.title} ({len(row.records)} of {row.planned})" for row in done if len(row.records) < row.planned
    ]
    if partial:
        notes.append(f"Unfinished, with the runs that there are: {', '.join(partial)}.")
    if moving := [f"{row.title} ({in_words(row.moved)})" for row in done if not row.at_rest]:
        notes.append(f"Not converged, so no claim rests on them: {', '.join(moving)}.")
    optimisers: dict[str, list[str]] = {}
    for row in done:
        training = row.records[0].config.training
        optimisers.setdefault(f"{training.optimizer}, {training.schedule}", []).append(row.title)
    if len(optimisers) > 1:
        listed = "; ".join(f"{name}: {', '.join(titles)}" for name, titles in optimisers.items())
        notes.append(f"Rows have different optimisers, and a difference may be theirs ({listed}).")
    if any(set(row.blocks) != set(base.blocks) for row in done):
        notes.append(
            "Rows were scored on different folds or sites: their own values cover different patients; the "
            "differences cover those that both scored."
        )
    names = sorted({record.cohort for row in done for record in row.records})
    if len(names) > 1:
        notes.append(
            f"The cohort had several names while runs were made, and one content: {', '.join(names)}."
        )
    if max(len(row.seeds) for row in done) == 1:
        notes.append(
            "One training a row and fold: the intervals cover patients, not what another seed would give."
        )
    if len({site for row in done for site in row.table["site"]}) > 1:
        notes.append("Several sites: the raw enhancement error mixes their gains; read the relative one too.")
    return notes
