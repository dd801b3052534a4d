"""Splitting draws by their trunk (a distinct set of params)."""

import jax
import numpy as np

from bayesfield.checks import check_size

from ..engines.fitted import Fitted, Members
from ..program.sites import Values


def of_trunk(fitted: Fitted, trunk: int) -> Fitted | None:
    """Return the draws of one trunk, its chains or its share of one; None where there is no other.

    Raises:
        ValueError: There is no such trunk.
    """
    check_size("only_trunk", "trunk", trunk, least=0)
    if trunk >= fitted.num_trunks:
        raise ValueError(
            f"`only_trunk` expected `trunk` to be below {fitted.num_trunks}; got {trunk}."
        )
    if fitted.num_trunks == 1:
        return None
    mine = fitted.trunk == trunk
    chains = mine.any(1)
    draws = mine[chains][0]  # all draws of a chain on one trunk, or its share of a chain on several

    def taken(values: Values) -> Values:
        return {name: np.asarray(value)[chains][:, draws] for name, value in values.items()}

    params = {name: value[trunk : trunk + 1] for name, value in fitted.params.items()}
    start, score = fitted.members
    on = np.ones(len(score), bool)
    for name, value in params.items():
        on &= (start.params[name] == value).reshape(len(score), -1).all(1)
    return fitted._replace(
        draws=taken(fitted.draws),
        params=params,
        trunk=np.zeros((int(chains.sum()), int(draws.sum())), int),
        stats=taken(fitted.stats),
        members=Members(jax.tree.map(lambda value: value[on], start), score[on]),
    )


def split_by_trunk(values: np.ndarray, trunk: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean over trunks of the variance of values `(S, ...)`, and that of the means."""
    groups = [values[trunk == t] for t in np.unique(trunk)]
    weights = np.asarray([len(group) / len(values) for group in groups])
    means = np.stack([group.mean(0) for group in groups])
    within = np.tensordot(weights, np.stack([group.var(0) for group in groups]), 1)
    centre = np.tensordot(weights, means, 1)
    return within, np.tensordot(weights, (means - centre) ** 2, 1)
