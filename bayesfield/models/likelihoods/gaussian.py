"""Gaussian noise of known scale, of one scale, of one a task, or of a scale that is a field."""

from collections.abc import Callable

import equinox as eqx
import numpyro.distributions as dist
from jaxtyping import Array, ArrayLike, PRNGKeyArray

from bayesfield.checks import check_flag, described
from bayesfield.fields import AbstractField

from .likelihood import AbstractLikelihood
from .scales import Scale, check_noise_scale, draw_scale, scale_at


class Gaussian(AbstractLikelihood):
    r"""Gaussian noise whose scale is known, or drawn: once, for each task, or as a field.

    $$ y \sim \mathcal{N}(f, \sigma^2) $$

    The link is the identity: `f` is the mean. Where the scale is a field, $\log \sigma$ is its
    value, so that the scale of the noise varies with coordinates and context.

    Attributes:
        scale: The sd $\sigma$, in the units of `y`: a distribution on the positive numbers, which
            becomes the sample site `sigma`; a known value, a number or one for each point; or a
            field of $\log \sigma$ (or a function `key -> field`), whose sites are `scale.*`.
        num_tasks: How many tasks there are, each with a `sigma` of its own; None for one `sigma`.
            The program then needs `task`, unless its `x` has a leading axis of tasks.
        plate: The name of the plate in which there is a `sigma` for each task.
        integrate: Whether `NUTS` and `MCLMC` integrate `sigma` out and draw it given all else, so
            that it does not slow the chains down. Other engines fit it as any other site. It is
            in closed form under the conjugate prior, of a $\sigma$ whose square is inverse gamma,
            and by quadrature under any other, bounded ones included.

    Raises:
        TypeError: `num_tasks` or `integrate` with a scale that has no prior; a scale that is none
            of these.
        ValueError: A known scale that is not positive; a prior that is not for one positive number;
            `integrate` with `num_tasks`.

    Examples:
        >>> import bayesfield as bf, numpyro.distributions as dist
        >>> one, known = bf.Gaussian(dist.HalfNormal(0.5)), bf.Gaussian(0.1)
        >>> out = bf.Gaussian(dist.HalfNormal(0.5), integrate=True)
        >>> each = bf.Gaussian(dist.HalfNormal(0.5), num_tasks=12, plate="station")
        >>> root = dist.transforms.PowerTransform(0.5)
        >>> prior = dist.TransformedDistribution(dist.InverseGamma(3.0, 0.1), root)
        >>> closed = bf.Gaussian(prior, integrate=True)

    References:
        `numpyro.distributions.Normal`. The scale as a network: Nix, D. A. and Weigend, A. S.
        (1994). Estimating the mean and variance of the target probability distribution. ICNN.
    """

    scale: Scale
    num_tasks: int | None = eqx.field(static=True)
    plate: str = eqx.field(static=True)
    integrate: bool = eqx.field(static=True)

    def __init__(
        self,
        scale: dist.Distribution
        | ArrayLike
        | AbstractField
        | Callable[[PRNGKeyArray], AbstractField],
        *,
        num_tasks: int | None = None,
        plate: str = "task",
        integrate: bool = False,
    ):
        """Take the prior, the known value or the field of the sd."""
        self.scale = check_noise_scale("Gaussian", scale, num_tasks, plate)
        self.num_tasks, self.plate = num_tasks, plate
        self.integrate = check_flag("Gaussian", "integrate", integrate)
        if integrate and not isinstance(scale, dist.Distribution):
            raise TypeError(
                "`Gaussian` expected `scale` to be a prior where it is to be integrated out; got "
                f"{described(scale)}. Leave `integrate` out."
            )
        if integrate and num_tasks is not None:
            raise ValueError(
                "`Gaussian` expected `integrate` with one scale for all tasks; got `num_tasks` "
                f"{num_tasks}. Leave one of them out."
            )

    def scatter(
        self,
        *,
        x: ArrayLike | None = None,
        z: ArrayLike | None = None,
        scale: ArrayLike | None = None,
    ) -> Array:
        """Return the sd: `scale` where the program has it, else its own, drawn or known."""
        own = self.scale, self.num_tasks, self.plate
        return draw_scale(*own, x, z, scale, integrate=self.integrate)

    def around(
        self,
        f: Array,
        scatter: Array,
        *,
        scale: ArrayLike | None = None,
        task: ArrayLike | None = None,
    ) -> dist.Distribution:
        """Return the Normal around `f`."""
        own = self.scale, self.num_tasks
        return dist.Normal(f, scale_at("Gaussian", f, scatter, *own, scale, task))
