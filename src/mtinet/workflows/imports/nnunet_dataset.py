"""``dataset.json`` of nnU-Net: channels, labels and cases, in the formats of its versions 1 and 2.

Version 2 (documentation/dataset_format.md of MIC-DKFZ/nnUNet): ``channel_names`` ``{"0": "T1"}``, ``labels``
``{"background": 0, "tumour": 1}``, ``file_ending``; optionally ``dataset`` ``{case: {"images": [...],
"label": ...}}``.  Version 1: ``modality`` ``{"0": "T1"}``, ``labels`` ``{"0": "background", "1": "tumour"}``,
``training`` ``[{"image": ..., "label": ...}]``.  Images are ``imagesTr/<case>_<channel, 4 digits><ending>``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtinet.errors import UnusableError, UserError
from mtinet.workflows.imports.labels import canonical_class
from mtinet.workflows.imports.phase_names import IGNORE

LIVER = "liver"
LESION = "lesion"
"""What a user maps a label to that marks lesions of unknown class."""

_LESION_WORDS = frozenset(
    (
        "lesion",
        "lesions",
        "tumor",
        "tumors",
        "tumour",
        "tumours",
        "liver tumor",
        "liver tumour",
        "cancer",
        "mass",
    )
)
_BACKGROUND = frozenset(("background", "bg"))


@dataclass(frozen=True)
class Case:
    """Files of one case: image by channel number, and its label (None = not there)."""

    images: dict[int, Path]
    label: Path | None


@dataclass(frozen=True)
class Dataset:
    """What ``dataset.json`` and the folders say.

    Attributes
    ----------
    version : int
    channels : dict
        Name by channel number.
    labels : dict
        Name by value, background left out.
    cases : dict
        Files by case id.
    name, licence : str
    """

    version: int
    channels: dict[int, str]
    labels: dict[int, str]
    cases: dict[str, Case]
    name: str
    licence: str


def read_dataset(folder: Path) -> Dataset:
    """Read the description and find the files of the training cases.

    Raises
    ------
    UnusableError
        ``dataset.json`` is missing, damaged or of another format, or there is no case.
    """
    content = _json(folder / "dataset.json")
    version = 2 if "channel_names" in content else 1
    named = content.get("channel_names", content.get("modality"))
    if not isinstance(named, Mapping) or not isinstance(content.get("labels"), Mapping):
        raise UnusableError(
            f"{folder / 'dataset.json'} lacks channel_names (or modality) or labels; it has "
            f"{', '.join(content) or 'nothing'}"
        )
    ending = str(content.get("file_ending", ".nii.gz"))
    try:
        channels = {int(number): str(name) for number, name in named.items()}
        labels = read_label_values(content["labels"])
    except (TypeError, ValueError) as error:
        raise UnusableError(f"{folder / 'dataset.json'}: channels or labels lack numbers ({error})") from None
    if isinstance(content.get("dataset"), Mapping):
        cases = _listed_cases(folder, content["dataset"])
    else:
        cases = _found_cases(folder, ending, _listed_ids(content.get("training"), ending))
    if not cases:
        there = sorted(p.name for p in (folder / "imagesTr").glob("*"))[:5]
        raise UnusableError(
            f"{folder} has no case: expected imagesTr/<case>_0000{ending}, found "
            f"{', '.join(there) or 'no file'}"
        )
    return Dataset(
        version,
        channels,
        labels,
        cases,
        str(content.get("name") or folder.name),
        str(content.get("licence") or content.get("license") or ""),
    )


def read_labels_of(path: Path) -> dict[int, str]:
    """Name by value from a ``dataset.json``.

    Raises
    ------
    UnusableError
        The file is not one.
    """
    labels = _json(path).get("labels")
    if not isinstance(labels, Mapping):
        raise UnusableError(f"{path} lists no labels; it is not a dataset.json of nnU-Net")
    try:
        return read_label_values(labels)
    except (TypeError, ValueError) as error:
        raise UnusableError(f"{path}: labels lack numbers ({error})") from None


def read_label_values(labels: Mapping[Any, Any]) -> dict[int, str]:
    """Name by value, from ``{"tumour": 1}`` (version 2) or ``{"1": "tumour"}`` (version 1).

    A region of several values (``"whole": [1, 2]``) names no lesion of its own and is left out.
    """
    found: dict[int, str] = {}
    for key, value in labels.items():
        if isinstance(value, (list, tuple)):
            continue
        if str(key).lstrip("-").isdecimal():
            number, name = int(key), str(value)
        else:
            number, name = int(value), str(key)
        if number != 0 and name.lower() not in (*_BACKGROUND, IGNORE):
            found[number] = name
    return dict(sorted(found.items()))


@dataclass(frozen=True)
class Meaning:
    """What the values of a label file mean.

    Attributes
    ----------
    classes : dict
        Class of the lesions by value; empty text = unknown.
    liver : tuple of int
        Values of liver tissue.
    """

    classes: dict[int, str]
    liver: tuple[int, ...]


def meaning_of(labels: Mapping[int, str], mapping: Mapping[str, str]) -> Meaning:
    """What each value means, by the user's mapping first and by the label's name otherwise.

    Parameters
    ----------
    labels : mapping of int to str
        Name by value.
    mapping : mapping of str to str
        A class, ``lesion``, ``liver`` or ``ignore`` by value or name.

    Raises
    ------
    UserError
        A name means nothing known and the user does not map it.
    """
    known = {str(value) for value in labels} | set(labels.values())
    for name in mapping:
        if name not in known:
            said = ", ".join(f"{value} ({text})" for value, text in labels.items())
            raise UserError(f"--label {name}: there is no such label; found: {said or 'none'}")
    classes: dict[int, str] = {}
    liver = []
    unclear = []
    for value, name in labels.items():
        given = mapping.get(str(value), mapping.get(name))
        word = " ".join((given or name).replace("_", " ").lower().split())
        if word == IGNORE:
            continue
        if word == LIVER:
            liver.append(value)
        elif word in _LESION_WORDS:
            classes[value] = ""
        elif (known_class := canonical_class(word)) is not None:
            classes[value] = known_class
        elif given is not None:
            classes[value] = given
        else:
            unclear.append(f"{value} ({name})")
    if unclear:
        first = unclear[0].split()[0]
        raise UserError(
            f"it is not known what the labels {', '.join(unclear)} mean; say it with --label {first}=CLASS, "
            f"or ={LESION} (a lesion of unknown class), ={LIVER} or ={IGNORE}"
        )
    return Meaning(classes, tuple(liver))


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise UnusableError(f"{path} cannot be read; give the folder DatasetXXX_Name that holds it") from None
    except (ValueError, RecursionError) as error:
        raise UnusableError(f"{path} is not JSON ({error}); correct it or get it again") from None
    if not isinstance(content, dict):
        raise UnusableError(f"{path} holds no names; it is not a dataset.json of nnU-Net")
    return content


def _listed_ids(training: Any, ending: str) -> list[str] | None:
    """Case ids of version 1's list, whose names lack the channel; None where there is no list."""
    if not isinstance(training, list):
        return None
    names = [str(item["image"] if isinstance(item, Mapping) else item) for item in training]
    return [Path(name).name.removesuffix(ending) for name in names]


def _found_cases(folder: Path, ending: str, listed: list[str] | None) -> dict[str, Case]:
    pattern = re.compile(rf"(?P<case>.+)_(?P<channel>\d{{4}}){re.escape(ending)}")
    images: dict[str, dict[int, Path]] = {}
    for path in sorted((folder / "imagesTr").glob(f"*{ending}")):
        if path.name.startswith("."):
            continue
        match = pattern.fullmatch(path.name)
        if match is not None:
            images.setdefault(match["case"], {})[int(match["channel"])] = path
    ids = list(images) if listed is None else [*dict.fromkeys([*listed, *images])]
    return {
        case: Case(
            images.get(case, {}),
            path if (path := folder / "labelsTr" / f"{case}{ending}").is_file() else None,
        )
        for case in ids
    }


def _listed_cases(folder: Path, listed: Mapping[str, Any]) -> dict[str, Case]:
    """Cases of version 2's ``dataset``, whose paths are absolute or relative to the folder."""
    cases = {}
    for case, item in listed.items():
        try:
            images = {number: folder / str(name) for number, name in enumerate(item["images"])}
            label = item.get("label")
        except (KeyError, TypeError, AttributeError):
            raise UnusableError(f"dataset.json: the entry of case {case!r} has no list of images") from None
        cases[str(case)] = Case(
            {number: path for number, path in images.items() if path.is_file()},
            path if label and (path := folder / str(label)).is_file() else None,
        )
    return cases
