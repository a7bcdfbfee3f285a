"""Results that were written before, read again."""

from __future__ import annotations

import json
from pathlib import Path

from mtinet.errors import UnusableError, UserError
from mtinet.results import Result

RESULT_FILE = "result.json"


def read_result(folder: Path) -> Result:
    """The result in a folder that ``mtinet predict`` or ``revise`` wrote, without its mask.

    Raises
    ------
    UnusableError
        There is none, it is of a newer format, or it is damaged.
    """
    path = folder / RESULT_FILE
    try:
        return Result.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except UserError:
        raise
    except (FileNotFoundError, NotADirectoryError):
        raise UnusableError(
            f"{folder} holds no {RESULT_FILE}; give a folder that mtinet predict wrote"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnusableError(
            f"{path} is damaged or no result of mtinet ({type(error).__name__}); predict the study again"
        ) from None
