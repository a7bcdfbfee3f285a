"""A result's files come into a folder, and what is known of them until the audit has its line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mtinet import files
from mtinet.stages import stage
from mtinet.workflows.predictions.audit import Audit
from mtinet.workflows.predictions.formats import FORMATS, LIVER_FILE, Format, Output, write_output

PENDING_FILE = ".pending.json"

DRAWN = ("mask.nii.gz", LIVER_FILE)
"""Files that readers correct, and that are told by their hash."""


@contextmanager
def written(
    output: Output, place: Path, formats: tuple[Format, ...], audit: Audit, *, same: bool
) -> Iterator[dict[str, Any]]:
    """Write a result's files into a folder, and give what its line in the audit says of them.

    The line is to be added within the block.  A kill, or a full disk, between the files and their line leaves
    files that no line lists: a file in the folder tells until then whose they are (:func:`pending`).

    Parameters
    ----------
    output : Output
    place : Path
    formats : tuple of str
    audit : Audit
    same : bool
        The result that lies there is the same one: those of its files that are not written anew stay.

    Raises
    ------
    UserError
        A format cannot be made of this result.
    OSError
        The disk.
    """
    before, broken_off = audit.holder(place), pending(place)
    files.sweep(place)
    with stage("write"), files.atomic_files(place) as temporary:
        names = write_output(output, temporary, formats)
        hashes = {name: files.digest(temporary / name) for name in DRAWN if name in names}
        # its name is the first in the alphabet, and so it is there before any file that it tells of
        files.write_json(temporary / PENDING_FILE, {"files": names, "sha256": hashes})
    kept = before if same else {}
    told = {
        "formats": [name for name in FORMATS if name in {*formats, *kept.get("formats", ())}],
        "files": sorted({*names, *kept.get("files", ())}),
        "sha256": {**kept.get("sha256", {}), **hashes},
    }
    for name in {*before.get("files", ()), *broken_off.get("files", ())} - set(told["files"]):
        # of another model, outline or images: beside the new files it would mislead
        (place / Path(name).name).unlink(missing_ok=True)
    yield told
    settle(place)


def settle(place: Path) -> None:
    """Remove what stood for the line in the audit, now that it is there."""
    (place / PENDING_FILE).unlink(missing_ok=True)


def pending(place: Path) -> Mapping[str, Any]:
    """What a folder holds of a result whose line in the audit was never written; empty without such."""
    try:
        told = json.loads((place / PENDING_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}
