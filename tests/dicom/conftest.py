"""A small exam with an asymmetric content, and a real Orthanc."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from mtinet.dicom.exam import Exam
from mtinet.volume import Volume

TIMES = {"arterial": 26.0, "portal_venous": 65.0, "delayed": 180.0, "hepatobiliary": 1200.0}


def make_exam(
    habit="siemens", affine=None, shape=(22, 18, 5), phases=("pre", *TIMES), seed=0, **values
) -> Exam:
    """An exam of noise about a gradient: no flip or exchange of axes leaves it as it is."""
    rng = np.random.default_rng(seed)
    if affine is None:
        affine = np.diag([-2.5, -2.0, 4.0, 1.0])
        affine[:3, 3] = (31.5, -12.25, 80.125)
    i, j, k = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    images = {
        phase: Volume(
            (100.0 * n + 3 * i + 7 * j + 11 * k + rng.integers(0, 40, shape)).astype(np.int16), affine
        )
        for n, phase in enumerate(phases, start=1)
    }
    facts = {"patient_id": "007", "study_id": "st1", "institution": "Site A", "dose_mmol_kg": 0.1, **values}
    return Exam(
        habit=habit, images=images, times_s={p: TIMES[p] for p in phases if p != "pre"}, seed=seed, **facts
    )


@pytest.fixture(scope="session")
def exam_maker():
    """``make_exam``."""
    return make_exam


def in_world(volume: Volume) -> dict[tuple[float, float, float], float]:
    """Value by world position, to 0.01 mm."""
    index = np.indices(volume.shape).reshape(3, -1)
    places = (volume.affine[:3, :3] @ index).T + volume.affine[:3, 3]
    return dict(zip(map(tuple, np.round(places, 2) + 0.0), volume.array.ravel().tolist(), strict=True))


@pytest.fixture(scope="session")
def verify():
    """Errors of ``dciodvfy`` for a file."""
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed (Debian package dicom3tools)")

    def errors(path: Path) -> list[str]:
        done = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True)
        said = (done.stderr + done.stdout).splitlines()
        assert any(line and not line.startswith(("Error", "Warning")) for line in said), said
        return [line for line in said if line.startswith("Error")]

    return errors


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
