"""Registration against known displacement: ``python benchmarks/registration.py``.

Virtual patients of the development scanners, of a seed that nothing else uses, breathe by a known field.
Every phase is registered to the portal venous one as ``mtinet prepare --set
preparation.registration=bspline`` does, with the liver's mask and without, and held against that field.
Prints a table and the gates and exits 1 where a gate is missed; ``--docs docs`` also fills
docs/registration.md.  ``--time 5`` measures seconds a phase at 192 x 192 x 64.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from page import markdown, put_into
from scipy import ndimage

from mtinet import files
from mtinet.cohort import Cohort, Study
from mtinet.config import PreparationSettings, SimulationSettings, resolve_simulation
from mtinet.data.alignment import target_of
from mtinet.imaging.motion import Motion
from mtinet.imaging.registration import register
from mtinet.volume import Volume, read_nifti
from mtinet.workflows.pool import for_each
from mtinet.workflows.simulate import simulate

COMMAND = "python benchmarks/registration.py"
SEED = 5000
BREATHING_MM = (3.0, 8.0)
"""The presets' breathing, and one whose largest displacements are the two centimetres seen in real data."""

SIZE = (192, 192, 64)
FIELD_MM = (384.0, 320.0, 192.0)

RESIDUAL_MM, LARGE_MM, LARGE_SHARE = 1.0, 3.0, 0.5
VOLUME_CHANGE = 0.05
SECONDS = 25.0


# ---------------------------------------------------------------------- measures
def displacement(cohort: Cohort, study: Study, phase: str) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """The true field of a phase along the axes of its grid, mm, shape (X, Y, Z, 3), and the grid's affine."""
    image = nib.load(cohort.folder / "truth" / study.study_id / f"displacement_{phase}.nii.gz")
    return np.asarray(image.dataobj, dtype=np.float32), image.affine


def mapped_mm(motion: Motion, reference: Volume) -> NDArray[np.float64]:
    """Where the reference's voxels lie in the phase, shape (X, Y, Z, 3)."""
    points = np.stack(np.meshgrid(*map(np.arange, reference.shape), indexing="ij"), axis=-1)
    world = points @ reference.affine[:3, :3].T + reference.affine[:3, 3]
    if motion.deformation is not None:
        world = world + motion.deformation.on_grid(reference.affine, (0, 0, 0), reference.shape)
    inverse = np.linalg.inv(motion.matrix)
    return np.asarray(world @ inverse[:3, :3].T + inverse[:3, 3])


def residual_mm(
    motion: Motion, reference: Volume, field: NDArray[np.float32], affine: NDArray[np.float64]
) -> NDArray[np.float64]:
    """How far each voxel of the reference is from where its content came from, mm, shape (X, Y, Z).

    What is seen at y in the phase lies at y - d(y) in the reference phase.
    """
    mapped = mapped_mm(motion, reference)
    inverse = np.linalg.inv(affine)
    at = np.moveaxis(mapped @ inverse[:3, :3].T + inverse[:3, 3], -1, 0)
    along = [ndimage.map_coordinates(field[..., a], at, order=1, mode="nearest") for a in range(3)]
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    came_from = mapped - np.stack(along, axis=-1) @ axes.T
    still = mapped_mm(Motion(), reference)
    return np.asarray(np.linalg.norm(came_from - still, axis=-1))


def volumes_mm3(mask: Volume, motion: Motion, reference: Volume) -> dict[int, float]:
    """Volume of every lesion brought to the reference, by the linear weight of its voxels."""
    found = {}
    for number in np.unique(mask.array)[1:]:
        one = mask.with_array((mask.array == number).astype(np.float32))
        found[int(number)] = float(
            motion.image(one, reference.shape, reference.affine).array.sum(dtype=float)
        )
    return {number: total * reference.voxel_mm3 for number, total in found.items()}


def lesion_rows(
    cohort: Cohort, study: Study, phase: str, image: Volume, reference: Volume, motion: Motion
) -> Iterator[dict[str, float]]:
    """Volume and enhancement of each lesion that both phases show, before and after."""
    mask = read_nifti(study.mask, labels=True)
    own = read_nifti(study.images[phase].with_name(f"mask_{phase}.nii.gz"), labels=True)
    drawn, moved = volumes_mm3(own, Motion(), own), volumes_mm3(own, motion, reference)
    rows = cohort.lesions[cohort.lesions["study_id"] == study.study_id]
    lesions = rows.set_index(rows["lesion"].astype(int))
    brought = {
        name: m.image(image, reference.shape, reference.affine, fill=np.nan).array
        for name, m in (("before", Motion()), ("after", motion))
    }
    for number in drawn:
        inside = mask.array == number
        # a lesion at the edge of the slices is not wholly seen in both phases
        edge = any((m.array[..., [0, -1]] == number).any() for m in (mask, own))
        if edge or not inside.any():
            continue
        truth = float(lesions.loc[number, f"noise_free_{phase}"])
        errors = {f"error_{n}": abs(float(a[inside].mean()) / truth - 1.0) for n, a in brought.items()}
        yield {"volume_change": moved[number] / drawn[number] - 1.0, "mm3": drawn[number], **errors}


def measure(settings: PreparationSettings, item: tuple[Cohort, Study, bool]) -> list[dict[str, Any]]:
    """Rows of a study: one a phase."""
    cohort, study, masked = item
    reference = read_nifti(study.images[study.reference_phase])
    liver = read_nifti(study.liver_mask, labels=True).array > 0
    start = time.perf_counter()
    target = target_of(study if masked else without_liver(study), reference)
    once = time.perf_counter() - start
    rows = []
    for phase in [p for p in study.images if p != study.reference_phase]:
        image = read_nifti(study.images[phase])
        start = time.perf_counter()
        found = register(image.canonical(), target.image, target.region, settings.control_point_mm)
        seconds = time.perf_counter() - start + once
        truth = displacement(cohort, study, phase)
        before = residual_mm(Motion(), reference, *truth)[liver]
        after = residual_mm(found.motion, reference, *truth)[liver]
        lesions = pd.DataFrame(lesion_rows(cohort, study, phase, image, reference, found.motion))
        rows.append(
            {
                "study_id": study.study_id,
                "phase": phase,
                "region": "liver" if masked else "body",
                "applied": found.applied,
                "outcome": found.outcome,
                "reason": found.reason,
                "in_plane_mm": max(reference.spacing_mm[:2]),
                "before_mm": float(np.median(before)),
                "after_mm": float(np.median(after)),
                "after_p95_mm": float(np.percentile(after, 95)),
                "similarity_before": found.similarity_before,
                "similarity_after": found.similarity_after,
                "jacobian_min": found.jacobian_min,
                "jacobian_max": found.jacobian_max,
                "lesions": len(lesions),
                "volume_change": float(lesions["volume_change"].abs().max()) if len(lesions) else np.nan,
                "error_before": float(lesions["error_before"].mean()) if len(lesions) else np.nan,
                "error_after": float(lesions["error_after"].mean()) if len(lesions) else np.nan,
                "seconds": seconds,
            }
        )
    return rows


def without_liver(study: Study) -> Study:
    """The study as a user has it who knows no liver mask."""
    return Study(study.study_id, study.images, mask=study.mask)


# ---------------------------------------------------------------------- gates
def gates(table: pd.DataFrame) -> list[tuple[str, str, bool]]:
    """Every gate: what, what was found, whether it holds."""
    found = []
    for region, rows in table.groupby("region", sort=False):
        allowed = np.maximum(RESIDUAL_MM, rows["in_plane_mm"])
        within = rows["after_mm"] <= allowed
        large = rows[rows["before_mm"] > LARGE_MM]
        halved = large["after_mm"] <= LARGE_SHARE * large["before_mm"]
        volume = rows["volume_change"].max()
        before, after = rows["error_before"].mean(), rows["error_after"].mean()
        found += [
            (
                f"{region}: median residual at most 1 mm or a voxel",
                f"{within.sum()} of {len(rows)}, largest {rows['after_mm'].max():.2f} mm",
                bool(within.all()),
            ),
            (
                f"{region}: at most half of what exceeds {LARGE_MM:g} mm",
                f"{halved.sum()} of {len(large)}",
                bool(halved.all()),
            ),
            (
                f"{region}: lesion volume changed by at most 5 %",
                f"at most {100 * volume:.1f} %",
                bool(volume <= VOLUME_CHANGE),
            ),
            (
                f"{region}: mean enhancement error no larger",
                f"{100 * before:.2f} % before, {100 * after:.2f} % after",
                bool(after <= before),
            ),
        ]
    return found


# ---------------------------------------------------------------------- time
def timed(settings: PreparationSettings, repeats: int) -> list[float]:
    """Seconds to register one phase at the issue's size, the region included."""
    spacing = tuple(length / count for length, count in zip(FIELD_MM, SIZE, strict=True))
    site = resolve_simulation("development").sites[0]
    site = site.model_copy(update={"spacing_mm": spacing, "matrix": SIZE, "oblique_deg": 0.0})
    chosen = {"subjects": 1, "seed": SEED, "sites": (site,), "missing_phase_rate": 0.0}
    with tempfile.TemporaryDirectory() as place:
        cohort = simulate(
            Path(place) / "cohort", resolve_simulation("development").model_copy(update=chosen), workers=1
        )
        study = cohort.studies[0]
        reference, moving = (read_nifti(study.images[p]) for p in (study.reference_phase, "arterial"))
        seconds = []
        for _ in range(repeats):
            start = time.perf_counter()
            target = target_of(study, reference)
            register(moving.canonical(), target.image, target.region, settings.control_point_mm)
            seconds.append(time.perf_counter() - start)
    return seconds


# ---------------------------------------------------------------------- command
def cohort_settings(patients: int, breathing_mm: float) -> SimulationSettings:
    """Patients whose phases are all there, with their true displacement."""
    chosen = {"subjects": patients, "seed": SEED, "missing_phase_rate": 0.0, "truth": True}
    return resolve_simulation("development").model_copy(update={**chosen, "breathing_mm": breathing_mm})


def page_table(table: pd.DataFrame, checked: list[tuple[str, str, bool]]) -> str:
    """The gates, and the medians by breathing and region."""
    columns = ["before_mm", "after_mm", "after_p95_mm", "volume_change", "error_before", "error_after"]
    medians = table.groupby(["breathing_mm", "region"], sort=False)[columns].median().reset_index()
    medians["phases"] = table.groupby(["breathing_mm", "region"], sort=False).size().to_numpy()
    rows = medians.astype(object).to_numpy().tolist()
    held = [[name, value, "yes" if holds else "**no**"] for name, value, holds in checked]
    return markdown(["gate", "found", "held"], held) + "\n\n" + markdown(list(medians.columns), rows)


def main() -> None:
    """Simulate, register, compare, print; exit 1 on a missed gate."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patients", type=int, default=12, help="virtual patients for each breathing")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--docs", type=Path, help="folder to write registration.csv into, and its page's table"
    )
    parser.add_argument("--time", type=int, metavar="REPEATS", help="only measure seconds a phase")
    options = parser.parse_args()
    settings = PreparationSettings(registration="bspline")
    if options.time:
        seconds = timed(settings, options.time)
        load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
        print(f"seconds a phase at {SIZE}: {', '.join(f'{s:.1f}' for s in seconds)}; load averages {load}")
        raise SystemExit(int(float(np.median(seconds)) > SECONDS))
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as place:
        for breathing_mm in BREATHING_MM:
            folder = Path(place) / f"{breathing_mm:g}"
            cohort = simulate(folder, cohort_settings(options.patients, breathing_mm), options.workers)
            items = [(cohort, study, masked) for masked in (True, False) for study in cohort.studies]
            found = for_each(partial(measure, settings), items, options.workers)
            rows += [{"breathing_mm": breathing_mm, **row} for study in found for row in study]
    table = pd.DataFrame(rows)
    checked = gates(table)
    print(table.round(3).to_string(index=False))
    for name, value, holds in checked:
        print(f"{'held  ' if holds else 'MISSED'}  {name}: {value}")
    if options.docs is not None:
        files.write_text(options.docs / "registration.csv", table.to_csv(index=False))
        put_into(options.docs / "registration.md", "registration", page_table(table, checked))
    raise SystemExit(int(not all(holds for _, _, holds in checked)))


if __name__ == "__main__":
    main()
