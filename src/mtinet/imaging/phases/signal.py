"""stub"""
from dataclasses import dataclass, field
@dataclass
class Signals:
    weights: dict = field(default_factory=dict)
    words: dict = field(default_factory=dict)
    unlike: dict = field(default_factory=dict)
def compare(c): return None
