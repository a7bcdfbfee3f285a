"""Which series and volumes are none of the contrast phases, and why."""

from __future__ import annotations

import re

from mtinet.dicom.series import SeriesInfo, VolumeInfo
from mtinet.imaging.phases.names import END, T1, T1_3D, Reading, pattern, read_name

BOLUS = "test bolus or bolus tracking"
FASE = "T2-weighted (FASE)"
DERIVED = ("subtraction", "maximum intensity projection", "reformat")
FEW_IMAGES = 12
"""A liver in fewer slices is a localizer, a bolus scan or a thick slab."""

_LONG_ECHO_MS = 20.0
_LONG_REPETITION_MS = 1000.0
_AXIAL = 0.75
"""Cosine between the slices' normal and the body's axis from which a volume counts as axial."""

_NAMED: tuple[tuple[str, re.Pattern[str]], ...] = (
    (
        "subtraction",
        re.compile(
            r"(?<![^\W\d_])su[bs]t?{e}|subtr|substr|sottraz|sustrac|soustrac|减影|差分"
            r"|S\d+ ?- ?S\d+|\(\d+/\d+/\d+\) ?- ?\(".replace("{e}", END),
            re.IGNORECASE,
        ),
    ),
    ("maximum intensity projection", pattern([f"mip{END}|min ?ip|projection|collapse|volume render"])),
    ("reformat", pattern([rf"mpr|reformat\w*|rfmt|mpvr|curved|rot{END}|reconstr\w*|rekonstr\w*"])),
    (
        BOLUS,
        pattern(
            [
                r"test ?bol|care ?bol|bolus|smart ?prep|fluoro\w*|real ?time|timing|sure ?start|visual ?prep",
                rf"bt{END}|track(?:er|ing)|locator",
            ]
        ),
    ),
    (
        "localizer",
        pattern(
            [
                rf"loc{END}|loc ?\d|locali[sz]\w*|lokalis\w*|localis\w*|scout\w*|survey\w*|topo\w*|pilot",
                r"(?:3|three) ?-?pl(?:ane)?|rep[eé]rage|plan ?scan|scano|planning|uebersicht|übersicht",
            ],
            "定位",
        ),
    ),
    (
        "calibration",
        pattern(
            [rf"calib\w*|asset ?cal|cal{END}|coil ?s|sense ?ref\w*|ref(?:erence)? ?scan|shim|b[01] ?map"]
        ),
    ),
    (
        "second injection",
        pattern(
            [
                r"(?:2nd|second|2\.?|zweite\w*|deuxi[eè]me|seconda|segunda) ?(?:inj\w*|bolus)",
                # "inj 20 s" is a time after the first
                rf"inj\w* ?#?2(?![\d.,]| ?(?:s{END}|se[cgk]\w*|m{END}|mn{END}|min\w*|'))|re-?inj\w*",
            ]
        ),
    ),
    (
        "diffusion",
        pattern(
            [rf"dwi\w*|dw{END}|diff\w*|adc|e?adc{END}|ep2d|epi{END}|trace|ivim|b ?\d{{2,4}}(?!\d*[x*])|dti"],
            "弥散|扩散|拡散",
        ),
    ),
    (
        "in and out of phase",
        pattern(
            [
                r"in[ /_+&-]*(?:and )?(?:out|opp?)|opp?\w*[ /_+-]*in(?![^\W\d_])|ip ?[/+-]? ?o?op",
                r"(?:in|out|opp\w*)[ /_-]*(?:of)?[ /_-]*(?:phase?|ph{e})".replace("{e}", END),
                r"dual[ _-]*(?:ffe|e|fgre|gre)",
                # not "en phase artérielle"
                r"(?:en|hors)[ -]?phase(?!s? (?:art|port|vein|tard|ret|[eé]quil|h[eé]pat|transit|dyn|pr[eé]coce))",
                rf"fuera de fase|fase opuesta|fuori fase|opp{END}|oop{END}",
                r"gegenphas\w*",
                r"inphase|outphase|double? ?echo",
            ],
            "同反相位|正反相位|双回波",
        ),
    ),
    (
        "fat or parameter map",
        pattern(
            [
                rf"fat(?: only)?[ :]*$|fat:|pdff|fat ?frac\w*|ideal ?iq|q-?dixon|r2\*?{END}|t2\*|t1 ?map\w*",
                rf"molli|look ?lock\w*|mre{END}|elasto\w*|mapit|stiff\w*|confidence map",
            ]
        ),
    ),
    (
        "T2-weighted or steady-state",
        pattern(
            [
                r"(?:fs|ss|b|e)?-?t2|haste|ss ?-?fse|fr?fse|fse|tse|u?tse|blade|propeller|multi ?vane",
                r"tru?e?fi",
                r"true ?fisp|(?:fs)?fiesta|balanced|b-?(?:ffe|tfe)|mrcp|space|cube|stir|tirm|rare|flair",
                rf"cine|pd(?:w|fs)?{END}|ssh|ssfp|single ?shot|jet{END}",
            ]
        ),
    ),
    (FASE, pattern([rf"fase{END}"])),
    ("angiography", pattern([rf"angio\w*|mra{END}|ce-?mra|aort\w*|tof{END}|vasc{END}"])),
    (
        "coronal or sagittal",
        pattern(
            [rf"cor{END}|coron\w*|kor{END}|koron\w*|cornal|sag{END}|sagg?it\w*"],
            "冠状|矢状|冠狀",
        ),
    ),
    (
        "another region",
        pattern(
            [r"pelvi\w*|becken|bassin|bacino|bekken|prostat\w*|rectum|uter\w*|brain|head|spine|schädel|skull"]
        ),
    ),
)
_LIVER = pattern([rf"abd\w*|liver|leber|foie|higado|hígado|fegato|f[ií]gado|lever{END}"], "肝|腹")
_DIXON = pattern([r"m?-?dixon|lava-? ?flex|flex|ideal|tse-?dixon|vibe|wfi|quick3d"])
_DIXON_PART = re.compile(
    r"(?:[ :_-])(f|fat|in|ip|opp|op|oop|out|ff)$|^(?:fat|inphase|outphase|in|out)(?=[ :_-])", re.IGNORECASE
)
_TYPES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("subtraction", ("SUBTRACTION", "SUBTRACT", "SUB", "ANGIO_SUB")),
    ("maximum intensity projection", ("MIP", "MAXIMUM", "MIN_IP", "PROJECTION IMAGE", "MAX_IP")),
    ("reformat", ("MPR", "REFORMATTED", "CURVED", "MPR_STD")),
    ("localizer", ("LOCALIZER",)),
    ("diffusion", ("ADC", "DIFFUSION", "TRACEW", "EADC")),
    (
        "fat or parameter map",
        ("F", "FAT", "FF", "FAT_FRACTION", "R2_STAR", "T2_STAR", "R2", "T1 MAP", "T2 MAP", "B0", "P"),
    ),
    (
        "in and out of phase",
        ("IP", "OP", "IN_PHASE", "OUT_PHASE", "OPP_PHASE", "OPPOSED_PHASE", "OUT_OF_PHASE"),
    ),
)


def reason_for_series(series: SeriesInfo) -> str:
    """Why a series as a whole is none of the phases; empty when it may be one."""
    if series.modality and series.modality.upper() not in ("MR", "MRI"):
        return f"{series.modality}, not MR"
    reading = read_name(series)
    name = reading.text
    for reason, words in _NAMED:
        if words.search(name) and not _excused(reason, reading):
            return reason
    part = _DIXON_PART.search(name)
    if part and _DIXON.search(name):
        return "fat or parameter map" if "f" in part.group().lower() else "in and out of phase"
    if 0 < series.n_images < FEW_IMAGES:
        return f"only {series.n_images} images"
    return ""


def _excused(reason: str, reading: Reading) -> bool:
    """Words that mean something else in this name."""
    name = reading.text
    if reason == FASE:  # Canon's fast spin echo, and in Spanish, Italian and Portuguese the word for phase
        rest = re.sub("3d", " ", name, flags=re.IGNORECASE)  # the spin echo has 3D forms too
        return bool(reading.phases or reading.pre or T1.search(rest) or T1_3D.search(rest))
    if reason == "another region":
        return bool(_LIVER.search(name))
    if reason == "angiography":  # "vascular phase" of a liver protocol
        return bool(T1_3D.search(name)) and "vasc" in name.lower()
    if reason == BOLUS:
        return bool(re.search(r"post[ -]?bolus|after bolus", name, re.IGNORECASE))
    return False


def reason_for_volume(volume: VolumeInfo) -> str:
    """Why a volume is none of the phases by its acquisition; empty when it may be one."""
    kinds = {part.upper() for part in volume.image_type}
    for reason, tokens in _TYPES:
        if kinds & set(tokens):
            return reason
    if volume.grid is not None and abs(volume.grid.normal[2]) < _AXIAL:
        return "coronal or sagittal"
    if volume.echo_time_ms is not None and volume.echo_time_ms > _LONG_ECHO_MS:
        return f"T2-weighted (echo time {volume.echo_time_ms:g} ms)"
    if volume.repetition_time_ms is not None and volume.repetition_time_ms > _LONG_REPETITION_MS:
        return f"not a T1-weighted gradient echo (repetition time {volume.repetition_time_ms:g} ms)"
    if volume.n_slices < FEW_IMAGES // 2:
        return f"only {volume.n_slices} slices"
    return ""
