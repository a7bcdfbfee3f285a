from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mtinet.cohort import Cohort
from mtinet.errors import UserError
from mtinet.inference.certainty import Calibration
from mtinet.inference.panel import Opinions
from mtinet.inference.predictor import Predictor
from mtinet.results import Lesion, Result
from mtinet.runs import Run
from mtinet.volume import read_nifti
from mtinet.workflows.calibrate import LesionCase, _fit_existence, calibrate, divide, one_a_patient
from mtinet.workflows.predict import PredictOptions, predict
from mtinet.workflows.prepare import prepare
from mtinet.workflows.revise import revise

PHASES = ("pre", "arterial", "portal_venous", "delayed")


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory, toy_maker) -> Path:
    """Patients whom the run never saw, in a cohort of another name."""
    folder = tmp_path_factory.mktemp("fresh")
    studies = [
        toy_maker(100 + i).write(folder, f"n{i}", ("hcc", "hemangioma")[i % 2], f"q{i}") for i in range(24)
    ]
    Cohort("fresh", tuple(studies), ("hemangioma", "hcc")).write(folder)
    return folder


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory, toy_run: Run, fresh: Path) -> Run:
    folder = tmp_path_factory.mktemp("calibrated") / "run"
    shutil.copytree(toy_run.path, folder)
    calibrate(folder, fresh)
    return Run.open(folder)


def test_lesions_say_how_sure_the_model_is(calibrated: Run, tmp_path: Path, toy_maker):
    toy = toy_maker(200)
    for phase in PHASES:
        toy.images[phase].write_nifti(tmp_path / "study" / f"{phase}.nii.gz")
    (result,) = predict(calibrated.path, tmp_path / "study", tmp_path / "out").results
    certainty = result.lesions[0].certainty
    assert certainty is not None
    assert certainty.coverage == 0.9
    low, high = certainty.volume_interval_mm3
    assert low < result.lesions[0].volume_mm3 < high
    assert set(certainty.class_set) <= set(result.classes)
    for phase, (low, high) in certainty.enhancement_interval.items():
        assert low <= result.lesions[0].enhancement[phase] <= high
    written = Result.from_dict(json.loads((tmp_path / "out" / "result.json").read_text()))
    assert written.lesions == result.lesions
    assert not {f.id for f in result.findings} & {"unfamiliar-study", "outdated-calibration"}


def test_a_readers_outline_has_no_interval_of_the_calibration(calibrated: Run, tmp_path: Path, toy_maker):
    """Sets and intervals hold for lesions that the model found, and for those alone."""
    toy = toy_maker(200)
    for phase in PHASES:
        toy.images[phase].write_nifti(tmp_path / "study" / f"{phase}.nii.gz")
    toy.mask.write_nifti(tmp_path / "drawn.nii.gz")
    predict(calibrated.path, tmp_path / "study", tmp_path / "out")
    given = (tmp_path / "out", tmp_path / "drawn.nii.gz", tmp_path / "study", calibrated.path)
    result = revise(*given, tmp_path / "revised").result
    assert [lesion.certainty for lesion in result.lesions] == [None]
    page = (tmp_path / "revised" / "page.html").read_text()
    assert "a calibration is about lesions that the model found" in page


def test_the_probabilities_of_existence_add_up_to_the_lesions_that_exist(calibrated: Run):
    """As those of any logistic regression with a constant do."""
    rng = np.random.default_rng(0)
    cases = []
    for real in rng.random(300) < 0.7:
        confidence = float(np.clip(rng.normal(0.85 if real else 0.7, 0.1), 0.05, 0.99))
        volume = math.exp(rng.normal(7.0 if real else 5.5))
        lesion = Lesion(1, volume, 9.0, (0, 0, 0), confidence, {"hcc": 1.0}, {}, {}, {})
        cases.append(LesionCase(lesion, "", bool(real), math.nan, {}))
    calibration = replace(
        Calibration.from_dict(calibrated.document("calibration")), existence=_fit_existence(cases)
    )
    found = [calibration.existence_probability(c.lesion.confidence, c.lesion.volume_mm3) for c in cases]
    assert sum(found) == pytest.approx(sum(c.is_lesion for c in cases), rel=1e-3)


def test_intervals_follow_the_gain(calibrated: Run, tmp_path: Path, toy_maker):
    model = Predictor.load(calibrated)
    results = []
    for name, gain in (("one", 1.0), ("ten", 10.0)):
        for phase in PHASES:
            toy_maker(201, gain=gain).images[phase].write_nifti(tmp_path / name / f"{phase}.nii.gz")
        results.append(model(tmp_path / name))
    one, ten = (r.lesions[0].certainty.enhancement_interval for r in results)
    assert ten["delayed"] == pytest.approx([10 * v for v in one["delayed"]], rel=1e-2)


def test_what_is_stored_gives_the_same_sets_and_intervals(calibrated: Run, tmp_path: Path, toy_maker):
    document = calibrated.document("calibration")
    first, again = (Calibration.from_dict(document), Calibration.from_dict(json.loads(json.dumps(document))))
    for phase in PHASES:
        toy_maker(202).images[phase].write_nifti(tmp_path / f"{phase}.nii.gz")
    lesion = Predictor.load(calibrated)(tmp_path).lesions[0]
    assert first.certainty(lesion, 3.0) == again.certainty(lesion, 3.0)
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(2), 50)
    assert first.class_sets.sets(p, 0.9) == Calibration.from_dict(again.to_dict()).class_sets.sets(p, 0.9)


def test_a_doubtful_lesion_has_wider_intervals_and_format_1_one_width(
    calibrated: Run, tmp_path: Path, toy_maker
):
    document = calibrated.document("calibration")
    for phase in PHASES:
        toy_maker(203).images[phase].write_nifti(tmp_path / f"{phase}.nii.gz")
    sure = replace(Predictor.load(calibrated)(tmp_path).lesions[0], confidence=0.98)
    doubtful = replace(sure, confidence=0.8)

    def log_widths(values: dict) -> list[float]:
        calibration = Calibration.from_dict(values)
        both = [calibration.certainty(lesion, 3.0).volume_interval_mm3 for lesion in (sure, doubtful)]
        return [math.log(high / low) for low, high in both]

    residuals = document["log_volume"]["residuals"]
    difficulty = {"exponent": 0.5, "low": 0.01, "high": 0.2}
    narrow, wide = log_widths(document | {"log_volume": {"residuals": residuals, "difficulty": difficulty}})
    assert wide / narrow == pytest.approx(10**0.5)  # 0.2 against 0.02
    old = {k: v for k, v in document.items() if k not in ("log_volume", "enhancement")}
    old |= {"format": 1, "log_volume_residuals": residuals, "enhancement_residuals": {"pre": [0.1] * 20}}
    narrow, wide = log_widths(old)
    assert wide == pytest.approx(narrow)
    assert set(Calibration.from_dict(old).certainty(sure, 3.0).enhancement_interval) == {"pre"}


def test_patients_that_trained_are_left_out(toy_run: Run, tmp_path: Path):
    folder = tmp_path / "run"
    shutil.copytree(toy_run.path, folder)
    with pytest.raises(UserError, match="too few to calibrate on"):
        calibrate(folder, Path(toy_run.manifest["cohort_folder"]))
    assert not (folder / "calibration.json").exists()


def test_patients_that_trained_are_refused_by_an_ensemble(toy_run: Run, tmp_path: Path):
    cohort = Cohort.read(Path(toy_run.manifest["cohort_folder"]))
    split = toy_run.document("split")
    chosen = cohort.subset([split["train"][0], split["test"][0]])
    chosen.write(tmp_path / "cohort")
    shutil.copytree(toy_run.path, tmp_path / "other")
    given = (toy_run.path, tmp_path / "cohort", tmp_path / "out")
    for same in (toy_run.path, tmp_path / "other"):
        with pytest.raises(UserError, match="the same network as one before it"):
            predict(*given, PredictOptions(ensemble=(same,)))
    settings = tmp_path / "other" / "config.yaml"
    settings.write_text(settings.read_text().replace("seed: 0", "seed: 1"))
    outcome = predict(*given, PredictOptions(ensemble=(tmp_path / "other",)))
    refused = [f for f in outcome.findings if f.id == "not-predicted"]
    assert [f.case for f in refused] == [split["train"][0]]
    assert "trained one of the runs" in refused[0].meaning
    assert [r.study_id for r in outcome.results] == [split["test"][0]]


def test_no_patient_is_in_both_parts_and_another_seed_divides_otherwise(calibrated: Run):
    from types import SimpleNamespace

    cases = [SimpleNamespace(patient_id=f"p{i // 2}") for i in range(40)]
    first, second = divide(cases, 0)
    assert not {c.patient_id for c in first} & {c.patient_id for c in second}
    assert len(first) == 12
    assert [c.patient_id for c in divide(cases, 1)[0]] != [c.patient_id for c in first]


def test_a_patient_with_follow_ups_counts_once_for_coverage():
    from types import SimpleNamespace

    cases = [
        SimpleNamespace(patient_id=patient, study_id=study, main=main)
        for patient, study, main in (("p", "c", 3), ("q", "d", None), ("p", "a", None), ("p", "b", 2))
    ]
    assert [c.study_id for c in one_a_patient(cases)] == ["b", "d"]


@pytest.mark.slow
def test_other_weights_or_opinions_do_not_take_over_the_calibration(calibrated: Run, tmp_path: Path, fresh):
    folder = tmp_path / "run"
    shutil.copytree(calibrated.path, folder)
    run = Run.open(folder)
    assert Predictor.load(run).calibration is not None
    tensors, facts = run.load_model()
    name = next(n for n, t in tensors.items() if t.is_floating_point())
    run.save_model({**tensors, name: tensors[name] + 0.1}, facts)
    changed = Predictor.load(run)
    assert changed.calibration is None
    (study,) = prepare(Cohort.read(fresh).subset(["n0"]), run.config).studies
    (said,) = changed._findings(study, changed.vote(study))
    assert said.id == "outdated-calibration"

    several = calibrate(folder, fresh, opinions=Opinions(flips=True))
    assert several.path.name.startswith("calibration-")
    assert json.loads((folder / "calibration.json").read_text()) == calibrated.document("calibration")


def test_a_newer_or_damaged_calibration_is_refused_by_name(calibrated: Run):
    document = calibrated.document("calibration")
    with pytest.raises(UserError, match="newer"):
        Calibration.from_dict({**document, "format": 99})
    with pytest.raises(UserError, match="damaged"):
        Calibration.from_dict({**document, "class_scores": None})


def test_strange_studies_are_flagged_with_the_reason(calibrated: Run, tmp_path: Path, toy_maker):
    toy = toy_maker(203)
    exchanged = dict(zip(PHASES, ("portal_venous", "pre", "arterial", "delayed")))
    for phase in PHASES:
        toy.images[exchanged[phase]].write_nifti(tmp_path / "exchanged" / f"{phase}.nii.gz")
        emptied = toy.images[phase].array.copy()
        if phase == "arterial":
            emptied[:, :, :4] = 0
        replace(toy.images[phase], array=emptied).write_nifti(tmp_path / "empty" / f"{phase}.nii.gz")
    model = Predictor.load(calibrated)
    for name in ("exchanged", "empty"):
        found = [f for f in model(tmp_path / name).findings if f.id == "unfamiliar-study"]
        assert found, name
        assert all(f.action and f.value is not None for f in found)
    assert any("hold nothing" in f.meaning for f in found)


def test_maps_lie_on_the_source_grid(toy_run: Run, tmp_path: Path, toy_maker):
    toy = toy_maker(204)
    for phase in PHASES:
        toy.images[phase].write_nifti(tmp_path / "study" / f"{phase}.nii.gz")
    out = tmp_path / "out"
    predict(
        toy_run.path,
        tmp_path / "study",
        out,
        PredictOptions(formats=("nifti", "json", "maps"), opinions=Opinions(flips=True)),
    )
    probability = read_nifti(out / "probability.nii.gz")
    assert probability.corner_distance_mm(toy.mask) < 1e-3
    for name in ("entropy", "information"):
        values = read_nifti(out / f"{name}.nii.gz").array
        assert 0 <= values.min() <= values.max() <= 1 + 1e-5
    mask = read_nifti(out / "mask.nii.gz", labels=True).array > 0
    assert (probability.array[mask] >= toy_run.config.inference.threshold).all()
