"""What the name of a series says: its phase, times and counts, in several languages and vendors' habits.

Names are written by hand, so a word is evidence, never proof.  Every rule is a habit of a language or of a
vendor's console, not of one hospital.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

from mtinet.config import Phase
from mtinet.dicom.contrast import EXTRACELLULAR
from mtinet.dicom.series import SeriesInfo

END = r"(?![^\W\d_])"
"""No letter follows; names join words with digits and underscores, so ``\\b`` does not do."""


def pattern(words: list[str], characters: str = "") -> re.Pattern[str]:
    """A pattern that finds any of the words where a word begins, or any of the East Asian terms anywhere."""
    alternatives = r"(?<![^\W\d_])(?:" + "|".join(words) + ")"
    return re.compile(alternatives + (f"|{characters}" if characters else ""), re.IGNORECASE)


PRE = pattern(
    [
        f"pre{END}",
        r"pre[ -]?(?:con|gad|gd|km|mdc|inj|kontr)",
        rf"(?:un|non)[ -]?(?:enh|con)\w*|noncon|w/?o{END}(?! ?(?:[&+/w]|and))|without",
        rf"nativ\w*|nat{END}|ohne{END}|vor km",
        r"sans (?:inj|gado|contraste|iv|pdc)|avant (?:inj|gado)",
        rf"sin (?:contraste|gado|cte|civ|c{END})|basal{END}",
        r"senza (?:mdc|contrasto)|sem (?:contraste|gad)|pr[eé][ -]?contraste|zonder|blanco",
        r"c ?-(?![\w+])|pingsao",
    ],
    "平扫|增强前|造影前|単純",
)
_POST = pattern(
    [
        f"post{END}",
        r"post[ -]?(?:con|gad|gd|km|inj|kontr|iv)",
        rf"gd{END}|gado\w*|contrast\w*|enh(?:anced)?{END}|after|dyna\w*|dyn{END}|dyn ?\d",
        rf"km{END}|nach km|mit km|apr[eè]s|avec (?:inj|gado)|inj{END}|con (?:contraste|gado|cte|civ)",
        rf"civ{END}",
        rf"mdc{END}|com contraste|met contrast|na contrast",
        rf"c ?\+|ce{END}|zengqiang|multi ?-?phas\w*",
        # "EOB" names the examination, also in the name of its unenhanced series
        rf"eovist|primovist|{EXTRACELLULAR.pattern}",
    ],
    r"\+ ?c(?![^\W\d_])|(?<=\d)post(?![^\W\d_])|增强|造影",
)
_WITHOUT = pattern(
    [
        r"(?:pr[eé]|un|non|w/?o|without|before|sans|avant|sin|senza|sem|ohne|vor|zonder)[ -]?"
        rf"(?:[ck]ontrast\w*|gado\w*|gd{END}|km{END}|mdc{END}|inj\w*|civ{END}|enh\w*)"
    ]
)
_LATE_ARTERIAL = pattern(
    [
        rf"late[ _-]*(?:hepatic[ _-]*)?(?:art\w*|hap{END})|art\w*[ _-]*late",
        r"sp[aä]e?t\w*[ _-]*art\w*|art\w*[ _-]*(?:tard\w*|sp[aä]e?t\w*)",
    ],
    "动脉晚期",
)
_ARTERIAL = pattern([r"art[eé]ri\w*", rf"art{END}", rf"hap{END}", rf"c\+a{END}", r"dongmai"], "动脉|動脈")
_PORTAL = pattern(
    [
        rf"port[aeo]\w*|pvp?{END}|pvp|pven\w*|ven(?:ous|(?:[öó]|oe?)s\w*|eu\w*)|ven{END}|hvp{END}",
        rf"veno(?:us|sa|so)|veineu\w*|c\+v{END}|menmai|parenchym\w*",
    ],
    "门静脉|门脉|門脈|静脉",
)
_TRANSITIONAL = pattern([r"transi[tz]\w*|[uü]e?bergangs\w*"], "移行")
_DELAYED = pattern(
    [
        rf"delay\w*|del{END}|dly{END}|late{END}|equil\w*|eq{END}|gleichgew\w*|sp[aä]e?t\w*|interstit\w*",
        rf"tard\w*|retard\w*|retras\w*|ritard\w*|laat{END}|uitgesteld|wash ?out|yanchi",
    ],
    "延迟|平衡|遅延",
)
_HEPATOBILIARY = pattern(
    [rf"hbp|hepato?[ _-]*bil\w*|hep ?bil|hb{END}|hepatospez\w*|leberspez\w*|hepatocyt\w*|liver ?spec\w*"],
    "肝胆|肝細胞|肝细胞",
)
_LATE = r"(?:late|delay\w*|tard\w*|retard\w*|ritard\w*|sp[aä]e?t\w*)"
_LATE_VENOUS = pattern([rf"{_LATE}[ _-]*(?:portal[ _-]*)?ven\w*"])
_LATE_HEPATOBILIARY = pattern(
    [rf"{_LATE}[ _-]*(?:hbp|hep\w*[ _-]*bil\w*)|(?:hbp|hep\w*[ _-]*bil\w*)[ _-]*(?:tard|retard|ritard)\w*"]
)
DYNAMIC = pattern([rf"dyn(?:amic|amique|amisch)?{END}|dyn ?\d|multi ?-?phas\w*|disco|twist|grasp"], "动态")

T1_3D = pattern(
    [
        r"q?vibe|lava|e?-?thrive|disco|twist|m?-?dixon|fame|quick ?3d|tigre|3d|fl3d|flash ?3d|caipi|grasp",
        r"star ?vibe|fl ?3d|isogram|tfe3d|ultrafast|efgre ?3d|fspgr ?3d|t1_?3d",
    ],
    "容积",
)
T1 = pattern([rf"t1|spgr|fspgr|fgre|ffe|gre{END}|flash|mprage|tfl{END}|ge{END}"])

_SECONDS = re.compile(r"(\d+(?:[.,]\d+)?)[ _-]*(?:sec\w*|seg\w*|sek\w*|s(?![^\W\d_])|秒)", re.IGNORECASE)
_MINUTES = re.compile(r"(\d+(?:[.,]\d+)?)[ _-]*(?:min\w*|mn|m(?![^\W\d_])|'|分)", re.IGNORECASE)
_MINUTES_AND_SECONDS = re.compile(
    r"(\d+)[ _-]*(?:min\w*|mn|m|')[ _-]*(\d{1,2})[ _-]*(?:sec\w*|seg\w*|sek\w*|s)(?![^\W\d_])", re.IGNORECASE
)
_LIST = re.compile(r"(?<![\d.])\d{2,3}(?: ?[,/&+-] ?\d{2,3})+(?![\d.])")
_ORDINAL = re.compile(
    r"(?<![\w])([1-5])(?:st|nd|rd|th)(?![^\W\d_])"
    r"|(?:post|phase|ph|dyn(?:am\w*)?|pass|\+ ?c|c ?\+|art|arterial)[ _#-]*([1-5])(?![\d.,']|[ _-]*(?:s|m)|/\d)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Reading:
    """What a name says.

    Attributes
    ----------
    text : str
        The name that was read.
    phases : tuple of str
        Phases it names, in the order of acquisition.
    times_s : tuple of float
        Seconds after the injection that it names.
    pre, post, dynamic : bool
        It speaks of an unenhanced image, of contrast, of several phases in one series.
    ordinal : int or None
        "1st", "+C 2", "phase 3".
    t1, volumetric : bool
        It names a T1-weighted gradient echo; a volumetric one (VIBE, LAVA, THRIVE ...).
    """

    text: str
    phases: tuple[Phase, ...] = ()
    times_s: tuple[float, ...] = ()
    pre: bool = False
    post: bool = False
    dynamic: bool = False
    ordinal: int | None = None
    t1: bool = False
    volumetric: bool = False

    @property
    def silent(self) -> bool:
        """Nothing in it tells a phase."""
        return not (self.phases or self.times_s or self.pre or self.post or self.ordinal)


def spaced(text: str) -> str:
    """The name with underscores and repeated blanks as one blank."""
    return re.sub(r"[\s_]+", " ", text).strip()


def name_of(series: SeriesInfo) -> str:
    """The series description, or the protocol where there is none."""
    return spaced(series.description or series.protocol)


def read_name(series: SeriesInfo) -> Reading:
    """Read the name of a series."""
    text = name_of(series)
    times = _times_s(text)
    late_arterial = bool(_LATE_ARTERIAL.search(text))
    rest = _LATE_ARTERIAL.sub(" ", text)
    found: dict[Phase, bool] = {
        "arterial": bool(_ARTERIAL.search(rest)),
        "arterial_late": late_arterial,
        "portal_venous": bool(_PORTAL.search(rest)),
        "transitional": bool(_TRANSITIONAL.search(rest)),
        "delayed": bool(_DELAYED.search(rest)),
        "hepatobiliary": bool(_HEPATOBILIARY.search(rest)),
    }
    if found["delayed"] and found["portal_venous"]:
        named = re.search(r"late|tard|sp[aä]e?t", rest, re.IGNORECASE) or _LATE_VENOUS.search(rest)
        found["portal_venous"] = not named  # "late venous" is the equilibrium phase
    if _LATE_HEPATOBILIARY.search(rest):
        found["delayed"] = False
    phases = tuple(phase for phase, is_named in found.items() if is_named)
    ordinal = _ORDINAL.search(text)
    number = int(next(filter(None, ordinal.groups()))) if ordinal and len(times) < 2 else None
    if "arterial" in phases and number is not None:
        if number >= 2:  # "ART 2" of a double arterial phase
            phases = tuple("arterial_late" if phase == "arterial" else phase for phase in phases)
        number = None
    return Reading(
        text,
        phases,
        times,
        pre=bool(PRE.search(text)),
        post=tells_contrast(text) or bool(phases) or bool(times),
        dynamic=bool(DYNAMIC.search(text)),
        ordinal=number,
        t1=bool(T1.search(text) or T1_3D.search(text)),
        volumetric=bool(T1_3D.search(text)),
    )


def tells_contrast(text: str) -> bool:
    """Whether a name tells of contrast, but for "pre contrast" and the like."""
    return _POST.search(_WITHOUT.sub(" ", text)) is not None


def _times_s(text: str) -> tuple[float, ...]:
    """Seconds after the injection that a name gives: "20 sec", "5 MIN", "20SEC/1MIN", "15,35,65"."""
    listed = _LIST.search(text)
    if listed:
        numbers = [float(n) for n in re.findall(r"\d+", listed.group())]
        rising = all(a < b for a, b in pairwise(numbers))
        if rising and numbers[0] <= 60.0 and numbers[-1] <= 400.0 and _POST.search(text):
            return tuple(numbers)
    text = _MINUTES_AND_SECONDS.sub(lambda m: f"{60 * int(m[1]) + int(m[2])} s", text)
    found = [(m.start(), _number(m.group(1))) for m in _SECONDS.finditer(text)]
    found += [(m.start(), 60.0 * _number(m.group(1))) for m in _MINUTES.finditer(text)]
    plausible = [(at, s) for at, s in sorted(found) if 5.0 <= s <= 3.5 * 3600.0]
    return tuple(s for _, s in plausible)


def _number(text: str) -> float:
    return float(text.replace(",", "."))


def subtraction_sources(name: str) -> tuple[int, int] | None:
    """Series numbers (minuend, subtrahend) that the name of a subtraction gives, in vendors' forms.

    Siemens writes ``SUB_S14-S11_1``, GE ``(exam/14/1)-(exam/13/1)``.  The subtrahend is the image before
    contrast, the minuend one after it.
    """
    match = re.search(r"S(\d+)\s*-\s*S(\d+)", name, re.IGNORECASE) or re.search(
        r"\(\d+/(\d+)/\d+\)\s*-\s*\(\d+/(\d+)/\d+\)", name
    )
    return (int(match.group(1)), int(match.group(2))) if match else None
