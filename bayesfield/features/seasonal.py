"""Seasonal harmonics: sines and cosines of the calendar."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from bayesfield.checks import check_positive, check_size
from bayesfield.networks import AbstractNetwork
from bayesfield.networks.sine import sine_cosine

from .columns import check_column, check_tuple


class SeasonalHarmonics(AbstractNetwork):
    r"""Sines and cosines of time, with the periods of the calendar.

    $$ \cos(2\pi h\, t / p), \quad \sin(2\pi h\, t / p), \qquad h = 1, \dots, H_p $$

    A network behind them is periodic in time where it reads nothing else, so that a season goes on
    beyond the data. The first harmonic is one wave a period; more make it less smooth.

    Time is in the units of its column, and so are the periods: where the column counts years, a
    year is 1 and a week is 7 / 365.25. Count from a date near the data, as float32 has seven
    digits.

    Attributes:
        seasonality_periods: p, each in the units of the column.
        num_seasonal_harmonics: $H_p$, one number for each period.
        column: Which column of the coordinate is time.
        in_features: D.
        out_features: Twice the sum of the numbers of harmonics: all cosines, then all sines.

    Raises:
        TypeError: Periods or numbers that are no tuple.
        ValueError: A period or a number that is not positive; other than one number for each
            period; a column that is not there.

    Examples:
        >>> import bayesfield as bf, jax.numpy as jnp
        >>> months = bf.SeasonalHarmonics(
        ...     1, seasonality_periods=(12.0,), num_seasonal_harmonics=(1,))
        >>> months(jnp.array([[0.0], [6.0], [12.0]])).round(3)[:, 0]
        Array([ 1., -1.,  1.], dtype=float32)

    References:
        Saad, F. et al. (2024). Scalable spatiotemporal prediction with Bayesian neural fields.
            Nature Communications 15: seasonal covariates, with these names.
    """

    seasonality_periods: tuple[float, ...] = eqx.field(static=True)
    num_seasonal_harmonics: tuple[int, ...] = eqx.field(static=True)
    column: int = eqx.field(static=True)
    in_features: int = eqx.field(static=True)
    out_features: int = eqx.field(static=True)

    def __init__(
        self,
        in_features: int,
        *,
        seasonality_periods: tuple[float, ...],
        num_seasonal_harmonics: tuple[int, ...],
        column: int = 0,
    ):
        """Take the periods, in the units of the column, and how many harmonics each has."""
        call = "SeasonalHarmonics"
        self.column = check_column(call, "column", column, in_features)
        seasonality_periods = check_tuple(
            call, "seasonality_periods", seasonality_periods, "numbers"
        )
        num_seasonal_harmonics = check_tuple(
            call, "num_seasonal_harmonics", num_seasonal_harmonics, "integers"
        )
        periods = tuple(check_positive(call, "seasonality_periods", p) for p in seasonality_periods)
        number = tuple(
            check_size(call, "num_seasonal_harmonics", n) for n in num_seasonal_harmonics
        )
        if not periods or len(periods) != len(number):
            raise ValueError(
                f"`{call}` expected `num_seasonal_harmonics` to be one number for each of the "
                f"{len(periods)} `seasonality_periods`; got {len(number)}."
            )
        self.seasonality_periods, self.num_seasonal_harmonics = periods, number
        self.in_features, self.out_features = in_features, 2 * sum(number)

    def evaluate(self, x: Float[Array, "D *batch"]) -> Float[Array, "C *batch"]:
        """Evaluate at checked coordinates."""
        time = x[self.column]
        angles = []
        for period, number in zip(
            self.seasonality_periods, self.num_seasonal_harmonics, strict=True
        ):
            place = time / period
            place = place - jnp.floor(place)  # within one period, so that harmonics keep digits
            angles += [2 * np.pi * h * place for h in range(1, number + 1)]
        sine, cosine = sine_cosine(jnp.stack(angles))
        return jnp.concatenate([cosine, sine])
