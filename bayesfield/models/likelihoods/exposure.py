"""The mean of counts: an exposure times the exponential of the field's values."""

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike

from bayesfield.marks import expect_positive

from .scales import check_fits


def mean_count(call: str, f: Array, exposure: ArrayLike | None) -> Array:
    """Return `exposure * exp(f)`; the exposure is one where there is none."""
    if exposure is None:
        return jnp.exp(f)
    exposure = expect_positive("regression", "exposure", exposure)
    check_fits(call, "an exposure", "exposure", exposure, f)
    return exposure * jnp.exp(f)
