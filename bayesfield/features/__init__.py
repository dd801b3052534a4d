"""Features: coordinates and calendars as numbers that a network can use, `x -> features`."""

from .columns import ConcatenatedFeatures, Coordinates
from .dyadic import DyadicFourierFeatures
from .seasonal import SeasonalHarmonics
from .sphere import SphereFeatures

__all__ = [
    "ConcatenatedFeatures",
    "Coordinates",
    "DyadicFourierFeatures",
    "SeasonalHarmonics",
    "SphereFeatures",
]
