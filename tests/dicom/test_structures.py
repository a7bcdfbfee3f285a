"""Structures of masks by their names: liver and lesion are never confused."""

import pytest

from mtinet.dicom.structures import kind_of, names_lesion


@pytest.mark.parametrize(
    ("name", "code", "kind"),
    [
        ("Liver", "", "liver"),
        ("Liver", "Tissue", "liver"),
        ("Segment_1", "Liver", "liver"),
        ("p1_leber_mask", "", "liver"),
        ("GTV_Liver", "", "lesion"),
        ("GTVLiver", "", "lesion"),
        ("tumor_liver", "", "lesion"),
        ("LiverTumor1", "Liver", "lesion"),
        ("HCC_liver", "", "lesion"),
        ("Lebermetastase 2", "", "lesion"),
        ("liver", "Neoplasm, Primary", "lesion"),
        ("Segment_1", "Hemangioma", "lesion"),
        ("Lesión hígado", "", "lesion"),
        ("1", "", "lesion"),
        ("mask", "", "lesion"),
        ("Spleen", "", "other"),
        ("BODY", "", "other"),
        ("Body contour", "", "other"),
        ("PTV_HCC", "", "other"),
        ("CTV liver", "", "other"),
        ("ITV_Liver", "", "other"),
        ("Liver-GTV", "", "other"),
        ("Liver minus GTV", "", "other"),
        ("Leber_-_GTV", "", "other"),
        ("Lungs-GTV", "", "other"),
        ("livermask", "", "liver"),
        ("liverseg", "", "liver"),
        ("liver_vessels", "", "other"),
        ("Hepatic vein", "", "other"),
        ("Kidney_L", "", "other"),
        ("Segment_2", "Gallbladder", "other"),
        ("liver_segment_1", "", "other"),
        ("Liver segment VIII", "", "other"),
        ("Segment_1", "Liver segment IVa", "other"),
        ("Lebersegment 4", "", "other"),
        ("liver segmentation 1", "", "liver"),
        ("HCC liver segment 8", "", "lesion"),
        ("Background", "", "other"),
        ("Ascites", "", "other"),
        ("Lymph node", "", "other"),
        ("Lymphoma hepatis", "", "unknown"),
        ("Segment_1", "Tissue", "unknown"),
        ("left", "", "unknown"),
    ],
)
def test_the_name_or_the_code_tells_what_a_structure_is(name, code, kind):
    assert kind_of(name, code) == kind


# classes of TotalSegmentator's tasks total_mr, tissue_types_mr and thigh_shoulder_muscles_mr (of these the thigh), but
# for the liver
ORGANS = (
    "spleen", "kidney_right", "kidney_left", "gallbladder", "stomach", "pancreas", "adrenal_gland_right",
    "adrenal_gland_left", "lung_left", "lung_right", "esophagus", "small_bowel", "duodenum", "colon",
    "urinary_bladder", "prostate", "sacrum", "vertebrae", "intervertebral_discs", "spinal_cord", "heart",
    "aorta", "inferior_vena_cava", "portal_vein_and_splenic_vein", "iliac_artery_left", "iliac_artery_right",
    "iliac_vena_left", "iliac_vena_right", "humerus_left", "humerus_right", "scapula_left", "scapula_right",
    "clavicula_left", "clavicula_right", "femur_left", "femur_right", "hip_left", "hip_right",
    "gluteus_maximus_left", "gluteus_medius_right", "gluteus_minimus_left", "quadriceps_femoris_left",
    "quadriceps_femoris_right", "thigh_medial_compartment_left", "thigh_posterior_compartment_left",
    "sartorius_left", "autochthon_left", "autochthon_right", "iliopsoas_left", "iliopsoas_right", "brain",
    "subcutaneous_fat", "torso_fat", "skeletal_muscle",
)  # fmt: skip


def test_no_organ_of_totalsegmentator_is_a_lesion():
    assert {name: kind_of(name) for name in ORGANS if kind_of(name) != "other"} == {}


def test_a_number_does_not_call_a_structure_a_lesion():
    assert names_lesion("HCC")
    assert names_lesion("Segment_1", "Neoplasm, Primary")
    assert not any(names_lesion(name) for name in ("Segment_1", "2", "mask", "liver", "PTV_HCC", "left"))
