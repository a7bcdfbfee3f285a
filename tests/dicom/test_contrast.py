import pytest

from mtinet.dicom.contrast import agent_kind


@pytest.mark.parametrize(
    ("written", "kind"),
    [
        ("gadobutrol", "extracellular"),
        ("GADAVIST 7.5 mL", "extracellular"),
        ("Dotarem", "extracellular"),
        ("MultiHance", "extracellular"),
        ("gadoxetate", "gadoxetate"),
        ("Primovist 0.25 mmol/ml", "gadoxetate"),
        ("Gadoxetic acid disodium", "gadoxetate"),
        ("Gd-EOB-DTPA", "gadoxetate"),
        ("GdEOB 10ml", "gadoxetate"),
        ("EOB", "gadoxetate"),
        ("普美显", "gadoxetate"),
        ("Gd", ""),
        ("leob", ""),
        ("", ""),
        ("contrast", ""),
        ("Gadavist then Eovist", ""),
    ],
)
def test_the_kind_is_told_by_the_name_or_not_at_all(written, kind):
    assert agent_kind(written) == kind
