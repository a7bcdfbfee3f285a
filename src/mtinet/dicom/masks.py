"""Masks that come with DICOM: onto which volume of a study they belong, and lesions numbered on its grid.

:func:`read_masks` reads DICOM SEG and RTSTRUCT, :func:`read_mask_image` NIfTI and NRRD.  The images that a
file refers to decide about the volume; where it names none, or only an instance that holds several, the frame
of reference and the geometry do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mtinet.dicom import rtstruct, seg
from mtinet.dicom.decode import VolumeLoader
from mtinet.dicom.headers import MASK_CLASSES
from mtinet.dicom.mask_images import read_layers
from mtinet.dicom.members import ZIP_ERRORS, open_member
from mtinet.dicom.pieces import MaskError, Piece, Sources, mask_finding, number_pieces, place
from mtinet.dicom.quiet import silence
from mtinet.dicom.series import SeriesInfo
from mtinet.dicom.structures import Kind, kind_of, names_lesion
from mtinet.dicom.study import DicomSeries, DicomVolume
from mtinet.results import Finding
from mtinet.volume import Volume

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


@dataclass(frozen=True)
class MaskOnVolume:
    """Lesions, and the liver, on the grid of a volume of a study.

    Attributes
    ----------
    series_uid : str
    volume_index : int
    labels : Volume
        ``uint8``, lesions numbered 1..K in the order of the file; empty ones are left out.  A structure whose
        name tells nothing is a lesion where no other is called one.
    names : dict
        The lesions' names by number.
    source : str
        Kind of file: ``SEG``, ``RTSTRUCT``, ``NIfTI`` or ``NRRD``.
    liver : Volume or None
        The liver with all that lies in it, where the file outlines it.
    kinds : dict
        Every structure's kind by its name.
    candidates : tuple of (series_uid, volume_index)
        Every volume that the mask may have been drawn on, the chosen one first; more than one where the file
        does not tell volumes of one grid apart.
    findings : tuple of Finding
        Stage ``import``: overlapping and empty segments, and where the volume was not certain.
    """

    series_uid: str
    volume_index: int
    labels: Volume
    names: dict[int, str]
    source: str
    liver: Volume | None = None
    kinds: dict[str, Kind] = field(default_factory=dict)
    candidates: tuple[tuple[str, int], ...] = ()
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class Target:
    """A volume that a mask may belong to."""

    series: DicomSeries
    index: int

    @property
    def volume(self) -> DicomVolume:
        """The volume of the study."""
        return self.series.volumes[self.index]

    @property
    def key(self) -> tuple[str, int]:
        """Series and number of the volume."""
        return self.series.info.series_uid, self.index

    @property
    def grid(self) -> Volume:
        """Where its voxels lie; they are not read."""
        load = self.volume.info.load
        assert isinstance(load, VolumeLoader), "volumes that cannot be used are no targets"
        return load.grid


def read_masks(path: Path, series: Sequence[DicomSeries], member: str = "") -> MaskOnVolume:
    """Read a DICOM segmentation or structure set onto the volume that it was drawn on.

    Parameters
    ----------
    path : Path
    series : sequence of DicomSeries
        Those of the study.
    member : str
        Its name where ``path`` is a zip; it is read where it lies.

    Returns
    -------
    MaskOnVolume
        A fractional segment counts where it is at least one half; contours of a structure count by parity
        (the inside of an inner contour is a hole).

    Raises
    ------
    MaskError
        Not a DICOM mask, damaged, of another study, off every volume's grid, or with too many segments.
    """
    dataset = read_dataset(path, member)
    path = path / member
    kind = MASK_CLASSES[dataset.SOPClassUID]
    reader = seg if kind == "SEG" else rtstruct
    targets = find_targets(path, reader.sources_of(dataset), series)
    problems: list[MaskError] = []
    for target in targets:
        grid = target.grid
        try:
            pieces, notes = reader.pieces_of(dataset, grid, path)
        except MaskError as error:
            problems.append(error)
            continue
        certain = [t.key for t in targets if t.grid.corner_distance_mm(grid) < 0.01]
        return number(path, kind, target, grid, pieces, tuple(certain), notes)
    raise problems[0]


def read_mask_image(path: Path, volumes: Sequence[DicomVolume], name: str = "") -> MaskOnVolume:
    """Read a NIfTI or NRRD mask onto the volume whose grid it matches.

    Its axes may be permuted and flipped against the volume's.  Values are lesions, in rising order; in the
    files of 3D Slicer the segments and their names.

    Parameters
    ----------
    path : Path
    volumes : sequence of DicomVolume
    name : str
        What the structure of a file with one value is called.

    Returns
    -------
    MaskOnVolume
        ``volume_index`` counts in ``volumes``; ``series_uid`` is empty.

    Raises
    ------
    MaskError
        The file cannot be read, or lies on no volume's grid.
    """
    kind, affine, named = read_layers(path)
    if len(named) == 1 and named[0][0].isdecimal():
        named = [(name, named[0][1])]
    group = DicomSeries(SeriesInfo("", ""), tuple(volumes))
    found: list[tuple[Target, Volume, list[Piece]]] = []
    for target in _targets([group]):
        grid = target.grid
        # looked at first: to place the voxels takes longer
        if not named or sorted(grid.shape) != sorted(named[0][1].shape):
            continue
        try:
            pieces = [
                Piece(called, place(voxels, affine, grid, path, whole=True)) for called, voxels in named
            ]
        except MaskError:
            continue
        found.append((target, grid, pieces))
    if not found:
        raise MaskError(
            f"{path} lies on the grid of none of the study's volumes; export it on the grid of the phase on "
            "which it was drawn, or give it to the study that it belongs to"
        )
    target, grid, pieces = found[0]
    return number(path, kind, target, grid, pieces, tuple(t.key for t, _, _ in found), [])


def find_targets(path: Path, sources: Sources, series: Sequence[DicomSeries]) -> list[Target]:
    """Volumes that a mask may belong to, the likeliest first.

    Raises
    ------
    MaskError
        It refers to images of which the study has none, or the study has no volume in its frame of reference.
    """
    targets = _targets(series)
    votes: Counter[int] = Counter()
    wanted = {r.instance_uid: {q.frame for q in sources.references if q.instance_uid == r.instance_uid}
              for r in sources.references}  # fmt: skip
    for number_, target in enumerate(targets):
        volume = target.volume
        for uid in set(volume.instance_uids) & wanted.keys():
            frames = wanted[uid] - {0}
            votes[number_] += (
                len(frames & set(volume.frame_numbers)) if frames and volume.frame_numbers else 1
            )
    best = max(votes.values(), default=0)
    if best:
        return [targets[n] for n in range(len(targets)) if votes[n] == best]
    in_series = [t for t in targets if t.series.info.series_uid in sources.series_uids]
    if in_series:
        return in_series
    if sources.references or sources.series_uids:
        raise MaskError(
            f"{path} refers to images that are not among those of the study that can be used; import it "
            "together with the series that it was drawn on"
        )
    here = sources.frame_of_reference_uid
    found = [t for t in targets if not here or t.series.frame_of_reference_uid in ("", here)]
    if not found:
        raise MaskError(
            f"{path} lies in another frame of reference than every series of the study; import it together "
            "with the series that it was drawn on"
        )
    return found


def number(
    path: Path,
    kind: str,
    target: Target,
    grid: Volume,
    pieces: Sequence[Piece],
    candidates: tuple[tuple[str, int], ...],
    findings: Sequence[Finding],
) -> MaskOnVolume:
    """Lesions numbered on a volume of a study, and the liver; other structures are left out."""
    kinds: dict[str, Kind] = {piece.called: kind_of(piece.name, piece.code) for piece in pieces}
    if any(names_lesion(piece.name, piece.code) for piece in pieces if piece.voxels.any()):
        kinds |= {called: "passed over" for called, kind in kinds.items() if kind == "unknown"}
    marked = [p for p in pieces if kinds[p.called] in ("lesion", "unknown") or not p.voxels.any()]
    labels, names, notes = number_pieces(path, grid, marked)
    whole = [p.voxels for p in pieces if kinds[p.called] == "liver" and p.voxels.any()]
    listed = [*findings, *notes]
    if len(candidates) > 1:
        listed.append(
            mask_finding(
                "mask-volume",
                "note",
                path,
                f"the file does not tell on which of {len(candidates)} volumes of one grid it was drawn",
                "Name the phase in the column mask_phase of the labels if lesions look displaced.",
            )
        )
    chosen = (target.key, *(key for key in candidates if key != target.key))
    return MaskOnVolume(
        *target.key,
        labels=labels,
        names=names,
        source=kind,
        liver=grid.with_array(np.any(whole, axis=0).astype(np.uint8)) if whole else None,
        kinds=kinds,
        candidates=chosen,
        findings=tuple(listed),
    )


def read_dataset(path: Path, member: str = "") -> Dataset:
    """The dataset of a DICOM segmentation or structure set, which may be a member of a zip.

    Raises
    ------
    MaskError
        There is no such file, or it holds something else.
    """
    import pydicom
    from pydicom.errors import InvalidDicomError

    try:
        with silence(), open_member(path, member) as stream:
            dataset = pydicom.dcmread(stream, force=False)
            kind = dataset.get("SOPClassUID", "")
    except FileNotFoundError:
        raise MaskError(f"{path} does not exist; correct the path") from None
    except (InvalidDicomError, *ZIP_ERRORS, AttributeError) as error:
        raise MaskError(
            f"{path / member} cannot be read as DICOM ({error}); export or copy it again"
        ) from None
    if kind not in MASK_CLASSES:
        raise MaskError(
            f"{path / member} is neither a DICOM segmentation nor a structure set; give SEG, RTSTRUCT, NIfTI or NRRD"
        )
    return dataset


def _targets(series: Sequence[DicomSeries]) -> list[Target]:
    """Every volume that can be used."""
    return [
        Target(one, k)
        for one in series
        for k, volume in enumerate(one.volumes)
        if isinstance(volume.info.load, VolumeLoader)
    ]
