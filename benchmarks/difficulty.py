"""How hard the virtual patients are, before MTI-Net sees them: ``python benchmarks/difficulty.py OUT``.

Three methods that are not MTI-Net learn from a development cohort and are scored on another (other seeds and
other sites than those of any reported result):

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
"""The methods learn from four fifths of the development cohort; the last fifth only watches the training."""

SCORED_SEED = 1
"""Added to the seed for the patients who are scored."""

UNET = (
    "model=basic_unet",
    "baseline.width=16",
    "training.steps=8000",
    "training.batch_size=16",
    "training.learning_rate=3e-3",
    "training.validate_every=0",
)
"""What differs from the preset ``small``: over an hour on one core."""

TARGETS = {
    "means": (0.70, 0.90),
    "dice": (0.75, 0.88),
    "best": (0.85, 0.95),
}
"""Set before the patients were: by these the difficulty is fixed."""

Guess = dict[str, str]
"""Predicted class by study; "" for a lesion that was missed."""


@dataclass(frozen=True)
class Patients:
    """A cohort with what is needed of it here.

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

    @property
    def training(self) -> list[PreparedStudy]:
        """What ``mtinet train --fold 0`` trains on, as far as it has a lesion."""
        held_out = set(split_cohort(self.cohort, 0, FOLDS).test)
        return [study for study in self.studies if study.study_id not in held_out]


# ---------------------------------------------------------------------- the three methods
def mean_signals(studies: Sequence[PreparedStudy]) -> NDArray[np.float64]:
    """Normalised mean signal of each study's largest lesion under its true mask [studies, phases]."""
    return np.array([[s.lesions[0].enhancement.get(p, np.nan) for p in s.phases] for s in studies])


def guess_from_means(
    training: Sequence[PreparedStudy], scored: Sequence[PreparedStudy], ratios: bool
) -> Guess:
    """Classes from the mean signals alone, or with (S_p - S_pre)/S_pre beside them."""
    labels = np.array([study.lesions[0].label for study in training])
    classifier = fit_classifier(_features(training, ratios), labels)
    if classifier is None:
        raise UserError("the training patients have one class only; give more --subjects")
    named = classifier.predict(_features(scored, ratios))
    return {study.study_id: str(name) for study, name in zip(scored, named, strict=True)}


def _features(studies: Sequence[PreparedStudy], ratios: bool) -> NDArray[np.float64]:
    signals = mean_signals(studies)
    return enhancement_features(signals, studies[0].phases) if ratios else signals


def unet(development: Patients, scored: Patients, folder: Path, config: Config) -> Summary:
    """Train the BasicUNet on the one cohort and score it on the other."""
    if (folder / "config.yaml").is_file():
        changed = difference(Run.open(folder).config, config)
        if changed:
            raise UserError(
                f"{folder} was trained with other settings ({', '.join(changed)}); give another folder"
            )
    train(development.cohort.folder, folder, config, TrainOptions(fold=0, folds=FOLDS, resume=True))
    return evaluate(folder, cohort=scored.cohort.folder).scored


def predicted_crops(run_folder: Path, predictions: Path, studies: Sequence[PreparedStudy]) -> Crops:
    """Crops around the component with which the run found each study's largest lesion; none if missed."""
    lesions = pd.read_csv(predictions / "lesions.csv")
    found = lesions[lesions["dominant"] & lesions["reference"].notna() & lesions["predicted"].notna()]
    number = dict(zip(found["study_id"], found["predicted"].astype(int), strict=True))
    predictor = Predictor.load(run_folder)
    crops = []
    for study in studies:
        if study.study_id in number:
            labels = predictor.predict_prepared(study).labels
            crops.append(lesion_crops(study, labels == number[study.study_id], study.lesions[0].label))
    return merge(crops)


def cnn(
    development: Patients, scored: Patients, settings: CnnSettings, run_folder: Path, predictions: Path
) -> dict[str, Guess]:
    """Classes of the scored lesions around their ``true`` and around the BasicUNet's ``predicted`` masks."""
    classes = development.cohort.classes
    examples = merge(
        [
            lesion_crops(study, _true_mask(study) == lesion.number, lesion.label)
            for study in development.training
            for lesion in study.lesions
            if lesion.label in classes
        ]
    )
    network = fit_cnn(examples, classes, settings, seed=0)
    largest = merge(
        [lesion_crops(s, _true_mask(s) == s.lesions[0].number, s.lesions[0].label) for s in scored.studies]
    )
    found = predict_cnn(network, predicted_crops(run_folder, predictions, scored.studies), classes)
    return {
        "true": predict_cnn(network, largest, classes),
        "predicted": {study.study_id: found.get(study.study_id, "") for study in scored.studies},
    }


def _true_mask(study: PreparedStudy) -> NDArray[np.uint8]:
    assert study.mask is not None  # a study with lesions has a mask
    return np.asarray(study.mask)


# ---------------------------------------------------------------------- scores
def scores(scored: Patients, guess: Guess, resamples: int, seed: int) -> dict[str, Estimate]:
    """Accuracy and balanced accuracy with 95 % intervals over patients; a missed lesion is an error."""
    truth = scored.truth
    patients = {study.study_id: study.patient_id for study in scored.studies}
    studies = sorted(guess)
    predictions = ClassPredictions.from_labels(
        scored.cohort.classes, [truth[s] for s in studies], [guess[s] for s in studies]
    )
    rows = [patients[s] for s in studies]
    return PatientBootstrap(rows, resamples, seed).estimates(rows, predictions.scores)


def dice_with_lesion(scored: Patients, dice: Mapping[str, float], resamples: int, seed: int) -> Estimate:
    """Mean Dice over the studies that have a lesion, like the accuracy; one that was missed counts as 0.

    Parameters
    ----------
    dice : mapping of str to float
        By study.
    """
    with_lesion = [study for study in scored.studies if study.study_id in dice]
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


def table(scored: Patients, pieces: Mapping[str, Any], resamples: int, seed: int) -> pd.DataFrame:
    """All numbers of the study, from the finished pieces."""

    def estimates(guess: Guess) -> dict[str, Estimate]:
        return scores(scored, guess, resamples, seed)

    summary: Summary = pieces["unet"]
    features = summary.find("classification", "accuracy", "logistic_regression")
    every = summary.find("segmentation", "dice")
    dice = dice_with_lesion(scored, pieces["unet_studies"], resamples, seed)
    dice_scored = summary.find("segmentation", "dice", group="scored")
    sensitivity = summary.find("detection", "sensitivity")
    around_true = estimates(pieces["cnn"]["true"])["accuracy"]
    around_predicted = estimates(pieces["cnn"]["predicted"])["accuracy"]
    means, ratios = estimates(pieces["means"]), estimates(pieces["ratios"])
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
            row("Dice", "BasicUNet, studies with a lesion; 0 where it was missed", dice, "dice"),
            row("Dice", "BasicUNet, all studies; 0 where something was found in none", every),
            row("Dice", "BasicUNet, studies with a lesion in both masks", dice_scored),
            row("share of lesions found", "BasicUNet", sensitivity),
            row("accuracy", unet_name, features),
            row("accuracy", "small CNN around the BasicUNet's masks", around_predicted),
            row("accuracy", "the better of the last two", best, "best"),
            row("accuracy", "small CNN around true masks", around_true),
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


def cohort_of(folder: Path, simulation: SimulationSettings, config: Config) -> Patients:
    """Simulate and prepare a cohort, or take it up."""
    simulate(folder, simulation)
    cohort = Cohort.read(folder)
    prepared = prepare(cohort, config).studies
    studies = tuple(s for s in prepared if s.lesions and s.lesions[0].label in cohort.classes)
    print(f"{cohort.name}: {len(cohort.studies)} studies, {len(studies)} with lesions", flush=True)
    return Patients(cohort, studies)


def study(out: Path, simulation: SimulationSettings, config: Config, settings: CnnSettings) -> pd.DataFrame:
    """Do, or take up, the whole study in ``out``."""
    claim(out)
    other = {"seed": simulation.seed + SCORED_SEED, "name": f"{simulation.name}-scored"}
    development = cohort_of(out / "cohort", simulation, config)
    scored = cohort_of(out / "scored", simulation.model_copy(update=other), config)
    folder, run_folder = out / "pieces", out / "basic_unet"
    of_patients = f"{development.cohort.hash} {scored.cohort.hash}"

    pieces: dict[str, Any] = {}
    for name, ratios in (("means", False), ("ratios", True)):
        pieces[name] = piece(
            folder,
            name,
            of_patients,
            lambda r=ratios: guess_from_means(development.training, scored.studies, r),
        )
    unet_identity = f"{of_patients} {config.model_dump_json()}"
    summary = piece(
        folder, "unet", unet_identity, lambda: unet(development, scored, run_folder, config).to_dict()
    )
    predictions = Run.open(run_folder).predictions_on(scored.cohort.name)
    pieces["unet"] = Summary.from_dict(summary)
    pieces["unet_studies"] = pd.read_csv(predictions / "studies.csv", index_col="study_id")["dice"].to_dict()
    pieces["cnn"] = piece(
        folder,
        "cnn",
        f"{unet_identity} {settings!r}",
        lambda: cnn(development, scored, settings, run_folder, predictions),
    )
    return table(scored, pieces, config.evaluation.bootstrap, config.training.seed)


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
    settings = CnnSettings(epochs=2) if options.quick else CnnSettings()
    numbers = study(options.out, simulation, config, settings)
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
        cnn=vars(settings),
        folds=FOLDS,
        scored_seed=options.seed + SCORED_SEED,
        targets=TARGETS,
        phantom_sha256=fingerprint(),
    )
    # where somebody keeps the patients is nobody's business
    manifest["command"] = [*manifest["command"][:1], "OUT", *manifest["command"][2:]]
    files.write_json(DOCS / "difficulty-manifest.json", manifest)
    put_into(VIRTUAL_PATIENTS, "difficulty", text)


if __name__ == "__main__":
    main()
