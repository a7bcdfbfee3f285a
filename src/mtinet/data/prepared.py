"""A prepared study: all its phases on one grid in normalised units, and what is known about its lesions.

On disk a prepared study is a folder with ``image.npy`` (float32), ``mask.npy`` and ``liver.npy`` (uint8),
``deformation_<phase>.npy`` (control points, float64) and ``meta.json``; the arrays are memory-mapped.  In
memory it is the same without a folder.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtinet import files
from mtinet.config import Phase
from mtinet.imaging.deformation import Deformation
from mtinet.imaging.motion import Motion
from mtinet.imaging.resampling import resample
from mtinet.volume import Volume

_MOST_MAPS = 192
"""Memory maps that a process keeps: each holds a file open, of which some systems allow 256."""


@dataclass(frozen=True)
class PreparedLesion:
    """A reference lesion on the prepared grid.

    Attributes
    ----------
    number : int
        Its value in the mask.
    label : str
        Class; empty for unknown.
    voxels : int
        On the prepared grid.
    diameter_mm : float
        Of the ball of the same volume, measured on the mask as it was drawn.
    enhancement : dict
        Mean normalised signal over its mask by phase: the observed truth.  A phase that is missing, or whose
        field of view does not cover the lesion, is left out.
    box : tuple of (int, int)
        First voxel and the one after the last along z, y, x.
    """

    number: int
    label: str
    voxels: int
    diameter_mm: float
    enhancement: dict[Phase, float]
    box: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """The box as slices of a [Z, Y, X] array."""
        z, y, x = (slice(a, b) for a, b in self.box)
        return z, y, x


@dataclass(frozen=True, eq=False)
class PreparedStudy:
    """A study ready for a network.

    Attributes
    ----------
    study_id, patient_id, site, label : str
        As in the cohort.
    phases : tuple of str
        Phases asked for, in the order of the image's first axis.
    present : tuple of bool
        Which of them the study has; the image is 0 where one is missing.
    times_s : tuple of float
        Seconds from the start of injection by phase, NaN where unknown.
    reference_phase : str
        The phase whose field of view and grid the study was brought to.
    gain : float
        Signal of the value 1, in the study's own units.
    affine : ndarray, shape (4, 4)
        Prepared voxel (x, y, z) to world millimetres.
    source_shape, source_affine
        Grid of the reference phase as stored, to which results go back.
    lesions : tuple of PreparedLesion
        From the largest to the smallest; empty without a mask.
    registrations : dict
        Record of the registration by phase (:meth:`mtinet.imaging.registration.Registration.to_dict`, with
        ``matrix`` and ``lattice`` of its motion, ``lesion_volume_change`` and ``liver_dice_before, _after``).
    bias_range : tuple of float, or None
        Smallest and largest value of the receive field that all phases were divided by; None without N4.
    lost_lesions : tuple of int
        Numbers of the drawn mask that lie outside the prepared field of view.
    folder : Path or None
        Where the arrays lie that are not in memory.
    key : str
        Hash of content and settings; empty where it was prepared in memory.
    image_hashes : tuple of str
        Of the image files that it was prepared from: they tell it under any id, in any cohort.  They are no part
        of the folder; empty where it was prepared in memory.
    memory : mapping of str to ndarray
        Arrays in memory, by name; they go before those in the folder.
    """

    study_id: str
    patient_id: str
    site: str
    label: str
    phases: tuple[Phase, ...]
    present: tuple[bool, ...]
    times_s: tuple[float, ...]
    reference_phase: Phase
    gain: float
    affine: NDArray[np.float64]
    source_shape: tuple[int, int, int]
    source_affine: NDArray[np.float64]
    has_mask: bool
    has_liver: bool
    lesions: tuple[PreparedLesion, ...] = ()
    registrations: dict[str, dict[str, Any]] = field(default_factory=dict)
    bias_range: tuple[float, float] | None = None
    lost_lesions: tuple[int, ...] = ()
    folder: Path | None = None
    key: str = ""
    image_hashes: tuple[str, ...] = ()
    memory: Mapping[str, NDArray[Any]] = field(default_factory=dict, repr=False)

    @property
    def image(self) -> NDArray[np.float32]:
        """Normalised signal, shape [P, Z, Y, X]; a memory map where the study lies on disk."""
        return self._array("image")

    @property
    def mask(self) -> NDArray[np.uint8] | None:
        """Lesion numbers, shape [Z, Y, X]; None where the lesions are unknown."""
        return self._array("mask") if self.has_mask else None

    @property
    def liver(self) -> NDArray[np.uint8] | None:
        """1 in the liver, shape [Z, Y, X]; None without a liver mask."""
        return self._array("liver") if self.has_liver else None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along z, y, x."""
        _, z, y, x = self.image.shape
        return z, y, x

    @cached_property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size along z, y, x."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(z), float(y), float(x)

    def motion(self, phase: str) -> Motion:
        """How a phase was moved onto the reference; no motion for the reference itself."""
        record = self.registrations.get(phase)
        if record is None:
            return Motion()
        deformation = None
        if record["lattice"] is not None:
            coefficients = np.array(self._array(f"deformation_{phase}"))
            deformation = Deformation(coefficients, np.array(record["lattice"]))
        return Motion(np.array(record["matrix"]), deformation)

    def _array(self, name: str) -> NDArray[Any]:
        if name in self.memory:
            return self.memory[name]
        if self.folder is None:
            raise KeyError(f"study {self.study_id}: there is no array {name} in memory")
        # not held by the study, which stays cheap to send to another process
        path = f"{self.folder}/{name}.npy"
        found = os.stat(path)  # noqa: PTH116 (a path object costs more than the call)
        return _mapped(path, found.st_size, found.st_mtime_ns)

    def write(self, folder: Path) -> None:
        """Write the arrays and the description into an existing folder."""
        for name, array in self.memory.items():
            np.save(folder / f"{name}.npy", array)
        apart = ("memory", "folder", "lesions", "image_hashes")
        meta = {one.name: getattr(self, one.name) for one in fields(self) if one.name not in apart}
        meta["lesions"] = [asdict(lesion) for lesion in self.lesions]
        files.write_json(folder / "meta.json", meta)

    @classmethod
    def open(cls, folder: Path) -> PreparedStudy:
        """Open what :meth:`write` wrote; the arrays stay on disk.

        Raises
        ------
        OSError, ValueError, KeyError, TypeError
            The folder is incomplete or damaged.
        """
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        lesions = tuple(
            PreparedLesion(**{**item, "box": tuple(tuple(ends) for ends in item["box"])})
            for item in meta.pop("lesions")
        )
        for name in ("affine", "source_affine"):
            meta[name] = np.array(meta[name], dtype=np.float64)
        for name in ("phases", "present", "source_shape"):
            meta[name] = tuple(meta[name])
        meta["lost_lesions"] = tuple(meta["lost_lesions"])
        meta["bias_range"] = None if meta["bias_range"] is None else tuple(meta["bias_range"])
        meta["times_s"] = tuple(math.nan if t is None else float(t) for t in meta["times_s"])
        study = cls(**meta, lesions=lesions, folder=folder)
        shapes = {array.shape[-3:] for array in (study.image, study.mask, study.liver) if array is not None}
        if len(shapes) != 1:
            raise ValueError(f"the arrays in {folder} differ in shape")
        return study


@lru_cache(maxsize=_MOST_MAPS)
def _mapped(path: str, size: int, changed_ns: int) -> NDArray[Any]:  # noqa: ARG001
    """An array on disk as a memory map, those used last kept open: opening one costs more than a patch.

    Size and time of change are part of the key: a file that was written anew is opened anew, and one that
    was cut short is an error, where reading behind its end through an old map would end the process.
    """
    # as a plain array: numpy's class for maps makes every slice of one a slow Python call
    return np.asarray(np.load(path, mmap_mode="r"))


def to_source_grid(values: NDArray[Any], prepared: PreparedStudy) -> NDArray[np.float32]:
    """Bring a map from the prepared grid back to the reference phase's own grid.

    Parameters
    ----------
    values : ndarray, shape (Z, Y, X)
        For example the lesion probability.
    prepared : PreparedStudy

    Returns
    -------
    ndarray of float32, shape ``prepared.source_shape`` (X, Y, Z as stored)
        Linear interpolation; 0 outside the prepared field of view.
    """
    if values.shape != prepared.shape:
        raise ValueError(
            f"study {prepared.study_id}: a map of shape {values.shape} does not lie on the prepared grid "
            f"{prepared.shape} (z, y, x)"
        )
    volume = Volume(values.transpose(2, 1, 0), prepared.affine)
    return resample(volume, prepared.source_shape, prepared.source_affine).array
