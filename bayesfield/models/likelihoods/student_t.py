"""Student's t: noise with outliers."""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import numpyro.distributions as dist
from jaxtyping import Array, ArrayLike, PRNGKeyArray

from bayesfield.fields import AbstractField

from .likelihood import AbstractLikelihood
from .scales import (
    Scale,
    check_known,
    check_noise_scale,
    draw_scale,
    drawn_or_known,
    scale_at,
)


class ScaleAndDf(NamedTuple):
    """What the scatter of a Student's t depends on.

    Attributes:
        sigma: The scale.
        df: The degrees of freedom.
    """

    sigma: Array
    df: Array


class StudentT(AbstractLikelihood):
    r"""Student's t noise: Gaussian in the middle, with tails that outliers do not upset.

    $$ y = f + \sigma T, \qquad T \sim t_\nu $$

    The link is the identity: `f` is the median, and the mean where $\nu > 1$. The sd is
    $\sigma \sqrt{\nu / (\nu - 2)}$ where $\nu > 2$, so $\sigma$ is less than the sd.

    Attributes:
        scale: $\sigma$, in the units of `y`, as `Gaussian` has it; the sample site `sigma`.
        df: $\nu$, the degrees of freedom: a distribution on the positive numbers, which becomes the
            sample site `df`, or a known number. Few observations tell little about it.
        num_tasks: As `Gaussian` has it.
        plate: As `Gaussian` has it.

    Raises:
        TypeError: `num_tasks` with a scale that has no prior; a scale that is none of these.
        ValueError: A known value that is not positive; a prior that is not for one positive number.

    Examples:
        >>> import bayesfield as bf, numpyro.distributions as dist
        >>> noise = bf.StudentT(dist.HalfNormal(0.5), df=4.0)

    References:
        `numpyro.distributions.StudentT`. Juarez, M. A. and Steel, M. F. J. (2010). Model-based
        clustering of non-Gaussian panel data: the prior `Gamma(2, 0.1)` of `df`.
    """

    scale: Scale
    df: dist.Distribution | Array
    num_tasks: int | None = eqx.field(static=True)
    plate: str = eqx.field(static=True)

    def __init__(
        self,
        scale: dist.Distribution
        | ArrayLike
        | AbstractField
        | Callable[[PRNGKeyArray], AbstractField],
        df: dist.Distribution | ArrayLike,
        *,
        num_tasks: int | None = None,
        plate: str = "task",
    ):
        """Take the scale as `Gaussian` does, and the prior or the value of `df`."""
        self.scale = check_noise_scale("StudentT", scale, num_tasks, plate)
        self.df = check_known("StudentT", "df", df)
        self.num_tasks, self.plate = num_tasks, plate

    def scatter(
        self,
        *,
        x: ArrayLike | None = None,
        z: ArrayLike | None = None,
        scale: ArrayLike | None = None,
    ) -> ScaleAndDf:
        """Return the scale and the degrees of freedom, drawn or known."""
        sigma = draw_scale(self.scale, self.num_tasks, self.plate, x, z, scale)
        return ScaleAndDf(sigma, drawn_or_known("df", self.df))

    def around(
        self,
        f: Array,
        scatter: ScaleAndDf,
        *,
        scale: ArrayLike | None = None,
        task: ArrayLike | None = None,
    ) -> dist.Distribution:
        """Return the Student's t around `f`."""
        own = self.scale, self.num_tasks
        sigma = scale_at("StudentT", f, scatter.sigma, *own, scale, task)
        return dist.StudentT(scatter.df, f, sigma)
