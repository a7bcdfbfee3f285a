"""What a study's images cannot tell is said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mtinet.config import DEFAULT_PHASES, PHASES
from mtinet.imaging.limits import image_limits, trusted_times


@pytest.fixture
def study(toy, tmp_path):
    written = toy.write(tmp_path, "s0")
    return replace(written, loaded=toy.images, agent="gadobutrol")


def test_a_study_that_tells_all_has_no_limit(study):
    assert image_limits(study, PHASES) == []


@pytest.mark.parametrize("agent", ["", "Gd", "CONTRAST 10 ML"])
def test_an_agent_whose_behaviour_is_not_known_is_said(study, agent):
    (found,) = image_limits(replace(study, agent=agent), PHASES)
    assert found.id == "no-agent"
    assert repr(agent) in found.meaning or not agent
    assert "whether delayed shows washout" in found.meaning


def test_the_time_of_the_unenhanced_phase_tells_no_rate(study):
    (found,) = image_limits(replace(study, times_s={"pre": -30.0}), PHASES)
    assert found.id == "no-times"


def test_times_that_contradict_the_order_of_the_phases_are_not_trusted():
    times = {"arterial": 30.0, "portal_venous": 70.0}
    assert trusted_times(times, "s0") == (times, ())
    # in whatever order they are told
    assert trusted_times(dict(reversed(times.items())), "s0") == (times, ())
    trusted, (found,) = trusted_times({"arterial": 70.0, "portal_venous": 30.0}, "s0")
    assert trusted == {}
    assert (found.id, found.severity, found.case) == ("times-contradict", "warning", "s0")


def test_files_that_are_not_used_are_named_with_the_repair(study):
    (found,) = image_limits(replace(study, unused=(Path("there/late.nii.gz"), Path("there/T2.nii"))), PHASES)
    assert (found.id, found.severity) == ("image-not-used", "warning")
    assert found.meaning.endswith("late.nii.gz, T2.nii")
    assert "--phase-names" in found.action


def test_images_below_zero_are_no_magnitudes(study, toy):
    image = toy.images["arterial"]
    scored = image.with_array((image.array - image.array.mean()) / image.array.std())
    (found,) = image_limits(replace(study, loaded={**toy.images, "arterial": scored}), PHASES)
    assert (found.id, found.severity) == ("below-zero", "warning")
    assert found.meaning.startswith("arterial: many voxels are below zero")


def test_every_phase_that_the_model_does_not_know_is_named(study, toy):
    image = toy.images["arterial"]

    def with_phases(*phases):
        return replace(
            study, images={p: Path(f"{p}.nii.gz") for p in phases}, loaded=dict.fromkeys(phases, image)
        )

    (found,) = image_limits(with_phases("pre", "arterial", "delayed", "hepatobiliary"), DEFAULT_PHASES)
    assert (found.id, found.severity) == ("phase-not-used", "warning")
    assert "not used: hepatobiliary;" in found.meaning
    assert "LI-RADS" not in found.meaning
    (found,) = image_limits(with_phases("pre", "arterial", "arterial_late", "delayed"), DEFAULT_PHASES)
    assert "not used: arterial_late;" in found.meaning
    assert "signs of the arterial phase are measured on the early one" in found.meaning
    assert "--phase-names arterial=SERIES,arterial_late=" in found.action
    (found,) = image_limits(with_phases("pre", "arterial_late", "delayed"), DEFAULT_PHASES)
    assert "not assessed" in found.meaning
