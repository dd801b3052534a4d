"""The engines, one a file."""

from .ensemble_map import EnsembleMAP
from .laplace import Laplace
from .nuts import NUTS
from .svi import SVI

ENGINES = {"svi": SVI, "ensemble_map": EnsembleMAP, "laplace": Laplace, "nuts": NUTS}

__all__ = ["ENGINES", "NUTS", "SVI", "EnsembleMAP", "Laplace"]
