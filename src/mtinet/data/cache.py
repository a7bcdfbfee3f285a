"""The cache of prepared studies: one folder each, named by the hash of what went into it.

The key covers the files' bytes, the row's metadata, the settings and the revision of this code, so an entry
is either right or never found.  Entries are written under a temporary name and renamed: writers may race.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mtinet import files
from mtinet.cohort import Study
from mtinet.config import Phase, PreparationSettings
from mtinet.data.prepared import PreparedStudy
from mtinet.errors import UserError

PREPARATION_REVISION = 3
"""To be raised whenever the same files and settings would be prepared differently."""


KEY_LENGTH = 24
_ENTRY_NAME = re.compile(rf"[^.].*-[0-9a-f]{{{KEY_LENGTH}}}")


@dataclass(frozen=True)
class CacheEntry:
    """A prepared study in the cache."""

    folder: Path
    study_id: str
    key: str
    size_bytes: int


def cache_folder(given: Path | None = None, cohort_folder: Path | None = None) -> Path:
    """Where prepared studies go: the folder given, else in the cohort, else in a folder of the user's cache.

    Parameters
    ----------
    given : Path, optional
        From ``--cache``.
    cohort_folder : Path, optional
        Used where it can be written to; else the user's cache has a folder for it alone, so that nothing is listed or
        cleared with it that is another's.  None = the user's cache itself.

    Raises
    ------
    UserError
        The user has no home folder, and ``XDG_CACHE_HOME`` names no other place.
    """
    if given is not None:
        return given
    if cohort_folder is not None and cohort_folder.is_dir() and os.access(cohort_folder, os.W_OK):
        return cohort_folder / ".cache"
    users = _users_cache() / "mtinet"
    if cohort_folder is None:
        return users
    place = cohort_folder.resolve()
    return users / "cohorts" / f"{place.name}-{hashlib.sha256(os.fsencode(place)).hexdigest()[:12]}"


def _users_cache() -> Path:
    """``XDG_CACHE_HOME``, else ``~/.cache``; as that standard says, a relative path does not count."""
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if given.is_absolute():
        return given
    try:
        return Path.home() / ".cache"
    except RuntimeError:  # a user without an entry, as in containers
        raise UserError(
            "this user has no home folder for a cache; set XDG_CACHE_HOME or HOME to a folder that can be written"
        ) from None


def study_key(content: Mapping[str, Any], phases: tuple[Phase, ...], settings: PreparationSettings) -> str:
    """Hash of everything that a prepared study depends on; ``content`` is that of :func:`study_content`."""
    described = {
        "revision": PREPARATION_REVISION,
        "settings": settings.model_dump(mode="json"),
        "phases": phases,
        **content,
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:KEY_LENGTH]


def study_content(study: Study, lesion_labels: Mapping[int, str]) -> dict[str, Any]:
    """What a study is, wherever it lies: metadata, lesion classes and a hash of each file, in JSON's types.

    Raises
    ------
    OSError
        A file of the study cannot be read.
    """
    return {
        "study": [study.study_id, study.patient_id, study.site, study.label, study.mask_phase],
        "times_s": dict(study.times_s),
        "lesions": {str(number): label for number, label in sorted(lesion_labels.items())},
        "files": {
            **{column: files.digest(path) for column, path in study.paths().items()},
            **{f"liver_mask_{phase}": files.digest(path) for phase, path in study.phase_livers.items()},
        },
    }


def find(cache: Path, study_id: str, key: str) -> PreparedStudy | None:
    """The prepared study of a key; None where there is none, or it is damaged (then it is removed)."""
    folder = _entry(cache, study_id, key)
    if not folder.is_dir():
        return None
    try:
        return PreparedStudy.open(folder)
    except (OSError, ValueError, KeyError, TypeError):
        shutil.rmtree(folder, ignore_errors=True)
        return None


def store(cache: Path, study: PreparedStudy, key: str) -> PreparedStudy:
    """Write a study that was prepared in memory and open it from there.

    Raises
    ------
    OSError
        The cache cannot be written to (full, or read-only).
    """
    folder = _entry(cache, study.study_id, key)
    with files.atomic_folder(folder) as temporary:
        replace(study, key=key).write(temporary)
    return PreparedStudy.open(folder)


def cache_entries(cache: Path) -> list[CacheEntry]:
    """What lies in a cache, by name."""
    entries = []
    for meta in sorted(cache.glob("*/meta.json")):
        if not _ENTRY_NAME.fullmatch(meta.parent.name):
            continue
        size = sum(file.stat().st_size for file in meta.parent.iterdir())
        study_id = json.loads(meta.read_text(encoding="utf-8")).get("study_id", "")
        entries.append(CacheEntry(meta.parent, study_id, meta.parent.name[-KEY_LENGTH:], size))
    return entries


def clear(cache: Path) -> int:
    """Remove every entry of a cache (and what broken-off writers left), nothing else; give their number."""
    entries = cache_entries(cache)
    for folder in [*(entry.folder for entry in entries), *cache.glob(".tmp-*")]:
        shutil.rmtree(folder)
    return len(entries)


def _entry(cache: Path, study_id: str, key: str) -> Path:
    """Folder of a key; the id is there for the eye only."""
    readable = re.sub(r"[^A-Za-z0-9._-]+", "_", study_id).strip(".")[:40] or "study"
    return cache / f"{readable}-{key}"
