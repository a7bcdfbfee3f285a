"""The pages' templates: one style for all, everything escaped."""

from __future__ import annotations

from importlib import resources

import jinja2
import pytest

from mtinet.reporting.templates import page_template

PAGES = ("template.html", "experiment.html", "qc.html", "study.html")


@pytest.mark.parametrize("name", PAGES)
def test_every_page_begins_with_the_shared_style_and_repeats_none_of_it(name):
    source = resources.files("mtinet.reporting").joinpath(name).read_text(encoding="utf-8")
    shared = resources.files("mtinet.reporting").joinpath("shared.css").read_text(encoding="utf-8")
    assert source.count('<style>\n{% include "shared.css" %}') == 1
    own = source[source.index("<style>") : source.index("</style>")]
    rules = {line.strip() for line in shared.splitlines() if line.startswith((".", ":root", "body", "table"))}
    assert len(rules) > 10
    assert rules.isdisjoint(line.strip() for line in own.splitlines())


def test_what_others_wrote_is_escaped_and_nothing_is_left_out_silently():
    environment = page_template("qc.html").environment
    assert environment.from_string("{{ name }}").render(name="<b>") == "&lt;b&gt;"
    with pytest.raises(jinja2.UndefinedError):
        environment.from_string("{{ name }}").render()
