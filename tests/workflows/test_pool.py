from __future__ import annotations

import os
import subprocess
import sys
from operator import neg

import pytest

from mtinet.errors import UserError
from mtinet.workflows.pool import apart, for_each


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_outcomes_keep_the_order_of_their_items(workers):
    seen = []
    assert for_each(neg, [3, 1, 2], workers, lambda done, total: seen.append((done, total))) == [-3, -1, -2]
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_no_items():
    assert for_each(neg, []) == []


def test_a_worker_that_dies_is_named():
    with pytest.raises(UserError, match="worker process"):
        for_each(os._exit, [1, 1], 2)


def test_a_process_apart_gives_its_outcome_and_is_named_where_it_dies():
    assert apart(neg, 3, "it", "try again") == -3
    with pytest.raises(UserError, match=r"the probe ended before its work.*take less"):
        apart(os._exit, 1, "the probe", "take less")


@pytest.mark.slow
def test_a_script_without_guard_is_told_so(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from operator import neg\nfrom mtinet.workflows.pool import apart, for_each\nfor_each(neg, [1, 2], 2)\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120)
    # the tracker of shared memory may have the last word
    assert any(
        "__main__" in line for line in done.stderr.splitlines() if line.startswith("mtinet.errors.UserError")
    )
