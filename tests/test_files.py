import json
import math
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from mtinet import files


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_linked_folders_are_walked_each_place_once(tmp_path):
    outside, root = tmp_path / "outside", tmp_path / "root"
    for folder in (outside / "deep", root / "own"):
        folder.mkdir(parents=True)
        (folder / "file").touch()
    (outside / "deep" / "back").symlink_to(outside)
    for name, target in (
        ("a", outside),
        ("b", outside / "deep"),
        ("c", root / "own"),
        ("d", tmp_path),
        ("e", root),
    ):
        (root / name).symlink_to(target)
    found = [path.relative_to(root).as_posix() for path in files.walk(root)]
    assert sorted(path for path in found if path.endswith("file")) == ["b/file", "own/file"]


def break_off(writing):
    """Begin to write, and be interrupted."""
    with writing as temporary:
        ((temporary / "a") if temporary.is_dir() else temporary).write_text("half")
        raise KeyboardInterrupt


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "deep" / "image.nii.gz"
    with pytest.raises(KeyboardInterrupt):
        break_off(files.atomic_path(target))
    assert names(target.parent) == []
    with files.atomic_path(target) as temporary:
        assert temporary.name.endswith(".nii.gz")
        temporary.write_text("whole")
        assert not target.exists()
    assert names(target.parent) == ["image.nii.gz"]


def test_a_broken_off_write_leaves_the_old_file(tmp_path):
    target = tmp_path / "a.txt"
    files.write_text(target, "old")
    with pytest.raises(KeyboardInterrupt):
        break_off(files.atomic_path(target))
    assert target.read_text() == "old"


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        break_off(files.atomic_folder(tmp_path / "run"))
    assert names(tmp_path) == []
    with files.atomic_folder(tmp_path / "run") as temporary:
        (temporary / "a").write_text("whole")
    assert names(tmp_path) == ["run"]


def test_of_two_writers_the_first_folder_stays(tmp_path):
    with files.atomic_folder(tmp_path / "entry") as slow:
        (slow / "a").write_text("slow")
        with files.atomic_folder(tmp_path / "entry") as quick:
            (quick / "a").write_text("quick")
    assert (tmp_path / "entry" / "a").read_text() == "quick"
    assert names(tmp_path) == ["entry"]


def test_json_holds_plain_values_only(tmp_path):
    value = {
        1: np.float32(0.5),
        "array": np.arange(3),
        "nan": math.nan,
        "nested": [(np.inf, np.bool_(True))],
        "path": Path("a") / "b",
        "text": "Größe",
    }
    files.write_json(tmp_path / "a.json", value)
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {
        "1": 0.5,
        "array": [0, 1, 2],
        "nan": None,
        "nested": [[None, True]],
        "path": "a/b",
        "text": "Größe",
    }


HOLDER = """
import sys
from pathlib import Path
from mtinet import files
with files.claimed(Path(sys.argv[1])) as alone:
    print(alone, flush=True)
    sys.stdin.read()
"""


def test_one_process_has_a_lock_until_it_ends_or_is_killed(tmp_path):
    lock = tmp_path / "deep" / "a.lock"
    command = [sys.executable, "-c", HOLDER, str(lock)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "True\n"
        with files.claimed(lock) as alone:
            assert not alone
        other.kill()
    with files.claimed(lock) as alone:
        assert alone
        with files.claimed(lock) as twice:
            assert not twice
    with files.claimed(lock) as alone:
        assert alone


def test_who_waits_for_a_turn_gets_it_when_the_other_has_ended(tmp_path):
    lock, said = tmp_path / "new" / ".lock", []

    def second():
        with files.in_turn(lock):
            said.append("second")

    waiting = threading.Thread(target=second)
    with files.in_turn(lock):
        waiting.start()
        waiting.join(0.3)
        said.append("first")
    waiting.join(10)
    assert said == ["first", "second"]
    assert list(lock.parent.iterdir()) == []


def test_a_place_is_tried_and_left_as_it_was(tmp_path):
    files.try_writing(tmp_path / "new" / "folder")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="Not a directory"):
        files.try_writing(tmp_path / "file" / "folder")
    files.try_writing(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
