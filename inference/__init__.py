"""How a NumPyro program is fitted.

- `fit_posterior`: any program, any engine, one result.
- `Batches`: data that are read a batch of rows at a time.
- Engines: `SVI`, `EnsembleMAP`, `Laplace`, `NUTS`, `MCLMC`; `AbstractEngine`,
  `AbstractPhase` to write one.
- `Posterior`: draws, predictions, a DataTree for ArviZ; `sample_prior` beside it.
- `derivatives`: of predicted means, with respect to an argument.
- `infer_codes`: new members of a plate (tasks, stations, groups) from a few observations.
- `diagnose`: convergence, judged in function space.
- `sbc`: simulation-based calibration of a program and an engine.
- `score`: predictions against data held out; `variance_split`: where their variance comes from.
- `score_by_refits`: the same of tasks left out, by a fit without each.
- `plots`: bands, calibration, the variance split and convergence drawn (the extra `plots`).
- `join_processes`: the processes of a job, whose devices then make one mesh.
- `cosine_cycles`: a learning rate for optimisers.

The sources lie in the top-level folder `inference/`, and `bayesfield/inference` is a link to it.
"""

if __name__ != "bayesfield.inference":
    raise ImportError(
        f"this folder is a part of bayesfield and was imported as {__name__!r}: "
        "import it as bayesfield.inference."
    )

from . import plots
from .batches.batches import Batches
from .codes.infer import infer_codes
from .engines.engine import AbstractEngine
from .engines.ensemble_map import EnsembleMAP
from .engines.fitted import Fitted, Members, Start, best_first
from .engines.laplace.laplace import Laplace
from .engines.mclmc.mclmc import MCLMC
from .engines.nuts.nuts import NUTS
from .engines.optimizers import CosineCycles, cosine_cycles
from .engines.svi.svi import SVI
from .fit import fit_posterior
from .judging.calibration import sbc
from .judging.diagnose import diagnose
from .judging.refits import score_by_refits
from .judging.scores import score
from .judging.variance import variance_split
from .posterior.combine import combine
from .posterior.derivatives import derivatives
from .posterior.findings import ConvergenceWarning, Finding
from .posterior.posterior import Posterior
from .predicting.prior import sample_prior
from .program.program import Program, Site, Sites
from .running.loop import Outcome
from .running.phase import AbstractPhase, Step
from .running.processes import join_processes

__all__ = [
    "MCLMC",
    "NUTS",
    "SVI",
    "AbstractEngine",
    "AbstractPhase",
    "Batches",
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
    "best_first",
    "combine",
    "cosine_cycles",
    "derivatives",
    "diagnose",
    "fit_posterior",
    "infer_codes",
    "join_processes",
    "sample_prior",
    "sbc",
    "score",
    "score_by_refits",
    "variance_split",
]
