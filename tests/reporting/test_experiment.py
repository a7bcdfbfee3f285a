"""Tables, page and pictures of an experiment, from made-up records."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pandas as pd
import pytest

from mtinet.config.comparison import ComparisonSettings
from mtinet.config.variation import LearningVariation, ScoringVariation
from mtinet.errors import UserError
from mtinet.evaluation.compared import ENDPOINTS
from mtinet.evaluation.comparison import compare
from mtinet.evaluation.pooling import RowRecords
from mtinet.records import Scoring
from mtinet.reporting import experiment_pictures as pictures
from mtinet.reporting.checklist_facts import experiment_facts
from mtinet.reporting.experiment import ExperimentResults, write_results
from mtinet.reporting.experiment_tables import (
    QUANTITIES,
    difference_table,
    movement_table,
    p_value,
    to_frame,
    value_table,
)
from mtinet.reporting.texts import Text, latex, to_csv, to_latex, to_markdown

QUICK = ComparisonSettings(permutations=999, bootstrap=100)


# ---------------------------------------------------------------------- tables
def test_the_csv_holds_every_row_endpoint_and_verdict(experiment_folder, experiment_comparison):
    table = pd.read_csv(experiment_folder / "results.csv")
    assert len(table) == len(experiment_comparison.rows) * len(experiment_comparison.endpoints)
    line = table[(table["row"] == "poor") & (table["endpoint"] == "dice")].iloc[0]
    item = next(i for i in experiment_comparison.of("dice") if i.row == "poor")
    assert line["difference"] == pytest.approx(item.difference.value)
    assert (line["verdict"], line["p_holm"]) == ("worse", pytest.approx(item.p_holm))
    assert set(table[table["row"] == "full"]["verdict"]) == {"reference"}


def test_every_column_is_explained(experiment_comparison, explained):
    assert explained("results.csv") == set(to_frame(experiment_comparison).columns)


def test_every_endpoint_can_be_written():
    assert set(QUANTITIES) == {endpoint.name for endpoint in ENDPOINTS}
    for endpoint in ENDPOINTS:
        assert QUANTITIES[endpoint.name].better == endpoint.better


def test_markdown_has_whole_tables_and_says_what_limits_them(experiment_folder):
    text = (experiment_folder / "results.md").read_text(encoding="utf-8")
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(widths) == 1
    for expected in ("Not converged", "not converged", "2 of 4", "Virtual patients", "80 % power"):
        assert expected in text


def test_seeds_stand_beside_their_mean(experiment_comparison):
    table = value_table(experiment_comparison)
    dice = table.heads.index("Dice")
    assert re.search(r"\{\d\.\d+, \d\.\d+\}", table.rows[0][dice])
    assert "{" not in table.rows[1][dice]


def test_latex_is_escaped_and_balanced():
    table = Text("50 % & more", ("a_b", "{c}"), (("#1", "x ^ y ~ z \\ $"), ("< 0.001", "−0.2–0.3")))
    text = to_latex(table)
    assert text.count(r"\begin{") == text.count(r"\end{") == 2
    assert [text.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [1, 1, 1]
    body = text[text.index(r"\midrule") : text.index(r"\bottomrule")]
    assert [line.count("&") for line in body.splitlines()[1:] if line] == [1, 1]
    for special in "&%$#_{}~^":
        assert not re.search(rf"(?<!\\){re.escape(special)}", latex(special).replace("{}", ""))
    assert text.isascii()


def test_tables_survive_csv_and_markdown():
    table = Text("t", ("a", "b"), (('say "x", y', "a|b"),))
    assert list(csv.reader(io.StringIO(to_csv(table)))) == [["a", "b"], ['say "x", y', "a|b"]]
    assert "a\\|b" in to_markdown(table)


def test_indented_rows_stay_indented():
    table = Text("t", ("", "n"), (("Class", ""), ("  HCC", "3")))
    assert "| &emsp;HCC | 3 |" in to_markdown(table)
    assert r"\quad HCC & 3" in to_latex(table)


def test_the_difference_table_names_the_reason_for_no_claim(experiment_comparison):
    cells = [row[-1] for row in difference_table(experiment_comparison).rows if row[1] == "Not yet there"]
    assert any(cell == "no claim (the row had not converged)" for cell in cells)
    assert len(to_frame(experiment_comparison)) == 24


# ---------------------------------------------------------------------- page
class Page(HTMLParser):
    """Ids, links, images without a description, and tags left open."""

    VOID = frozenset({"meta", "link", "img", "br", "input"})

    def __init__(self) -> None:
        super().__init__()
        self.ids, self.links, self.sources, self.undescribed, self.open = set(), [], [], 0, []

    def handle_starttag(self, tag, attrs):
        known = dict(attrs)
        self.ids |= {known["id"]} if "id" in known else set()
        self.links += [known["href"]] if tag in ("a", "link") else []
        if tag == "img":
            self.sources.append(known["src"])
            self.undescribed += not known.get("alt")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def page(experiment_folder):
    parsed = Page()
    parsed.feed((experiment_folder / "report.html").read_text(encoding="utf-8"))
    return parsed


def test_the_page_is_whole_and_needs_no_other_file(page, experiment_folder):
    assert page.open == []
    assert page.undescribed == 0
    assert len(page.sources) > 10
    assert all(source.startswith("data:image/svg+xml;base64,") for source in page.sources)
    assert all(link.startswith(("#", "data:")) for link in page.links)
    assert {link[1:] for link in page.links if link.startswith("#")} <= page.ids
    text = (experiment_folder / "report.html").read_text(encoding="utf-8")
    assert "http" not in text.replace("http://www.w3.org", "")


def test_titles_are_escaped_and_everything_is_said(experiment_folder):
    text = (experiment_folder / "report.html").read_text(encoding="utf-8")
    assert "<b>no & MdIEF</b>" not in text
    assert "&lt;b&gt;no &amp; MdIEF&lt;/b&gt;" in text
    for expected in ("Research use only", "Virtual patients", "no claim", "not distinguishable", "worse"):
        assert expected in text
    assert 'class="chip open"' in text


def test_the_description_is_json(experiment_folder, experiment_comparison):
    described = json.loads((experiment_folder / "experiment.json").read_text(encoding="utf-8"))
    assert described["reference"] == "full"
    assert described["cohort_hash"] == experiment_comparison.cohort_hash
    assert described["virtual"] is True


def test_an_experiment_with_its_reference_alone_makes_a_page(experiment_rows, tmp_path):
    alone = experiment_rows[2:3]
    comparison = compare(alone, "unet", settings=QUICK)
    page = write_results(ExperimentResults("x", "X", "?", comparison, alone), tmp_path)
    assert "Only the reference has a finished run" in page.read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_same_records_make_the_same_page(experiment_results, experiment_folder, tmp_path):
    again = write_results(experiment_results, tmp_path)
    assert again.read_bytes() == (experiment_folder / "report.html").read_bytes()


# ---------------------------------------------------------------------- pictures
@pytest.mark.slow
def test_a_report_replaces_its_own_kind_alone(experiment_results, tmp_path):
    write_results(experiment_results, tmp_path, latex=True)
    assert (tmp_path / "results.tex").is_file()
    write_results(experiment_results, tmp_path)  # an older results.tex would have other numbers
    assert not (tmp_path / "results.tex").exists()
    with pytest.raises(UserError, match=r"holds the report of experiment .*--report"):
        write_results(replace(experiment_results, name="another"), tmp_path)
    (tmp_path / "lone").mkdir()
    (tmp_path / "lone" / "experiment.json").write_text("{}", encoding="utf-8")
    with pytest.raises(UserError, match=r"experiment.json, which is no report"):
        write_results(experiment_results, tmp_path / "lone")
    own = tmp_path / "own"
    own.mkdir()
    (own / "report.html").write_text("mine", encoding="utf-8")
    with pytest.raises(UserError, match=r"report.html, which is no report of an experiment"):
        write_results(experiment_results, own)
    assert [path.name for path in own.iterdir()] == ["report.html"]
    assert (own / "report.html").read_text(encoding="utf-8") == "mine"


def test_what_rounds_to_nothing_has_no_sign(experiment_comparison):
    full = replace(
        experiment_comparison.rows[0],
        moved={"loss_percent": -0.04, "loss_low": -3.0, "loss_high": 2.96, "dice_points": None},
    )
    (line,) = movement_table(replace(experiment_comparison, rows=(full,))).rows
    assert line[1:3] == ("+0.0 [−3.0, +3.0]", "–")


def test_the_side_of_the_level_is_never_rounded_away():
    assert [p_value(p) for p in (0.0496, 0.0504, 0.049, 0.2)] == ["0.0496", "0.0504", "0.049", "0.200"]


def test_forest_plots_say_what_they_show(experiment_comparison):
    alt = pictures.forest_picture(experiment_comparison, "dice").alt
    assert "difference from MTI-Net" in alt
    assert ", worse" in alt
    assert ", no claim" in alt


def test_a_number_needs_two_rows_on_its_axis(experiment_rows, experiment_comparison):
    assert "0: " in pictures.number_picture(experiment_comparison, "dice", "margin").alt
    without = compare(experiment_rows[2:], "unet", settings=QUICK)
    assert pictures.number_picture(without, "dice", "margin") is None


def test_attention_is_parted_into_right_and_wrong(experiment_rows):
    table = pictures.attention_table(experiment_rows[0])
    assert set(table["group"]) == {"right", "wrong"}
    assert table.drop(columns="group").sum(axis=1).to_numpy() == pytest.approx(1.0)
    # 36 patients with 2 seeds, of which one is missed
    assert len(table) == 2 * 35
    assert pictures.attention_picture(experiment_rows[2]) is None  # no classes, so neither right nor wrong


def test_courses_are_means_over_runs_and_shared_runs_are_drawn_once(experiment_rows):
    table = pictures.course_table(experiment_rows[0], ("logit_gap",))
    runs = [record.course for record in experiment_rows[0].records]
    assert table["value"].iloc[-1] == pytest.approx(
        sum(course.numbers["logit_gap"][-1] for course in runs) / len(runs)
    )
    twice = RowRecords("again", "again", experiment_rows[0].records, enhancement="read_out")
    assert pictures.distinct_rows([experiment_rows[0], twice]) == [experiment_rows[0]]
    assert len(pictures.course_pictures([experiment_rows[2]], pictures.DISCRIMINATOR)) == 0
    assert "median" in pictures.cosine_summary(experiment_rows).alt


def test_ways_of_asking_are_described_by_how_sure_they_are(experiment_rows, tmp_path):
    flips, plain = ScoringVariation(flips=True), experiment_rows[0]
    asked = tuple(
        record.model_copy(
            update={
                "scorings": (
                    *record.scorings,
                    Scoring(variation=flips, studies=record.scorings[0].studies, study_s=0.25),
                )
            }
        )
        for record in plain.records
    )
    rows = (
        replace(plain, records=asked),
        replace(plain, name="flips", title="mirrored", records=asked, scoring=flips),
    )
    results = ExperimentResults(
        "uncertainty", "Who is asked", "Is it worth it?", compare(rows, "full", settings=QUICK), rows
    )
    assert results.sureness[1].differences["brier"].value == 0
    page = write_results(results, tmp_path).read_text()
    assert 'id="sureness"' in page
    assert "of the surer half" in page
    table = (tmp_path / "results.md").read_text()
    assert "Area under risk against coverage, difference" in table
    assert table.count("| 0.250 |") == 1
    assert len(pictures.distinct_rows(rows)) == 1


def test_many_rows_are_spread_over_several_charts(record_maker):
    make = record_maker(patients=6)
    many = [RowRecords(str(k), f"row {k}", make.row(k, missed=0)) for k in range(10)]
    assert len(pictures.course_pictures(many, pictures.PROGRESS[:1])) == 2


# ---------------------------------------------------------------------- facts
def test_facts_name_folds_or_sites(experiment_rows, experiment_comparison, record_maker):
    assert "0, 1" in experiment_facts(experiment_comparison, experiment_rows, "?")["partition"]
    by_site = (RowRecords("a", "a", record_maker(patients=24).row(held_out_sites=True)),)
    facts = experiment_facts(compare(by_site, "a", settings=QUICK), by_site, "?")
    assert facts["partition"] == "One site held out after the other: A, B"
    assert by_site[0].records[0].learning != LearningVariation()
