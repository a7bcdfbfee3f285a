"""The scripts behind the documentation: what they compute, and that the page holds what they make."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mtinet.cohort import Cohort, Study
from mtinet.data.folds import split_cohort
from mtinet.data.prepared import PreparedLesion, PreparedStudy
from mtinet.errors import UserError
from mtinet.evaluation.statistics import Estimate
from mtinet.volume import Volume, read_nifti

ROOT = Path(__file__).parents[1]
PHASES = ("pre", "arterial")
CLASSES = ("hemangioma", "hcc")


def prepared(
    number: int, label: str, brightness: float, *, where: tuple[int, int] = (20, 24)
) -> PreparedStudy:
    """A study of 3 slices with one lesion of 6 x 6 x 2 voxels."""
    mask = np.zeros((3, 40, 48), dtype=np.uint8)
    y, x = where
    mask[1:, y - 3 : y + 3, x - 3 : x + 3] = 1
    image = np.stack([np.full(mask.shape, 0.5), np.where(mask > 0, brightness, 0.5)]).astype(np.float32)
    lesion = PreparedLesion(
        1,
        label,
        int(mask.sum()),
        10.0,
        {"pre": 0.5, "arterial": brightness},
        ((1, 3), (y - 3, y + 3), (x - 3, x + 3)),
    )
    return PreparedStudy(
        study_id=f"s{number:03d}",
        patient_id=f"p{number:03d}",
        site="A",
        label=label,
        phases=PHASES,
        present=(True, True),
        times_s=(0.0, 20.0),
        reference_phase="arterial",
        gain=1.0,
        affine=np.eye(4),
        source_shape=(48, 40, 3),
        source_affine=np.eye(4),
        has_mask=True,
        has_liver=False,
        lesions=(lesion,),
        memory={"image": image, "mask": mask},
    )


@pytest.fixture(scope="module")
def development(benchmark):
    """Forty patients whose arterial signal tells the class but for a few."""
    rng = np.random.default_rng(3)
    labels = [CLASSES[n % 2] for n in range(40)]
    signal = [0.8 + 0.6 * (label == "hcc") + float(rng.normal(0, 0.05)) for label in labels]
    studies = tuple(prepared(n, labels[n], signal[n]) for n in range(40))
    cohort = Cohort(
        name="toy",
        studies=tuple(
            Study(
                s.study_id, {"pre": Path("a"), "arterial": Path("b")}, patient_id=s.patient_id, label=s.label
            )
            for s in studies
        ),
        classes=CLASSES,
        phases=PHASES,
    )
    return benchmark("difficulty").Patients(cohort, studies)


def apart(development):
    """Studies that methods learn from, and the rest."""
    learned = {study.study_id for study in development.training}
    return development.training, [s for s in development.studies if s.study_id not in learned]


# ---------------------------------------------------------------------- pages
def test_only_what_stands_between_the_named_markers_is_replaced(benchmark, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- x:begin -->\nold\n<!-- x:end -->\nb\n<!-- y:begin -->\nkept\n<!-- y:end -->\n")
    benchmark("page").put_into(page, "x", "new")
    benchmark("page").put_into(page, "x", "newer")
    assert page.read_text() == (
        "a\n<!-- x:begin -->\nnewer\n<!-- x:end -->\nb\n<!-- y:begin -->\nkept\n<!-- y:end -->\n"
    )


@pytest.mark.parametrize("text", ["nothing", "<!-- x:begin -->", "<!-- x:end --> <!-- x:begin -->"])
def test_a_page_without_its_markers_is_refused_and_left_alone(benchmark, tmp_path, text):
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(UserError, match="x:begin"):
        benchmark("page").put_into(page, "x", "new")
    assert page.read_text() == text


def test_cells_hold_three_figures_and_no_bars(benchmark):
    cell = benchmark("page").cell
    assert [cell(v) for v in (0.12345, 1234.5, float("nan"), None, 3, "a|b")] == [
        "0.123",
        "1234",
        "",
        "",
        "3",
        "a\\|b",
    ]


def test_the_page_has_a_place_for_every_table_and_every_picture_it_shows(benchmark):
    script, page = benchmark("virtual_patients"), (ROOT / "docs/virtual-patients.md").read_text("utf-8")
    for name in (*script.TABLES, "difficulty"):
        assert page.count(f"<!-- {name}:begin -->") == page.count(f"<!-- {name}:end -->") == 1
    shown = set(re.findall(r"images/(patients-[a-z]+\.png)", page))
    made = {f"patients-{name.removeprefix('lesions-')}.png" for name in script.PICTURES}
    assert shown == made
    for name in shown:
        assert (ROOT / "docs/images" / name).stat().st_size <= 300_000


def test_an_unknown_table_is_refused(benchmark):
    with pytest.raises(SystemExit, match="scanners"):
        benchmark("virtual_patients").chosen("nonsense")


# ---------------------------------------------------------------------- evidence
def test_landmarks_are_where_the_curves_turn(benchmark):
    t_s = np.arange(-40.0, 200.0, 2.0)
    aorta = 50.0 * (1.0 + np.interp(t_s, (20.0, 30.0, 40.0), (0.0, 4.0, 2.0)))
    liver = 80.0 * (1.0 + np.interp(t_s, (30.0, 50.0), (0.0, 0.6)))
    arrival, peak, half, level = benchmark("patient_evidence").landmarks(t_s, aorta, liver, 20)
    assert arrival == pytest.approx(21.0, abs=2.0)
    assert peak == 30.0
    assert arrival + half == pytest.approx(40.0, abs=3.0)
    assert level == pytest.approx(1.6)


@pytest.mark.parametrize(("simulated", "side"), [(101.0, "yes"), (99.0, "**no**")])
def test_a_ratio_on_the_wrong_side_shows_even_within_the_limit(benchmark, simulated, side):
    row = {"agent": "a", "tissue": "hcc", "time_s": 180.0, "published": 116.2, "simulated": simulated}
    row |= {"low": 90.0, "high": 110.0, "difference": simulated / 116.2 - 1.0, "kind": "predicted"}
    table = pd.DataFrame([{**row, "within": 0.3, "protocol": "p", "source": "s"}])
    cells = benchmark("patient_evidence").compared(table, middle=100.0).splitlines()[2].split(" | ")
    assert cells[-2] == "yes"
    assert cells[-1] == f"{side} |"


def test_cysts_stay_darker_than_the_liver_in_every_phase_and_draw(benchmark):
    from mtinet.phantom.agents import AGENTS

    for agent in AGENTS.values():
        ratios = benchmark("patient_curves").contrasts("cyst", "cyst_simple", agent)
        assert ratios.shape == (60, len(agent.phases))
        assert (ratios < 0.6).all()


# ---------------------------------------------------------------------- crops
@pytest.mark.parametrize("where", [(20, 24), (4, 4), (36, 44)])
def test_crops_hold_the_whole_lesion_in_their_middle_also_at_the_edge(benchmark, where):
    study = prepared(0, "hcc", 1.2, where=where)
    crops = benchmark("crops").lesion_crops(study, study.mask == 1, "hcc")
    assert crops.images.shape == (2, len(PHASES) + 1, 32, 32)
    assert crops.areas.tolist() == [36.0, 36.0]
    mask = crops.images[:, -1] > 0
    assert mask.sum((1, 2)).tolist() == [36, 36]
    assert np.allclose(np.argwhere(mask[0]).mean(0), 15.5, atol=1.0)
    assert np.allclose(crops.images[:, 1][mask], 1.2)


def test_a_small_network_learns_what_the_brightness_tells(benchmark, development):
    crops = benchmark("crops")
    settings = crops.CnnSettings(widths=(4, 8), epochs=30, batch_size=16, learning_rate=1e-2)

    def cut(studies: Any) -> Any:
        return crops.merge([crops.lesion_crops(s, s.mask == 1, s.label) for s in studies])

    training, held_out = apart(development)
    network = crops.fit_cnn(cut(training), CLASSES, settings, seed=0)
    assert crops.predict_cnn(network, cut(held_out), CLASSES) == {s.study_id: s.label for s in held_out}
    assert crops.predict_cnn(network, crops.merge([]), CLASSES) == {}


def test_training_is_the_same_for_a_seed(benchmark, development):
    crops = benchmark("crops")
    settings = crops.CnnSettings(widths=(4,), epochs=1)
    examples = crops.merge([crops.lesion_crops(s, s.mask == 1, s.label) for s in development.studies])
    first, again = (crops.fit_cnn(examples, CLASSES, settings, seed=5).state_dict() for _ in range(2))
    assert all((first[name] == again[name]).all() for name in first)


# ---------------------------------------------------------------------- difficulty
def test_methods_learn_from_what_the_run_learns_from(benchmark, development):
    held_out = split_cohort(development.cohort, 0, benchmark("difficulty").FOLDS).test
    assert len(held_out) == 8
    learned = {study.study_id for study in development.training}
    assert learned == {study.study_id for study in development.studies} - set(held_out)


@pytest.mark.parametrize("ratios", [False, True])
def test_mean_signals_tell_classes_that_differ_in_them(benchmark, development, ratios):
    script = benchmark("difficulty")
    guess = script.guess_from_means(*apart(development), ratios)
    found = script.scores(development, guess, 100, 0)["balanced_accuracy"]
    assert found.value == 1.0
    assert found.n == 8


def test_a_missed_lesion_is_an_error(benchmark, development):
    script = benchmark("difficulty")
    guess = {**development.truth, "s000": "", "s001": ""}
    found = script.scores(development, guess, 100, 0)
    assert found["accuracy"].value == pytest.approx(38 / 40)
    assert found["balanced_accuracy"].value == pytest.approx(19 / 20)
    assert found["accuracy"].low < 38 / 40 < found["accuracy"].high


def test_dice_is_that_of_studies_with_a_lesion_and_counts_what_was_missed(benchmark, development):
    scored = {"s000": 0.8, "s001": 0.0, "healthy": 0.0}
    found = benchmark("difficulty").dice_with_lesion(development, scored, 100, 0)
    assert (found.value, found.n) == (pytest.approx(0.4), 2)


@pytest.mark.parametrize(("value", "within"), [(0.69, "no"), (0.70, "yes"), (0.90, "yes"), (0.91, "no")])
def test_the_target_is_held_against_the_value(benchmark, value, within):
    row = benchmark("difficulty").row("x", "y", Estimate(value, 0.0, 1.0, 10), "means")
    assert row["within"] == within


def test_a_piece_is_done_once_for_the_same_settings(benchmark, tmp_path):
    script, calls = benchmark("difficulty"), []

    def work() -> int:
        calls.append(1)
        return len(calls)

    assert [script.piece(tmp_path, "a", identity, work) for identity in ("x", "x", "y")] == [1, 1, 2]


def test_patients_of_another_state_of_the_phantom_are_refused(benchmark, tmp_path):
    script = benchmark("difficulty")
    script.claim(tmp_path)
    script.claim(tmp_path)
    (tmp_path / "phantom.sha256").write_text("0" * 64)
    with pytest.raises(UserError, match="another folder"):
        script.claim(tmp_path)
    (tmp_path / "phantom.sha256").unlink()
    (tmp_path / "cohort").mkdir()
    with pytest.raises(UserError, match="not known"):
        script.claim(tmp_path)


# ---------------------------------------------------------------------- signs
def test_found_lesions_are_those_that_overlap_the_true_ones(benchmark):
    from mtinet.volume import Volume

    true, found = np.zeros((2, 12, 12, 4), dtype=np.uint8)
    true[1:5, 1:5, 1:3], true[8:11, 8:11, 1:3] = 1, 2
    found[2:6, 1:5, 1:3], found[10:12, 10:12, 0:2] = 7, 3
    pairs = benchmark("lesion_signs").matched(Volume(true, np.eye(4)), Volume(found, np.eye(4)))
    # the second shares one voxel of 25: it is not found
    assert pairs == {1: 7}


def test_sensitivity_and_specificity_are_of_what_was_assessed(benchmark):
    script = benchmark("lesion_signs")
    findings = ["present", "absent", "not assessable", "present", "absent", "absent", None]
    truth = [True, True, True, False, False, False, False]
    rows = pd.DataFrame(
        {
            "masks": "true",
            "agent": "gadobutrol",
            "subtype": ["a", "b", "c", "d", "e", "f", "g"],
            "found": [f is not None for f in findings],
            "capsule": findings,
            "form: capsule": truth,
        }
    )
    (row,) = script.sign_table(rows).to_dict("records")
    assert row["sensitivity"].startswith("0.50")
    assert row["sensitivity"].endswith("of 2")
    assert row["specificity"].startswith("0.67")
    assert (row["not assessable"], row["not found"], row["missed"], row["false"]) == (1, 1, "b 1", "d 1")


def test_every_subform_of_the_signs_table_can_be_simulated(benchmark):
    from mtinet.phantom.lesions import SUBTYPES

    script = benchmark("lesion_signs")
    known = {subtype.name for forms in SUBTYPES.values() for subtype in forms}
    assert known >= script.HYPERVASCULAR | script.RIM | script.NODULAR
    assert not script.HYPERVASCULAR & script.RIM
    assert (ROOT / "docs/measurements.md").read_text("utf-8").count("<!-- signs:begin -->") == 1


# ---------------------------------------------------------------------- the demo's numbers
def test_the_pages_show_the_numbers_of_the_demos_table(benchmark):
    script, table = benchmark("demo_seeds"), pd.read_csv(ROOT / "docs/demo.csv")
    short = table[table[["task", "metric", "method"]].apply(tuple, axis=1).isin(script.README_ROWS)]
    for name, shown in (("docs/demo.md", table), ("README.md", short)):
        text = f"<!-- table:begin -->\n{script.markdown(shown)}\n<!-- table:end -->"
        assert text in (ROOT / name).read_text("utf-8")


# ---------------------------------------------------------------------- blocks against pixels
def test_blocks_are_kept_only_within_the_bounds(benchmark):
    stem = benchmark("stem_cost")
    rng = np.random.default_rng(0)
    patients = [f"p{number:03}" for number in range(100)]
    pixels = pd.DataFrame(
        {"dice": rng.uniform(0.4, 0.9, 100), "accuracy": 1.0, "error": 10.0}, index=patients
    )

    def verdicts(**change: float) -> list[bool]:
        blocks = pixels + pd.Series({"dice": 0.0, "accuracy": 0.0, "error": 0.0, **change})
        return stem.compared({"blocks": [blocks] * 3, "pixels": [pixels] * 3}, 200, 0)["kept"].tolist()

    assert verdicts() == [True, True, True]
    assert verdicts(dice=-0.021) == [False, True, True]
    assert verdicts(accuracy=-0.06) == [True, False, True]
    assert verdicts(error=0.51) == [True, True, False]


# ---------------------------------------------------------------------- scaling
def test_exponents_are_those_of_the_power_law_and_empty_where_nothing_was_measured(benchmark):
    scaling = benchmark("scaling")
    size = pd.Series([8.0, 16.0, 32.0])
    costs = {"prepare_s": 3 * size, "score_s": size**0.5, "step_s": 0 * size + 0.2, "disk_mb": size**2}
    table = pd.DataFrame({"thing": "voxels", "size": size, **costs, "run_s": np.nan})
    found = scaling.exponents(table).iloc[0]
    assert found[list(costs)].astype(float).to_numpy() == pytest.approx([1.0, 0.5, 0.0, 2.0])
    assert found["run_s"] is None


# ---------------------------------------------------------------------- peaks of components
def test_the_peak_table_counts_components_and_ignores_dice_of_empty_studies(benchmark):
    peak = benchmark("lesion_peak")
    one = {"lesions": 2, "found": 1, "false": 1, "empty": np.nan, "dice": 0.5}
    none = {"lesions": 0, "found": 0, "false": 0, "empty": 1.0, "dice": np.nan}
    table = pd.DataFrame([{"peak": p, **row} for p in (0.5, 0.9) for row in (one, none)])
    text = peak.page_text(table, "any", 0.9)
    assert "2 virtual patients with 2 lesions, 1 of them without any" in text
    assert "| 0.9 (default) | 0.5 | 0.5 | 1 | 0.5 |" in text


# ---------------------------------------------------------------------- pictures of a study
def test_the_known_liver_is_put_on_the_grid_of_the_image(benchmark, tmp_path, toy):
    pictures = benchmark("study_pictures")
    toy.liver.write_nifti(tmp_path / "liver.nii.gz")
    image = toy.images["portal_venous"]
    mirror = np.diag([1.0, -1.0, 1.0, 1.0])
    mirror[1, 3] = image.shape[1] - 1
    turned = Volume(image.array[:, ::-1], image.affine @ mirror)
    turned.write_nifti(tmp_path / "image.nii.gz")
    pictures.draw_liver(tmp_path / "liver.nii.gz", tmp_path / "image.nii.gz", tmp_path / "out.nii.gz")
    drawn = read_nifti(tmp_path / "out.nii.gz", labels=True)
    assert np.allclose(drawn.affine, turned.affine)
    assert np.array_equal(drawn.array[:, ::-1], toy.liver.array)
