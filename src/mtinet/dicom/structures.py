"""What a structure of a mask is by its name: a lesion, the liver or something else."""

from __future__ import annotations

import re
from typing import Literal

Kind = Literal["lesion", "liver", "other", "unknown", "passed over"]
"""``unknown``: its name tells nothing, so it is a lesion; ``passed over``: likewise, but others are called lesions."""


def _words(whole: str, parts: str = "") -> re.Pattern[str]:
    """A pattern that finds words, between which digits and underscores stand too, or parts of words."""
    bounded = rf"(?<![^\W\d_])(?:{whole})(?![^\W\d_])"
    return re.compile(f"{bounded}|{parts}" if parts else bounded, re.IGNORECASE)


_PLANNING = _words(
    r"[pci]tv\w*|prv\w*|couch\w*|external\w*|avoid\w*|bolus|iso(?:cent\w*)?|dose\w*",
    r"(?:liver|leber|lungs?|foie|fegato)[\s_]*(?:[-–]|minus|ohne|without)[\s_]*[ipcg]*tv",
)
"""Structures of treatment planning.

A target with a margin is no outline, whatever lies in it, and an organ less its target is neither.
"""

_LESION = _words(
    r"i?gtv\w*|hccs?|icc|cca|fnh|crlm|mets?|cysts?|zysten?|mass(?:es)?|nodules?|herde?",
    r"tumou?r|l[eéä]si[oó]n|laesion|neoplas|metasta|[ck]ar[cz]inom|adenom|angiom|abs[cz]e|ascess",
)
_LIVER = _words(r"(?:liver|leber|foie|fegato|h[ií]gado|lever)(?:masks?|maske|seg)?")
_OTHER = _words(
    r"body|body contour|skin|haut|milz|kidneys?|nieren?|renal|stomach|magen|duodenum|bowels?|colon|darm|lungs?|heart"
    r"|spine|spinal|cord|vertebra\w*|ribs?|bones?|muscles?|aorta|vena|veins?|ivc|arter(?:y|ies)|vessels?|vasculature"
    # classes of TotalSegmentator
    r"|bladder|harnblase|prostate?|dis[ck]s?|sacrum|sternum|skull|hips?|femurs?|femoris|humerus|scapula\w*|clavic\w*"
    r"|glut(?:a?e)us|autochthon|psoas|iliopsoas|sartorius|thigh|brain|trachea|cartilages?|subcutaneous|torso"
    r"|background|hintergrund|air|noise|ascites|aszites|lymph[\s_]*nodes?|lymphknoten|diaphragm|zwerchfell|cbd",
    r"spleen|pankrea|pancrea|o?esophag|gall ?bladder|gallenblase|bile ?duct|adrenal|nebenniere|couinaud"
    # a part of the liver is not the liver
    r"|(?:liver|leber|hepatic)[\s_-]*segments?[\s_-]*(?:\d|[iv]+[ab]?(?![^\W\d_]))",
)
_NUMBERED = re.compile(r"[\W\d_]*(?:(?:masks?|seg|segmentation|labels?|rois?)[\W\d_]*)*", re.IGNORECASE)
"""A name that only says that something is marked."""


def kind_of(name: str, code: str = "") -> Kind:
    """What a structure is by itself; masks that come with a liver examination mark lesions, so numbers do.

    Parameters
    ----------
    name : str
        As it is labelled.
    code : str
        Meaning of its code: one of the two may say nothing (``Segment_1``, ``Tissue``).
    """
    told = _told(name, code)
    if _PLANNING.search(told):
        return "other"
    if _LESION.search(told) or _NUMBERED.fullmatch(told):
        return "lesion"
    if _OTHER.search(told):
        return "other"
    return "liver" if _LIVER.search(told) else "unknown"


def names_lesion(name: str, code: str = "") -> bool:
    """Whether a structure is called a lesion, and not only numbered."""
    return kind_of(name, code) == "lesion" and not _NUMBERED.fullmatch(_told(name, code))


def _told(name: str, code: str) -> str:
    # "GTVLiver" and "LiverTumor" are two words each
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z]{3})(?=[A-Z][a-z])", " ", f"{name} / {code}")
