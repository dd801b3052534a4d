"""What the codes of a regression's tasks are, as a setting."""

import equinox as eqx
import numpyro.distributions as dist

from bayesfield.checks import check_flag, check_size
from bayesfield.settings_text import settings_text

from .arguments import check_name
from .codes import Population, check_names_of_codes, draw_population


class LatentCodes(eqx.Module):
    """Give each task of a `regression` a latent code: `latent_codes`, as a setting.

    Attributes:
        cond_dim: K, the width of a code.
        name: The site of the codes.
        names: A name for each entry of a code; the codes then have a mean and a covariance.
        centred: Whether named codes are sampled as they are; see `latent_codes`.
        scale: The prior of each named code's sd; None for `HalfNormal(1)`.
        concentration: Of the LKJ prior of named codes.
        integrate: Whether the codes are integrated out: exact where the field is linear in them
            and the noise is Gaussian, and refused where it is not.

    Raises:
        TypeError: A setting is of the wrong kind.
        ValueError: `cond_dim` or `concentration` is not positive; names that are not K different
            ones; a `scale` of codes without names.

    Examples:
        >>> import bayesfield as bf
        >>> bf.LatentCodes(2, names=("intercept", "slope"), integrate=True).cond_dim
        2
    """

    cond_dim: int = eqx.field(static=True)
    name: str = eqx.field(static=True, default="z")
    names: tuple[str, ...] | None = eqx.field(static=True, default=None)
    centred: bool = eqx.field(static=True, default=True)
    scale: dist.Distribution | None = None
    concentration: float = eqx.field(static=True, default=1.0)
    integrate: bool = eqx.field(static=True, default=False)

    def __check_init__(self) -> None:
        """Check the settings."""
        call = "LatentCodes"
        check_size(call, "cond_dim", self.cond_dim)
        check_flag(call, "centred", self.centred)
        check_flag(call, "integrate", self.integrate)
        check_name(call, "name", self.name)
        check_names_of_codes(call, self.cond_dim, self.names, self.scale, self.concentration)

    def __repr__(self) -> str:
        """Show the call that makes it."""
        return settings_text(self)

    def population(self) -> Population | None:
        """Draw the mean and the covariance of named codes; None where they are standard normal."""
        return draw_population(self.name, self.cond_dim, self.names, self.scale, self.concentration)
