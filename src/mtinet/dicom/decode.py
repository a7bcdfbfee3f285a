"""The voxels of a volume: stored values read or decoded, scaled, and put on the volume's grid.

Uncompressed pixels are read in this process once their length agrees with rows, columns and frames;
everything else is decoded in the child process of :mod:`mtinet.dicom.contained`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mtinet.dicom.contained import UnreadableError, shared_reader
from mtinet.dicom.headers import PixelFormat
from mtinet.dicom.intensity import Scaling
from mtinet.dicom.members import ZIP_ERRORS, open_member
from mtinet.dicom.sources import SourceFile
from mtinet.errors import UserError
from mtinet.volume import Volume

MAX_SIDE = 16384
"""Rows or columns beyond this are no MR image."""
MAX_VOXELS = 1 << 29
"""Largest volume, voxels (2 GiB of float32)."""


@dataclass(frozen=True)
class SliceSource:
    """Where the pixels of one slice lie and how they are scaled; ``frame`` from 0."""

    file: SourceFile
    format: PixelFormat
    frame: int
    scaling: Scaling


@dataclass(frozen=True)
class VolumeLoader:
    """Reads the voxels of one volume when called; it can be sent to another process.

    Attributes
    ----------
    slices : tuple of SliceSource
        Along the volume's third axis.
    affine : tuple of tuple of float
        Rows of the RAS affine.
    """

    slices: tuple[SliceSource, ...]
    affine: tuple[tuple[float, ...], ...]

    @property
    def grid(self) -> Volume:
        """The volume's grid without reading anything: its voxels are 0 and take no memory."""
        form = self.slices[0].format
        shape = (form.columns, form.rows, len(self.slices))
        return Volume(np.broadcast_to(np.uint8(0), shape), np.array(self.affine))

    def __call__(self) -> Volume:
        """The volume, ``float32``, axes (columns, rows, slices).

        Raises
        ------
        UnreadableError
            A file is damaged, or has been removed or changed since its header was read.
        """
        first = self.slices[0].format
        array = np.empty((first.columns, first.rows, len(self.slices)), dtype=np.float32)
        by_file: dict[SourceFile, list[int]] = {}
        for k, one in enumerate(self.slices):
            by_file.setdefault(one.file, []).append(k)
        for file, places in by_file.items():
            frames = [self.slices[k].frame for k in places]
            for k, stored in zip(places, stored_frames(file, self.slices[places[0]].format, frames)):
                scale = self.slices[k].scaling
                array[:, :, k] = (stored.T * np.float64(scale.slope) + scale.intercept).astype(np.float32)
        return Volume(array, np.array(self.affine))


@dataclass(frozen=True)
class RefusedLoader:
    """Stands where a volume cannot be whole; calling it raises."""

    message: str

    def __call__(self) -> Volume:
        """Raise the reason as a ``UserError``."""
        raise UserError(self.message)


def why_unusable(form: PixelFormat) -> str:
    """Why pixels cannot be a slice of a volume, from the header alone; empty if they can."""
    if not form.present:
        return "has no pixels: the file is truncated"
    if form.samples != 1:
        return "is a colour image"
    if not (0 < form.rows <= MAX_SIDE and 0 < form.columns <= MAX_SIDE):
        return f"states {form.rows} rows and {form.columns} columns"
    if form.bits_allocated not in (8, 16, 32):
        return f"stores {form.bits_allocated} bits a pixel"
    if not 0 < form.bits_stored <= form.bits_allocated or form.high_bit != form.bits_stored - 1:
        return f"stores {form.bits_stored} of {form.bits_allocated} bits, the highest being {form.high_bit}"
    if form.offset is not None and form.length < frame_bytes(form) * form.frames:
        return "has fewer pixels than its header states: the file is truncated"
    return ""


def frame_bytes(form: PixelFormat) -> int:
    """Bytes of one uncompressed frame."""
    return form.rows * form.columns * form.bits_allocated // 8


def stored_frames(
    file: SourceFile, form: PixelFormat, frames: Sequence[int]
) -> Iterator[NDArray[np.integer]]:
    """Stored values of frames (from 0) of one file, each rows x columns.

    Raises
    ------
    UnreadableError
    """
    if why := why_unusable(form):
        raise UnreadableError(file.name, "damaged", f"it {why}")
    if form.offset is not None:
        yield from _uncompressed(file, form, form.offset, frames)
        return
    for array in shared_reader().frames(file, frames):
        if array.shape != (form.rows, form.columns):
            raise UnreadableError(file.name, "damaged", f"its pixels have the shape {array.shape}")
        yield array


def _uncompressed(
    file: SourceFile, form: PixelFormat, offset: int, frames: Sequence[int]
) -> Iterator[NDArray[np.integer]]:
    size = frame_bytes(form)
    kind = "i" if form.signed else "u"
    order = ">" if form.big_endian else "<"
    dtype = np.dtype(f"{order}{kind}{form.bits_allocated // 8}")
    try:
        with open_member(file.path, file.member) as stream:
            for frame in frames:
                stream.seek(offset + frame * size)
                data = stream.read(size)
                if len(data) != size:
                    raise UnreadableError(file.name, "damaged", "it has been truncated since it was listed")
                array = np.frombuffer(data, dtype).reshape(form.rows, form.columns)
                yield _without_unused_bits(array, form)
    except ZIP_ERRORS as error:
        if isinstance(error, UnreadableError):
            raise
        raise UnreadableError(file.name, "damaged", f"it cannot be opened any more: {error}") from None


def _without_unused_bits(array: NDArray[np.integer], form: PixelFormat) -> NDArray[np.integer]:
    """Bits above the highest stored one may hold anything (old overlays); the sign is extended."""
    unused = form.bits_allocated - form.bits_stored
    if unused == 0:
        return array
    native = array.astype(array.dtype.newbyteorder("="))
    return (native << unused) >> unused
