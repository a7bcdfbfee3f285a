"""The page of a cohort: what it says, and that a browser shows all of it without a network."""

import re
import shutil
from dataclasses import replace

import pytest

from mtinet.cohort import Cohort
from mtinet.config import resolve
from mtinet.workflows.imports.inclusion import InclusionRow, write_inclusion
from mtinet.workflows.prepare import prepare
from mtinet.workflows.qc import qc


def pictures(page):
    return len(re.findall(r'<image href="data:image/png', page))


def test_every_study_is_shown_and_findings_come_first(toy_cohort):
    folder = toy_cohort.folder
    write_inclusion(
        folder, [InclusionRow("found", 9, "studies"), InclusionRow("phases", 3, "<none> & nothing")]
    )
    studies = [replace(s, label="hcd") if s.study_id == "s1" else s for s in toy_cohort.studies]
    replace(toy_cohort, studies=tuple(studies)).write(folder)
    path, findings = qc(folder, workers=1)
    page = path.read_text(encoding="utf-8")
    assert pictures(page) == sum(len(s.images) for s in toy_cohort.studies)
    assert findings[0].severity == "error"
    assert page.index("is not a class of this cohort") < page.index("Inclusion") < page.index('id="studies"')
    assert "&lt;none&gt; &amp; nothing" in page
    assert page.count("Research use only") == 2
    assert not re.search(r"(?:src|href)=.https?:", page)


def test_a_damaged_image_is_named_where_its_picture_would_be(toy_cohort):
    damaged = toy_cohort.studies[0].images["arterial"]
    damaged.write_bytes(damaged.read_bytes()[:200])
    page = qc(toy_cohort.folder, workers=1).page.read_text(encoding="utf-8")
    assert "No picture" in page
    assert "unreadable" in page


def test_prepared_studies_are_shown_before_and_after_registration(toy_cohort):
    config = resolve("tiny", assignments=["preparation.registration=rigid"])
    study = toy_cohort["s0"]
    shutil.copy(study.liver_mask, study.liver_mask.with_name("liver_mask_arterial.nii.gz"))
    prepare(Cohort.read(toy_cohort.folder).subset(["s0"]), config, workers=1)
    page = qc(toy_cohort.folder, workers=1).page.read_text(encoding="utf-8")
    assert "liver dice before 1.000; liver dice after 1.000" in page
    assert "where it agrees with the reference" in page
    assert page.count("Before registration") == page.count("After registration") == 1
    present = sum(len(s.images) for s in toy_cohort.studies)
    assert pictures(page) == present + 2 * len(toy_cohort["s0"].images)


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 420])
def test_the_page_opens_clean_in_a_browser(toy_cohort, width):
    sync_api = pytest.importorskip("playwright.sync_api")
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("no Chromium on PATH; on Debian, as root: apt-get install chromium")
    path = qc(toy_cohort.folder, workers=1).page
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=flags)
        page = browser.new_page(viewport={"width": width, "height": 900})
        messages, requests = [], []
        page.on("console", lambda message: messages.append(message.text))
        page.on("pageerror", lambda error: messages.append(str(error)))
        page.on("request", lambda sent: requests.append(sent.url))
        page.goto(path.as_uri())
        assert messages == []
        assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
        wide, room = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
        assert wide <= room
        outline = page.locator("path.mask").first
        assert outline.is_visible()
        page.locator("#outlines").uncheck()
        assert not outline.is_visible()
        browser.close()


def test_a_study_with_an_error_in_the_table_has_its_place_on_the_page(toy_cohort):
    lost = toy_cohort["s1"].images["delayed"]
    changed = {
        "s0": replace(toy_cohort["s0"], images={}),
        "s1": replace(
            toy_cohort["s1"],
            images={p: path for p, path in toy_cohort["s1"].images.items() if path != lost},
            mask_phase="delayed",
        ),
    }
    studies = tuple(changed.get(s.study_id, s) for s in toy_cohort.studies)
    replace(toy_cohort, studies=studies).write(toy_cohort.folder)
    page, findings = qc(toy_cohort.folder, workers=1)
    assert {("no-images", "s0"), ("mask-phase", "s1")} <= {(f.id, f.case) for f in findings}
    words = page.read_text(encoding="utf-8")
    assert "no image" in words
    assert "the mask was drawn on delayed, which the study lacks" in words
