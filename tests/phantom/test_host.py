"""The patient's condition: rates by class, within bounds, from the generator alone."""

from __future__ import annotations

import numpy as np
import pytest

from mtinet.config import SimulationSettings
from mtinet.phantom.host import CIRRHOSIS, OTHERWISE_CIRRHOTIC, Host, draw_host


def hosts(label: str, count: int = 2000, **changed: float) -> list[Host]:
    settings = SimulationSettings(**changed)
    return [draw_host(np.random.default_rng([7, n]), settings, label, 3.0) for n in range(count)]


@pytest.mark.parametrize("label", ["hcc", "icc", "hemangioma", "none"])
def test_cirrhosis_is_as_frequent_as_its_class_says(label: str) -> None:
    share = np.mean([host.cirrhosis > 0.0 for host in hosts(label)])
    assert share == pytest.approx(CIRRHOSIS.get(label, OTHERWISE_CIRRHOTIC), abs=0.04)


def test_settings_decide_when_they_say() -> None:
    assert all(host.cirrhosis > 0.0 for host in hosts("cyst", 50, cirrhosis_fraction=1.0))
    assert all(host.cirrhosis == 0.0 for host in hosts("hcc", 50, cirrhosis_fraction=0.0))
    assert all(host.fat_fraction < 0.05 for host in hosts("hcc", 50, fatty_fraction=0.0))
    assert all(host.fat_fraction > 0.05 for host in hosts("hcc", 50, fatty_fraction=1.0))


def test_values_stay_in_their_ranges() -> None:
    for host in hosts("hcc", 300):
        assert 0.0 <= host.cirrhosis <= 1.0
        assert 0.0 <= host.fat_fraction <= 0.4
        assert host.field_T == 3.0


def test_fat_does_not_depend_on_the_class() -> None:
    assert [host.fat_fraction for host in hosts("hcc", 30)] == [
        host.fat_fraction for host in hosts("cyst", 30)
    ]
