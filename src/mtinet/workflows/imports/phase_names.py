"""Names of phases in a data set, by the mapping that a user gives and by common use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import cast

from mtinet.cohort.phase_names import guess_phase
from mtinet.config import PHASES, Phase
from mtinet.errors import UserError

IGNORE = "ignore"
"""What a user maps a name to in order to set it aside without a word."""


def parse_assignments(given: Sequence[str], option: str) -> dict[str, str]:
    """The mapping of ``NAME=VALUE`` words of a repeated option.

    Raises
    ------
    UserError
        A word without ``=``, or a name that is given two values.
    """
    mapping: dict[str, str] = {}
    for word in given:
        name, sign, value = word.partition("=")
        if not sign or not name.strip() or not value.strip():
            raise UserError(f"{option} {word}: write NAME=VALUE, for example {option} art=arterial")
        name, value = name.strip(), value.strip()
        if mapping.setdefault(name, value) != value:
            raise UserError(f"{option}: {name} is given as {mapping[name]} and as {value}; keep one")
    return mapping


def phases_of(
    names: Iterable[str], mapping: Mapping[str, str], option: str
) -> tuple[dict[str, Phase], list[str]]:
    """The phase of each name, by the user's mapping first and by common use otherwise.

    Parameters
    ----------
    names : iterable of str
        Names as the files have them.
    mapping : mapping of str to str
        What the user says: a phase or ``ignore`` by name.
    option : str
        Name of the option that gave the mapping, for messages.

    Returns
    -------
    phases : dict
        Phase by name; names that stand for none are left out.
    unknown : list of str
        Names that neither the user nor common use maps.

    Raises
    ------
    UserError
        The mapping names a phase that does not exist or a name that is not there, or two names are one phase.
    """
    names = list(dict.fromkeys(names))
    valid = (*PHASES, IGNORE)
    for name, value in mapping.items():
        if value not in valid:
            raise UserError(f"{option} {name}={value}: {value} is not a phase; valid: {', '.join(valid)}")
        if name not in names:
            raise UserError(
                f"{option} {name}={value}: there is no {name}; found: {', '.join(names) or 'none'}"
            )
    phases: dict[str, Phase] = {}
    unknown = []
    for name in names:
        phase = mapping.get(name) or guess_phase(name)
        if phase is None:
            unknown.append(name)
        elif phase != IGNORE:
            phases[name] = cast("Phase", phase)
    for phase in PHASES:
        same = [name for name, found in phases.items() if found == phase]
        if len(same) > 1:
            raise UserError(
                f"{', '.join(same)} all stand for the phase {phase}; keep one and set the others aside, "
                f"for example {option} {same[-1]}={IGNORE}"
            )
    return phases, unknown


def said_mapping(phases: Mapping[str, Phase]) -> str:
    """The mapping in words, for a finding."""
    return ", ".join(f"{name} = {phase}" for name, phase in phases.items())
