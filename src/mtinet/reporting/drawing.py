"""One chart = one painter of one pair of axes; it becomes a picture that lies inside the page.

Charts are small and independent, so that the page can set them side by side or, on a telephone, one under the
other with the text still legible.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Painter = Callable[["Axes"], None]

BLUE, ORANGE, GREEN, VERMILLION, PURPLE, SKY, GREY = (
    "#0072b2",
    "#e69f00",
    "#009e73",
    "#d55e00",
    "#a05590",
    "#56b4e9",
    "#7a828c",
)
"""Colours that stay apart for colour-blind readers (Okabe and Ito 2008; purple and grey are darker)."""

INK, FAINT = "#24303c", "#dfe4e9"

STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8.5,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": "#8b949e",
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.7,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "lines.linewidth": 1.6,
    "legend.frameon": False,
    "legend.fontsize": 7.5,
    "svg.hashsalt": "mtinet",
}


@dataclass(frozen=True)
class Picture:
    """A picture as text that a page can hold.

    Attributes
    ----------
    source : str
        ``data:`` address.
    alt : str
        What it shows, for those who do not see it.
    """

    source: str
    alt: str


def chart(paint: Painter, alt: str, size_in: tuple[float, float] = (3.6, 2.7)) -> Picture:
    """Draw a chart as SVG.

    Parameters
    ----------
    paint : callable
        Called with the axes.
    alt : str
        What the chart shows.
    size_in : tuple of float
        Width and height, inches.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        figure = Figure(figsize=size_in)
        paint(figure.add_subplot())
        lay_out(figure)
        return Picture(data_address(_svg(figure), "image/svg+xml"), alt)


def lay_out(figure: Figure) -> None:
    """Find the places of a figure's parts, once.

    A figure made with a layout engine is drawn twice when it is saved, the first time for the layout alone.
    """
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    ConstrainedLayoutEngine().execute(figure)


def _svg(figure: Figure) -> bytes:
    stream = io.BytesIO()
    # the date would make two reports of one run differ
    figure.savefig(stream, format="svg", metadata={"Date": None}, transparent=True)
    return stream.getvalue()


def data_address(content: bytes, media_type: str) -> str:
    """A file's content as a ``data:`` address."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"
