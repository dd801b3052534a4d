"""Conditioners: an activation steered by a context, `(h, z) -> y`."""

from .affine import AffineModulation, BayesianAffineModulation, FiLM
from .concat import BayesianConcatConditioner, ConcatConditioner
from .conditioner import AbstractConditioner
from .hyper import BayesianHyperLinear, HyperLinear, LowRankHyperLinear

__all__ = [
    "AbstractConditioner",
    "AffineModulation",
    "BayesianAffineModulation",
    "BayesianConcatConditioner",
    "BayesianHyperLinear",
    "ConcatConditioner",
    "FiLM",
    "HyperLinear",
    "LowRankHyperLinear",
]
