"""What neighbouring rows have in common: rows that are near in the arguments of a mean.

Where latent values in a plate, codes say, tell members apart, the neighbours of a row are those of
its own member.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ..predicting.moments import location
from ..predicting.replays import probed
from ..program.program import Data, Program, Values
from ..program.sites import Sites

MOST_ROWS = 2000
FAR = 1e3  # in sds of an argument: how far members are from each other


class Argument(NamedTuple):
    """An argument that a mean is made of.

    Attributes:
        value: Its array.
        labels: Whether its whole numbers stand for members.
    """

    value: np.ndarray
    labels: bool


def in_common(y: np.ndarray, seen: np.ndarray, arguments: np.ndarray | None) -> tuple[float, int]:
    """Return the share of variance that neighbouring rows have in common, and how many rows.

    Half the mean squared difference of neighbours is the variance that they do not share.
    """
    from scipy.spatial import KDTree

    if arguments is None:
        return 0.0, 0
    y = y.reshape(len(arguments), -1)
    whole = seen.reshape(y.shape).all(1)
    y, arguments = y[whole], arguments[whole]
    at = probed(len(y), MOST_ROWS)
    y, arguments = y[at], arguments[at]
    variance = y.var(0).sum() if len(y) else 0.0
    if len(y) < 10 or not variance > 0:
        return 0.0, len(y)
    _, places = KDTree(arguments).query(arguments, k=2)
    nearest = np.asarray(places)[:, 1]
    apart = ((y - y[nearest]) ** 2).mean(0).sum() / 2
    return float(max(0.0, 1 - apart / variance)), len(y)


def columns_of(
    arguments: list[Argument], shape: tuple[int, ...], *, by_member: bool, lead: bool
) -> np.ndarray | None:
    """Return the arguments as one table of scaled columns, `(row, column)`.

    Args:
        arguments: Those that the mean is made of.
        shape: That of the observations.
        by_member: Whether rows of one member are nearer to each other than to any of another.
        lead: Whether members are the leading axis of the observations; a row is then a value.
    """
    columns, far = [], []
    for one in arguments:
        rows = _at_each(one.value, shape) if lead else one.value
        kept = lead or (one.value.ndim > 0 and len(one.value) == shape[0])
        if rows is not None and kept and np.issubdtype(rows.dtype, np.number):
            columns.append(rows.reshape(len(rows), -1).astype(float))
            far += [FAR if by_member and one.labels else 1.0] * columns[-1].shape[1]
    if lead:
        columns.append(np.repeat(np.arange(shape[0]), shape[1])[:, None].astype(float))
        far.append(FAR)
    if not columns:
        return None
    table, weight = np.concatenate(columns, axis=1), np.array(far)
    finite = np.isfinite(table).all(0)
    table, weight = table[:, finite], weight[finite]
    spread = table.std(0)
    moving = spread > 0  # of columns that are all the same no row is nearer than another
    return table[:, moving] / spread[moving] * weight[moving] if moving.any() else None


def _at_each(value: np.ndarray, shape: tuple[int, ...]) -> np.ndarray | None:
    """Return an argument's rows at each value of `(member, point)`; None where it has none."""
    members, points = shape
    if value.shape[:2] == (members, points):
        return value.reshape(members * points, -1)
    if value.shape[:1] == (members,):
        return np.repeat(value, points, axis=0)
    if value.shape[:1] == (points,):
        return np.tile(value.reshape(points, -1), (members, 1))
    return None


def arguments_of(
    program: Program, data: Data, values: Values, names: tuple[str, ...], sites: Sites
) -> dict[str, list[Argument]]:
    """Return the arguments that each site's mean is made of and no observation is."""
    paths, structure = jax.tree.flatten_with_path(data)
    leaves = [leaf for _, leaf in paths]
    labels = [getattr(path[0], "key", None) in sites.labels for path, _ in paths]

    def said(*leaves: Array) -> list[Array]:
        trace = program.trace(jax.tree.unflatten(structure, leaves), values, jax.random.key(0))
        told = [trace[name] for name in names]
        where = [jnp.asarray(location(site["fn"])) for site in told]  # known: it was judged
        return where + [jnp.asarray(site["value"]) for site in told]

    jaxpr = jax.make_jaxpr(said)(*leaves).jaxpr
    # each equation is taken to need all of its operands for each of its results
    needs: dict[Any, frozenset[int]] = {v: frozenset([i]) for i, v in enumerate(jaxpr.invars)}

    def needed(variables: Any) -> frozenset[int]:
        return frozenset().union(*(needs.get(v, ()) for v in variables if not hasattr(v, "val")))

    for equation in jaxpr.eqns:
        of_all = needed(equation.invars)
        needs |= dict.fromkeys(equation.outvars, of_all)
    used = [needed([variable]) for variable in jaxpr.outvars]
    observed = frozenset().union(*used[len(names) :])
    return {
        name: [Argument(np.asarray(leaves[i]), labels[i]) for i in sorted(mean - observed)]
        for name, mean in zip(names, used[: len(names)], strict=True)
    }
