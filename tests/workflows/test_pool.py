from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from operator import neg
from pathlib import Path

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


INTERRUPTED = """
import signal, sys, time
from functools import partial
from pathlib import Path
from mtinet.workflows.pool import apart, for_each

def begin(folder, index):
    (folder / str(index)).touch()
    time.sleep(2)

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    work = partial(begin, Path.cwd())
    try:
        for_each(work, list(range(20)), 2) if sys.argv[1] == "many" else apart(work, 0, "it", "again")
    except KeyboardInterrupt:
        print("interrupted")
"""


@pytest.mark.parametrize("how", ["many", "one"])
@pytest.mark.parametrize("begun", [False, True])
def test_after_an_interruption_nothing_is_begun_and_workers_say_nothing(tmp_path, how, begun):
    (tmp_path / "script.py").write_text(INTERRUPTED)
    running = subprocess.Popen(
        [sys.executable, "-u", "script.py", how],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 60
        while begun and not (tmp_path / "0").exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        while not begun and _children(running.pid) < 2:  # the tracker of shared memory is the first
            assert time.monotonic() < deadline
            time.sleep(0.002)
        os.killpg(running.pid, signal.SIGINT)
        said, complained = running.communicate(timeout=60)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
    assert (said, complained) == ("interrupted\n", "")
    assert len(list(tmp_path.glob("[0-9]*"))) <= (2 if begun else 0)


def _children(pid: int) -> int:
    with suppress(FileNotFoundError, ProcessLookupError):
        return len(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    return 0


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
