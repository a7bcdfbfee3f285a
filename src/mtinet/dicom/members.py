"""Opening a file, or a member of a zip where it lies; light, because the child process starts with it."""

from __future__ import annotations

import io
import zipfile
import zlib
from functools import lru_cache
from pathlib import Path
from typing import IO

MAX_MEMBER_BYTES = 512 << 20
"""Largest member of a zip that is read, bytes; larger ones must be unpacked."""

ZIP_ERRORS = (
    zipfile.BadZipFile,
    NotImplementedError,
    RuntimeError,
    OSError,
    EOFError,
    zlib.error,
    ValueError,
)
"""What reading a damaged, encrypted or unsupported zip raises."""


def open_member(path: Path, member: str) -> IO[bytes]:
    """The file, or the whole member of a zip in memory, opened for reading.

    Raises
    ------
    OSError, zipfile.BadZipFile, RuntimeError, EOFError, ValueError, NotImplementedError, zlib.error
        It cannot be read (:data:`ZIP_ERRORS`).
    """
    if not member:
        return path.open("rb")
    status = path.stat()
    archive = _opened(path, (status.st_size, status.st_mtime_ns))
    try:
        if archive.getinfo(member).file_size > MAX_MEMBER_BYTES:
            raise ValueError(f"the member is larger than {MAX_MEMBER_BYTES >> 20} MiB")
    except KeyError:
        raise zipfile.BadZipFile("the member is no longer there") from None
    return io.BytesIO(archive.read(member))


def close_zip() -> bool:
    """Close the zip that stays open; whether there was one."""
    held = _opened.cache_info().currsize > 0
    _opened.cache_clear()
    return held


@lru_cache(maxsize=1)
def _opened(path: Path, version: tuple[int, int]) -> zipfile.ZipFile:  # noqa: ARG001 (another file is opened anew)
    """A zip that stays open: its directory is as long as it has members, and would be read for each of them."""
    return zipfile.ZipFile(path)
