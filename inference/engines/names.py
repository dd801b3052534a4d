"""The engines by the names that `fit_posterior` takes."""

from .ensemble_map import EnsembleMAP
from .laplace.laplace import Laplace
from .mclmc.mclmc import MCLMC
from .nuts.nuts import NUTS
from .svi.svi import SVI

ENGINES = {
    "svi": SVI,
    "ensemble_map": EnsembleMAP,
    "laplace": Laplace,
    "mclmc": MCLMC,
    "nuts": NUTS,
}
