"""bayesfield: Bayesian conditional neural fields as NumPyro programs.

- Networks, `x -> y`: `SIREN`, `SirenDense`, `RBFFourierFeatures`, `RandomKitchenSinks`.
- Conditioners, `(h, z) -> y`: `ConcatConditioner`, `AffineModulation` (`FiLM`), `HyperLinear`,
  `LowRankHyperLinear`.
- Fields, `(x, z) -> y`: `ConditionedINR`, `HyperSIREN`, `HyperFourierFeatures`,
  `ConditionedRFFNet`.
- Features, `x -> features`, and what reads them: `SeasonalHarmonics`, `DyadicFourierFeatures`,
  `SphereFeatures`, `Coordinates`, `ConcatenatedFeatures`; `with_features` (`FieldWithFeatures`,
  `NetworkWithFeatures`).
- Priors: `with_prior`, `freeze`, `Prior`, `prior_scales`, `check_prior`.
- Programs: `random_field`, `realise`, `regression`; `panel` with `SpatialCodes`, `SeriesResidual`.
- Likelihoods: `Gaussian`, `StudentT`, `MultivariateGaussian`, `Poisson`, `NegativeBinomial`,
  `ZeroInflatedPoisson`, `ZeroInflatedNegativeBinomial`, `Bernoulli`, `Ordinal`, `Beta`.
- Tasks: `latent_codes`, `LatentCodes`, `GaussianProcessResidual`, `pad_tasks`.
- Frames, by role and in their own units: `Table`.

Fitting lives in `bayesfield.inference`.
"""

from importlib.metadata import version as _version
from pathlib import Path as _Path

from .conditioners import (
    AbstractConditioner,
    AffineModulation,
    BayesianAffineModulation,
    BayesianConcatConditioner,
    BayesianHyperLinear,
    ConcatConditioner,
    FiLM,
    HyperLinear,
    LowRankHyperLinear,
)
from .features import (
    ConcatenatedFeatures,
    Coordinates,
    DyadicFourierFeatures,
    SeasonalHarmonics,
    SphereFeatures,
)
from .fields import (
    AbstractField,
    ConditionedINR,
    ConditionedRFFNet,
    FieldWithFeatures,
    HyperFourierFeatures,
    HyperSIREN,
    NetworkWithFeatures,
    with_features,
)
from .generators import Generator
from .lifting import freeze, with_prior
from .models import (
    AbstractLikelihood,
    Bernoulli,
    Beta,
    Gaussian,
    GaussianProcessResidual,
    LatentCodes,
    MultivariateGaussian,
    NegativeBinomial,
    Ordinal,
    Panel,
    Poisson,
    Regression,
    SeriesResidual,
    SpatialCodes,
    StudentT,
    TaskRegression,
    ZeroInflatedNegativeBinomial,
    ZeroInflatedPoisson,
    latent_codes,
    pad_tasks,
    panel,
    regression,
)
from .networks import (
    SIREN,
    AbstractNetwork,
    Linear,
    RandomKitchenSinks,
    RBFFourierFeatures,
    SirenDense,
)
from .prior_check import PriorCheck, check_prior
from .prior_scales import prior_scales
from .priors import Frozen, Prior
from .random_field import random_field, realise
from .tables import Table

if not (_Path(__file__).parent / "inference").is_dir():
    raise ImportError(
        "`bayesfield/inference` is a symbolic link to `../inference`, and here it is a text file: "
        "the repository was cloned without symbolic links. Clone it again with `git clone -c "
        "core.symlinks=true` (on Windows, with Developer Mode on), or install the built wheel."
    )

__version__ = _version("bayesfield")

__all__ = [
    "SIREN",
    "AbstractConditioner",
    "AbstractField",
    "AbstractLikelihood",
    "AbstractNetwork",
    "AffineModulation",
    "BayesianAffineModulation",
    "BayesianConcatConditioner",
    "BayesianHyperLinear",
    "Bernoulli",
    "Beta",
    "ConcatConditioner",
    "ConcatenatedFeatures",
    "ConditionedINR",
    "ConditionedRFFNet",
    "Coordinates",
    "DyadicFourierFeatures",
    "FiLM",
    "FieldWithFeatures",
    "Frozen",
    "Gaussian",
    "GaussianProcessResidual",
    "Generator",
    "HyperFourierFeatures",
    "HyperLinear",
    "HyperSIREN",
    "LatentCodes",
    "Linear",
    "LowRankHyperLinear",
    "MultivariateGaussian",
    "NegativeBinomial",
    "NetworkWithFeatures",
    "Ordinal",
    "Panel",
    "Poisson",
    "Prior",
    "PriorCheck",
    "RBFFourierFeatures",
    "RandomKitchenSinks",
    "Regression",
    "SeasonalHarmonics",
    "SeriesResidual",
    "SirenDense",
    "SpatialCodes",
    "SphereFeatures",
    "StudentT",
    "Table",
    "TaskRegression",
    "ZeroInflatedNegativeBinomial",
    "ZeroInflatedPoisson",
    "check_prior",
    "freeze",
    "latent_codes",
    "pad_tasks",
    "panel",
    "prior_scales",
    "random_field",
    "realise",
    "regression",
    "with_features",
    "with_prior",
]
