"""Structures of masks by their names: liver and lesion are never confused."""

import pytest

from mtinet.dicom.structures import kind_of


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
        ("Segment_1", "Tissue", "unknown"),
        ("left", "", "unknown"),
    ],
)
def test_the_name_or_the_code_tells_what_a_structure_is(name, code, kind):
    assert kind_of(name, code) == kind
