"""How hard the virtual patients are, before MTI-Net sees them: ``python benchmarks/difficulty.py OUT``.

On a development cohort (other seeds and other sites than those of any reported result) three methods that are
not MTI-Net are scored:

- the mean signals of the largest lesion under its true mask, and logistic regression;
- MONAI's BasicUNet: its masks, and logistic regression on the signals under its masks;
- a small convolutional network on crops around the true and around the BasicUNet's masks.

Writes ``docs/difficulty.csv`` and ``docs/difficulty-manifest.json`` and fills the table of
``docs/virtual-patients.md``.  What is finished in OUT is not done again, but patients of another state of the
phantom are refused.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from crops import CnnSettings, Crops, fit_cnn, lesion_crops, merge, predict_cnn
from numpy.typing import NDArray
from page import DOCS, VIRTUAL_PATIENTS, markdown, put_into

import mtinet.phantom
from mtinet import files, provenance
from mtinet.cohort import Cohort
from mtinet.config import Config, SimulationSettings, difference, resolve, resolve_simulation
from mtinet.data.folds import split_cohort
from mtinet.data.prepared import PreparedStudy
from mtinet.errors import UserError
from mtinet.evaluation.classification import ClassPredictions
from mtinet.evaluation.readouts import enhancement_features, fit_classifier
from mtinet.evaluation.statistics import Estimate, PatientBootstrap
from mtinet.evaluation.summary import Summary
from mtinet.inference.predictor import Predictor
from mtinet.runs import Run
from mtinet.workflows.evaluate import evaluate
from mtinet.workflows.prepare import prepare
from mtinet.workflows.simulate import simulate
from mtinet.workflows.train import TrainOptions, train

FOLDS = 5
"""A patient is held out once; the BasicUNet is trained for the first fold only."""

UNET = (
    "model=basic_unet",
    "baseline.width=24",
    "training.steps=4000",
    "training.batch_size=16",
    "training.learning_rate=3e-3",
    "training.validate_every=0",
)
"""What differs from the preset ``small``: a quarter of an hour on two idle cores."""

TARGETS = {
    "means": (0.70, 0.90),
    "dice": (0.75, 0.88),
    "best": (0.85, 0.95),
}
"""Set before the patients were: by these the difficulty is fixed."""

Guess = dict[str, str]
"""Predicted class by study; "" for a lesion that was missed."""


@dataclass(frozen=True)
class Development:
    """The cohort on which the difficulty is fixed.

    Attributes
    ----------
    cohort : Cohort
    studies : tuple of PreparedStudy
        Those with at least one lesion.
    """

    cohort: Cohort
    studies: tuple[PreparedStudy, ...]

    @property
    def truth(self) -> dict[str, str]:
        """Class of the largest lesion by study."""
        return {study.study_id: study.lesions[0].label for study in self.studies}

    def fold(self, number: int) -> tuple[list[PreparedStudy], list[PreparedStudy]]:
        """Training and held-out studies; the same division as in ``mtinet train --fold``."""
        held_out = set(split_cohort(self.cohort, number, FOLDS).test)
        training = [study for study in self.studies if study.study_id not in held_out]
        return training, [study for study in self.studies if study.study_id in held_out]


# ---------------------------------------------------------------------- the three methods
def mean_signals(studies: Sequence[PreparedStudy]) -> NDArray[np.float64]:
    """Normalised mean signal of each study's largest lesion under its true mask [studies, phases]."""
    return np.array([[s.lesions[0].enhancement.get(p, np.nan) for p in s.phases] for s in studies])


def guess_from_means(development: Development, ratios: bool) -> Guess:
    """Out-of-fold classes from the mean signals alone, or with (S_p - S_pre)/S_pre beside them."""
    guess: Guess = {}
    for number in range(FOLDS):
        training, held_out = development.fold(number)
        labels = np.array([study.lesions[0].label for study in training])
        classifier = fit_classifier(_features(training, ratios), labels)
        if classifier is None:
            raise UserError(f"fold {number}: the training patients have one class only; give more --subjects")
        named = classifier.predict(_features(held_out, ratios))
        guess |= {study.study_id: str(name) for study, name in zip(held_out, named, strict=True)}
    return guess


def _features(studies: Sequence[PreparedStudy], ratios: bool) -> NDArray[np.float64]:
    signals = mean_signals(studies)
    return enhancement_features(signals, studies[0].phases) if ratios else signals


def unet(development: Development, folder: Path, config: Config) -> Summary:
    """Train the BasicUNet on four fifths and score it on the last."""
    if (folder / "config.yaml").is_file():
        changed = difference(Run.open(folder).config, config)
        if changed:
            raise UserError(
                f"{folder} was trained with other settings ({', '.join(changed)}); give another folder"
            )
    train(development.cohort.folder, folder, config, TrainOptions(fold=0, folds=FOLDS, resume=True))
    return evaluate(folder).scored


def predicted_crops(run_folder: Path, studies: Sequence[PreparedStudy]) -> Crops:
    """Crops around the component with which the run found each study's largest lesion; none if missed."""
    lesions = pd.read_csv(Run.open(run_folder).predictions / "lesions.csv")
    found = lesions[lesions["dominant"] & lesions["reference"].notna() & lesions["predicted"].notna()]
    number = dict(zip(found["study_id"], found["predicted"].astype(int), strict=True))
    predictor = Predictor.load(run_folder)
    crops = []
    for study in studies:
        if study.study_id in number:
            labels = predictor.predict_prepared(study).labels
            crops.append(lesion_crops(study, labels == number[study.study_id], study.lesions[0].label))
    return merge(crops)


def cnn_fold(
    development: Development, number: int, settings: CnnSettings, run_folder: Path | None
) -> dict[str, Guess]:
    """Classes of a fold's lesions by a network trained on the others: ``true`` and ``predicted`` masks."""
    training, held_out = development.fold(number)
    classes = development.cohort.classes
    examples = merge(
        [
            lesion_crops(study, _true_mask(study) == lesion.number, lesion.label)
            for study in training
            for lesion in study.lesions
            if lesion.label in classes
        ]
    )
    network = fit_cnn(examples, classes, settings, seed=number)
    largest = merge(
        [lesion_crops(s, _true_mask(s) == s.lesions[0].number, s.lesions[0].label) for s in held_out]
    )
    guesses = {"true": predict_cnn(network, largest, classes)}
    if run_folder is not None:
        found = predict_cnn(network, predicted_crops(run_folder, held_out), classes)
        guesses["predicted"] = {study.study_id: found.get(study.study_id, "") for study in held_out}
    return guesses


def _true_mask(study: PreparedStudy) -> NDArray[np.uint8]:
    assert study.mask is not None  # a study with lesions has a mask
    return np.asarray(study.mask)


# ---------------------------------------------------------------------- scores
def scores(development: Development, guess: Guess, resamples: int, seed: int) -> dict[str, Estimate]:
    """Accuracy and balanced accuracy with 95 % intervals over patients; a missed lesion is an error."""
    truth = development.truth
    patients = {study.study_id: study.patient_id for study in development.studies}
    studies = sorted(guess)
    predictions = ClassPredictions.from_labels(
        development.cohort.classes, [truth[s] for s in studies], [guess[s] for s in studies]
    )
    rows = [patients[s] for s in studies]
    return PatientBootstrap(rows, resamples, seed).estimates(rows, predictions.scores)


def dice_with_lesion(
    development: Development, dice: Mapping[str, float], resamples: int, seed: int
) -> Estimate:
    """Mean Dice over the studies that have a lesion, like the accuracy; one that was missed counts as 0.

    Parameters
    ----------
    dice : mapping of str to float
        By study.
    """
    with_lesion = [study for study in development.studies if study.study_id in dice]
    rows = [study.patient_id for study in with_lesion]
    values = np.array([dice[study.study_id] for study in with_lesion])
    return PatientBootstrap(rows, resamples, seed).mean(rows, values)


def row(name: str, what: str, estimate: Any, target: str = "") -> dict[str, object]:
    """A row of the table; ``within`` says whether the value, not its interval, meets the target."""
    low, high = TARGETS.get(target, (None, None))
    within = "" if low is None or high is None else ("yes" if low <= estimate.value <= high else "no")
    return {
        "measure": name,
        "method": what,
        "value": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "n": estimate.n,
        "target_low": low,
        "target_high": high,
        "within": within,
    }


def table(development: Development, pieces: Mapping[str, Any], resamples: int, seed: int) -> pd.DataFrame:
    """All numbers of the study, from the finished pieces."""

    def scored(guess: Guess) -> dict[str, Estimate]:
        return scores(development, guess, resamples, seed)

    summary: Summary = pieces["unet"]
    features = summary.find("classification", "accuracy", "logistic_regression")
    every = summary.find("segmentation", "dice")
    dice = dice_with_lesion(development, pieces["unet_studies"], resamples, seed)
    dice_scored = summary.find("segmentation", "dice", group="scored")
    sensitivity = summary.find("detection", "sensitivity")
    around_true = scored(pieces["cnn_true"])["accuracy"]
    around_predicted = scored(pieces["cnn_predicted"])["accuracy"]
    means, ratios = scored(pieces["means"]), scored(pieces["ratios"])
    best = max((features, around_predicted), key=lambda found: found.value)
    name = "mean signals under the true mask, logistic regression"
    ratio_name = "the same with (S - S_pre)/S_pre beside them"
    unet_name = "BasicUNet, signals under its masks, logistic regression"
    return pd.DataFrame(
        [
            row("balanced accuracy", name, means["balanced_accuracy"], "means"),
            row("balanced accuracy", ratio_name, ratios["balanced_accuracy"], "means"),
            row("accuracy", name, means["accuracy"]),
            row("accuracy", ratio_name, ratios["accuracy"]),
            row("Dice", "BasicUNet, held-out studies with a lesion; 0 where it was missed", dice, "dice"),
            row("Dice", "BasicUNet, all held-out studies; 0 where something was found in none", every),
            row("Dice", "BasicUNet, studies with a lesion in both masks", dice_scored),
            row("share of lesions found", "BasicUNet", sensitivity),
            row("accuracy", unet_name, features),
            row("accuracy", "small CNN around the BasicUNet's masks", around_predicted),
            row("accuracy", "the better of the last two", best, "best"),
            row("accuracy", "small CNN around true masks, five folds", around_true),
        ]
    )


def page_table(numbers: pd.DataFrame) -> str:
    """The table of the page."""
    rows = []
    for item in numbers.to_dict("records"):
        target = (
            "" if pd.isna(item["target_low"]) else f"{item['target_low']:.2f} to {item['target_high']:.2f}"
        )
        value = f"{item['value']:.3f} [{item['low']:.3f}, {item['high']:.3f}]"
        rows.append([item["measure"], item["method"], value, int(item["n"]), target, item["within"]])
    return markdown(["measure", "method", "value [95 % interval]", "n", "target", "met"], rows)


# ---------------------------------------------------------------------- the study
def piece(folder: Path, name: str, identity: str, work: Callable[[], Any]) -> Any:
    """``work()``, or what it gave before for the same cohort and settings; JSON under ``folder``."""
    path = folder / f"{name}.json"
    if path.is_file():
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored["identity"] == identity:
            return stored["value"]
    began = time.perf_counter()
    value = work()
    seconds = round(time.perf_counter() - began, 1)
    files.write_json(path, {"identity": identity, "seconds": seconds, "value": value})
    print(f"{name}: {seconds} s", flush=True)
    return value


def fingerprint() -> str:
    """What the patients' program is: SHA-256 of the phantom's files, in the order of their names."""
    folder = Path(mtinet.phantom.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def claim(out: Path) -> None:
    """Refuse a folder whose patients another state of the phantom made: they would be kept as they are.

    Raises
    ------
    UserError
    """
    mark, now = out / "phantom.sha256", fingerprint()
    if mark.is_file() and mark.read_text(encoding="utf-8").strip() != now:
        raise UserError(f"{out} holds patients of another state of the phantom; give another folder")
    if not mark.is_file() and (out / "cohort").exists():
        raise UserError(f"{out} holds a cohort whose phantom is not known; give another folder")
    files.write_text(mark, now + "\n")


def study(out: Path, simulation: SimulationSettings, config: Config, cnn: CnnSettings) -> pd.DataFrame:
    """Do, or take up, the whole study in ``out``."""
    claim(out)
    simulate(out / "cohort", simulation)
    cohort = Cohort.read(out / "cohort")
    prepared = prepare(cohort, config)
    with_lesions = tuple(s for s in prepared.studies if s.lesions and s.lesions[0].label in cohort.classes)
    development = Development(cohort, with_lesions)
    folder, run_folder = out / "pieces", out / "basic_unet"
    print(f"{len(cohort.studies)} studies, {len(with_lesions)} with lesions", flush=True)

    pieces: dict[str, Any] = {}
    for name, ratios in (("means", False), ("ratios", True)):
        pieces[name] = piece(folder, name, cohort.hash, lambda r=ratios: guess_from_means(development, r))
    unet_identity = f"{cohort.hash} {config.model_dump_json()}"
    summary = piece(folder, "unet", unet_identity, lambda: unet(development, run_folder, config).to_dict())
    pieces["unet"] = Summary.from_dict(summary)
    studies = pd.read_csv(Run.open(run_folder).predictions / "studies.csv", index_col="study_id")
    pieces["unet_studies"] = studies["dice"].to_dict()
    pieces |= {"cnn_true": {}, "cnn_predicted": {}}
    for number in range(FOLDS):
        run = run_folder if number == 0 else None
        identity = f"{cohort.hash} {cnn!r} {unet_identity if run else ''}"
        guesses = piece(
            folder, f"cnn-{number}", identity, lambda n=number, r=run: cnn_fold(development, n, cnn, r)
        )
        pieces["cnn_true"] |= guesses["true"]
        pieces["cnn_predicted"] |= guesses.get("predicted", {})
    return table(development, pieces, config.evaluation.bootstrap, config.training.seed)


def main() -> None:
    """Simulate, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--preset", default="development", help="simulation preset")
    parser.add_argument("--subjects", type=int, default=240)
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--quick", action="store_true", help="a few steps only, nothing written to docs")
    options = parser.parse_args()
    assignments = [f"subjects={options.subjects}", f"seed={options.seed}"]
    simulation = resolve_simulation(options.preset, None, assignments)
    quick = ["training.steps=20", "evaluation.bootstrap=100"] if options.quick else []
    config = resolve("small", None, [*UNET, *quick])
    cnn = CnnSettings(epochs=2) if options.quick else CnnSettings()
    numbers = study(options.out, simulation, config, cnn)
    text = page_table(numbers)
    print(text)
    files.write_text(options.out / "difficulty.csv", numbers.to_csv(index=False))
    if options.quick:
        return
    files.write_text(DOCS / "difficulty.csv", numbers.to_csv(index=False))
    manifest = provenance.manifest(
        seed=options.seed,
        simulation=simulation.model_dump(mode="json"),
        basic_unet=config.model_dump(mode="json"),
        cnn=vars(cnn),
        folds=FOLDS,
        targets=TARGETS,
        phantom_sha256=fingerprint(),
    )
    # where somebody keeps the patients is nobody's business
    manifest["command"] = [*manifest["command"][:1], "OUT", *manifest["command"][2:]]
    files.write_json(DOCS / "difficulty-manifest.json", manifest)
    put_into(VIRTUAL_PATIENTS, "difficulty", text)


if __name__ == "__main__":
    main()
