"""Cases for the measurements of certainty: what a method says about every study of a cohort, kept as JSON lines.

A file of cases goes on where it was broken off, one line a study.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from strange_studies import STRANGE, with_noise

from mtinet import files
from mtinet.cohort import Cohort
from mtinet.data.prepared import PreparedStudy
from mtinet.inference.familiar import Look, look_at_study
from mtinet.inference.predictor import Predictor
from mtinet.results import Lesion
from mtinet.workflows.calibrate import LesionCase, StudyCase, study_case
from mtinet.workflows.scored_rows import reference_mask

NOISE_LEVELS = (0.05, 0.1, 0.2)
"""Standard deviations of added noise, 1 being the study's gain."""

STREAM_STRANGE = 73


@dataclass(frozen=True)
class Answer:
    """A method's answer about a study: Dice of the whole mask, the components, and processor seconds."""

    case: StudyCase
    dice: float
    seconds: float


def kept(path: Path, studies: Sequence[PreparedStudy], make: Callable[[PreparedStudy], Any]) -> list[Any]:
    """``make(study)`` of every study in JSON's types, read from ``path`` where it is there already."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    done = {}
    for line in lines:
        try:
            one = json.loads(line)
        except json.JSONDecodeError:
            break  # cut by a kill
        done[one["study_id"]] = one["value"]
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_text(path, "".join(json.dumps({"study_id": k, "value": v}) + "\n" for k, v in done.items()))
    with path.open("a", encoding="utf-8") as stream:
        for study in studies:
            if study.study_id not in done:
                done[study.study_id] = files.plain(make(study))
                stream.write(json.dumps({"study_id": study.study_id, "value": done[study.study_id]}) + "\n")
                stream.flush()
    return [done[study.study_id] for study in studies]


def answers(
    path: Path, predictor: Predictor, cohort: Cohort, studies: Sequence[PreparedStudy]
) -> list[Answer]:
    """A method's answers about studies with known lesions."""

    def make(study: PreparedStudy) -> dict[str, Any]:
        start = time.process_time()
        prediction = predictor.predict_prepared(study)
        seconds = time.process_time() - start
        case = study_case(predictor, cohort[study.study_id], study, prediction)
        reference, mask = reference_mask(cohort[study.study_id], study), prediction.result.mask
        assert reference is not None
        assert mask is not None
        true, found = reference > 0, mask.array > 0
        both = int(true.sum()) + int(found.sum())
        dice = 2 * int((true & found).sum()) / both if both else np.nan
        return {"case": asdict(case), "dice": dice, "seconds": seconds}

    return [Answer(_case(v["case"]), _number(v["dice"]), v["seconds"]) for v in kept(path, studies, make)]


def strange_looks(
    path: Path, predictor: Predictor, studies: Sequence[PreparedStudy]
) -> dict[str, list[Look]]:
    """What strange studies look like, by kind; each study is made strange in every way."""
    kinds: dict[str, Any] = {f"{group}: {name}": f for group, k in STRANGE.items() for name, f in k.items()}
    for level in NOISE_LEVELS:
        kinds[f"noise {level:g}"] = lambda study, rng, level=level: with_noise(study, rng, level)

    def make(study: PreparedStudy) -> dict[str, Any]:
        found = {}
        for index, (name, change) in enumerate(kinds.items()):
            number = int.from_bytes(study.key[:12].encode(), "big") % 2**32
            rng = np.random.default_rng([0, STREAM_STRANGE, index, number])
            strange = change(study, rng)
            found[name] = asdict(look_at_study(strange, predictor.survey(strange).description))
        return found

    rows = kept(path, studies, make)
    return {name: [_look(row[name]) for row in rows] for name in kinds}


def _case(values: dict[str, Any]) -> StudyCase:
    lesions = [
        LesionCase(**{**v, "lesion": Lesion.from_dict(v["lesion"]), "volume_mm3": _number(v["volume_mm3"])})
        for v in values["lesions"]
    ]
    return StudyCase(**{**values, "lesions": tuple(lesions), "look": _look(values["look"])})


def _look(values: dict[str, Any]) -> Look:
    arrays = {k: np.array(values[k], dtype=np.float64) for k in ("description", "noise", "change")}
    return Look(**arrays, empty=values["empty"], darkest=_number(values["darkest"]))


def _number(value: float | None) -> float:
    return np.nan if value is None else value
