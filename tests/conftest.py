"""A small study of known content, shared by the rooms' tests."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from mtinet.cohort import Cohort, Study
from mtinet.config import Phase
from mtinet.volume import Volume

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
