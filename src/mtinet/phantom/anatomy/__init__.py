"""The upper abdomen of one patient, drawn part by part into a map of numbers.

``frame`` holds the measures, ``space`` the room that is left; ``trunk``, ``liver``, ``parenchyma``,
``vessels`` (grown by ``tree``), ``organs`` and ``gut`` draw.  Sizes and positions are assumed around those of
an adult unless a file names a source.
"""

from __future__ import annotations

import numpy as np

from mtinet.phantom.anatomy.frame import draw_frame
from mtinet.phantom.anatomy.gut import draw_bowel, draw_stomach
from mtinet.phantom.anatomy.liver import draw_liver, plan_liver
from mtinet.phantom.anatomy.organs import (
    draw_adrenals,
    draw_gallbladder,
    draw_kidneys,
    draw_pancreas,
    draw_spleen,
)
from mtinet.phantom.anatomy.parenchyma import draw_parenchyma
from mtinet.phantom.anatomy.space import Space
from mtinet.phantom.anatomy.trunk import draw_trunk
from mtinet.phantom.anatomy.vessels import (
    draw_collaterals,
    draw_great_vessels,
    draw_liver_vessels,
    draw_mesentery,
    draw_portal_trunk,
)
from mtinet.phantom.canvas import Canvas
from mtinet.phantom.host import Host
from mtinet.phantom.shapes import BoolArray

__all__ = ["draw_anatomy"]


def draw_anatomy(rng: np.random.Generator, canvas: Canvas, host: Host) -> BoolArray:
    """Draw a patient without lesions into an empty canvas.

    Parameters
    ----------
    rng : numpy.random.Generator
        Every organ takes its own stream from it: drawing one does not shift another.
    canvas : Canvas
    host : Host
        Cirrhosis shapes liver and spleen, the fat fraction the liver's mixture.

    Returns
    -------
    ndarray of bool, shape of the grid
        The liver with the vessels inside it.
    """
    frames, trunk, great, kidneys, adrenals, liver_shape, mixture, trees = rng.spawn(8)
    bag, spleen, pancreas, stomach, bowel, mesentery, collaterals = rng.spawn(7)
    frame = draw_frame(frames)
    space = Space.of(canvas.grid, frame)
    plan = plan_liver(liver_shape, frame, host)
    draw_trunk(trunk, canvas, frame, space)
    draw_kidneys(kidneys, canvas, space, frame)
    draw_great_vessels(great, canvas, space, frame)
    draw_portal_trunk(canvas, frame, host)
    liver = draw_liver(liver_shape, canvas, space, frame, host, plan)
    draw_parenchyma(mixture, canvas, liver, host, plan)
    draw_liver_vessels(trees, canvas, frame, host, liver)
    draw_gallbladder(bag, canvas, space, plan)
    draw_adrenals(adrenals, canvas, space, frame)
    draw_spleen(spleen, canvas, space, frame, host)
    draw_pancreas(pancreas, canvas, space, frame)
    draw_stomach(stomach, canvas, space, frame)
    draw_bowel(bowel, canvas, space, frame)
    draw_mesentery(mesentery, canvas, frame)
    draw_collaterals(collaterals, canvas, frame, host)
    return liver
