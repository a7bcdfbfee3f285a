from __future__ import annotations

import numpy as np
import pytest

from mtinet.inference.forward import Survey
from mtinet.inference.vote import Vote, binary_entropy


def vote_of(*maps: np.ndarray) -> Vote:
    """A vote of members to whom the study looks like their number."""
    return Vote.of(Survey(found, np.full((1, 1), float(n))) for n, found in enumerate(maps))


def test_one_member_is_kept_as_it_is():
    only = np.array([[[0.2, 0.9]]], dtype=np.float32)
    vote = vote_of(only)
    assert np.array_equal(vote.probability, only)
    assert vote.information is None


def test_members_that_agree_share_no_information_and_opposites_one_bit():
    same = np.full((1, 1, 3), 0.3, dtype=np.float32)
    assert vote_of(same, same).information == pytest.approx(0, abs=1e-6)
    zero, one = np.zeros((1, 1, 2), np.float32), np.ones((1, 1, 2), np.float32)
    vote = vote_of(zero, one)
    assert np.array_equal(vote.probability, np.full((1, 1, 2), 0.5))
    assert vote.information == pytest.approx(1)
    assert vote.entropy == pytest.approx(1)


def test_entropy_is_the_sum_of_what_members_share_and_what_each_is_unsure_of():
    rng = np.random.default_rng(0)
    maps = [rng.random((2, 3, 4)).astype(np.float32) for _ in range(5)]
    vote = vote_of(*maps)
    own = np.mean([binary_entropy(m) for m in maps], axis=0)
    assert vote.description.item() == 0.0  # the first member's
    assert vote.information + own == pytest.approx(vote.entropy, abs=1e-5)


def test_inputs_are_left_as_they_were():
    first = np.full((1, 1, 1), 0.25, dtype=np.float32)
    vote_of(first, np.ones((1, 1, 1), np.float32))
    assert first.item() == 0.25


def test_nobody_cannot_vote():
    with pytest.raises(ValueError, match="at least one"):
        vote_of()
