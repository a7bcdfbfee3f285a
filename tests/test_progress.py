"""What a terminal shows of long work."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from mtinet import progress
from mtinet.progress import StageProgress


@pytest.fixture
def terminal(monkeypatch):
    """``terminal(width)``: what is written from then on."""

    def of(width: int) -> io.StringIO:
        written = io.StringIO()
        console = Console(file=written, force_terminal=True, width=width, color_system=None)
        monkeypatch.setattr(progress, "Console", lambda stderr: console)
        return written

    return of


@pytest.mark.parametrize("width", [60, 80, 200])
def test_a_narrow_terminal_shows_how_far_a_training_is_and_cuts_its_numbers(terminal, width):
    written = terminal(width)
    numbers = dict.fromkeys(("total", "segmentation", "regression", "classification", "held_out_dice"), 0.5)
    with StageProgress() as shown:
        shown.step(120, 3000, numbers)
        shown.say("step 120: warning: odd")
    last = next(line for line in reversed(written.getvalue().splitlines()) if "Training" in line)
    assert "120/3000" in last
    assert ("held out dice" in last) == (width == 200)
    assert "step 120: warning: odd" in written.getvalue()
