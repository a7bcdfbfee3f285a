"""Variations of the data through training and evaluation; the default is the run as it always was."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtinet.cohort import Cohort
from mtinet.config import resolve
from mtinet.config.variation import LearningVariation, ScoringVariation
from mtinet.errors import UserError
from mtinet.evaluation.tables import read_table
from mtinet.inference.predictor import Predictor
from mtinet.runs import Run
from mtinet.workflows.evaluate import Evaluation
from mtinet.workflows.evaluate import evaluate as evaluate_run
from mtinet.workflows.prepare import prepare
from mtinet.workflows.train import TrainOptions, train

PHASES = ("pre", "arterial", "portal_venous", "delayed")
SHORT = ["training.steps=4", "training.validate_every=0", "training.checkpoint_every=2"]


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory, toy_cohort_writer: Callable) -> Cohort:
    """Nine patients at three sites; the receive gain of a phase differs between them."""
    folder = tmp_path_factory.mktemp("sites") / "cohort"
    cohort = toy_cohort_writer(folder, 9)
    at = tuple(replace(study, site="ABC"[i % 3]) for i, study in enumerate(cohort.studies))
    replace(cohort, studies=at).write(folder)
    return Cohort.read(folder)


def evaluate(folder: Path, **given: Any) -> Evaluation:
    return evaluate_run(folder, workers=1, **given)


def trained(cohort: Cohort, out: Path, *changes: str, **learning: object) -> Run:
    options = TrainOptions(folds=3, workers=1, learning=LearningVariation(**learning))
    return train(cohort.folder, out, resolve("tiny", assignments=[*SHORT, *changes]), options)


@pytest.fixture
def run(toy_run: Run, tmp_path: Path) -> Run:
    """A copy, so that a test's tables do not reach the others."""
    shutil.copytree(toy_run.path, tmp_path / "run")
    return Run.open(tmp_path / "run")


# ---------------------------------------------------------------------- nothing changed
@pytest.mark.slow
def test_the_default_changes_no_number(sites: Cohort, tmp_path: Path):
    config = resolve("tiny", assignments=SHORT)
    plain = train(sites.folder, tmp_path / "plain", config, TrainOptions(folds=3, workers=1))
    said = trained(sites, tmp_path / "said", mask_margin=0, noise=0.0, harmonisation="none")
    assert plain.metrics() == said.metrics()
    assert plain.manifest["id"] == said.manifest["id"]
    for name in ("split", "preparation", "classes"):
        assert plain.document(name) == said.document(name)
    assert not said.has_document("learning")
    assert not said.has_document("harmonisation")
    first = evaluate(plain.path)
    again = evaluate(said.path, variation=ScoringVariation())
    assert again.folder == said.predictions
    for name in ("studies.csv", "lesions.csv", "table.csv"):
        assert (first.folder / name).read_bytes() == (again.folder / name).read_bytes()


# ---------------------------------------------------------------------- learning
def test_a_run_knows_what_it_learned_from_and_goes_on_with_it(sites: Cohort, tmp_path: Path):
    whole = trained(sites, tmp_path / "whole", mask_margin=1, noise=0.05, heterogeneity=0.1)
    cut = tmp_path / "cut"
    config = resolve("tiny", assignments=SHORT)
    learning = LearningVariation(mask_margin=1, noise=0.05, heterogeneity=0.1)

    class Stopped(Exception):
        pass

    def stop(step: int, _steps: int, _numbers: object) -> None:
        if step == 3:
            raise Stopped

    with pytest.raises(Stopped):
        train(sites.folder, cut, config, TrainOptions(folds=3, workers=1, learning=learning), on_step=stop)
    # a resumed run takes its own variation, whatever is said
    resumed = train(sites.folder, cut, config, TrainOptions(folds=3, workers=1, resume=True))
    assert resumed.learning == whole.learning == learning
    assert resumed.metrics() == whole.metrics()
    for name, tensor in whole.load_model()[0].items():
        assert np.array_equal(tensor.numpy(), resumed.load_model()[0][name].numpy())
    plain = trained(sites, tmp_path / "plain")
    assert plain.manifest["id"] != whole.manifest["id"]
    assert plain.document("split") == whole.document("split")
    assert plain.document("preparation")["enhancement"] != whole.document("preparation")["enhancement"]


@pytest.mark.slow
def test_evaluation_keeps_the_reference_that_training_did_not_see(sites: Cohort, tmp_path: Path):
    runs = [trained(sites, tmp_path / str(margin), mask_margin=margin) for margin in (0, 2)]
    tables = [read_table(evaluate(one.path).folder / "lesions.csv") for one in runs]
    truths = [t[t["reference"].notna()][[f"true_{p}" for p in PHASES]].to_numpy() for t in tables]
    np.testing.assert_array_equal(*truths)


def test_fewer_patients_and_a_site_decide_the_split(sites: Cohort, tmp_path: Path):
    few = trained(sites, tmp_path / "few", patients=4)
    assert len(few.document("split")["train"]) == 4
    assert len(few.document("preparation")["patients"]) == 4
    held_out = trained(sites, tmp_path / "site", held_out_site="B")
    split = held_out.document("split")
    assert {sites[i].site for i in split["test"]} == {"B"}
    assert {sites[i].site for i in split["train"]} == {"A", "C"}
    scored = read_table(evaluate(held_out.path).folder / "studies.csv")
    assert set(scored["site"]) == {"B"}
    with pytest.raises(UserError, match="exclude each other"):
        train(
            sites.folder,
            tmp_path / "both",
            resolve("tiny", assignments=SHORT),
            TrainOptions(split=tmp_path / "split.json", learning=LearningVariation(held_out_site="A")),
        )


@pytest.mark.parametrize("kind", ["nyul", pytest.param("combat", marks=pytest.mark.slow)])
def test_a_harmonised_run_answers_in_the_studies_own_signal(sites: Cohort, tmp_path: Path, kind: str):
    if kind == "combat":
        pytest.importorskip("combatlearn", reason="the package of the extra combat is not installed")
    run = trained(sites, tmp_path / kind, harmonisation=kind)
    plain = trained(sites, tmp_path / "plain")
    # read-outs and training means stay in the signal in which results are scored
    assert run.document("preparation") == plain.document("preparation")
    network = Predictor.load(run).network
    assert float(network.enhancement_mean) != float(Predictor.load(plain).network.enhancement_mean)
    predictor = Predictor.load(run)
    study = prepare(sites.subset(["s1"]), run.config, tmp_path / "cache", workers=1).studies[0]
    mapping = predictor.harmonisation.map_of(study)
    harmonised = Predictor(network, run.config, run.classes, {}).read(
        predictor.harmonisation.apply(study), study.mask
    )
    own = predictor.read(study, study.mask)
    for number, reading in own.items():
        np.testing.assert_allclose(mapping.forward(reading.enhancement), harmonised[number].enhancement)
    assert evaluate(run.path).scored.studies > 0


def test_combat_says_which_sites_it_cannot_compare(toy_cohort: Cohort, tmp_path: Path):
    run = trained(toy_cohort, tmp_path / "run", harmonisation="combat")
    assert [f.id for f in run.findings() if f.stage == "train"].count("site-not-harmonised") == 1


# ---------------------------------------------------------------------- scoring
def test_a_variation_has_its_own_folder_and_leaves_the_run_alone(run: Run):
    before = evaluate(run.path).folder
    kept = {path.name: path.read_bytes() for path in before.glob("*.csv")}
    scored = evaluate(run.path, variation=ScoringVariation(noise=0.5, displacement_mm=16.0))
    assert scored.folder == run.path / "predictions-displaced-16-noise-0.5"
    assert {path.name for path in scored.folder.iterdir()} == {
        "studies.csv",
        "lesions.csv",
        "table.csv",
        "summary.json",
        "findings.json",
    }
    assert {path.name: path.read_bytes() for path in before.glob("*.csv")} == kept
    clean, noisy = (read_table(folder / "lesions.csv") for folder in (before, scored.folder))
    known = [t[t["reference"].notna()].set_index("study_id") for t in (clean, noisy)]
    assert all((known[0][f"true_{p}"] == known[1][f"true_{p}"]).all() for p in PHASES)
    # noise and displacement reach what is measured, not what it is compared with
    found = known[1][known[1]["predicted"].notna()]
    assert (found["measured_arterial"] != known[0].loc[found.index, "measured_arterial"]).all()


def test_hidden_phases_are_neither_seen_nor_scored(run: Run):
    scored = evaluate(run.path, variation=ScoringVariation(phases=("pre", "delayed")))
    lesions = read_table(scored.folder / "lesions.csv")
    reference = lesions[lesions["reference"].notna()]
    assert reference["true_delayed"].notna().all()
    assert reference["true_arterial"].isna().all()
    found = reference[reference["predicted"].notna()]
    assert found["predicted_portal_venous"].isna().all()
    assert found["attention_arterial"].isna().all()


def test_a_study_without_a_shown_phase_is_left_out_by_name(run: Run):
    # s5 of the toy cohort has no arterial phase
    cohort = Path(run.manifest["cohort_folder"])
    held_out = run.document("split")["test"]
    scored = evaluate(run.path, variation=ScoringVariation(phases=("arterial",)))
    cases = [f.case for f in scored.findings if f.id == "no-phase-shown"]
    assert cases == [i for i in held_out if "arterial" not in Cohort.read(cohort)[i].images]
    assert scored.scored.studies == len(held_out) - len(cases)


def test_shuffled_phases_are_told_apart_by_what_they_are(run: Run):
    scored = evaluate(run.path, variation=ScoringVariation(order="shuffled"))
    lesions = read_table(scored.folder / "lesions.csv")
    found = lesions[lesions["reference"].notna() & lesions["predicted"].notna()]
    # what is measured under the mask does not depend on where an image stood
    for phase in PHASES:
        known = found[f"true_{phase}"].notna()
        assert (known == found[f"predicted_{phase}"].notna()).all()
    plain = read_table(evaluate(run.path).folder / "lesions.csv")
    assert list(plain["study_id"].unique()) == list(lesions["study_id"].unique())
    assert not plain.equals(lesions)


def test_variations_that_say_nothing_are_refused(run: Run, tmp_path: Path):
    with pytest.raises(UserError, match="no phase hepatobiliary"):
        evaluate(run.path, variation=ScoringVariation(phases=("hepatobiliary",)))
    with pytest.raises(UserError, match="no phase to show"):
        evaluate(run.path, variation=ScoringVariation(phases=()))
    with pytest.raises(UserError, match="another program"):
        evaluate(run.path, predictions=tmp_path, variation=ScoringVariation(noise=0.1))
