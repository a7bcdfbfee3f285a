"""Phase identification: which volume of a study is pre, arterial, portal venous, delayed and so on."""

from mtinet.imaging.phases.identify import STATED, identify, identify_files
from mtinet.imaging.phases.result import Choice, Excluded, Identification, Missing

__all__ = ["STATED", "Choice", "Excluded", "Identification", "Missing", "identify", "identify_files"]
