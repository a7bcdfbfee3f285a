"""A small study of known content, shared by the rooms' tests."""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from mtinet.cohort import Cohort, Study
from mtinet.config import PRESETS, Phase
from mtinet.config.variation import LearningVariation, ScoringVariation
from mtinet.records import Course, Revision, RunRecord, Scoring, StudyScore
from mtinet.volume import Volume

BENCHMARKS = str(Path(__file__).parents[1] / "benchmarks")

SIGNAL: dict[Phase, tuple[float, float, float]] = {
    # liver, lesion, and everything between skin and liver
    "pre": (300.0, 200.0, 250.0),
    "arterial": (360.0, 520.0, 260.0),
    "portal_venous": (560.0, 430.0, 275.0),
    "delayed": (500.0, 380.0, 275.0),
}
FAT = 420.0


@dataclass(frozen=True)
class Toy:
    """A body in air with fat under the skin, a liver and one lesion, noise-free where not asked for."""

    images: dict[Phase, Volume]
    mask: Volume
    liver: Volume

    def with_phase(self, phase: Phase, volume: Volume) -> Toy:
        return replace(self, images={**self.images, phase: volume})

    def write(self, folder: Path, study_id: str, label: str = "hcc", patient_id: str = "") -> Study:
        place = folder / "images" / study_id
        volumes = {**self.images, "mask": self.mask, "liver_mask": self.liver}
        paths = {name: place / f"{name}.nii.gz" for name in volumes}
        for name, volume in volumes.items():
            volume.write_nifti(paths[name])
        mask, liver = paths.pop("mask"), paths.pop("liver_mask")
        times = {"arterial": 22.0, "portal_venous": 65.0, "delayed": 180.0}
        return Study(
            study_id,
            paths,
            patient_id=patient_id,
            site="A",
            label=label,
            mask=mask,
            liver_mask=liver,
            times_s={phase: time for phase, time in times.items() if phase in self.images},
        )


def make_toy(
    seed: int = 0,
    shape: tuple[int, int, int] = (40, 32, 8),
    spacing_mm: tuple[float, float, float] = (8.0, 8.0, 10.0),
    noise: float = 4.0,
    gain: float = 1.0,
) -> Toy:
    rng = np.random.default_rng(seed)
    affine = np.diag([*spacing_mm, 1.0])
    affine[:3, 3] = -np.asarray(spacing_mm) * (np.asarray(shape) - 1) / 2
    x, y, z = np.meshgrid(
        *(np.arange(n) * s - s * (n - 1) / 2 for n, s in zip(shape, spacing_mm)), indexing="ij"
    )
    body = (x / 140) ** 2 + (y / 105) ** 2 < 1
    inner = (x / 124) ** 2 + (y / 89) ** 2 < 1
    liver = ((x - 40) / 70) ** 2 + (y / 65) ** 2 + (z / 60) ** 2 < 1
    at = np.array([40.0, 0.0, 0.0]) + rng.uniform(-15, 15, 3) * (1, 1, 0)
    lesion = (x - at[0]) ** 2 + (y - at[1]) ** 2 + (z - at[2]) ** 2 < 22.0**2
    images: dict[Phase, Volume] = {}
    for phase, (in_liver, in_lesion, elsewhere) in SIGNAL.items():
        signal = np.where(body, FAT, 0.0)
        signal[inner], signal[liver], signal[lesion] = elsewhere, in_liver, in_lesion
        noisy = np.abs(signal + noise * rng.standard_normal(shape))
        images[phase] = Volume((gain * noisy).astype(np.float32), affine)
    return Toy(images, Volume(lesion.astype(np.uint8), affine), Volume(liver.astype(np.uint8), affine))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """With the reference data at hand, a test that needs it may not be skipped."""
    outcome = yield
    report = outcome.get_result()
    if report.skipped and os.environ.get("MTINET_REFERENCE") and item.get_closest_marker("reference"):
        report.outcome = "failed"


@pytest.fixture(autouse=True)
def _children_end_unheard() -> Iterator[None]:
    """Take back the handler that torch's loaders leave for SIGCHLD.

    Long after the loader, a child's end killed test processes now and then (SIGSEGV right behind SIGCHLD, without a
    word of faulthandler); why is not known.
    """
    yield
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


@pytest.fixture(scope="module")
def benchmark() -> Iterator[Callable[[str], ModuleType]]:
    """Import a script by name, as it is when it is run: its folder comes first."""
    sys.path.insert(0, BENCHMARKS)
    yield importlib.import_module
    sys.path.remove(BENCHMARKS)


@pytest.fixture
def reference_folder() -> Path:
    """Folder of the reference data, named by ``MTINET_REFERENCE``."""
    place = os.environ.get("MTINET_REFERENCE")
    if not place:
        pytest.skip("MTINET_REFERENCE does not name the reference data")
    return Path(place)


@pytest.fixture
def toy() -> Toy:
    return make_toy()


@pytest.fixture(scope="session")
def toy_maker():
    """``make_toy``: studies of other seeds, sizes and gains."""
    return make_toy


def write_toy_cohort(folder: Path, patients: int) -> Cohort:
    """Patients of two classes on disk, the fifth without lesion and the sixth without the arterial phase."""
    studies = []
    for index in range(patients):
        toy = make_toy(index, gain=1.0 + index)
        label = ("hcc", "hemangioma")[index % 2]
        if index == 4:
            toy = replace(toy, mask=toy.mask.with_array(np.zeros_like(toy.mask.array)))
            label = "none"
        if index == 5:
            toy = replace(toy, images={p: v for p, v in toy.images.items() if p != "arterial"})
        studies.append(toy.write(folder, f"s{index}", label, f"p{index}"))
    Cohort("toy", tuple(studies), ("hemangioma", "hcc")).write(folder)
    return Cohort.read(folder)


@pytest.fixture(scope="session")
def toy_cohort_writer():
    """``write_toy_cohort``: a toy cohort of any size."""
    return write_toy_cohort


@pytest.fixture
def toy_cohort(tmp_path: Path) -> Cohort:
    """Six patients (:func:`write_toy_cohort`)."""
    return write_toy_cohort(tmp_path / "cohort", 6)


@dataclass(frozen=True)
class Orthanc:
    """A DICOM node that runs for the tests."""

    url: str
    dicom_port: int

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(f"{self.url}/{path}", timeout=60) as answer:
            return answer.read()

    def json(self, path: str):
        return json.loads(self.get(path))

    def send(self, folder: Path) -> None:
        """``storescu`` a tree."""
        # only what is needed is proposed: the default list lacks segmentations
        words = [
            "storescu",
            "+sd",
            "+r",
            "-R",
            "-aec",
            "ORTHANC",
            "localhost",
            str(self.dicom_port),
            str(folder),
        ]
        done = subprocess.run(words, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-2000:]

    def fetch(self, folder: Path) -> list[Path]:
        """Retrieve every instance, under names that tell nothing."""
        folder.mkdir(parents=True)
        paths = []
        for number, instance in enumerate(sorted(self.json("instances"))):
            paths.append(folder / f"{number:06d}")
            paths[-1].write_bytes(self.get(f"instances/{instance}/file"))
        return paths


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[Orthanc]:
    """An empty Orthanc on free ports."""
    program = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin")
    if program is None or shutil.which("storescu") is None:
        pytest.skip("Orthanc or dcmtk is not installed (Debian packages orthanc and dcmtk)")
    ports = []
    sockets = [socket.socket() for _ in range(2)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
        ports.append(one.getsockname()[1])
    for one in sockets:
        one.close()
    place = tmp_path / "orthanc"
    place.mkdir()
    settings = {
        "Name": "mtinet tests",
        "StorageDirectory": str(place / "storage"),
        "IndexDirectory": str(place / "storage"),
        "HttpPort": ports[0],
        "DicomPort": ports[1],
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "UnknownSopClassAccepted": True,
        "DicomAlwaysAllowStore": True,
        "Plugins": [],
    }
    (place / "orthanc.json").write_text(json.dumps(settings))
    log = (place / "log").open("w")
    server = subprocess.Popen([program, str(place / "orthanc.json")], stdout=log, stderr=subprocess.STDOUT)
    node = Orthanc(f"http://127.0.0.1:{ports[0]}", ports[1])
    try:
        for _ in range(150):
            try:
                node.json("system")
                break
            except OSError:
                assert server.poll() is None, (place / "log").read_text()
                time.sleep(0.2)
        else:
            pytest.fail((place / "log").read_text())
        yield node
    finally:
        server.terminate()
        server.wait(timeout=30)
        log.close()


# ---------------------------------------------------------------------- records of runs
RECORD_CLASSES = ("hemangioma", "hcc", "metastasis")
RECORD_PHASES = ("pre", "arterial", "portal_venous", "delayed")


@dataclass(frozen=True)
class RecordMaker:
    """Records of runs as an experiment leaves them, without any training.

    Every patient has an own difficulty, which all rows share; a row adds its effects to it.
    """

    patients: int = 60
    folds: int = 2
    sites: tuple[str, ...] = ("A", "B")

    def row(
        self,
        number: int = 0,
        *,
        dice: float = 0.0,
        error: float = 0.0,
        right: float = 0.7,
        seeds: int = 1,
        folds: tuple[int, ...] | None = None,
        converged: bool = True,
        sources: str = "0123abcd",
        cohort_hash: str = "cafe",
        classes: bool = True,
        phases: tuple[str, ...] | None = None,
        missed: int = 1,
        held_out_sites: bool = False,
        course: bool = True,  # False: nothing but the losses of the tasks
    ) -> tuple[RunRecord, ...]:
        """Records of one row; ``number`` tells rows apart."""
        parts = range(self.folds) if folds is None else folds
        return tuple(
            RunRecord(
                id=f"r{number:02d}s{seed}f{fold}",
                config=PRESETS["tiny"](),
                learning=LearningVariation(held_out_site=self.sites[fold] if held_out_sites else None),
                seed=seed,
                fold=fold,
                folds=self.folds,
                cohort="virtual",
                cohort_hash=cohort_hash,
                classes=RECORD_CLASSES,
                revision=Revision(sources=sources, versions={"torch": "2.0"}),
                scorings=(
                    Scoring(
                        studies=tuple(
                            self._score(number, seed, patient, dice, error, right, classes, missed)
                            for patient in range(self.patients)
                            if patient % self.folds == fold
                        )
                    ),
                    *(
                        [
                            Scoring(
                                variation=ScoringVariation(phases=phases),
                                studies=tuple(
                                    self._score(
                                        number, seed, patient, dice - 0.1, error, right, classes, missed
                                    )
                                    for patient in range(self.patients)
                                    if patient % self.folds == fold
                                ),
                            )
                        ]
                        if phases
                        else []
                    ),
                ),
                course=self._course(number, everything=course),
                converged=converged,
                plateau={"loss_percent": 0.1, "dice_points": 0.2 if converged else 2.0},
                seconds=100.0,
                step_s=0.2,
                manifest={"created": "2026-01-01T00:00:00", "python": "3.11", "versions": {"torch": "2.0"}},
            )
            for seed in range(seeds)
            for fold in parts
        )

    def _score(
        self,
        number: int,
        seed: int,
        patient: int,
        dice: float,
        error: float,
        right: float,
        classes: bool,
        missed: int,
    ) -> StudyScore:
        shared = np.random.default_rng([7, patient])
        own = np.random.default_rng([7, patient, number, seed])
        label = RECORD_CLASSES[patient // self.folds % 3]
        hard = shared.normal(0.0, 0.08)
        overlap = float(np.clip(0.75 + hard + dice + own.normal(0, 0.03), 0, 1))
        wrong = float(abs(30 - 100 * hard + error + own.normal(0, 4)))
        lost = patient < missed
        logits = own.normal(0, 1, 3) + 2.0 * right * (np.array(RECORD_CLASSES) == label)
        share = np.exp(logits) / np.exp(logits).sum()
        attention = own.dirichlet(np.ones(len(RECORD_PHASES)) * 8)
        true = {phase: 100.0 + 40 * place for place, phase in enumerate(RECORD_PHASES)}
        guess = RECORD_CLASSES[int(share.argmax())]
        return StudyScore(
            study_id=f"s{patient:03d}",
            patient_id=f"p{patient:03d}",
            site=self.sites[patient % len(self.sites)],
            label=label,
            predicted_label=("none" if lost else guess) if classes else "",
            dice=0.0 if lost else overlap,
            iou=0.0 if lost else overlap / (2 - overlap),
            nsd=0.0 if lost else overlap,
            hd95_mm=100.0 if lost else 10 - 8 * overlap,
            volume_ml=20.0,
            predicted_volume_ml=0.0 if lost else 20.0 + float(own.normal(1.0, 2.0)),
            enhancement_error=wrong,
            relative_error_percent=wrong / 2,
            measured_error=wrong / 3,
            measured_relative_error_percent=wrong / 6,
            probabilities=dict(zip(RECORD_CLASSES, map(float, share))) if classes and not lost else {},
            baselines={"logistic_regression": "none" if lost else guess},
            baseline_probabilities={}
            if lost
            else {"logistic_regression": dict(zip(RECORD_CLASSES, map(float, share)))},
            true=true,
            predicted={} if lost else {phase: value + 5.0 for phase, value in true.items()},
            measured={} if lost else {phase: value + 1.0 for phase, value in true.items()},
            attention={} if lost else dict(zip(RECORD_PHASES, map(float, attention))),
        )

    @staticmethod
    def _course(number: int, everything: bool) -> Course:
        step = tuple(range(0, 1000, 25))
        tasks = {task: (1.0,) * len(step) for task in ("segmentation", "regression", "classification")}
        if not everything:
            return Course(step=step, numbers=tasks)
        rng = np.random.default_rng([9, number])

        def curve(start: float, end: float, noise: float) -> tuple[float | None, ...]:
            t = np.linspace(0, 1, len(step))
            return tuple(map(float, end + (start - end) * np.exp(-4 * t) + rng.normal(0, noise, len(step))))

        late = tuple(None if place < 10 else value for place, value in enumerate(curve(0.5, 0.7, 0.03)))
        return Course(
            step=step,
            numbers={
                **tasks,
                "total": curve(3.0, 0.6, 0.05),
                "discriminator_accuracy": late,
                "logit_gap": curve(0.0, 0.8, 0.1),
                "cosine_segmentation_regression": curve(0.3, -0.1, 0.1),
                "cosine_segmentation_classification": curve(0.2, 0.1, 0.1),
                "gradient": curve(5.0, 1.0, 0.2),
            },
        )


@pytest.fixture(scope="session")
def record_maker() -> type[RecordMaker]:
    """How to make records of runs without training."""
    return RecordMaker


@pytest.fixture
def weasyprint() -> None:
    """Skip where pages cannot be made into PDF."""
    from mtinet.errors import UserError
    from mtinet.reporting.pdf import check_weasyprint

    try:
        check_weasyprint()
    except UserError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def explained() -> Callable[[str], set[str]]:
    """The columns or fields that docs/tables.md explains of a file, with ``<phase>`` and ``<class>`` as there."""
    text = (Path(__file__).parents[1] / "docs" / "tables.md").read_text(encoding="utf-8")
    _, *parts = re.split(r"^\*\*`([^`]+)`\*\*", text, flags=re.MULTILINE)
    of = dict(zip(parts[::2], parts[1::2], strict=True))

    def names(file: str) -> set[str]:
        cells = re.findall(r"^\| (`[^|]*) \|", of[file], re.MULTILINE)
        return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}

    return names
