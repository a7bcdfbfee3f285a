"""Stages: who gets the seconds, on a clock that only the work moves."""

from __future__ import annotations

import pytest

from mtinet import stages
from mtinet.stages import stage, timed


@pytest.fixture
def wait(monkeypatch: pytest.MonkeyPatch):
    now = [0.0]
    monkeypatch.setattr(stages.time, "perf_counter", lambda: now[0])

    def pass_by(seconds: float) -> None:
        now[0] += seconds

    return pass_by


def test_a_stage_inside_another_takes_its_seconds_from_it(wait):
    with timed() as seconds:
        wait(1.0)
        with stage("lesions"):
            wait(2.0)
            with stage("network"):
                wait(4.0)
                with stage("network"):
                    wait(8.0)
            wait(16.0)
        with stage("write"):
            wait(32.0)
        wait(64.0)
    assert seconds == {"lesions": 18.0, "network": 12.0, "write": 32.0}


def test_a_decorated_function_counts_at_every_call_and_also_when_it_fails(wait):
    @stage("network")
    def work(fail: bool) -> None:
        wait(3.0)
        if fail:
            raise ValueError

    work(fail=False)  # nobody listens
    with timed() as seconds:
        work(fail=False)
        with pytest.raises(ValueError):  # noqa: PT011
            work(fail=True)
        with stage("write"):
            wait(1.0)
    assert seconds == {"network": 6.0, "write": 1.0}


def test_who_listens_inside_hears_only_what_is_inside(wait):
    with timed() as outer, stage("a"):
        with timed() as inner, stage("b"):
            wait(1.0)
        wait(2.0)
    assert inner == {"b": 1.0}
    assert outer == {"a": 3.0}
