"""Counts with more zeros than their distribution has: zero-inflated Poisson and its relative."""

from typing import Any, NamedTuple

import numpyro.distributions as dist
from jaxtyping import Array, ArrayLike

from bayesfield.checks import numeric

from .exposure import mean_count
from .likelihood import AbstractLikelihood
from .scales import check_known, drawn_or_known


def check_gate(call: str, gate: Any) -> Any:
    """Return the prior of a share, or its known value."""
    if isinstance(gate, dist.Distribution):
        support: Any = gate.support
        low, high = (getattr(support, f"{end}_bound", None) for end in ("lower", "upper"))
        if gate.shape() != () or low is None or high is None or low < 0 or high > 1:
            raise ValueError(
                f"`{call}` expected `gate` to be a prior for one number between 0 and 1, "
                f"`Beta(1, 4)` say; got {type(gate).__name__} of shape {gate.shape()} on {support}."
            )
        return gate
    share = numeric(call, "gate", gate)
    if share.shape != () or not 0 < share < 1:
        raise ValueError(
            f"`{call}` expected `gate` to be between 0 and 1, or its prior; got {gate}."
        )
    return share.astype("float32")


class ZeroInflatedPoisson(AbstractLikelihood):
    r"""Poisson counts of which some are zero for another reason.

    $$ P(y = k) = \pi\, 1[k = 0] + (1 - \pi)\, \mu^k e^{-\mu} / k!, \qquad \mu = E\, e^f $$

    The link is the logarithm of $\mu$, the mean of what is not inflated; the mean of `y` is
    $(1 - \pi) \mu$. `exposure` is the program's argument $E$, as for `Poisson`. `Laplace` has no
    Fisher information for it: use NUTS or SVI.

    Attributes:
        gate: $\pi$, the share of extra zeros: a distribution between 0 and 1, which becomes the
            sample site `gate`, or a known number.

    Raises:
        ValueError: A gate that is not between 0 and 1.

    Examples:
        >>> import bayesfield as bf, numpyro.distributions as dist
        >>> counts = bf.ZeroInflatedPoisson(dist.Beta(1.0, 4.0))

    References:
        `numpyro.distributions.ZeroInflatedPoisson`. Lambert, D. (1992). Zero-inflated Poisson
        regression. Technometrics 34, 1-14.
    """

    gate: dist.Distribution | Array

    def __init__(self, gate: dist.Distribution | ArrayLike):
        """Take the prior or the known value of the share of extra zeros."""
        self.gate = check_gate("ZeroInflatedPoisson", gate)

    def scatter(self) -> Array:
        """Return the share of extra zeros, drawn at the site `gate` where it has a prior."""
        return drawn_or_known("gate", self.gate)

    def around(
        self, f: Array, scatter: Array, *, exposure: ArrayLike | None = None
    ) -> dist.Distribution:
        """Return the inflated Poisson of rate `exposure * exp(f)`."""
        return dist.ZeroInflatedPoisson(scatter, mean_count("ZeroInflatedPoisson", f, exposure))


class GateAndConcentration(NamedTuple):
    """What the scatter of a zero-inflated negative binomial depends on.

    Attributes:
        gate: The share of extra zeros.
        concentration: That of the negative binomial.
    """

    gate: Array
    concentration: Array


class ZeroInflatedNegativeBinomial(AbstractLikelihood):
    r"""Negative binomial counts of which some are zero for another reason.

    $$ P(y = k) = \pi\, 1[k = 0] + (1 - \pi)\, \text{NB}(k;\, \mu, \alpha), \qquad \mu = E\, e^f $$

    Link and exposure are those of `NegativeBinomial`. `Laplace` has no Fisher information for it.

    Attributes:
        concentration: $\alpha$, as `NegativeBinomial` has it.
        gate: $\pi$, as `ZeroInflatedPoisson` has it.

    Raises:
        ValueError: A concentration that is not positive; a gate that is not between 0 and 1.

    Examples:
        >>> import bayesfield as bf, numpyro.distributions as dist
        >>> prior = dist.LogNormal(1.0, 1.0)
        >>> counts = bf.ZeroInflatedNegativeBinomial(prior, dist.Beta(1.0, 4.0))

    References:
        `numpyro.distributions.ZeroInflatedNegativeBinomial2`. Greene, W. H. (1994). Accounting for
        excess zeros and sample selection in Poisson and negative binomial regression models.
    """

    concentration: dist.Distribution | Array
    gate: dist.Distribution | Array

    def __init__(
        self, concentration: dist.Distribution | ArrayLike, gate: dist.Distribution | ArrayLike
    ):
        """Take the priors or the known values."""
        call = "ZeroInflatedNegativeBinomial"
        self.concentration = check_known(call, "concentration", concentration)
        self.gate = check_gate(call, gate)

    def scatter(self) -> GateAndConcentration:
        """Return the gate and the concentration, drawn or known."""
        gate = drawn_or_known("gate", self.gate)
        return GateAndConcentration(gate, drawn_or_known("concentration", self.concentration))

    def around(
        self, f: Array, scatter: GateAndConcentration, *, exposure: ArrayLike | None = None
    ) -> dist.Distribution:
        """Return the inflated negative binomial."""
        mean = mean_count("ZeroInflatedNegativeBinomial", f, exposure)
        return dist.ZeroInflatedNegativeBinomial2(mean, scatter.concentration, gate=scatter.gate)
