"""Networks: functions of the coordinates alone, `x -> y`."""

from .fourier import RandomKitchenSinks, RBFFourierFeatures
from .linear import Linear
from .network import AbstractNetwork
from .siren import SIREN, SirenDense

__all__ = [
    "SIREN",
    "AbstractNetwork",
    "Linear",
    "RBFFourierFeatures",
    "RandomKitchenSinks",
    "SirenDense",
]
