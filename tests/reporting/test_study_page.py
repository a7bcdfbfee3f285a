"""The page of a study: what must stand on it, in which order, and that it needs nothing else."""

from __future__ import annotations

import html.parser
import math
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest

from mtinet.data.prepared import PreparedStudy
from mtinet.imaging.registration import Registration
from mtinet.inference.predictor import StudyPrediction
from mtinet.inference.vote import Vote
from mtinet.reporting.pdf import page_to_pdf
from mtinet.reporting.study_page import MAX_SHOWN, study_page
from mtinet.results import RESEARCH_USE, Certainty, Finding, Lesion, Measurement, PhaseSource, Result

PHASES = ("pre", "arterial", "portal_venous", "delayed")
SIGNAL = {"pre": 200.0, "arterial": 520.0, "portal_venous": 430.0, "delayed": 380.0}


def lesion(number: int, volume_mm3: float, **changes) -> Lesion:
    values = {
        "number": number,
        "volume_mm3": volume_mm3,
        "diameter_mm": (6 * volume_mm3 / math.pi) ** (1 / 3),
        "centre_mm": (40.0, 0.0, 0.0),
        "confidence": 0.9,
        "probabilities": {"hemangioma": 0.2, "hcc": 0.7, "fnh": 0.1},
        "enhancement": SIGNAL,
        "relative_enhancement_percent": {p: s / 2 - 100 for p, s in SIGNAL.items() if p != "pre"},
        "measured": {p: 1.02 * s for p, s in SIGNAL.items()},
    }
    return Lesion(**{**values, **changes})


def prediction(lesions: int = 2, present=(True, True, True, True), **changes) -> StudyPrediction:
    shape, spacing = (9, 90, 120), (8.0, 3.0, 3.0)
    z, y, x = np.meshgrid(*((np.arange(n) - n / 2) * s for n, s in zip(shape, spacing)), indexing="ij")
    body = (x / 165) ** 2 + (y / 120) ** 2 < 1
    liver = ((x - 60) / 85) ** 2 + (y / 85) ** 2 + (z / 60) ** 2 < 1
    labels = np.zeros(shape, np.int32)
    for number in range(1, lesions + 1):
        at, radius = (95 - 34 * number, 30 - 25 * (number % 3)), 24 / number
        labels[(x - at[0]) ** 2 + (y - at[1]) ** 2 + (z - 8 * number) ** 2 < radius**2] = number
    rng = np.random.default_rng(5)
    image = np.stack([np.where(liver, level, np.where(body, 0.45, 0.0)) for level in (0.5, 0.6, 0.95, 0.85)])
    for index, phase in enumerate(PHASES):
        image[index][labels > 0] = SIGNAL[phase] / 600
    image += 0.02 * rng.standard_normal(image.shape)
    image[~np.asarray(present)] = 0
    affine = np.diag([3.0, 3.0, 8.0, 1.0])
    study = PreparedStudy(
        "study-7", "p", "A", "", PHASES, tuple(present), (math.nan, 22.0, 65.0, 180.0), "portal_venous", 600.0,
        affine, (120, 90, 9), affine, False, False,
        registrations={
            "arterial": Registration("rigid", "applied").to_dict(),
            "delayed": Registration("none", "rejected", "it would fit no better").to_dict(),
        },
        memory={"image": image.astype(np.float32)},
    )  # fmt: skip
    found = tuple(lesion(n, 60000.0 / n**3) for n in range(1, lesions + 1))
    result = Result(
        "study-7", tuple(p for p, here in zip(PHASES, present) if here), "portal_venous",
        ("hemangioma", "hcc", "fnh"), found, None, (), {"network": "mtinet", "run": "abc"},
    )  # fmt: skip
    vote = Vote(np.zeros(labels.shape, dtype=np.float32), np.zeros((1, 1)))
    return StudyPrediction(replace(result, **changes), study, labels, {}, vote)


def certain() -> StudyPrediction:
    """One lesion with everything that another model may say of it."""
    sure = Certainty(
        0.97, (50000.0, 70000.0), ("hcc", "fnh"), {p: (0.9 * s, 1.15 * s) for p, s in SIGNAL.items()}, 0.9
    )
    measurements = (
        Measurement("longest_axial_diameter", 48.6, "mm"),
        Measurement("arterial_hyperenhancement", finding="present", phase="arterial"),
        Measurement("washout", finding="not assessable", reason="the agent is unknown"),
        Measurement("curve_type", finding="washout"),
    )
    liver = {"pre": 300.0, "arterial": 360.0, "portal_venous": 560.0, "delayed": 500.0}
    whole = tuple(Measurement("liver_signal", v, "[arb'U]", p) for p, v in liver.items())
    whole += tuple(Measurement("aorta_signal", 1.3 * v, "[arb'U]", p) for p, v in liver.items())
    flags = (
        Finding("two-grids", "cohort", "note", "delayed lies on another grid", "Nothing to do."),
        Finding("no-agent", "predict", "warning", "the agent <b>is</b> unknown", "Name it."),
    )
    made = prediction(1, measurements=whole, findings=flags)
    first = replace(made.result.lesions[0], certainty=sure, measurements=measurements)
    return replace(made, result=replace(made.result, lesions=(first,)))


@pytest.fixture(scope="module")
def full() -> str:
    return study_page(certain(), "1.2.3, model abcdef", "gadobutrol")


@pytest.fixture
def undrawn(monkeypatch):
    """Charts are painted, but not rendered: that is slow."""
    monkeypatch.setattr(
        "mtinet.reporting.drawing._svg", lambda figure: b"<svg xmlns='http://www.w3.org/2000/svg'/>"
    )


class Reader(html.parser.HTMLParser):
    """Collects headings, addresses and what has a text for those who do not see."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.levels, self.addresses, self.unnamed, self.open = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        if re.fullmatch(r"h[1-6]", tag):
            self.levels.append(int(tag[1]))
        self.addresses += [values[name] for name in ("src", "href", "xlink:href") if name in values]
        if (tag == "img" and not values.get("alt")) or (tag == "svg" and not values.get("aria-label")):
            self.unnamed.append(tag)
        if tag == "script":
            self.unnamed.append(tag)


def test_the_table_of_images_tells_the_series_and_how_surely(full, undrawn):
    sources = {
        "pre": PhaseSource("4", 0, 1, 0.99, ("its name 'nativ' says before contrast", "volume 1 of 4")),
        "arterial": PhaseSource("5", 1, 3, 0.71, ("it has <no> name",)),
    }
    page = study_page(prediction(1, sources=sources), "1.2.3")
    table = page[page.index('id="images"') : page.index('id="method"')]
    assert "<td>4</td><td>0.99<small>its name &#39;nativ&#39; says before contrast</small></td>" in table
    assert "<td>5:1</td><td>0.71<small>it has &lt;no&gt; name</small></td>" in table
    assert "volume 1 of 4" not in table
    # phases of NIfTI files are what the files are called
    assert "confidence" not in full[full.index('id="images"') : full.index('id="method"')]


def test_flags_come_first_and_the_worst_of_them_before_the_others(full):
    places = [
        full.index(f'id="{name}"') for name in ("flags", "summary", "lesion-1", "study", "images", "method")
    ]
    assert places == sorted(places)
    assert full.index("The agent &lt;b&gt;is&lt;/b&gt; unknown") < full.index("Delayed lies on another grid")
    assert full.count(RESEARCH_USE) == 2


def test_it_holds_curves_probabilities_set_and_measurements(full):
    assert full.count("in set</span>") == 2
    assert "90 % nominal coverage" in full
    for text in (
        "48.6 mm",
        "Not assessable (the agent is unknown): Washout.",
        "50.0 to 70.0 mL",
        "468 to 598",
        "present",
    ):
        assert text in full, text
    assert full.count("regressed signal: ") == 1
    assert "Liver signal (a.u.)" in full
    for text in (
        "22 s",
        "moved rigidly",
        "by the scanner (it would fit no better)",
        "Contrast agent: gadobutrol",
    ):
        assert text in full, text


def test_it_is_one_file_and_every_picture_has_a_text(full):
    read = Reader(full)
    assert [a for a in read.addresses if not a.startswith(("data:", "#"))] == []
    assert read.unnamed == []
    assert all(b - a <= 1 for a, b in zip(read.levels, read.levels[1:]))
    assert full.count("<svg viewBox") == 8  # four phases, whole and enlarged


def test_a_missing_phase_is_shown_as_missing(undrawn):
    page = study_page(prediction(1, (True, False, True, True)), "1")
    assert page.count('<div class="absent">not acquired</div>') == 2
    assert page.count("<svg viewBox") == 6
    assert "No conformal set" in page
    assert "No check of this study has fired" in page


def test_a_study_without_lesion_says_so_and_shows_a_slice(undrawn):
    page = study_page(prediction(0), "1")
    assert "The software found no lesion. That is no proof that there is none." in page
    assert page.count("<svg viewBox") == 4
    assert "middle slice, 5 of 9" in page


def test_a_readers_outline_is_not_called_the_softwares(undrawn):
    drawn = (Finding("revised-mask", "predict", "note", "the lesions were outlined by a reader", "A."),)
    page = html.unescape(study_page(prediction(0, findings=drawn), "1"))
    assert "The reader's mask holds no lesion that could be measured." in page
    assert '<p class="subtitle">No lesion in the reader\'s mask that could be measured</p>' in page
    assert "no lesion found" not in page.lower()
    assert "A reader outlined the lesions; a network regresses" in page
    assert "The software found" not in page
    assert "A network marks lesions; it regresses" in study_page(prediction(0), "1")


def test_several_opinions_are_named(undrawn):
    model = {"network": "mtinet", "run": "abc", "ensemble": ["a", "b"], "flips": True, "dropout_samples": 1}
    page = study_page(prediction(0, model=model), "1")
    assert (
        "mean of 2 runs, of which this is the first; the mirrored study as well; 1 thinned network a run"
        in page
    )
    assert "Opinions" not in study_page(prediction(0), "1")


def test_signal_is_in_arbitrary_units_whoever_measured_it(undrawn):
    made = prediction(1)
    plain = (Measurement("signal", 300.0, phase="arterial"),)
    one = replace(made.result.lesions[0], measurements=plain)
    page = study_page(replace(made, result=replace(made.result, lesions=(one,))), "1")
    assert "Mean signal under the mask (a.u.)" in page
    assert "Mean signal, regressed (a.u.)" in page


def test_an_agent_that_nobody_gave_is_not_called_unknown(undrawn):
    assert "Contrast agent: unknown" in study_page(prediction(0), "1")
    assert "Contrast agent" not in study_page(prediction(0), "1", None)


def test_many_lesions_are_listed_and_the_largest_drawn(undrawn):
    made = prediction(2)
    many = tuple(replace(made.result.lesions[i % 2], number=i % 2 + 1) for i in range(MAX_SHOWN + 3))
    page = study_page(replace(made, result=replace(made.result, lesions=many)), "1")
    assert page.count("<article") == MAX_SHOWN
    assert f"the {MAX_SHOWN} largest lesions; 3 smaller ones stand in this table alone" in page


def test_the_size_is_the_longest_axial_diameter_and_counts_are_whole(undrawn):
    made = certain()
    whole = (Measurement("lesions", 1.0), Measurement("vanished_lesions", 0.0))
    page = study_page(replace(made, result=replace(made.result, measurements=whole)), "1")
    assert "longest axial diameter 49 mm</h2>" in page
    assert '<th scope="row">Lesions</th><td class="value">1</td></tr>' in page
    # nothing stands in the remarks of this table, so it has none
    table = page[page.index("Of the whole study</caption>") :]
    assert "interval or remark" not in table[: table.index("</table>")]
    assert "interval or remark" in page


def test_no_sentence_names_a_phase_as_a_program_does(undrawn):
    made = prediction(1, findings=(Finding("f", "predict", "note", "predicted without portal_venous", "A."),))
    late = Measurement(
        "wash_in_rate", None, "%/min", "portal_venous", "not assessable", "no portal_venous time"
    )
    kind = Measurement("curve_type", finding="washout", reason="arterial to portal_venous")
    first = replace(made.result.lesions[0], measurements=(late, kind))
    page = study_page(replace(made, result=replace(made.result, lesions=(first,))), "1")
    for text in ("Predicted without portal venous", "no portal venous time", "arterial to portal venous"):
        assert text in page
    assert "portal_venous" not in page


def test_what_one_reason_forbids_stands_in_a_sentence_and_what_one_phase_knows_in_its_row(undrawn):
    why = "no liver mask was given"
    unknown = {"finding": "not assessable", "reason": why}
    measurements = (
        Measurement("rim_arterial_hyperenhancement", phase="arterial", **unknown),
        Measurement("washout", phase="portal_venous", **unknown),
        Measurement("washout", phase="delayed", **unknown),
        Measurement("capsule", phase="portal_venous", **unknown),
        Measurement("capsule", phase="delayed", finding="present"),
        Measurement("half_of_liver", **unknown),
        Measurement("growth", finding="not assessable"),
    )
    made = prediction(1)
    one = replace(made.result.lesions[0], measurements=measurements)
    page = study_page(replace(made, result=replace(made.result, lesions=(one,))), "1")
    together = f"({why}): Rim arterial phase hyperenhancement; Washout; Half of the liver&#39;s extent.</p>"
    assert together in page
    assert "Not assessable: Growth since the prior study.</p>" in page
    assert f"<td>not assessable<small>{why}</small></td><td>present</td>" in page
    assert page.count(why) == 2


@pytest.mark.parametrize(("existence", "doubts"), [(0.05, True), (0.95, False), (None, False)])
def test_a_mark_that_is_probably_no_lesion_says_so(undrawn, existence, doubts):
    made = prediction(1)
    sure = Certainty(existence)
    one = replace(made.result.lesions[0], certainty=sure)
    page = study_page(replace(made, result=replace(made.result, lesions=(one,))), "1")
    assert ("Probably no lesion:</b> of marks like this one, 5 % were lesions" in page) == doubts
    assert ('5 % <span class="set">probably none</span>' in page) == doubts


def test_lesions_without_a_picture_have_no_outline_on_others(undrawn):
    """A noisy study has hundreds in a slice: the page must not grow with them."""
    made = prediction(1)
    labels = made.labels.copy()
    labels[:, ::4, ::4] = np.where(labels[:, ::4, ::4] == 0, 99, labels[:, ::4, ::4])
    noisy = study_page(replace(made, labels=labels), "1")
    assert noisy == study_page(made, "1")


@pytest.mark.slow
def test_as_pdf_on_a4_with_all_its_words(full, tmp_path, weasyprint):
    if shutil.which("pdftotext") is None:
        pytest.skip("pdftotext is not installed (Debian package poppler-utils)")
    import subprocess

    (tmp_path / "page.pdf").write_bytes(page_to_pdf(full))
    told = subprocess.run(["pdfinfo", tmp_path / "page.pdf"], capture_output=True, text=True).stdout
    assert "(A4)" in told
    words = subprocess.run(["pdftotext", tmp_path / "page.pdf", "-"], capture_output=True, text=True).stdout
    for text in ("Research use only", "48.6 mm", "Not assessable", "Method and limits"):
        assert text in words


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 420])
def test_in_a_browser_nothing_is_fetched_and_nothing_overflows(full, tmp_path, width):
    sync_api = pytest.importorskip("playwright.sync_api")
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("no Chromium on PATH; on Debian, as root: apt-get install chromium")
    (tmp_path / "page.html").write_text(full)
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": width, "height": 900})
        asked, said = [], []
        page.on("request", lambda sent: asked.append(sent.url))
        page.on("console", lambda message: said.append(message.text))
        page.goto((tmp_path / "page.html").as_uri())
        assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
        assert said == []
        wide, room = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
        assert wide <= room
        assert page.evaluate("[...document.images].every((image) => image.naturalWidth > 0)")
        outline = page.locator("article .outline").first
        assert outline.is_visible()
        # by keyboard alone: the first stop leads to the flags, the box takes the space bar
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.getAttribute('href')") == "#flags"
        page.locator("#outlines").focus()
        page.keyboard.press("Space")
        assert not outline.is_visible()
        browser.close()
