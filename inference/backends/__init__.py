"""The engines, one a file."""

from .ensemble_map import EnsembleMAP
from .nuts import NUTS
from .svi import SVI

ENGINES = {"svi": SVI, "ensemble_map": EnsembleMAP, "nuts": NUTS}

__all__ = ["ENGINES", "NUTS", "SVI", "EnsembleMAP"]
