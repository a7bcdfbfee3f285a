"""How well phases are identified: ``python benchmarks/phase_figures.py TABLE.csv EXPECTED.json``.

TABLE is a list of series as ``mtinet phases`` reads it, EXPECTED holds for each study and phase the
acceptable answers (``SERIES`` or ``SERIES#VOLUME``; an empty list: the study lacks the phase).  Printed are,
for

- the table as it is;
- the table with the series of one labelled phase deleted, each in turn: all acceptable ones, so the phase
  must come out empty, and so must every other phase that only they held; the rest must stay as it was.
  The two are counted apart;
- the table with one meaningless name for every series;
- the table with the series numbers of each study shuffled, in ``--shuffles`` ways, with its rows, and with
  both.  With both nothing tells series apart that agree in all but their numbers.  Phases that such a series
  holds beside another one, which does not hold them, cannot be decided; they and the others are counted apart;

how many phases are right, wrong, wrong although stated with a confidence above 0.8, and missed (empty where
there is an answer).  ``--virtual N`` adds N virtual studies with pixels, meaningless names and shuffled
numbers, with and without times, and with decoys beside the phases.  ``--dicom N`` adds N virtual studies
written as DICOM files of several vendors' habits, whose series all get one name and each other's numbers, and
which ``mtinet import dicom`` reads: right is the phase that holds the image of that phase.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom

from mtinet.config import PHASES, Phase, SimulationSettings, resolve_simulation
from mtinet.dicom.series import Grid, SeriesInfo, VolumeInfo
from mtinet.imaging.phases import Choice, Identification, identify
from mtinet.phantom.patient import simulate_patient
from mtinet.volume import Volume, read_nifti
from mtinet.workflows.ingest import IngestOptions, ingest
from mtinet.workflows.phases import read_series_table
from mtinet.workflows.simulate import simulate

CONFIDENT = 0.8
SHUFFLED = "shuffled numbers"
ROWS, BOTH = "shuffled rows", "shuffled numbers and rows"
DELETED = "one series deleted, its phases"
LEFT = "one series deleted, the other phases"
TIMES_S: dict[Phase, float] = {
    "pre": 0.0, "arterial": 60.0, "portal_venous": 100.0, "transitional": 240.0, "delayed": 220.0,
    "hepatobiliary": 1260.0,
}  # fmt: skip
"""When phases are taken, seconds after the unenhanced one; the injection starts at 35 s."""
Expected = Mapping[str, Sequence[str]]
Study = list[SeriesInfo]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("table", type=Path, nargs="?")
    parser.add_argument("expected", type=Path, nargs="?")
    parser.add_argument("--virtual", type=int, default=0, metavar="N", help="virtual studies with pixels")
    parser.add_argument("--dicom", type=int, default=0, metavar="N", help="virtual studies as DICOM files")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shuffles", type=int, default=20, metavar="N", help="ways to shuffle the numbers")
    parser.add_argument("--verbose", action="store_true", help="also print every answer that is not right")
    given = parser.parse_args(arguments)
    if given.table is not None:
        studies = read_series_table(given.table)
        expected = json.loads(given.expected.read_text(encoding="utf-8"))
        found = figures(studies, expected, given.seed, given.verbose, given.shuffles)
        for name, counts in found.items():
            print(line(name, counts))
    if given.virtual:
        for name, counts in virtual_figures(given.virtual, given.seed, given.verbose).items():
            print(line(name, counts))
    for agent in ("gadobutrol", "gadoxetate") if given.dicom else ():
        print(
            line(f"DICOM files, {agent}", dicom_figures(given.dicom // 2, agent, given.seed, given.verbose))
        )
    return 0


def line(name: str, counts: Counter[str]) -> str:
    """One line of figures, each with its share."""
    total = max(counts["total"], 1)
    parts = [f"{key} {counts[key]} ({100 * counts[key] / total:.1f} %)" for key in counts if key != "total"]
    return f"{name}: {counts['total']} phases; " + ", ".join(parts)


def answer(choice: Choice | None) -> str:
    """An answer as the expected file writes it: by number and, in a series of several, volume."""
    if choice is None:
        return ""
    return choice.series_number if choice.n_volumes == 1 else f"{choice.series_number}#{choice.volume}"


def score(found: Identification, expected: Expected) -> Counter[str]:
    """Right, wrong, wrong while stated with confidence, and missed."""
    counts = Counter({"right": 0, "wrong": 0, f"wrong while stated > {CONFIDENT}": 0, "missed": 0})
    for phase, acceptable in expected.items():
        choice = found.phases[phase]  # type: ignore[index]
        counts["total"] += 1
        if (choice is None and not acceptable) or answer(choice) in acceptable:
            counts["right"] += 1
        elif choice is None:
            counts["missed"] += 1
        else:
            counts["wrong"] += 1
            counts[f"wrong while stated > {CONFIDENT}"] += choice.confidence > CONFIDENT
    return counts


def figures(
    studies: Mapping[str, Study],
    expected: Mapping[str, Expected],
    seed: int = 0,
    verbose: bool = False,
    shuffles: int = 1,
) -> dict[str, Counter[str]]:
    """The figures of a table, by what was done to it."""
    rng = np.random.default_rng([seed, 0])
    found: dict[str, Counter[str]] = {
        name: Counter() for name in ("as it is", DELETED, LEFT, "generic names", SHUFFLED, ROWS, BOTH)
    }
    for key, wanted in expected.items():
        study = studies[key]
        generic = [replace(s, description="series", protocol="") for s in study]
        changed = [("as it is", study, wanted), ("generic names", generic, wanted)]
        renumbered = [shuffled(study, wanted, rng) for _ in range(shuffles)]
        changed += [(SHUFFLED, *one) for one in renumbered]
        changed += [(ROWS, shuffled_rows(study, rng), wanted) for _ in range(shuffles)]
        changed += [(BOTH, shuffled_rows(series, rng), answers) for series, answers in renumbered]
        open_ = undecidable(study, wanted)
        for name, series, answers in changed:
            identification = identify(series)
            counts = score(identification, answers)
            found[name].update(counts)
            if name == BOTH:
                for part, held in (("decidable", answers.keys() - open_), ("alike but for numbers", open_)):
                    some = score(identification, {phase: answers[phase] for phase in sorted(held)})
                    found.setdefault(f"{BOTH}, {part}", Counter()).update(some)
            if verbose and counts["right"] < counts["total"]:
                print(" ", name, key, {p: answer(c) for p, c in identification.phases.items() if c}, answers)
        for name, counts in deletion(study, wanted, verbose).items():
            found[name].update(counts)
    return found


def undecidable(study: Study, wanted: Expected) -> set[str]:
    """Phases whose series agree with one that does not hold them in all but number and row (and UID)."""

    def look(series: SeriesInfo) -> SeriesInfo:
        return replace(series, series_uid="", series_number="", row=None)

    found = set()
    for phase, names in wanted.items():
        holding = {name.split("#")[0] for name in names}
        looks = {look(s) for s in study if s.series_number in holding}
        if any(look(s) in looks for s in study if s.series_number not in holding):
            found.add(phase)
    return found


def deletion(study: Study, wanted: Expected, verbose: bool = False) -> dict[str, Counter[str]]:
    """Delete the series of each phase in turn: are deleted phases left empty, and the others as they were?"""
    confident = f"wrong while stated > {CONFIDENT}"
    counts = {DELETED: Counter({"empty": 0, confident: 0}), LEFT: Counter({"unchanged": 0, confident: 0})}
    before = {phase: answer(identify(study).phases[phase]) for phase in wanted}  # type: ignore[index]
    for phase, acceptable in wanted.items():
        gone = {name.split("#")[0] for name in acceptable}
        if not gone:
            continue
        after = identify([s for s in study if s.series_number not in gone])
        for other, names in wanted.items():
            left = [name for name in names if name.split("#")[0] not in gone]
            choice = after.phases[other]  # type: ignore[index]
            if names and not left:
                part, aim, good = DELETED, "empty", choice is None
            else:
                part, aim = LEFT, "unchanged"
                good = answer(choice) == before[other] or answer(choice) in left
            counts[part].update({"total": 1, aim: int(good)})
            if not good:
                counts[part][confident] += choice is not None and choice.confidence > CONFIDENT
                if verbose:
                    stated = "" if choice is None else f" ({choice.confidence:.2f})"
                    print(f"  {study[0].study_key} without {phase}: {other} = {answer(choice)}{stated}")
    return counts


def shuffled(study: Study, wanted: Expected, rng: np.random.Generator) -> tuple[Study, Expected]:
    """The same series with each other's numbers; answers are renamed with them."""
    order = rng.permutation(len(study))
    numbers = [study[i].series_number for i in order]
    new = [replace(s, series_number=n) for s, n in zip(study, numbers)]
    renamed: dict[str, list[str]] = {}
    for s, n in zip(study, numbers):
        renamed.setdefault(s.series_number, []).append(n)
    answers = {
        phase: ["#".join([n, *name.split("#")[1:]]) for name in names for n in renamed[name.split("#")[0]]]
        for phase, names in wanted.items()
    }
    return new, answers


def shuffled_rows(study: Study, rng: np.random.Generator) -> Study:
    """The same series on each other's rows."""
    rows = [study[i].row for i in rng.permutation(len(study))]
    return [replace(s, row=row) for s, row in zip(study, rows)]


def virtual_figures(n: int, seed: int = 0, verbose: bool = False) -> dict[str, Counter[str]]:
    """Virtual studies with pixels: names that say nothing, shuffled numbers, decoys beside the phases."""
    found: dict[str, Counter[str]] = {}
    for index in range(n):
        agent = ("gadobutrol", "gadoxetate")[index % 2]
        images = simulate_patient(virtual_settings(agent, seed), index // 2).images
        for timed in (True, False):
            times = {phase: TIMES_S[phase] for phase in images} if timed else {}
            rng = np.random.default_rng([seed, 1, index])
            study, wanted = virtual_study(images, times, rng)
            study = [replace(s, agent=agent if timed else "") for s in study]
            identification = identify(study)
            # phases that are rightly empty would only dilute the figure
            stated = {str(phase) for phase, choice in identification.phases.items() if choice is not None}
            counted = {phase: names for phase, names in wanted.items() if names or phase in stated}
            counts = score(identification, counted)
            name = f"virtual, {agent}, {'times and agent known' if timed else 'nothing but pixels'}"
            found.setdefault(name, Counter()).update(counts)
            if verbose and counts["right"] < counts["total"]:
                print(
                    " ", name, index, {p: c and answer(c) for p, c in identification.phases.items()}, wanted
                )
    return found


def virtual_settings(agent: str, seed: int) -> SimulationSettings:
    """Patients of six classes at six scanners."""
    return resolve_simulation("multicentre", options={"agent": agent, "seed": 5000 + seed, "subjects": 400})


def virtual_study(
    images: Mapping[Phase, Volume], times_s: Mapping[Phase, float], rng: np.random.Generator
) -> tuple[Study, dict[str, list[str]]]:
    """A study of volumes with shuffled numbers and one name, and a subtraction and a T2-like image beside."""
    volumes: list[tuple[str, Volume, float | None]] = [
        (phase, image, times_s.get(phase)) for phase, image in images.items()
    ]
    phases = list(images)
    last, first = images[phases[-1]], images[phases[0]]
    if last.shape == first.shape:
        difference = np.maximum(last.array.astype(np.float32) - first.array, 0.0)
        volumes.append(("", last.with_array(difference), _later(times_s, 5.0)))
    body = first.array.astype(np.float32)
    volumes.append(("", first.with_array(np.max(body) - body), _later(times_s, -300.0)))
    numbers = rng.permutation(np.arange(1, 30))[: len(volumes)]
    study, wanted = [], {str(phase): [] for phase in PHASES}
    for (phase, image, time), number in zip(volumes, numbers):
        info = VolumeInfo(
            0,
            image.shape[2],
            time_s=None if time is None else 36000.0 + time,
            grid=Grid(image.shape, image.spacing_mm, (0.0, 0.0, 1.0)),
            load=_loader(image),
        )
        uid = f"1.2.{rng.integers(1 << 40)}"
        study.append(SeriesInfo("v", uid, str(number), "series", n_images=image.shape[2], volumes=(info,)))
        if phase:
            wanted[phase].append(str(number))
    return study, wanted


def dicom_figures(n: int, agent: str, seed: int = 0, verbose: bool = False) -> Counter[str]:
    """Virtual studies from DICOM files with one name for all series and shuffled numbers, through the import."""
    settings = virtual_settings(agent, seed).model_copy(update={"subjects": n})
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        origin = simulate(folder / "scanned", settings.with_spacing((5.0, 5.0, 6.0)), dicom=True)
        source = folder / "scanned" / "dicom"
        for index, study in enumerate(sorted({path.parent for path in source.rglob("*.dcm")})):
            anonymous(study, np.random.default_rng([seed, 2, index]))
        found = ingest(source, folder / "cohort", IngestOptions(keep_ids=True))
        records = {record["patient_id"]: record for record in found.studies}
        counts = Counter({"right": 0, "wrong": 0, f"wrong while stated > {CONFIDENT}": 0, "missed": 0})
        for study in origin.studies:
            record = records[study.patient_id]
            taken = {
                phase: folder / "cohort" / path for phase, path in record["files"].items() if phase in PHASES
            }
            for phase in dict.fromkeys([*study.images, *taken]):
                counts["total"] += 1
                if phase not in taken:
                    counts["missed"] += 1
                elif phase == shown(taken[phase], study.images):
                    counts["right"] += 1
                    continue
                else:
                    stated = record["phases"][phase]["confidence"] > CONFIDENT
                    counts.update({"wrong": 1, f"wrong while stated > {CONFIDENT}": int(stated)})
                if verbose:
                    print(" ", study.study_id, phase, record["phases"].get(phase), record["missing"])
    return counts


def anonymous(folder: Path, rng: np.random.Generator) -> None:
    """Give every series of a study the same name and the number of another."""
    files = [(path, pydicom.dcmread(path)) for path in sorted(folder.rglob("*.dcm"))]
    series = {str(file.SeriesInstanceUID): file.get("SeriesNumber") for _, file in files}
    numbers = dict(zip(series, rng.permutation(np.array(list(series.values()), dtype=int)).tolist()))
    for path, file in files:
        if file.Modality != "MR":
            continue
        file.SeriesNumber = numbers[str(file.SeriesInstanceUID)]
        file.SeriesDescription = "series"
        for keyword in ("ProtocolName", "SequenceName"):
            if keyword in file:
                del file[keyword]
        file.save_as(path)


def shown(image: Path, phases: Mapping[Phase, Path]) -> Phase:
    """The phase whose image this one is, up to a gain."""
    mine = read_nifti(image).canonical().array.ravel().astype(float)
    others = {phase: read_nifti(path).canonical().array.ravel() for phase, path in phases.items()}
    return max(others, key=lambda phase: float(np.corrcoef(mine, others[phase])[0, 1]))


def _later(times_s: Mapping[Phase, float], by_s: float) -> float | None:
    return max(times_s.values()) + by_s if times_s else None


def _loader(volume: Volume) -> Callable[[], Volume]:
    return lambda: Volume(volume.array.astype(np.float32), volume.affine)


if __name__ == "__main__":
    sys.exit(main())
