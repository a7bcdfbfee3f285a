"""Errors reach another process: pools send them pickled, and one that cannot be read breaks the whole pool."""

from __future__ import annotations

import importlib
import inspect
import pickle
import pkgutil

import pytest

import mtinet
from mtinet.dicom.contained import UnreadableError
from mtinet.errors import UserError
from mtinet.results import Finding
from mtinet.workflows.predictions.batch import OutputError, Predictions

FINDING = Finding("disk-full", "predict", "error", "the disk is full", "free it.")

ARGUMENTS = {OutputError: (FINDING,), UnreadableError: ("a.dcm", "damaged", "cut")}
"""Of those that take more than their message."""


def _subclasses(kind: type[UserError]) -> set[type[UserError]]:
    return {kind}.union(*map(_subclasses, kind.__subclasses__()))


def _all() -> list[type[UserError]]:
    for module in pkgutil.walk_packages(mtinet.__path__, "mtinet."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    return sorted(
        (kind for kind in _subclasses(UserError) if kind.__module__.startswith("mtinet.")),
        key=lambda kind: kind.__name__,
    )


@pytest.mark.parametrize("kind", _all())
def test_every_error_survives_pickling_with_what_it_holds(kind: type[UserError]):
    error = kind(*ARGUMENTS.get(kind, ("it is wrong; mend it",)))
    error.told = "later"  # what is set after the error was made is kept too
    read = pickle.loads(pickle.dumps(error))
    assert type(read) is kind
    assert str(read) == str(error)
    assert vars(read) == vars(error)
    assert read.exit_code == error.exit_code
    assert inspect.getattr_static(kind, "exit_code") in (2, 3, 4)


def test_what_was_finished_before_the_disk_was_full_is_kept():
    error = OutputError(FINDING)
    error.outcome = Predictions((), (FINDING, FINDING), kept=("a",))
    assert pickle.loads(pickle.dumps(error)).outcome == error.outcome


def test_why_a_file_is_damaged_is_kept():
    read = pickle.loads(pickle.dumps(UnreadableError("a.dcm", "damaged", "cut")))
    assert read.why == "is damaged (cut)"
    assert str(read) == "a.dcm is damaged (cut); export or copy it again"
