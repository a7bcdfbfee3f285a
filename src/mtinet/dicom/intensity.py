"""From stored values to intensities that can be compared between volumes.

MR scanners other than Philips store their signal directly, or with a rescale.  Philips stretches every series
over the range of its numbers: what is displayed, PV·RS + RI, has lost the scale that series have in common,
and the floating-point value (PV·RS + RI) / (RS·SS) with the private scale slope SS (2005,100E) gives it back
(Chenevert TL et al., Transl Oncol 2014;7:65).
"""

from __future__ import annotations

from dataclasses import dataclass

from mtinet.dicom.headers import Image

_NO_UNIT = ("", "1", "no units", "{no units}")


@dataclass(frozen=True)
class Scaling:
    """intensity = slope·stored + intercept.

    ``comparable``: volumes of one scanner and protocol share the scale.
    """

    slope: float = 1.0
    intercept: float = 0.0
    comparable: bool = True


def scaling(image: Image, manufacturer: str) -> Scaling:
    """The scaling of one image.

    Parameters
    ----------
    image : Image
    manufacturer : str
        As the header writes it.

    Returns
    -------
    Scaling
        For Philips without a scale slope it is the displayed value, which is not comparable; a real world
        value mapping is taken there if it has a physical unit (without one it repeats the displayed value).
    """
    slope, intercept = image.rescale or (1.0, 0.0)
    slope = slope or 1.0
    # only Philips writes it, whatever name an anonymiser has left of the manufacturer
    if image.scale_slope is not None and image.scale_slope > 0:
        return Scaling(1.0 / image.scale_slope, intercept / (slope * image.scale_slope))
    if "philips" not in manufacturer.lower():
        if image.rescale is None and image.real_world is not None:
            return Scaling(*image.real_world)
        return Scaling(slope, intercept)
    if image.real_world is not None and image.real_world_unit.lower() not in _NO_UNIT:
        return Scaling(*image.real_world)
    return Scaling(slope, intercept, comparable=False)
