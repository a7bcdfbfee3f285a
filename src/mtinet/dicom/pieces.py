"""Segments of masks as voxels of a grid, and their numbering as lesions; what every format's reader gives."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtinet.cohort import MAX_LESIONS
from mtinet.errors import UserError
from mtinet.results import Finding, Severity
from mtinet.volume import SNAP_VOXELS, Volume

BoolArray = NDArray[np.bool_]


class MaskError(UserError):
    """A mask cannot be used; the message names the file, the cause and the repair."""


@dataclass(frozen=True)
class Reference:
    """An image that a mask refers to; ``frame`` is from 1, and 0 where the whole instance is meant."""

    instance_uid: str
    frame: int = 0


@dataclass(frozen=True)
class Piece:
    """One segment on a grid.

    Attributes
    ----------
    name : str
    voxels : ndarray of bool
        Shape of the volume.
    code : str
        Meaning of its code, where the file codes it.
    number : int
        Lesion number that it keeps; 0 = none yet.
    """

    name: str
    voxels: BoolArray
    code: str = ""
    number: int = 0

    @property
    def called(self) -> str:
        """Its name with what its code adds."""
        adds = self.code.lower() not in self.name.lower()
        return f"{self.name} ({self.code})" if adds else self.name


@dataclass(frozen=True)
class Sources:
    """What a mask says about the images that it was drawn on.

    Attributes
    ----------
    references : list of Reference
    series_uids : list of str
    frame_of_reference_uid : str
    """

    references: list[Reference] = field(default_factory=list)
    series_uids: list[str] = field(default_factory=list)
    frame_of_reference_uid: str = ""


def place(
    voxels: NDArray[Any], affine: NDArray[np.float64], grid: Volume, path: Path, whole: bool = False
) -> BoolArray:
    """A mask's voxels on a grid of which its own is a part, with axes permuted and flipped at will.

    Parameters
    ----------
    voxels : ndarray, shape (X, Y, Z)
        True (or not 0) inside.
    affine : ndarray, shape (4, 4)
        Its voxel indices to RAS.
    grid : Volume
    path : Path
        For the message.
    whole : bool
        The two grids must cover the same box.

    Raises
    ------
    MaskError
        The mask lies on another grid, or reaches out of this one.
    """
    between = np.linalg.inv(grid.affine) @ affine
    exact = np.rint(between)
    corners = np.array([(*c, 1) for c in itertools.product(*((0, n - 1) for n in voxels.shape))])
    off = np.abs(corners @ (between - exact).T).max()
    turned = np.abs(exact[:3, :3])
    if off > SNAP_VOXELS or not (np.all(turned.sum(axis=0) == 1) and np.all(turned.sum(axis=1) == 1)):
        raise MaskError(
            f"{path} lies on another grid than the volume that it belongs to (off by {off:.1f} voxels); "
            "export it on that volume's grid"
        )
    ends = (corners @ exact.T)[:, :3]
    if whole and not (np.all(ends.min(axis=0) == 0) and np.all(ends.max(axis=0) == np.array(grid.shape) - 1)):
        raise MaskError(f"{path} covers another box than the volume; export it on that volume's grid")
    inside = np.argwhere(voxels)
    at = np.rint(inside @ exact[:3, :3].T + exact[:3, 3]).astype(int)
    if len(at) and (at.min() < 0 or np.any(at.max(axis=0) >= grid.shape)):
        raise MaskError(f"{path} reaches beyond the volume that it belongs to; import the whole series")
    placed = np.zeros(grid.shape, dtype=bool)
    placed[tuple(at.T)] = True
    return placed


def number_pieces(
    path: Path, grid: Volume, pieces: Sequence[Piece], after: int = 0
) -> tuple[Volume, dict[int, str], list[Finding]]:
    """Number segments as lesions on a grid; the smaller of two that overlap keeps the common voxels.

    A segment keeps the number that it has, the first of two with the same one; the others get the next ones, which
    are 1..K where none has any.

    Parameters
    ----------
    path : Path
        For messages.
    grid : Volume
    pieces : sequence of Piece
    after : int
        Numbers up to this one are given to nobody anew while there are others.

    Returns
    -------
    labels : Volume
        ``uint8``; empty segments are left out.
    names : dict
        The segments' names by number, in the order of the segments.
    findings : list of Finding
    """
    lesions = [piece for piece in pieces if piece.voxels.any()]
    if len(lesions) > MAX_LESIONS:
        raise MaskError(
            f"{path} holds {len(lesions)} segments, and a mask numbers at most {MAX_LESIONS}; split it"
        )
    numbers = _numbers([piece.number for piece in lesions], after)
    labels = np.zeros(grid.shape, dtype=np.uint8)
    for n in sorted(range(len(lesions)), key=lambda n: (-int(lesions[n].voxels.sum()), n)):
        labels[lesions[n].voxels] = numbers[n]
    names = {number: piece.called for number, piece in zip(numbers, lesions, strict=True)}
    return grid.with_array(labels), names, _segment_findings(path, pieces)


def _numbers(own: Sequence[int], after: int) -> list[int]:
    """Numbers of segments that may have one (else 0), each once."""
    first = {number: place for place, number in reversed(list(enumerate(own))) if number}
    top = max(after, *first, 0)
    free = iter(n for n in (*range(top + 1, MAX_LESIONS + 1), *range(1, top + 1)) if n not in first)
    return [number if first.get(number) == place else next(free) for place, number in enumerate(own)]


def _segment_findings(path: Path, pieces: Sequence[Piece]) -> list[Finding]:
    """Segments that are empty, and pairs that overlap."""
    found = [
        mask_finding(
            "empty-segment",
            "note",
            path,
            f"segment {piece.called!r} is empty",
            "Ignore it or draw it again.",
        )
        for piece in pieces
        if not piece.voxels.any()
    ]
    for piece, other in itertools.combinations(pieces, 2):
        common = int((piece.voxels & other.voxels).sum())
        if common:
            meaning = f"segments {piece.called!r} and {other.called!r} share {common} voxels"
            action = "The smaller keeps them; remove one if it is the same lesion drawn twice."
            found.append(mask_finding("overlapping-segments", "warning", path, meaning, action))
    return found


def mask_finding(id_: str, severity: Severity, path: Path, meaning: str, action: str) -> Finding:
    """A finding about a file, stage ``import``."""
    return Finding(
        id=id_, stage="import", severity=severity, meaning=f"{path.name}: {meaning}", action=action
    )
