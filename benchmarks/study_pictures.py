"""The pictures of ``docs/predict.md``: ``python benchmarks/study_pictures.py OUT``.

Virtual patients are written as DICOM files, ``mtinet predict reference`` reads the first one with two lesions
from its folder and writes every kind of file, and Chromium shows the page.  The liver's outline comes by
``--liver-command`` from this script itself, which knows the truth; a segmenter of a user would take its place.

Writes ``docs/images/study-page.png`` and ``docs/images/study-print.png`` (the first sheet of the PDF).
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from page import DOCS

from mtinet import files
from mtinet.cohort import Cohort, Study
from mtinet.config import resolve_simulation
from mtinet.errors import UserError
from mtinet.imaging.resampling import resample_labels
from mtinet.volume import read_nifti
from mtinet.workflows.predict import PredictOptions, predict
from mtinet.workflows.predictions.formats import FORMATS
from mtinet.workflows.predictions.supplied import Supplied
from mtinet.workflows.simulate import simulate

SEED, SUBJECTS, SITE = 71, 8, "A"
WIDTH, HEIGHT = 1280, 2600


def first_with_two_lesions(cohort: Cohort) -> Study:
    """The study, in the cohort's order."""
    counts = cohort.lesions.groupby("study_id").size()
    return next(study for study in cohort.studies if counts.get(study.study_id, 0) == 2)


def draw_liver(known: Path, image: Path, out: Path) -> None:
    """Put the known liver on the grid of an image."""
    liver, on = read_nifti(known, labels=True), read_nifti(image)
    on.with_array(resample_labels(liver, on.shape, on.affine).array.astype(np.uint8)).write_nifti(out)


def show(page: Path, out: Path) -> None:
    """Photograph the head of the page as a browser shows it: the flags, all lesions, and the first one."""
    from playwright import sync_api

    chromium = shutil.which("chromium")
    if chromium is None:
        raise UserError("no Chromium on PATH; on Debian, as root: apt-get install chromium")
    with sync_api.sync_playwright() as playwright, files.atomic_path(out) as temporary:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        view = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        view.goto(page.resolve().as_uri())
        view.screenshot(path=temporary)
        browser.close()


def print_first_sheet(pdf: Path, out: Path) -> None:
    """Draw the first sheet of the PDF."""
    with tempfile.TemporaryDirectory() as place:
        drawn = Path(place) / "sheet"
        subprocess.run(["pdftoppm", "-png", "-r", "80", "-singlefile", pdf, drawn], check=True)
        with files.atomic_path(out) as temporary:
            shutil.copyfile(drawn.with_suffix(".png"), temporary)


def main(arguments: Sequence[str] | None = None) -> None:
    """Simulate, predict, photograph."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder to write")
    options = parser.parse_args(arguments)
    out = options.out
    given = {"seed": SEED, "subjects": SUBJECTS}
    cohort = simulate(
        out / "scanned", resolve_simulation("multicentre", options=given, sites=(SITE,)), dicom=True
    )
    study = first_with_two_lesions(cohort)
    command = f"{sys.executable} {__file__} --liver {study.liver_mask} {{image}} {{out}}"
    supplied = Supplied(liver_command=command)
    told = PredictOptions(formats=FORMATS, key=out / "key", supplied=supplied)
    result, place = out / "result", out / "scanned" / "dicom" / study.patient_id
    # predict keeps what is finished while the version stays, and a picture is to be of today's code
    shutil.rmtree(result, ignore_errors=True)
    found = predict(Path("reference"), place, result, told)
    for finding in found.findings:
        print(f"{finding.severity}: {finding.meaning}")
    show(result / "page.html", options.docs / "images" / "study-page.png")
    print_first_sheet(result / "page.pdf", options.docs / "images" / "study-print.png")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--liver"]:
        draw_liver(*map(Path, sys.argv[2:5]))
    else:
        main()
