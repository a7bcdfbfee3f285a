from __future__ import annotations

import hashlib
import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest

from mtinet.dicom.exam import Series, Stack
from mtinet.dicom.habits import series_of
from mtinet.dicom.segment import write_lesions
from mtinet.dicom.study import read_studies
from mtinet.dicom.write import WriteError, write_exam, write_series
from mtinet.volume import Volume

HABITS = ("siemens", "ge", "philips", "enhanced")


def hashes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*.dcm"))
    }


def lesions(exam) -> Volume:
    array = np.zeros(next(iter(exam.images.values())).shape, dtype=np.uint8)
    array[2:6, 3:9, 1:3], array[10:15, 12:15, 2:4] = 1, 2
    return exam.images[exam.reference_phase].with_array(array)


def volumes_of(folder: Path):
    studies, _ = read_studies(folder)
    assert len(studies) == 1
    return [volume for series in studies[0].series for volume in series.volumes]


def positions_and_values(volume: Volume) -> np.ndarray:
    """Rows of x, y, z (mm) and value, in an order that does not depend on the axes."""
    index = np.indices(volume.shape).reshape(3, -1)
    places = (volume.affine[:3, :3] @ index).T + volume.affine[:3, 3]
    rows = np.column_stack([places, volume.array.ravel()])
    # to a micrometre, so that rounding does not exchange neighbours
    return rows[np.lexsort(np.round(rows[:, 2::-1], 3).T)]


def orientations() -> list[np.ndarray]:
    """The 48 ways to lay axes along the world's."""
    matrices = []
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1.0, -1.0), repeat=3):
            matrix = np.zeros((3, 3))
            matrix[order, range(3)] = signs
            matrices.append(matrix)
    return matrices


def oblique(seed: int) -> np.ndarray:
    matrix, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((3, 3)))
    return matrix


@pytest.mark.parametrize("habit", HABITS)
def test_dciodvfy_finds_no_error(habit, tmp_path, verify, exam_maker):
    exam = exam_maker(habit)
    written = write_exam(tmp_path, exam)
    write_lesions(tmp_path, exam, written[exam.reference_phase], lesions(exam), {1: "hcc"})
    for series in sorted(tmp_path.iterdir()):
        for path in (min(series.iterdir()), max(series.iterdir())):
            assert verify(path) == [], path


@pytest.mark.parametrize("habit", HABITS)
def test_the_same_exam_gives_the_same_bytes_and_another_seed_other_uids(habit, tmp_path, exam_maker):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        exam = replace(exam_maker(habit), seed=seed)
        written = write_exam(tmp_path / name, exam)
        write_lesions(tmp_path / name, exam, written[exam.reference_phase], lesions(exam), {1: "hcc"})
    assert hashes(tmp_path / "a") == hashes(tmp_path / "b")
    uids = [
        {pydicom.dcmread(path).SOPInstanceUID for path in (tmp_path / name).rglob("*.dcm")} for name in "ac"
    ]
    assert len(uids[0]) == len(list((tmp_path / "a").rglob("*.dcm")))
    assert not uids[0] & uids[1]


@pytest.mark.parametrize("habit", HABITS)
def test_every_phase_comes_back_where_and_as_it_was(habit, tmp_path, exam_maker):
    exam = exam_maker(habit)
    write_exam(tmp_path, exam)
    found = volumes_of(tmp_path)
    for phase, image in exam.images.items():
        wanted = positions_and_values(image)
        # the largest value is stored exactly, and whole numbers survive the quantisation
        same = [
            volume
            for volume in found
            if not volume.refused
            and volume.info.n_slices == image.shape[2]
            and np.abs(positions_and_values(volume.info.load()) - wanted).max() < 0.01
        ]
        assert len(same) == 1, phase


def test_voxels_keep_their_place_in_all_48_orientations_and_oblique_ones(tmp_path, exam_maker):
    matrices = [*orientations(), *(oblique(seed) for seed in range(6))]
    assert len({matrix.tobytes() for matrix in matrices}) == 54
    # a study of each, all read at once
    wanted = {}
    for number, matrix in enumerate(matrices):
        affine = np.eye(4)
        affine[:3, :3] = matrix @ np.diag([1.7, 2.3, 3.1])
        affine[:3, 3] = (-31.4159, 27.1828, 141.4213)
        habit = ("siemens", "enhanced")[number % 2]
        exam = exam_maker(habit, affine, (5, 4, 3), ("pre",), study_id=f"st{number}", seed=number)
        stack = Stack(exam.images["pre"], exam.injection_s, "pre")
        series = Series(1, "t1", (stack,), enhanced=habit == "enhanced", contrast=False)
        write_series(tmp_path / str(number), exam, series)
        wanted[exam.uid("study")] = positions_and_values(exam.images["pre"])
    studies, _ = read_studies(tmp_path)
    assert {study.study_uid for study in studies} == set(wanted)
    for study in studies:
        (volume,) = (v for series in study.series for v in series.volumes)
        loaded = volume.info.load()
        assert np.abs(positions_and_values(loaded) - wanted[study.study_uid]).max() < 0.01


def test_phases_are_told_apart_as_each_vendor_does(tmp_path, exam_maker):
    for habit in ("ge", "philips"):
        write_exam(tmp_path / habit, exam_maker(habit))
    ge = [pydicom.dcmread(path) for path in (tmp_path / "ge" / "s007").iterdir()]
    assert len({ds.AcquisitionTime for ds in ge}) == 1
    assert len({ds.TriggerTime for ds in ge}) == len({ds.TemporalPositionIdentifier for ds in ge}) == 3
    philips = [pydicom.dcmread(path) for path in (tmp_path / "philips" / "s601").iterdir()]
    assert len({ds.AcquisitionTime for ds in philips}) == 4
    # what a viewer shows does not compare between phases: only the private scale slope makes it
    by_phase = {
        int(ds.TemporalPositionIdentifier): ds
        for ds in philips
        if ds.SliceLocation == philips[0].SliceLocation
    }
    shown = {n: ds.pixel_array.mean() * float(ds.RescaleSlope) for n, ds in by_phase.items()}
    signal = {n: shown[n] / float(ds.RescaleSlope) / ds[0x2005100E].value for n, ds in by_phase.items()}
    assert signal[4] / signal[1] > 1.5
    assert abs(shown[4] / shown[1] - signal[4] / signal[1]) > 0.3


def test_fractions_are_quantised_below_a_thousandth_of_the_brightest_voxel(tmp_path, exam_maker):
    for habit in ("ge", "enhanced"):
        exam = exam_maker(habit, phases=("pre", "arterial"))
        noisy = {
            phase: image.with_array(image.array / np.float32(7.3)) for phase, image in exam.images.items()
        }
        write_exam(tmp_path / habit, replace(exam, images=noisy))
        found = [v for v in volumes_of(tmp_path / habit) if v.info.n_slices == 5]
        brightest = max(image.array.max() for image in noisy.values())
        for image in noisy.values():
            wanted = positions_and_values(image)
            errors = [np.abs(positions_and_values(v.info.load()) - wanted)[:, 3].max() for v in found]
            assert min(errors) < 1e-3 * brightest


def test_what_is_no_magnitude_or_no_grid_is_refused(tmp_path, exam_maker):
    exam = exam_maker(phases=("pre", "arterial"))
    image = exam.images["arterial"]
    for bad, said in (
        (image.with_array(image.array.astype(float) - 1e4), "below zero"),
        (image.with_array(np.full(image.shape, np.nan)), "not finite"),
        (Volume(image.array, image.affine + np.eye(4, k=1)), "sheared"),
    ):
        with pytest.raises(WriteError, match=f"st1, arterial.*{said}"):
            write_exam(tmp_path / "out", replace(exam, images={**exam.images, "arterial": bad}))


def test_every_habit_has_something_that_is_no_phase_except_enhanced(exam_maker):
    for habit in HABITS:
        decoys = [
            series
            for series in series_of(exam_maker(habit))
            if not any(stack.phase for stack in series.stacks)
        ]
        assert bool(decoys) == (habit != "enhanced")


@pytest.mark.slow
@pytest.mark.parametrize("habit", HABITS)
def test_a_pacs_gives_back_what_was_sent(habit, tmp_path, orthanc, exam_maker):
    exam = exam_maker(habit)
    written = write_exam(tmp_path / "out", exam)
    write_lesions(tmp_path / "out", exam, written[exam.reference_phase], lesions(exam), {1: "hcc"})
    orthanc.send(tmp_path / "out")
    back = {ds.SOPInstanceUID: ds for ds in map(pydicom.dcmread, orthanc.fetch(tmp_path / "back"))}
    sent = {ds.SOPInstanceUID: ds for ds in map(pydicom.dcmread, (tmp_path / "out").rglob("*.dcm"))}
    assert back.keys() == sent.keys()
    for uid, ds in sent.items():
        assert back[uid] == ds


@pytest.mark.parametrize("habit", HABITS)
def test_agent_dose_and_times_after_injection_come_back(habit, tmp_path, exam_maker):
    exam = exam_maker(habit, agent="gadoxetate", dose_mmol_kg=0.025)
    write_exam(tmp_path, exam)
    (study,) = read_studies(tmp_path)[0]
    assert study.dose_mmol_kg == pytest.approx(0.025, rel=1e-3)
    after = [
        volume.info.time_s + (volume.info.trigger_time_ms or 0.0) / 1000.0 - series.info.agent_start_s
        for series in study.series
        for volume in series.volumes
        if series.info.agent_start_s is not None and volume.info.time_s is not None
    ]
    for phase, seconds in exam.times_s.items():
        assert min(abs(time - seconds) for time in after) < 0.01, phase
