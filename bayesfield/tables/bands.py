"""Predictions as columns: mean, sd and quantiles of each row, in the units of the outcome."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from bayesfield.checks import check_number, described

from .scaling import Numbers


def bands(
    call: str,
    prediction: Any,
    site: str,
    outcomes: Sequence[Numbers],
    size: int,
    quantiles: Sequence[float],
) -> dict[str, np.ndarray]:
    """Return the columns of a prediction, by their names, each `(rows,)`.

    Args:
        call: The public call, for errors.
        prediction: What `Posterior.predict` returned.
        site: The site in it.
        outcomes: How each outcome was scaled.
        size: How many rows the frame has.
        quantiles: Between 0 and 1.
    """
    if isinstance(quantiles, str) or not isinstance(quantiles, Iterable):
        raise TypeError(
            f"`{call}` expected `quantiles` to be a tuple of numbers, (0.05, 0.95) say; got "
            f"{described(quantiles)}."
        )
    quantiles = [check_number(call, "quantiles", q, least=0, below=1) for q in quantiles]
    if (
        hasattr(prediction, "data_vars")
        and site in prediction
        and "quantile" in prediction[site].dims
    ):
        return _of_quantiles(call, prediction, site, outcomes, size)
    draws = _rows(call, prediction, site, len(outcomes), size)
    mean = draws.mean(0)
    if f"{site}_mean" in prediction:  # without the noise of the draws around it
        mean = _rows(call, prediction, f"{site}_mean", len(outcomes), size).mean(0)
    sd, at = draws.std(0), np.quantile(draws, quantiles, axis=0)
    columns = {}
    for i, outcome in enumerate(outcomes):
        name, unit = outcome.name, outcome.scale
        columns[f"{name}_mean"] = outcome.centre + unit * mean[:, i]
        columns[f"{name}_sd"] = unit * sd[:, i]
        for q, value in zip(quantiles, at, strict=True):
            columns[f"{name}_q{100 * q:g}"] = outcome.centre + unit * value[:, i]
    return columns


def _rows(call: str, prediction: Any, site: str, outcomes: int, size: int) -> np.ndarray:
    """Return a site's draws, `(draw, row, outcome)`."""
    if not hasattr(prediction, "data_vars"):
        raise TypeError(
            f"`{call}` expected `prediction` to be a Dataset, as `predict` returns it; got "
            f"{described(prediction)}."
        )
    if site not in prediction or not {"chain", "draw"} <= {*prediction[site].dims}:
        held = [str(n) for n, v in prediction.data_vars.items() if {"chain", "draw"} <= {*v.dims}]
        raise ValueError(
            f"`{call}` expected `prediction` to hold draws of the site {site!r}; got {held}. Name "
            "another: `site=`."
        )
    value = prediction[site].transpose("chain", "draw", ...).values
    value = value.reshape(-1, *value.shape[2:])
    return _checked(call, site, value, outcomes, size)


def _of_quantiles(
    call: str, prediction: Any, site: str, outcomes: Sequence[Numbers], size: int
) -> dict[str, np.ndarray]:
    """Return the columns of quantiles that the prediction holds in the place of draws."""
    value = prediction[site].transpose("quantile", ...)
    at = _checked(call, site, value.values, len(outcomes), size)
    return {
        f"{outcome.name}_q{100 * q:g}": outcome.centre + outcome.scale * row[:, i]
        for i, outcome in enumerate(outcomes)
        for q, row in zip(value["quantile"].values, at, strict=True)
    }


def _checked(call: str, site: str, value: np.ndarray, outcomes: int, size: int) -> np.ndarray:
    """Return a site's draws or quantiles with an axis of rows and one of outcomes."""
    value = value.astype(float)
    value = value[..., None] if value.ndim == 2 else value
    if value.shape[1:] != (size, outcomes):
        raise ValueError(
            f"`{call}` expected `prediction` to have the {size} rows of `frame` and {outcomes} "
            f"outcome(s); got {site!r} of shape {value.shape[1:]} in each draw. Predict all rows: "
            "`posterior.predict(table.inputs(frame), key=key)`."
        )
    return value
