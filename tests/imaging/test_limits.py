"""What a study's images cannot tell is said."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mtinet.imaging.limits import image_limits


@pytest.fixture
def study(toy, tmp_path):
    written = toy.write(tmp_path, "s0")
    return replace(written, loaded=toy.images, agent="gadobutrol")


def test_a_study_that_tells_all_has_no_limit(study):
    assert image_limits(study) == []


@pytest.mark.parametrize("agent", ["", "Gd", "CONTRAST 10 ML"])
def test_an_agent_whose_behaviour_is_not_known_is_said(study, agent):
    (found,) = image_limits(replace(study, agent=agent))
    assert found.id == "no-agent"
    assert repr(agent) in found.meaning or not agent
    assert "whether delayed shows washout" in found.meaning


def test_the_time_of_the_unenhanced_phase_tells_no_rate(study):
    (found,) = image_limits(replace(study, times_s={"pre": -30.0}))
    assert found.id == "no-times"
