import pytest

from mtinet.cohort.phase_names import guess_phase
from mtinet.config import PHASES


@pytest.mark.parametrize("phase", PHASES)
def test_a_phase_is_known_by_its_own_name_however_it_is_written(phase):
    for name in (phase, phase.upper(), phase.replace("_", " "), f" {phase.replace('_', '-')} "):
        assert guess_phase(name) == phase


def test_hepatobiliary_is_never_delayed():
    assert guess_phase("HBP") == "hepatobiliary"
