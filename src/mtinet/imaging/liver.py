"""Where the liver is: a mask, a segmenter that the user names; and where phases are compared when it is not known."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from scipy import ndimage

from mtinet import files
from mtinet.cohort import Study
from mtinet.errors import UserError
from mtinet.imaging.masks import body_mask, components
from mtinet.imaging.resampling import resample_labels
from mtinet.results import Finding
from mtinet.volume import SNAP_VOXELS, Volume, VolumeError, read_nifti

LIVER_TIMEOUT_S = 1800.0
"""A segmenter that takes longer is stopped."""

_AROUND_LIVER_MM = 10.0
"""How far around the liver phases are compared: its edge against its neighbours tells where it is."""

_OUTPUT_SHOWN = 400


class LiverCommandError(UserError):
    """The liver segmenter did not give a mask; the message says why and what to do."""


@dataclass(frozen=True)
class Region:
    """Where two phases are compared by registration.

    It is wider than the liver, or the whole body: never a liver to measure in, and so not a mask that a study
    could hold.

    Attributes
    ----------
    volume : Volume
        ``uint8``, 1 inside, in the world of the reference phase.
    around : {"liver", "body"}
    """

    volume: Volume
    around: Literal["liver", "body"]


def liver_region(liver: Volume, reference: Volume) -> Region | None:
    """The liver and its surroundings on the reference's grid; None where the liver is not in it.

    Parameters
    ----------
    liver : Volume
        Mask, non-zero in the liver, on any grid.  Where it was drawn on another phase it lies off by what the
        patient has moved, which the surroundings leave room for.
    reference : Volume
    """
    there = liver.with_array((liver.array != 0).astype(np.uint8))
    on = resample_labels(there, reference.shape, reference.affine).array > 0
    if not on.any():
        return None
    distance = ndimage.distance_transform_edt(~on, sampling=reference.spacing_mm)
    return Region(reference.with_array((distance <= _AROUND_LIVER_MM).astype(np.uint8)), "liver")


def body_region(reference: Volume) -> Region | None:
    """The patient without the air around; None in an image without contrast.

    Parameters
    ----------
    reference : Volume
        Magnitude signal.
    """
    parts = components(body_mask(reference.array))
    body = parts == 1
    if not body.any():
        return None
    # lungs and vessels without signal belong to the patient: holes of each axial slice are filled
    for index in range(body.shape[2]):
        body[:, :, index] = ndimage.binary_fill_holes(body[:, :, index])
    return Region(reference.with_array(body.astype(np.uint8)), "body")


def check_liver_command(command: str) -> None:
    """Refuse a command that cannot work for any study, before the first one.

    Raises
    ------
    LiverCommandError
        It lacks ``{image}`` or ``{out}``, or there is no such program.
    """
    words = _words(command, {"{image}": "image", "{out}": "out"})
    if shutil.which(words[0]) is None:
        raise _no_program(words[0])


def _no_program(name: str) -> LiverCommandError:
    return LiverCommandError(f"--liver-command: there is no program {name}; install it or give its full path")


def run_liver_command(command: str, image: Path, out: Path, timeout_s: float = LIVER_TIMEOUT_S) -> Path:
    """Segment the liver of an image with a program of the user's choice.

    Parameters
    ----------
    command : str
        For example ``segment -i {image} -o {out}``.  It is split into words as a shell would, but no shell
        runs it: there are no pipes, variables or wildcards.
    image : Path
        NIfTI.
    out : Path
        Where the mask is to be, ``.nii.gz``; it takes this name once it has been checked.
    timeout_s : float

    Returns
    -------
    Path
        ``out``: whole numbers on the grid of ``image``, non-zero in the liver.

    Raises
    ------
    LiverCommandError
        The command lacks ``{image}`` or ``{out}``, cannot be started, fails, takes too long, or leaves no
        usable mask.
    """
    with files.atomic_path(out) as temporary:
        words = _words(command, {"{image}": str(image), "{out}": str(temporary)})
        _run(words, image, timeout_s)
        if not temporary.is_file():
            raise LiverCommandError(
                f"--liver-command: {words[0]} ended without writing {{out}} for {image}; run it by hand and "
                "look where it puts its mask"
            )
        _check(temporary, image, words[0])
    return out


def _words(command: str, values: dict[str, str]) -> list[str]:
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise LiverCommandError(f"--liver-command {command!r}: {error}; close the quotes") from None
    missing = [name for name in values if not any(name in word for word in words)]
    if missing:
        raise LiverCommandError(
            f"--liver-command {command!r} does not hold {' and '.join(missing)}; write it like "
            "'segment -i {image} -o {out}'"
        )
    # put in after the splitting: a path with blanks stays one word
    for name, value in values.items():
        words = [word.replace(name, value) for word in words]
    return words


def _run(words: list[str], image: Path, timeout_s: float) -> None:
    try:
        # a session of its own: what a wrapper starts is stopped with it
        program = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except FileNotFoundError:
        raise _no_program(words[0]) from None
    except OSError as error:
        raise LiverCommandError(
            f"--liver-command: {words[0]} cannot be started ({error.strerror}); make it executable"
        ) from None
    try:
        stdout, stderr = program.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        raise LiverCommandError(
            f"--liver-command: {words[0]} was stopped after {timeout_s:.0f} s on {image}; use a faster model"
        ) from None
    finally:
        _stop(program)
    if program.returncode:
        said = (stderr or stdout).decode(errors="replace").strip()[-_OUTPUT_SHOWN:] or "no output"
        raise LiverCommandError(
            f"--liver-command: {words[0]} failed on {image} (exit code {program.returncode}): {said}; run it "
            "by hand on this file"
        )


def _stop(program: subprocess.Popen[bytes]) -> None:
    """End a program that is still running, with everything that it has started."""
    if program.poll() is None:
        os.killpg(program.pid, signal.SIGKILL)
        program.wait()


def _check(mask: Path, image: Path, program: str) -> None:
    fault = _fault(mask, read_nifti(image), f"the grid of {image}")
    if fault:
        raise LiverCommandError(
            f"--liver-command: the mask of {program} {fault}; check that the image shows the liver and that the "
            "program writes on the input's grid"
        )


def without_unusable_liver(study: Study) -> tuple[Study, tuple[Finding, ...]]:
    """The study without a liver mask that is none of its images, and a finding that says why; else as it is.

    A liver that cannot be used costs what needs it, not the study.

    Parameters
    ----------
    study : Study
        Its liver was drawn on the reference phase.
    """
    path = study.liver_mask
    if path is None:
        return study, ()
    phase = study.reference_phase
    fault = _fault(path, study.image(phase), f"the grid of {phase}")
    if not fault:
        return study, ()
    unused = Finding(
        "liver-not-used",
        "predict",
        "warning",
        # a result tells no place of the machine
        f"{path.name} is not used: it {fault.replace(str(path), 'it')}",
        f"Draw the liver on {phase}, the reference phase, export the mask on its grid, or let a program draw it "
        "(--liver-command); what needs the liver is not assessable without.",
        study.study_id,
    )
    return replace(study, liver_mask=None), (unused,)


def _fault(mask: Path, image: Volume, grid: str) -> str:
    """Why a file is no outline of the liver in an image; empty where it is one."""
    try:
        found = read_nifti(mask, labels=True)
    except VolumeError as error:
        return f"cannot be used: {error}"
    distance = found.corner_distance_mm(image)
    if distance > SNAP_VOXELS * min(image.spacing_mm):
        off = (
            f"off by {distance:.2f} mm"
            if found.shape == image.shape
            else f"shape {found.shape} against {image.shape}"
        )
        return f"does not lie on {grid} ({off})"
    return "" if found.array.any() else "is empty"
