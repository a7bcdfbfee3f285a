import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mtinet.errors import UserError
from mtinet.reporting.page import write_report
from mtinet.results import RESEARCH_USE, Finding
from mtinet.runs import Run

SECTIONS = (
    "findings", "cohort", "results", "examples", "failures", "classification", "enhancement", "sizes",
    "attention", "training", "virtual", "method",
)  # fmt: skip
HOSTILE = "<script>alert(1)</script>"


class Page(HTMLParser):
    """What a page holds: elements with their attributes, and balanced tags."""

    VOID = frozenset({"meta", "link", "img", "input", "br", "image", "path", "use"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.words = ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.words += " "
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.words += data

    def count(self, tag, **wanted):
        return sum(t == tag and all(a.get(k) == v for k, v in wanted.items()) for t, a in self.elements)


def read(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


def test_page_is_self_contained(full_page):
    page = read(full_page)
    for tag, attributes in page.elements:
        for name in ("src", "href", "xlink:href"):
            target = attributes.get(name, "#")
            own = target.startswith(("#", "data:"))
            assert own or (tag == "a" and target.startswith("https://doi.org/")), (tag, target)
    assert not re.search(r"@import|url\(", full_page.read_text(encoding="utf-8"))


REPORTED = """
import sys
from pathlib import Path
from mtinet.workflows.report import report
report(Path(sys.argv[1]))
heavy = {"torch", "monai", "sklearn", "lightning_fabric"} & set(sys.modules)
assert not heavy, heavy
"""


def test_a_page_waits_for_nothing_that_only_networks_need(full_page):
    subprocess.run([sys.executable, "-c", REPORTED, full_page.parent], check=True)


def test_page_has_every_section_and_picture(full_page):
    page = read(full_page)
    for name in SECTIONS:
        assert page.count("section", id=name) == 1
        assert page.count("a", href=f"#{name}") == 1
    assert RESEARCH_USE in page.words
    assert page.count("img") > 20
    assert all(attributes.get("alt") for tag, attributes in page.elements if tag == "img")


def test_every_reference_inside_the_page_has_a_target(full_page):
    page = read(full_page)
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    wanted = {a["href"][1:] for _, a in page.elements if a.get("href", "").startswith("#")}
    assert wanted <= set(ids)


def test_page_shows_the_numbers_of_the_summary(full_page):
    rows = json.loads((full_page.parent / "predictions" / "summary.json").read_text())["rows"]
    dice = next(
        r
        for r in rows
        if (r["task"], r["metric"], r["group"], r["site"]) == ("segmentation", "dice", "all", "all")
    )
    text = " ".join(read(full_page).words.split())
    assert f"Dice {dice['value']:.2f} 95 % interval {dice['low']:.2f} to {dice['high']:.2f}" in text


def test_raw_error_never_stands_without_the_relative_one(full_page):
    words = read(full_page).words
    assert "mean absolute error, raw signal" in words
    assert "mean absolute error, relative enhancement" in words


def test_findings_stand_worst_first_with_meaning_and_repair(run_maker, tmp_path):
    run_maker.findings = [
        Finding("small", "train", "note", "the note's meaning", "Do nothing."),
        Finding("bad", "train", "error", "the error's meaning", "Repair it.", value=0.5, threshold=0.1),
        *[Finding("many", "cohort", "warning", "repeated", "See.", case=f"case-{i}") for i in range(5)],
    ]
    words = read(write_report(run_maker.write(tmp_path / "run"))).words
    assert words.index("The error's meaning") < words.index("Repeated") < words.index("The note's meaning")
    assert "Repair it." in words
    assert "value 0.5, limit 0.1" in words
    assert words.count("Repeated") == 1
    assert "case-4" in words


def test_hostile_ids_are_escaped(run_maker, tmp_path):
    run_maker.prefix = HOSTILE.replace("/", "") + "'\""
    run_maker.sites = (HOSTILE, "B")
    run_maker.classes = ("hemangioma", HOSTILE)
    run_maker.findings = [Finding(HOSTILE, "train", "note", HOSTILE, HOSTILE, case=HOSTILE)]
    run = run_maker.write(tmp_path / "run")
    page = read(write_report(run))
    assert page.count("script") == 1
    assert HOSTILE in page.words
    assert "Best Dice" in page.words


def test_study_id_cannot_lead_out_of_the_folder_of_views(run_maker, tmp_path):
    run_maker.prefix = "../../../outside"
    run = run_maker.write(tmp_path / "run")
    for index in range(run_maker.studies):
        (tmp_path / f"outside{index:03d}.npz").write_bytes(b"not a view")
    assert "No slice was stored" in read(write_report(run)).words


SEVEN = ("hemangioma", "hcc", "fnh", "metastasis", "icc", "cyst", "abscess")
DEGENERATE = {
    "no lesion at all": {"healthy": 6, "studies": 6, "hallucinated": 0},
    "nothing but inventions": {"healthy": 6, "studies": 6, "hallucinated": 6, "views": True},
    "everything missed": {"studies": 6, "missed": 6, "views": True},
    "one class": {"classes": ("hcc",), "studies": 5},
    "seven classes": {"classes": SEVEN, "studies": 16},
    "no site, one patient": {"sites": ("",), "studies": 1, "healthy": 0, "missed": 0, "wrong": 0},
    "no times": {"times_s": (np.nan,) * 4, "views": True},
    "no discriminator": {"adversarial": False, "studies": 5, "trained": True},
}


ALWAYS = ("no lesion at all", "nothing but inventions", "seven classes")


@pytest.mark.parametrize(
    "case",
    [*ALWAYS, *(pytest.param(case, marks=pytest.mark.slow) for case in DEGENERATE if case not in ALWAYS)],
)
def test_degenerate_run_has_a_report(run_maker, tmp_path, case):
    for name, value in DEGENERATE[case].items():
        setattr(run_maker, name, value)
    page = read(write_report(run_maker.write(tmp_path / "run")))
    for name in set(SECTIONS) - {"virtual"}:
        assert page.count("section", id=name) == 1
    assert not re.search(r"\b(nan|None|inf)\b", page.words.partition("Method and how")[0])


@pytest.mark.parametrize("virtual", [True, False])
def test_virtual_patients_are_named_as_such(run_maker, tmp_path, virtual):
    run_maker.virtual = virtual
    page = read(write_report(run_maker.write(tmp_path / "run")))
    assert page.count("section", id="virtual") == int(virtual)
    assert ("simulated images" in page.words) == virtual


def test_run_without_training_numbers(run_maker, tmp_path):
    assert "recorded no numbers" in read(write_report(run_maker.write(tmp_path / "run"))).words


def test_run_that_was_not_evaluated_says_what_to_run(run_maker, tmp_path):
    run = run_maker.write(tmp_path / "run")
    shutil.rmtree(run.predictions)
    with pytest.raises(UserError, match=r"mtinet evaluate"):
        write_report(run)
    assert not run.report.exists()


def test_a_run_that_trained_on_everybody_says_to_take_another_cohort(run_maker, tmp_path):
    run = run_maker.write(tmp_path / "run")
    shutil.rmtree(run.predictions)
    run.write_document("split", run.document("split") | {"test": []})
    wanted = r"mtinet evaluate \S+ --cohort OTHER and mtinet report \S+ --on OTHER"
    with pytest.raises(UserError, match=wanted):
        write_report(run)
    with pytest.raises(UserError, match=rf"predictions-twin/.*{wanted}"):
        write_report(run, run.predictions_on("twin"))


@pytest.mark.slow
def test_another_evaluation_has_its_page_beside_its_tables(run_maker, tmp_path):
    run_maker.views = True
    run_maker.findings = [
        Finding("old", "evaluate", "warning", "only of the held-out studies", "See."),
        Finding("kept", "train", "note", "of the training", "See."),
    ]
    run = run_maker.write(tmp_path / "run")
    own = write_report(run)
    before = own.read_bytes()
    folder = run.predictions_on("other hospital")
    run.predictions.rename(folder)
    new = Finding("new", "evaluate", "warning", "of the other cohort", "See.")
    (folder / "findings.json").write_text(json.dumps([new.to_dict()]))
    run.write_document("split", run.document("split") | {"test": []})

    path = write_report(run, folder)
    assert path == folder / "report.html"
    assert own.read_bytes() == before
    page = read(path)
    assert "Of the other cohort" in page.words
    assert "Of the training" in page.words
    assert "Only of the held-out" not in page.words
    assert f"mtinet report {run.path} --on other-hospital" in page.words
    assert "Scored on other-hospital" in " ".join(page.words.split())
    assert "No slice was stored" not in page.words
    assert "not scored: see the findings" not in page.words


@pytest.mark.parametrize("name", ["summary.json", "views/v001.npz"])
def test_damaged_file_is_named(run_maker, tmp_path, name):
    run_maker.views = True
    run = run_maker.write(tmp_path / "run")
    (run.predictions / name).write_text("{")
    with pytest.raises(UserError, match=rf"{name}.* damaged.*mtinet evaluate"):
        write_report(run)


def test_studies_seen_in_training_are_called_out(run_maker, tmp_path):
    run = run_maker.write(tmp_path / "run")
    split = run.document("split")
    run.write_document("split", split | {"train": split["train"] + split["test"][:2]})
    assert "2 scored studies were seen in training" in read(write_report(run)).words


def test_report_of_the_same_run_is_the_same(full_page):
    first = full_page.read_bytes()
    assert write_report(Run.open(full_page.parent)).read_bytes() == first


def test_best_of_comparable_methods_is_marked_and_oracle_never(full_page):
    table = pd.read_csv(full_page.parent / "predictions" / "table.csv")
    rows = table[
        (table["site"] == "all") & (table["group"] == "all") & (table["task"] == "enhancement")
        & (table["metric"] == "mae_relative")
    ].set_index("method")["value"]  # fmt: skip
    best = rows[["head", "read_out", "training_mean"]].min()
    assert rows["oracle_mask"] < best
    text = full_page.read_text(encoding="utf-8")
    row = re.search(r'<th scope="row">mean absolute error, relative enhancement</th>(.*?)</tr>', text, re.S)
    assert row is not None
    marked = re.findall(r'<td class="[^"]*best">\s*<span class="value">([\d.]+)', row.group(1))
    assert marked == [f"{best:.1f}"]


def test_a_case_has_the_class_that_is_scored(run_maker, tmp_path):
    run_maker.missed = 1
    run = run_maker.write(tmp_path / "run")
    studies = pd.read_csv(run.predictions / "studies.csv", dtype={"study_id": str})
    missed = studies["outcome"] == "missed"
    # a component elsewhere has the right class by chance, and none of the lesion's components has
    studies.loc[missed, "predicted_label"] = studies.loc[missed, "label"]
    studies.to_csv(run.predictions / "studies.csv", index=False)
    words = read(write_report(run)).words
    assert "→ not found ✗" in words


def test_a_method_without_class_and_enhancement_is_not_called_wrong(run_maker, tmp_path):
    run = run_maker.write(tmp_path / "run")
    lesions = pd.read_csv(run.predictions / "lesions.csv", dtype={"study_id": str})
    gone = [c for c in lesions if c.startswith(("predicted_", "p_", "attention_", "oracle_"))]
    lesions.drop(columns=gone).to_csv(run.predictions / "lesions.csv", index=False)
    studies = pd.read_csv(run.predictions / "studies.csv", dtype={"study_id": str})
    studies.assign(predicted_label="").to_csv(run.predictions / "studies.csv", index=False)
    words = read(write_report(run)).words
    assert "no answer" in words
    assert "✗" not in words.replace("→ not found ✗", "")
    assert "This method regresses no enhancement" in words
    assert "No class: this method gives none" in words


def test_masks_of_another_program_are_called_so(run_maker, tmp_path):
    run_maker.findings = [Finding("kept", "train", "warning", "of the training", "See.")]
    run = run_maker.write(tmp_path / "run")
    folder = run.predictions_on("theirs")
    run.predictions.rename(folder)
    told = Finding("another-program", "evaluate", "note", "the masks are another program's", "Read on.")
    (folder / "findings.json").write_text(json.dumps([told.to_dict()]))
    words = read(write_report(run, folder)).words
    assert "another program on theirs" in words
    assert "The masks are another program's" in words
    assert "Of the training" not in words
    assert "--predictions FOLDER" in words
