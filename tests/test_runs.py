from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from mtinet.config import InferenceSettings, resolve
from mtinet.results import Finding
from mtinet.runs import RUN_FORMAT, Checkpoint, Run, RunError


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "run", resolve("tiny"), {"manifest": {"format": RUN_FORMAT}})


def checkpoint(step: int) -> Checkpoint:
    return Checkpoint(step, {"a/w": torch.full((3,), float(step))}, {"runs": {"x": step}})


def test_settings_survive(run: Run):
    assert Run.open(run.path).config == resolve("tiny")


def test_checkpoints_round_trip_and_only_two_are_kept(run: Run):
    for step in (2, 4, 6):
        run.save_checkpoint(checkpoint(step))
    newest, findings = run.latest_checkpoint()
    assert newest.step == 6
    assert newest.state == {"runs": {"x": 6}}
    assert torch.equal(newest.tensors["a/w"], torch.full((3,), 6.0))
    assert findings == []
    assert len(list((run.path / "checkpoints").iterdir())) == 2


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"\xff" * len(b)])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(run: Run, damage):
    for step in (2, 4):
        run.save_checkpoint(checkpoint(step))
    newest = sorted((run.path / "checkpoints").iterdir())[-1]
    newest.write_bytes(damage(newest.read_bytes()))
    found, findings = run.latest_checkpoint()
    assert found.step == 2
    assert [f.id for f in findings] == ["damaged-checkpoint"]
    assert newest.name in findings[0].meaning


def test_a_kill_while_writing_leaves_no_half_checkpoint(run: Run, monkeypatch):
    run.save_checkpoint(checkpoint(2))
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        run.save_checkpoint(checkpoint(4))
    found, findings = run.latest_checkpoint()
    assert found.step == 2
    assert findings == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device that is always full")
def test_a_full_disk_is_named_and_keeps_the_last_checkpoint(run: Run, monkeypatch):
    run.save_checkpoint(checkpoint(2))
    monkeypatch.setattr(
        "safetensors.torch.save_file", lambda *_, **__: Path("/dev/full").write_bytes(b"x" * 9999)
    )
    with pytest.raises(RunError, match="free the disk"):
        run.save_checkpoint(checkpoint(4))
    assert run.latest_checkpoint()[0].step == 2


def test_a_line_cut_by_a_kill_is_dropped_and_later_steps_are_forgotten(run: Run):
    for step in range(1, 6):
        run.append_metrics({"step": step, "total": 1 / step})
    with (run.path / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 6, "tot')
    run.add_findings(
        [
            Finding("early", "train", "note", "m", "a.", step=2),
            Finding("late", "train", "note", "m", "a.", step=5),
        ]
    )
    run.truncate_metrics(3)
    assert [r["step"] for r in run.metrics()] == [1, 2, 3]
    assert [f.id for f in run.findings()] == ["early"]


def test_newer_formats_and_other_folders_are_refused(run: Run, tmp_path: Path):
    run.write_document("manifest", {"format": RUN_FORMAT + 1})
    with pytest.raises(RunError, match="newer"):
        Run.open(run.path)
    with pytest.raises(RunError, match="run folder"):
        Run.open(tmp_path)


def test_nothing_is_pickled(run: Run):
    run.save_checkpoint(checkpoint(2))
    content = next((run.path / "checkpoints").iterdir()).read_bytes()
    length = int.from_bytes(content[:8], "little")
    assert set(json.loads(content[8 : 8 + length])) == {"__metadata__", "a/w"}


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunError, match=r"file"):
        Run.create(tmp_path / "file" / "run", resolve("tiny"), {})


def test_settings_that_were_cut_at_any_line_are_refused(run: Run):
    path = run.path / "config.yaml"
    lines = path.read_text().splitlines(keepends=True)
    for kept in range(len(lines)):
        path.write_text("".join(lines[:kept]))
        with pytest.raises(
            RunError,
            match=r"config\.yaml (is damaged|is not complete|cannot be used).*; restore .* or train again",
        ):
            _ = run.config
    path.write_text("".join(lines))
    assert run.config == resolve("tiny")


def test_lost_sections_are_named(run: Run):
    path = run.path / "config.yaml"
    path.write_text(path.read_text().partition("inference:")[0])
    with pytest.raises(RunError, match="it lacks inference, evaluation, measurement;"):
        _ = run.config


def test_a_run_of_before_a_setting_takes_its_default(run: Run):
    path = run.path / "config.yaml"
    text = path.read_text()
    path.write_text("".join(line for line in text.splitlines(keepends=True) if "min_peak" not in line))
    assert path.read_text() != text
    assert run.config.inference.min_peak == InferenceSettings().min_peak
    assert run.config.head == resolve("tiny").head


def test_settings_that_are_no_text_are_refused(run: Run):
    (run.path / "config.yaml").write_bytes(b"model: \xff\xfe")
    with pytest.raises(RunError, match=r"config\.yaml is damaged .*; restore"):
        _ = run.config


@pytest.mark.parametrize("text", ["", "{}", "[]", "3", "model: [", "model: nothing\n"])
def test_settings_that_are_none_are_refused(run: Run, text):
    (run.path / "config.yaml").write_text(text)
    with pytest.raises(RunError, match=r"config\.yaml is .*; restore the config\.yaml of the training"):
        _ = run.config


@pytest.mark.parametrize("content", ["{}", "[]", "null", "3", '{"classes"', b"\xff\xfe"])
@pytest.mark.parametrize("name", ["classes", "preparation", "manifest"])
def test_a_document_without_its_content_is_damaged(run: Run, name, content):
    path = run.path / f"{name}.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    if (name, content) == ("manifest", "{}"):
        assert run.document(name) == {}
        return
    with pytest.raises(RunError, match=rf"{name}\.json is damaged \(.*\); train again or restore it"):
        run.document(name)


@pytest.mark.parametrize("names", [[], None, {}, "hcc"])
def test_classes_that_are_none_are_damaged(run: Run, names):
    run.write_document("classes", {"classes": names})
    with pytest.raises(RunError, match=r"classes\.json is damaged \(it names no class\)"):
        _ = run.classes


def test_damaged_codes_are_refused(run: Run):
    run.write_document("classes", {"classes": ["hcc"], "codes": []})
    with pytest.raises(RunError, match=r"classes\.json is damaged"):
        _ = run.class_codes


def test_a_format_that_is_no_number_is_damage(run: Run):
    run.write_document("manifest", {"format": "1"})
    with pytest.raises(RunError, match=r"manifest\.json is damaged \(format '1' is no whole number\)"):
        Run.open(run.path)


@pytest.mark.parametrize("name", ["model", "discriminator"])
def test_weights_fill_the_module_that_was_trained_and_no_other(run: Run, name):
    trained, other = torch.nn.Linear(2, 3), torch.nn.Linear(2, 4)
    run.save_model(trained.state_dict(), {"step": 3}, name)
    filled = torch.nn.Linear(2, 3)
    assert run.fill(filled, name) == {"step": 3}
    assert torch.equal(filled.weight, trained.weight)
    with pytest.raises(RunError, match=rf"do not belong to the weights of the {name}; restore"):
        run.fill(other, name)
