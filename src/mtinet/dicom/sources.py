"""The files of a folder, a zip or a single path, found without trusting their names or sizes.

Members of a zip are never written to disk under their own names: they are read where they lie.  What is
refused (a bomb, a path out of the archive, an archive in an archive) is named and the rest is read.
"""

from __future__ import annotations

import os
import stat
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path

from mtinet.dicom.members import MAX_MEMBER_BYTES, ZIP_ERRORS
from mtinet.errors import UnusableError
from mtinet.files import walk
from mtinet.results import Finding

MAX_MEMBERS = 500_000
MAX_DIRECTORY_BYTES = 64 << 20
"""Largest central directory of a zip, bytes: what is kept in memory of it is some ten times larger."""
MAX_RATIO = 250
"""Largest ratio of a member's size to its compressed size.  Images reach some tens; bombs a thousand."""
RATIO_FROM_BYTES = 1 << 20
"""Members below this size may have any ratio: an empty image of 512 x 512 is legitimate."""

_PEEK = 140
_ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar")
_NIFTI = (".nii", ".nii.gz")
_DICOM_SUFFIXES = (".dcm", ".dicom", ".ima", ".dic")
_NOT_ARCHIVED_DICOM = (".nii.gz", ".mgh.gz")


@dataclass(frozen=True)
class SourceFile:
    """A file, or a member of a zip.

    Attributes
    ----------
    path : Path
        The file, or the zip.
    member : str
        Name in the zip; empty for a file.
    name : str
        How findings call it: relative to the source.
    size : int
        Bytes, as the directory states.
    claims : bool
        It says itself that it is DICOM (the letters ``DICM``, or the suffix): if it cannot be read, that is
        named.  Others that turn out not to be DICOM are passed over.
    version : int
        Another one where the content is another: the time of its last change, or a member's checksum.
    """

    path: Path
    member: str
    name: str
    size: int
    claims: bool
    version: int = 0


def find_files(source: Path) -> tuple[list[SourceFile], list[Finding]]:
    """All files that may be DICOM, in a stable order, and what could not be looked at.

    Parameters
    ----------
    source : Path
        A folder (searched with all folders in it, linked ones too), a zip, or one file.

    Raises
    ------
    UnusableError
        ``source`` does not exist or cannot be listed.
    """
    if not source.exists():
        raise UnusableError(f"{source} does not exist; correct the path")
    files: list[SourceFile] = []
    findings: list[Finding] = []
    if not source.is_dir():
        _take(source, source.name, files, findings)
        return files, findings

    def unlisted(error: OSError) -> None:
        findings.append(
            unreadable(str(error.filename), f"cannot be listed ({error.strerror})", "Check the permissions.")
        )

    for path in walk(source, unlisted):
        _take(path, path.relative_to(source).as_posix(), files, findings)
    return files, findings


def _take(path: Path, name: str, files: list[SourceFile], findings: list[Finding]) -> None:
    """Put ``path`` into ``files`` if it may be DICOM, or its members if it is a zip."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            return  # a pipe or a device would never end
        with path.open("rb") as stream:
            head = stream.read(_PEEK)
    except OSError as error:
        findings.append(
            unreadable(name, f"cannot be read ({error.strerror})", "Check the permissions or copy it again.")
        )
        return
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")) and path.suffix.lower() in ("", ".zip"):
        _take_zip(path, name, files, findings)
    elif path.suffix.lower() == ".zip":
        why = "is no zip file, whatever its name says" if head else "is empty"
        findings.append(unreadable(name, why, "Copy or upload it again."))
    elif _is_archive(name):
        findings.append(_archive(name))
    elif (claims := claims_dicom(head, name)) is not None:
        files.append(SourceFile(path, "", name, status.st_size, claims, status.st_mtime_ns))


def claims_dicom(head: bytes, name: str) -> bool | None:
    """True: says that it is DICOM.  False: might be, without the preamble.  None: is something else."""
    if head[128:132] == b"DICM" or name.lower().endswith(_DICOM_SUFFIXES):
        return True
    if len(head) < 8:
        return None
    for order in ("<", ">"):
        group, element = struct.unpack(f"{order}HH", head[:4])
        if group in (2, 8) and element <= 0x0100:
            return False
    return None


def _is_archive(name: str) -> bool:
    lower = name.lower()
    return lower.endswith(_ARCHIVES) and not lower.endswith(_NOT_ARCHIVED_DICOM)


def _take_zip(path: Path, name: str, files: list[SourceFile], findings: list[Finding]) -> None:
    try:
        if _directory_bytes(path) > MAX_DIRECTORY_BYTES:
            findings.append(_refused_zip(name, "lists too many files"))
            return
        with zipfile.ZipFile(path) as archive:
            members = [m for m in archive.infolist() if not m.is_dir()]
            if len(members) > MAX_MEMBERS:
                findings.append(_refused_zip(name, f"lists more than {MAX_MEMBERS} files"))
                return
            size = path.stat().st_size
            if sum(m.file_size for m in members) > MAX_RATIO * max(size, RATIO_FROM_BYTES):
                findings.append(_refused_zip(name, f"would unpack to more than {MAX_RATIO} times its size"))
                return
            if not members:
                findings.append(unreadable(name, "is a zip without a file", "Export or copy it again."))
            before = len(files)
            for member in members:
                _take_member(archive, member, path, f"{name}/{member.filename}", files, findings)
            nifti = sum(member.filename.lower().endswith(_NIFTI) for member in members)
            if nifti and len(files) == before:
                findings.append(_nifti_in_zip(name, nifti))
    except ZIP_ERRORS as error:
        findings.append(unreadable(name, f"is no readable zip ({error})", "Export or copy it again."))


def _directory_bytes(path: Path) -> int:
    """Size of the central directory that the zip's end record states; 0 without one."""
    with path.open("rb") as stream:
        end = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, end - 66_000))
        tail = stream.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) < at + 16:
        return 0
    stated = int(struct.unpack("<L", tail[at + 12 : at + 16])[0])
    return min(stated, end)


def _take_member(
    archive: zipfile.ZipFile,
    member: zipfile.ZipInfo,
    path: Path,
    name: str,
    files: list[SourceFile],
    findings: list[Finding],
) -> None:
    if why := _unsafe(member):
        findings.append(
            Finding(
                "unsafe-member",
                "import",
                "error",
                f"it is not read: {why}",
                "Export the images again, or unpack the archive with a tool you trust and import the folder.",
                case=name,
            )
        )
        return
    if _is_archive(member.filename):
        findings.append(_archive(name))
        return
    try:
        with archive.open(member) as stream:
            head = stream.read(_PEEK)
    except ZIP_ERRORS as error:
        findings.append(unreadable(name, f"cannot be unpacked ({error})", "Export or copy the zip again."))
        return
    if (claims := claims_dicom(head, member.filename)) is not None:
        files.append(SourceFile(path, member.filename, name, member.file_size, claims, member.CRC))


def _unsafe(member: zipfile.ZipInfo) -> str:
    """Why a member of a zip is not read; empty if it may be."""
    parts = member.filename.replace("\\", "/").split("/")
    if ".." in parts or parts[0] == "" or ":" in parts[0]:
        return "its name leads out of the archive"
    if stat.S_ISLNK(member.external_attr >> 16):
        return "it is a link"
    if member.flag_bits & 1:
        return "it is encrypted"
    if member.file_size > MAX_MEMBER_BYTES:
        return f"it would unpack to {member.file_size >> 20} MiB (more than {MAX_MEMBER_BYTES >> 20})"
    if member.file_size > RATIO_FROM_BYTES and member.file_size > MAX_RATIO * member.compress_size:
        return f"it would unpack to more than {MAX_RATIO} times its size"
    return ""


def unreadable(name: str, why: str, repair: str) -> Finding:
    """The finding for a file that cannot be read."""
    return Finding("unreadable-file", "import", "error", f"it {why}", repair, case=name)


def _archive(name: str) -> Finding:
    return Finding(
        "archive",
        "import",
        "warning",
        "it is an archive in the source and is not opened",
        "Unpack it and import the folder.",
        case=name,
    )


def _nifti_in_zip(name: str, count: int) -> Finding:
    return Finding(
        "nifti-in-zip",
        "import",
        "warning",
        f"it holds NIfTI ({count} {'files' if count > 1 else 'file'}) and no DICOM; NIfTI is not read in a zip",
        "Unpack it and give the folder.",
        case=name,
    )


def _refused_zip(name: str, why: str) -> Finding:
    return Finding(
        "zip-refused",
        "import",
        "error",
        f"it {why}",
        "If you trust it, unpack it and import the folder.",
        case=name,
    )
