from __future__ import annotations

from dataclasses import replace

import pytest

from mtinet.cohort import Cohort
from mtinet.data.prepared import PreparedStudy
from mtinet.runs import Run
from mtinet.workflows.prepare import prepare
from mtinet.workflows.shown import never_shown, shown_to

PHASES = ("pre", "arterial", "portal_venous", "delayed")


@pytest.fixture
def studies(toy_cohort: Cohort, toy_run: Run) -> list[PreparedStudy]:
    return prepare(toy_cohort, toy_run.config, workers=0).studies


def test_a_class_and_a_phase_are_shown_by_any_study(studies, toy_run: Run):
    classes = ("hcc", "cyst", "hemangioma")
    assert shown_to(studies, toy_run.config, classes) == {
        "classes": ["hcc", "hemangioma"],
        "phases": list(PHASES),
        "masks": ["lesion"],
    }
    early = [replace(study, present=(True, True, True, False)) for study in studies]
    assert shown_to(early, toy_run.config, classes)["phases"] == list(PHASES[:3])
    assert shown_to([*early, studies[0]], toy_run.config, classes)["phases"] == list(PHASES)


def test_what_the_start_was_shown_counts_where_its_weights_do(studies, toy_run: Run):
    classes, config = toy_run.classes, toy_run.config
    few = [replace(study, present=(True, True, False, False), lesions=(), label="") for study in studies]
    assert shown_to(few, config, classes) == {
        "classes": [],
        "phases": ["pre", "arterial"],
        "masks": [],
    }
    assert shown_to(few, config, classes, toy_run) == {
        "classes": list(classes),
        "phases": list(PHASES),
        "masks": ["lesion"],
    }
    # its weights for classes are not taken over for others
    assert shown_to(few, config, (*classes, "cyst"), toy_run)["classes"] == []
    # nor those for phases in another order
    turned = config.model_copy(update={"phases": PHASES[::-1]})
    assert shown_to([], turned, classes, toy_run)["phases"] == []


def test_nothing_is_said_of_classes_that_are_not_learned(toy_run: Run, toy_cohort: Cohort):
    nothing = {"classes": [], "phases": list(PHASES), "masks": ["lesion"]}
    assert [f.id for f in never_shown(nothing, toy_cohort, toy_run.config)] == ["class-never-shown"]
    objective = toy_run.config.objective.model_copy(update={"classification": 0.0})
    masks_only = toy_run.config.model_copy(update={"objective": objective})
    assert never_shown(nothing, toy_cohort, masks_only) == []


def test_a_training_without_a_lesions_mask_is_told(toy_run: Run, toy_cohort: Cohort):
    shown = {"classes": list(toy_run.classes), "phases": list(PHASES), "masks": []}
    assert [f.id for f in never_shown(shown, toy_cohort, toy_run.config)] == ["lesion-never-shown"]
    objective = toy_run.config.objective.model_copy(update={"segmentation": 0.0})
    no_masks = toy_run.config.model_copy(update={"objective": objective})
    assert never_shown(shown, toy_cohort, no_masks) == []
