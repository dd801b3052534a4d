"""Conditional fields: functions of coordinates, steered by a context, `(x, z) -> y`."""

from .conditioned_inr import ConditionedINR
from .conditioned_rff import ConditionedRFFNet, HyperFourierFeatures
from .field import AbstractField
from .hyper_siren import HyperSIREN
from .with_features import FieldWithFeatures, NetworkWithFeatures, with_features

__all__ = [
    "AbstractField",
    "ConditionedINR",
    "ConditionedRFFNet",
    "FieldWithFeatures",
    "HyperFourierFeatures",
    "HyperSIREN",
    "NetworkWithFeatures",
    "with_features",
]
