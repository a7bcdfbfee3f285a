"""Checklists: numbered whole, filled only by what is known."""

from __future__ import annotations

import re

import pytest

from mtinet.reporting.checklists import fact_names, filled_checklists, to_markdown

CLAIM = [str(number) for number in range(1, 45)]
LETTERS = {
    3: "abc", 5: "ab", 6: "abc", 8: "abc", 9: "abc", 12: "abcdefg", 18: "abcdef", 20: "abc", 23: "ab", 27: "abc"
}  # fmt: skip
TRIPOD = [f"{number}{letter}" for number in range(1, 28) for letter in LETTERS.get(number, ("",))]


def test_items_are_numbered_as_in_the_originals():
    items = filled_checklists({})
    assert [item.number for item in items if item.checklist == "CLAIM"] == CLAIM
    assert [item.number for item in items if item.checklist == "TRIPOD+AI"] == TRIPOD


def test_without_facts_every_item_is_open_and_says_what_it_asks_for():
    for item in filled_checklists({}):
        assert item.status == "open"
        assert item.asks
        assert not item.text


def test_an_item_is_filled_when_all_that_it_needs_is_known():
    def status(facts):
        return {(i.checklist, i.number): i for i in filled_checklists(facts)}

    half = status({"data_source": "Cohort A"})["CLAIM", "7"]
    assert (half.status, half.text) == ("open", "Cohort A")
    whole = status({"data_source": "Cohort A", "licence": "CC0"})["CLAIM", "7"]
    assert (whole.status, whole.text, whole.asks) == ("filled", "Cohort A; CC0", "")
    assert status({"software": ""})["CLAIM", "23"].status == "open"


def test_what_only_authors_know_stays_open_whatever_is_known():
    items = {(i.checklist, i.number): i for i in filled_checklists(dict.fromkeys(fact_names(), "known"))}
    for key in (("CLAIM", "44"), ("CLAIM", "33"), ("CLAIM", "40"), ("TRIPOD+AI", "18b"), ("TRIPOD+AI", "14")):
        assert items[key].status == "open"


def test_the_markdown_shows_open_items_and_counts():
    text = to_markdown(filled_checklists({"metrics": "Dice | IoU", "statistics": "tests"}))
    assert "CLAIM: 2 of 44 items filled; TRIPOD+AI: 1 of 52" in text
    assert text.count("**OPEN**") == 93
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in rows} == {5}


@pytest.mark.parametrize(
    "word", ["specifying the category of technology", "reference to the full study protocol"]
)
def test_items_are_our_own_words(word):
    assert word not in to_markdown(filled_checklists({}))
