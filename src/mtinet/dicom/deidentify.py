"""De-identification by the Basic Application Level Confidentiality Profile (DICOM PS3.15, Annex E).

What a cohort holds is images and tables: no DICOM attribute goes into it except the few numbers that are read
on purpose.  Ids become pseudonyms by a kept key, so that a later import gives the same patient the same one.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import re
import secrets
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Literal

from mtinet.errors import UserError

KEY_BYTES = 32

MEANING = {"X": "removed", "Z": "emptied", "D": "replaced", "U": "UID replaced"}
"""What the action codes do."""


class KeyFileError(UserError):
    """The key of the pseudonyms cannot be used; the message names the repair."""


_PSEUDONYM = re.compile(r"(study|patient)-[0-9a-f]{16}")


def is_pseudonym(text: str, what: Literal["study", "patient"] = "study") -> bool:
    """Whether an id of a study or patient has the form of those that :class:`Pseudonyms` gives."""
    found = _PSEUDONYM.fullmatch(text)
    return found is not None and found[1] == what


@dataclass(frozen=True)
class Pseudonyms:
    """Names that are a function of the original and a secret key (HMAC-SHA256).

    Without the key nobody can tell which patient a pseudonym stands for, not even by trying ids; with it a
    later import gives the same patient the same one.
    """

    key: bytes

    @classmethod
    def open(cls, key_file: Path | None = None) -> Pseudonyms:
        """Read the key, and make one first if there is none (32 random bytes, for its owner only).

        Parameters
        ----------
        key_file : Path, optional
            None = the user's own, ``~/.config/mtinet/pseudonyms.key``.

        Raises
        ------
        KeyFileError
            There is none and none can be made, or the file holds no key.
        """
        try:
            key_file = key_file or Path.home() / ".config" / "mtinet" / "pseudonyms.key"
        except RuntimeError:
            raise KeyFileError(
                "this user has no home directory for the key of the pseudonyms; give --key FILE, in a place that lasts"
            ) from None
        try:
            if not key_file.exists():
                _make_key(key_file)
            text = key_file.read_text(encoding="ascii")
        except OSError as error:
            raise KeyFileError(
                f"the key of the pseudonyms cannot be read or written at {key_file} ({error.strerror or error}); give "
                "another file with --key, in a place that lasts: with another key the same patient gets another id"
            ) from error
        except UnicodeDecodeError:
            text = ""
        try:
            key = bytes.fromhex(text.strip())
        except ValueError:
            key = b""
        if len(key) != KEY_BYTES:
            raise KeyFileError(
                f"{key_file} holds no key of {KEY_BYTES} bytes; give the key file of the first import, or "
                "another name for a new one (its patients get other ids)"
            )
        return cls(key)

    def patient(self, patient_id: str) -> str:
        """Pseudonym of a patient; spaces around an id do not count in DICOM.

        Raises
        ------
        KeyFileError
            An empty id: all patients without one would become the same.
        """
        if not patient_id.strip():
            raise KeyFileError(
                "a patient has no id, and pseudonyms need one; use the study's UID in its place"
            )
        return "patient-" + self._digest("patient", patient_id.strip())[:16]

    def study(self, study_uid: str) -> str:
        """Pseudonym of a study."""
        return "study-" + self._digest("study", study_uid.strip())[:16]

    def uid(self, uid: str) -> str:
        """UID in place of another one; the same in every file, so that references hold."""
        return f"2.25.{int(self._digest('uid', uid.strip())[:32], 16)}"

    def _digest(self, kind: str, text: str) -> str:
        return hmac.new(self.key, f"{kind}\n{text}".encode(), hashlib.sha256).hexdigest()


@dataclass(frozen=True)
class Dropped:
    """An attribute that does not leave.

    Attributes
    ----------
    tag : int
        Group and element; -1 stands for all private attributes.
    keyword : str
    action : str
        The profile's code: X removed, Z emptied, D replaced, U UID replaced; ``X/Z`` and the like depend on
        the object.
    files : int
        Files that have it.
    """

    tag: int
    keyword: str
    action: str
    files: int

    def __str__(self) -> str:
        place = "(odd groups)" if self.tag < 0 else f"({self.tag >> 16:04X},{self.tag & 0xFFFF:04X})"
        return f"{self.keyword} {place}: {MEANING[self.action[0]]} ({self.action}), {self.files} files"


def dropped_attributes(files: Mapping[int, int]) -> list[Dropped]:
    """Attributes that the profile removes or replaces, by tag; private ones last.

    Parameters
    ----------
    files : mapping
        Number of files by tag (see :func:`profile_tags`).
    """
    from pydicom.datadict import keyword_for_tag

    listed = [
        Dropped(tag, keyword_for_tag(tag) or "unknown", action, files[tag])
        for tag in sorted(files)
        if (action := action_of(tag)) and not _is_private(tag)
    ]
    private = sum(files[tag] for tag in files if _is_private(tag))
    return [*listed, *([Dropped(-1, "private attributes", "X", private)] if private else [])]


def profile_tags(tags: Iterable[int]) -> tuple[int, ...]:
    """Those of ``tags`` that the profile removes or replaces; all private ones together are the first of them."""
    chosen = [tag for tag in tags if action_of(tag)]
    private = [tag for tag in chosen if _is_private(tag)]
    return (*(tag for tag in chosen if not _is_private(tag)), *private[:1])


def action_of(tag: int) -> str:
    """Action code of the Basic Profile for a tag; empty where the attribute may stay."""
    if _is_private(tag):
        return "X"
    group, element = tag >> 16, tag & 0xFFFF
    if group & 0xFF00 == 0x5000 or (group & 0xFF00 == 0x6000 and element in (0x3000, 0x4000)):
        # curves, overlay data and comments
        return "X"
    return _profile().get(tag, "")


def _is_private(tag: int) -> bool:
    return bool(tag >> 16 & 1)


@cache
def _profile() -> dict[int, str]:
    """Action code by tag, of PS3.15 Table E.1-1; repeating groups are left to :func:`action_of`."""
    text = resources.files("mtinet.dicom").joinpath("confidentiality.csv").read_text(encoding="utf-8")
    rows = (line.split(",") for line in text.splitlines() if line and line[0] not in "#t")
    return {int(tag, 16): action for tag, action in rows if "x" not in tag}


def _make_key(key_file: Path) -> None:
    """Write a new key that only its owner may read; one that another process has just made is kept."""
    key_file.parent.mkdir(parents=True, exist_ok=True)
    temporary = key_file.with_name(f".tmp-{uuid.uuid4().hex[:8]}-{key_file.name}")
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:  # noqa: PTH123
            file.write(secrets.token_hex(KEY_BYTES) + "\n")
        with contextlib.suppress(FileExistsError):
            # unlike a rename, a link does not replace a key that is there
            os.link(temporary, key_file)
    finally:
        temporary.unlink(missing_ok=True)
