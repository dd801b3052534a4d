"""How a NumPyro program is fitted.

- `fit_posterior`: any program, any engine, one result.
- Engines: `SVI`, `EnsembleMAP`, `Laplace`, `NUTS`; `AbstractEngine`, `AbstractPhase` to write one.
- `Posterior`: draws, predictions, a DataTree for ArviZ; `sample_prior` beside it.
- `diagnose`: convergence, judged in function space.
- `sbc`: simulation-based calibration of a program and an engine.
- `score`: predictions against data held out; `variance_split`: where their variance comes from.
- `score_by_refits`: the same of tasks left out, by a fit without each.
- `cosine_cycles`: a learning rate for optimisers.

The sources lie in the top-level folder `inference/`, and `bayesfield/inference` is a link to it.
"""

if __name__ != "bayesfield.inference":
    raise ImportError(
        f"this folder is a part of bayesfield and was imported as {__name__!r}: "
        "import it as bayesfield.inference."
    )

from .backends import NUTS, SVI, EnsembleMAP, Laplace
from .calibration import sbc
from .diagnostics import ConvergenceWarning, diagnose
from .engine import AbstractEngine, Fitted, Members, Start
from .findings import Finding
from .fit import fit_posterior
from .loop import Outcome
from .optimizers import CosineCycles, cosine_cycles
from .phase import AbstractPhase, Step
from .posterior import Posterior
from .prior import sample_prior
from .program import Program, Site, Sites
from .refits import score_by_refits
from .scores import score
from .variance import variance_split

__all__ = [
    "NUTS",
    "SVI",
    "AbstractEngine",
    "AbstractPhase",
    "ConvergenceWarning",
    "CosineCycles",
    "EnsembleMAP",
    "Finding",
    "Fitted",
    "Laplace",
    "Members",
    "Outcome",
    "Posterior",
    "Program",
    "Site",
    "Sites",
    "Start",
    "Step",
    "cosine_cycles",
    "diagnose",
    "fit_posterior",
    "sample_prior",
    "sbc",
    "score",
    "score_by_refits",
    "variance_split",
]
