"""Results: what is written is read back, and a newer format is refused."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

import pytest

from mtinet.config import PHASES
from mtinet.errors import UnusableError
from mtinet.inference.ensemble import Ensemble
from mtinet.inference.panel import Opinions
from mtinet.inference.predictor import Predictor
from mtinet.results import RESULT_FORMAT, Certainty, Finding, Lesion, Measurement, PhaseSource, Result


def result() -> Result:
    certainty = Certainty(0.9, (900.0, 1200.0), ("hcc", "fnh"), {"pre": (1.0, 2.0)}, 0.9)
    measurements = (
        Measurement("longest_axial_diameter", 12.5, "mm"),
        Measurement("washout", finding="not assessable", reason="no delayed phase"),
    )
    lesion = Lesion(
        1, 1000.0, 12.4, (1.0, 2.0, 3.0), 0.8, {"hcc": 0.7, "fnh": 0.3}, {"pre": 100.0}, {}, {"pre": 99.0},
        measurements, certainty,
    )  # fmt: skip
    plain = Lesion(2, 500.0, 9.8, (0.0, 0.0, 0.0), 0.6, {"hcc": 1.0}, {}, {}, {})
    finding = Finding("missing-phase", "predict", "note", "m", "a", "007")
    return Result(
        "007", ("pre",), "pre", ("hcc", "fnh"), (lesion, plain), None, (finding,),
        {"run": "x", "digest": "ab", "mtinet": "0.1.0"},
        (Measurement("liver_signal", 50.0, phase="pre"),),
        {"pre": PhaseSource("5", 1, 3, 0.75, ("its name 'nativ' says before contrast",))},
    )  # fmt: skip


def test_what_is_written_is_read_back():
    values = json.loads(json.dumps(result().to_dict()))
    assert Result.from_dict(values) == result()


def test_an_earlier_format_without_measurements_is_read():
    values = json.loads(json.dumps(result().to_dict()))
    values["format"] = 1
    del values["measurements"], values["sources"]
    for lesion in values["lesions"]:
        del lesion["measurements"], lesion["certainty"]
    read = Result.from_dict(values)
    assert read.label == "hcc"
    assert read.lesions[0].measurements == ()
    assert read.lesions[0].certainty is None


@pytest.mark.parametrize("written", ["2", None, 2.5, True, [2]])
def test_a_format_that_is_no_whole_number_is_refused(written):
    with pytest.raises(UnusableError, match=r"is no whole number.*predict the study again"):
        Result.from_dict({**result().to_dict(), "format": written})


def test_fields_of_later_versions_are_ignored_on_every_level():
    def extended(value):
        if isinstance(value, dict):
            return {"later": 1, **{name: extended(inner) for name, inner in value.items()}}
        return [extended(inner) for inner in value] if isinstance(value, list) else value

    values = json.loads(json.dumps(result().to_dict()))
    # classes and phases are names that a document chooses: only what has fields is extended
    free = (
        "probabilities",
        "enhancement",
        "relative_enhancement_percent",
        "measured",
        "enhancement_interval",
        "model",
    )

    def restored(value, original):
        if isinstance(value, dict) and isinstance(original, dict):
            return {
                name: original[name] if name in free else restored(inner, original.get(name))
                for name, inner in value.items()
            }
        if isinstance(value, list):
            return [restored(one, other) for one, other in zip(value, original, strict=True)]
        return value

    changed = restored(extended(values), values)
    changed["sources"].pop("later")
    assert changed["lesions"][0]["measurements"][0]["later"] == 1
    assert changed["lesions"][0]["certainty"]["later"] == 1
    assert changed["sources"]["pre"]["later"] == 1
    assert Result.from_dict(changed) == result()


def test_a_newer_format_is_refused_by_name():
    with pytest.raises(UnusableError, match=str(RESULT_FORMAT + 1)):
        Result.from_dict({**result().to_dict(), "format": RESULT_FORMAT + 1})


def schema() -> dict:
    path = Path(__file__).parents[1] / "docs" / "schemas" / f"result-{RESULT_FORMAT}.json"
    return json.loads(path.read_text())


def test_results_follow_the_published_schema():
    jsonschema = pytest.importorskip("jsonschema")
    published = schema()
    jsonschema.Draft202012Validator.check_schema(published)
    values = json.loads(json.dumps(result().to_dict()))
    jsonschema.validate(values, published)
    without = {name: value for name, value in values.items() if name != "sources"}
    jsonschema.validate(without, published)
    assert Result.from_dict(without).sources == {}
    for path, wrong in (
        ("label", 3),
        ("phases", ["venous"]),
        ("lesions", [{}]),
        ("format", 1),
        ("more", 1),
        ("model", {}),
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**values, path: wrong}, published)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (Lesion, "lesion"),
        (Measurement, "measurement"),
        (Certainty, "certainty"),
        (Finding, "finding"),
        (PhaseSource, "phase_source"),
    ],
)
def test_the_schema_knows_every_field(kind, name):
    described = set(schema()["$defs"][name]["properties"])
    assert described - {"label"} == {field.name for field in fields(kind)}
    assert set(schema()["$defs"]["phase"]["enum"]) == set(PHASES)


def test_the_schema_knows_every_fact_about_the_model(monkeypatch):
    jsonschema = pytest.importorskip("jsonschema")
    # the reference was trained without dropout; how many networks were asked is told all the same
    monkeypatch.setattr("mtinet.inference.panel.dropout_layers", lambda network: [network])
    one = Predictor.load("reference", "cpu")
    several = Ensemble([one, one], Opinions(flips=True, dropout=2))
    published = schema()
    # a backend other than torch needs its package
    assert set(published["$defs"]["model"]["properties"]) == {*one.facts, *several.facts, "backend"}
    for facts in (one.facts, several.facts, {**one.facts, "backend": "openvino"}):
        jsonschema.validate(replace(result(), model=facts).to_dict(), published)
