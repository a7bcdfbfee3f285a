"""The measurements of all studies of an output folder in one table."""

from __future__ import annotations

from pathlib import Path

from mtinet.errors import UserError
from mtinet.results import Finding
from mtinet.workflows.predictions.audit import Audit
from mtinet.workflows.predictions.formats import write_table
from mtinet.workflows.predictions.stored import RESULT_FILE, read_result


def write_batch_table(path: Path, audit: Audit) -> list[Finding]:
    """Write the measurements of all studies that an audit knows, and say which ones lack.

    They are read from each ``result.json``, so that those of earlier calls are there and the table depends on
    nothing else.  A study that has failed since has no result of the images as they are.

    Raises
    ------
    OSError
        The disk.
    """
    results, lacking = [], []
    for folder, line in audit.results():
        study_id = str(line["study_id"])
        if audit.last(study_id) != line or not folder.is_dir():
            continue
        try:
            results.append(read_result(folder))
        except UserError:
            lacking.append(study_id)
    write_table(path, sorted(results, key=lambda result: result.study_id))
    if not lacking:
        return []
    return [
        Finding(
            "table-incomplete",
            "predict",
            "note",
            f"{path.name} lacks {len(lacking)} studies without a {RESULT_FILE}: {', '.join(sorted(lacking)[:5])}",
            "Predict them with json in --format to have them in it.",
        )
    ]
