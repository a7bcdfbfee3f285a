import math
from dataclasses import replace

import pytest

from mtinet.reporting.words import (
    UNKNOWN,
    Quantity,
    class_name,
    count_of,
    diameter_of,
    number,
    phase_name,
    sentence,
)
from mtinet.results import Lesion, Measurement


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (0.8523, 2, "0.85"),
        (-3.456, 1, "−3.5"),
        (-0.001, 1, "0.0"),
        (1234.5, None, "1234"),
        (44.35, None, "44.4"),
        (0.01234, None, "0.0123"),
        (0.0, None, "0"),
        (math.nan, 2, UNKNOWN),
        (math.inf, None, UNKNOWN),
    ],
)
def test_number(value, digits, text):
    assert number(value, digits) == text


def test_quantity_scales_value_and_interval_alike():
    share = Quantity("accuracy", "%", "higher", 1, 100.0)
    assert share.text(0.928) == "92.8 %"
    assert share.text(0.928, unit=False) == "92.8"
    assert share.interval(0.889, 0.955) == "88.9 to 95.5"
    assert share.interval(math.nan, 0.9) == ""
    assert share.text(math.nan) == UNKNOWN


def test_a_lesion_is_as_large_as_its_longest_axial_diameter():
    lesion = Lesion(1, 20000.0, 33.7, (0.0, 0.0, 0.0), 0.9, {"hcc": 1.0}, {}, {}, {})
    assert diameter_of(lesion) == "diameter of the ball 34 mm"
    longest = Measurement("longest_axial_diameter", 38.2, "mm")
    assert diameter_of(replace(lesion, measurements=(longest,))) == "longest axial diameter 38 mm"


def test_names():
    assert [class_name(n) for n in ("hcc", "hemangioma", "none", "", "my_class")] == [
        "HCC", "hemangioma", "no lesion", "unknown", "my class",
    ]  # fmt: skip
    assert phase_name("portal_venous") == "portal venous"
    assert (count_of(1, "study", "studies"), count_of(2, "study", "studies")) == ("1 study", "2 studies")
    assert sentence("the mask") == "The mask"
    assert sentence("") == ""
