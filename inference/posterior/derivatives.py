"""`derivatives`: derivatives of predicted means at every draw, with respect to an argument."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from bayesfield.checks import check_names, check_one_of, check_size, close_match, described

from ..predicting.derivatives import derivatives_of_means
from ..program.arguments import check_data_mapping, check_not_traced, check_posterior
from ..program.tracing import tracing
from .bands import assembled, check_quantiles
from .member_names import with_names
from .ranges import outside_of_fit
from .ready import Ready, on_new_data

if TYPE_CHECKING:
    import xarray as xr

    from .posterior import Posterior

CALL = "derivatives"


@tracing
def derivatives(
    posterior: "Posterior",
    data: Mapping[str, Any],
    *,
    wrt: str = "x",
    order: int = 1,
    components: Mapping[str, int] | Iterable[int] | None = None,
    sites: Iterable[str] | None = None,
    quantiles: Iterable[float] | None = None,
    coords: Mapping[str, Iterable[Any]] | None = None,
    batch_size: int | None = None,
) -> "xr.Dataset":
    r"""Return the derivatives of predicted means with respect to an argument, once for each draw.

    With $m_i$ the mean of a site's $i$-th value, and $x_i$ the row of the argument that it depends
    on, these are $\partial m_i / \partial x_{ic}$, or
    $\partial^2 m_i / \partial x_{ic}\,\partial x_{id}$. The mean is `<site>_mean` of
    `predict`, so a posterior whose predictions are linearised (`Laplace`) has the derivatives of
    the linearised mean. A row may be shared by several values, as a context is by the points
    of its task; a value that depends on several rows is refused.

    Args:
        posterior: Of any engine.
        data: Arguments of the program, observations left out, as `predict` takes them.
        wrt: The argument to differentiate by, an array of floats. Its last axis is the components
            of a row; of one with a single axis each entry is a row.
        order: 1 for first derivatives, 2 for second ones.
        components: Components of a row, by their numbers from 0; `{"depth": 0, "time": 1}` names
            them in the result too. All by default. A column of a `Table` is a component of its
            argument, in the order in which the columns were given.
        sites: Names of observed sites; by default the outputs, as in `predict`.
        quantiles: Quantiles over draws to return in place of the draws, `(0.05, 0.95)` say.
        coords: From an axis's name to its coordinates.
        batch_size: How many draws run at a time; by default it depends on the size of a draw. All
            rows of `data` run at once: where memory is short, give them in parts.

    Returns:
        An xarray Dataset with a variable `<site>_d<wrt>`, or `<site>_d2<wrt>` of order 2. Its dims
        are (chain, draw, ...) or (quantile, ...) and those of the mean in `predict`, then
        `<wrt>_component`, and of order 2 `<wrt>_component_2`; an argument of one axis has no
        components. Units are those of the program's own arguments. Of what a `Table` scaled,
        multiply by the outcome's `scale`, that of `table.roles.y[0]`, and divide by the column's,
        that of one of `table.roles.x` or `z`, once for each order. The attr `outside_of_fit` is
        that of `predict`.

    Raises:
        TypeError: `wrt` is not an array of floats; a component is not a whole number; `data` is
            not what the model takes.
        ValueError: `wrt` is no argument in `data`, or none that a mean depends on; a value of a
            mean depends on several of its rows, or on a site that has no value; an unknown
            component or site; another order; a mean is not known.

    Examples:
        >>> import jax, numpy as np, numpyro, numpyro.distributions as dist
        >>> from bayesfield.inference import NUTS, derivatives, fit_posterior
        >>> def model(x, y=None):
        ...     w = numpyro.sample("w", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
        ...     with numpyro.plate("rows", x.shape[0]):
        ...         mean = w[0] * x[:, 0] + w[1] * x[:, 0] ** 2
        ...         numpyro.sample("y", dist.Normal(mean, 0.1), obs=y)
        >>> x = np.linspace(-1.0, 1.0, 20)[:, None]
        >>> data = {"x": x, "y": np.sin(x[:, 0])}
        >>> posterior = fit_posterior(model, data, NUTS(), key=jax.random.key(0))
        >>> found = derivatives(posterior, {"x": x}, components={"x": 0})
        >>> found["y_dx"].sel(x_component="x").mean(("chain", "draw")).shape
        (20,)
    """
    check_posterior(CALL, posterior)
    check_not_traced(CALL, data)
    check_data_mapping(CALL, data)
    if check_size(CALL, "order", order) > 2:
        raise ValueError(f"`{CALL}` expected `order` to be 1 or 2; got {order}.")
    if batch_size is not None:
        check_size(CALL, "batch_size", batch_size)
    chosen = None if quantiles is None else check_quantiles(CALL, quantiles)
    _check_named(wrt, data)
    posterior.check_unchanged(CALL)
    bound, fitted = posterior.bound, posterior.fitted
    ready = on_new_data(bound, fitted, CALL, data)
    names = _outputs(ready, sites)
    _check_argument(ready, wrt)
    _check_drawn(ready, names)
    numbers, labels = _components(components, np.shape(ready.data[wrt]), wrt)
    found = derivatives_of_means(
        CALL,
        *ready,
        names,
        wrt=wrt,
        order=order,
        components=numbers,
        batch_size=batch_size,
    )
    suffix = f"_d{wrt}" if order == 1 else f"_d2{wrt}"
    out = {name + suffix: item for name, item in found.items()}
    own = {f"{wrt}_component{end}": labels for end in ("", "_2")[:order] if labels is not None}
    result = assembled(CALL, out, bound.sites, np.arange(fitted.num_draws), chosen, coords)
    result = with_names(result, fitted, but=coords or ()).assign_coords(own)
    beyond = outside_of_fit(bound, fitted, ready.sites, ready.data)
    return result.assign_attrs({"outside_of_fit": beyond} if beyond else {})


def _check_named(wrt: str, data: Mapping[str, Any]) -> None:
    """Refuse what is no argument; a column of a frame is a component of one."""
    if isinstance(wrt, str) and data and wrt not in data:
        first, meant = next(iter(data)), close_match(wrt, [*data])
        raise ValueError(
            f"`{CALL}` expected `wrt` to be one of {[*data]}; got {wrt!r}.{meant} A column of an "
            f"argument is one of its components: `wrt={first!r}, components={{{wrt!r}: 0}}`, say."
        )
    check_one_of(CALL, "wrt", wrt, data)


def _outputs(ready: Ready, sites: Iterable[str] | None) -> tuple[str, ...]:
    """Return the names of the sites whose means are differentiated."""
    outputs = ready.sites.outputs
    if not outputs:
        raise ValueError(
            f"`{CALL}` expected `posterior` to have an output, an observed site that no other site "
            "depends on; got none."
        )
    return outputs if sites is None else check_names(CALL, "sites", sites, outputs)


def _check_argument(ready: Ready, wrt: str) -> None:
    """Refuse an argument that has no derivative, or that no distribution depends on."""
    value = ready.data[wrt]
    if not isinstance(value, jax.Array):
        raise TypeError(
            f"`{CALL}` expected `wrt` to name an array of floats; got {wrt!r}, which is "
            f"{'a static argument' if value is None else described(value)}."
        )
    if not jnp.issubdtype(value.dtype, jnp.floating):
        raise TypeError(
            f"`{CALL}` expected `wrt` to name an array of floats; got {wrt!r} of {value.dtype}, "
            "whose values have no neighbours to differ from."
        )
    if wrt not in ready.sites.feeds:
        raise ValueError(
            f"`{CALL}` expected `wrt` to name an argument that distributions are computed from, "
            f"of {[*ready.sites.feeds]}; got {wrt!r}."
        )


def _check_drawn(ready: Ready, names: tuple[str, ...]) -> None:
    """Refuse means that depend on a site without a value, which `predict` would draw."""
    known = {site.name for site in ready.sites.latent} - {*ready.draws.latent}
    left, seen = [*names], set()
    while left:
        name = left.pop()
        if name in seen:
            continue
        seen.add(name)
        left += [other for part in ready.sites.reads.get(name, {}).values() for other in part]
    unset = sorted((seen & known) - {*names})
    if unset:
        raise ValueError(
            f"`{CALL}` expected `data` to be with a value of every site that a mean depends on and "
            f"the posterior has no draws of; got none of {unset}. Give it in `data`."
        )


def _components(
    components: Any, shape: tuple[int, ...], wrt: str
) -> tuple[tuple[int, ...], list[Any] | None]:
    """Return the numbers of the components and their labels; None where a row has none."""
    size = shape[-1] if len(shape) > 1 else 0
    if components is None:
        return (tuple(range(size)), [*range(size)]) if size else ((0,), None)
    if not size:
        raise ValueError(
            f"`{CALL}` expected `components` to be None, as the rows of `{wrt}`, of shape {shape}, "
            f"are single numbers; got {components!r}. Leave it out."
        )
    several = isinstance(components, Iterable) and not isinstance(components, str)
    labels = [*components] if several else [components]
    given = [*components.values()] if isinstance(components, Mapping) else labels
    names = [one for one in given if isinstance(one, str)]
    if names:
        raise TypeError(
            f"`{CALL}` expected `components` to be whole numbers, from 0 to {size - 1}, or a dict "
            f"from names to them; got {components!r}. Columns of an array have no names: give "
            f"{{{names[0]!r}: 0}} where it is the first."
        )
    numbers = tuple(check_size(CALL, "components", number, least=0) for number in given)
    if not numbers or max(numbers) >= size:
        raise ValueError(
            f"`{CALL}` expected `components` to be among 0 to {size - 1}, as `{wrt}` has the shape "
            f"{shape}; got {[*numbers]}."
        )
    return numbers, labels
