"""`Proper`: a program as engines infer it, without the extra sites of `obs_mask`."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from numpyro.primitives import Messenger

from bayesfield.private import mask_of

from .intake import take


class Proper(Messenger):
    """Change a program so that engines can infer it: no site without a density is left.

    A single number that is observed at every place is broadcast to all of them.

    NumPyro masks the density of `*_unobserved` where an observation stands, which leaves those
    entries without any: a flat direction, on which no engine converges. Without the mask they are
    drawn from their distribution, independent of everything else, and integrate to one. A site
    that nothing depends on integrates to one in all of its entries: it is no site at all.
    """

    def __init__(
        self,
        fn: Callable[..., Any],
        masked: tuple[str, ...] = (),
        dropped: tuple[str, ...] = (),
    ):
        super().__init__(fn)
        self.imputed = {f"{stem}_unobserved" for stem in masked}
        self.dropped = dropped

    def process_message(self, msg: dict) -> None:
        """Change the message of a site as the class says."""
        if msg["type"] != "sample":
            return
        if isinstance(msg["fn"], dist.Unit) and msg["value"] is None:  # as `numpyro.factor` has it
            msg["value"], msg["is_observed"] = msg["fn"].sample(None), True
        if msg["is_observed"]:
            _check_one_array(msg["name"], msg["value"])
        if _is_foreign(msg["value"]):  # of a handler, or of a variable that the program reads
            msg["value"] = take("fit_posterior", msg["name"], msg["value"])
        if msg["is_observed"] and _is_for_all(msg):
            msg["value"] = jnp.broadcast_to(msg["value"], msg["fn"].shape())
        if msg["name"] not in self.imputed:
            return
        if msg["name"] in self.dropped and not msg["is_observed"]:
            fn = msg["fn"]
            msg["value"] = jnp.zeros(fn.shape(), jnp.result_type(_example(fn)))
            msg["stop"] = True
        elif isinstance(msg["fn"], dist.MaskedDistribution):
            msg["fn"] = _without_mask(msg["fn"])


def _check_one_array(name: str, value: Any) -> None:
    """Refuse an observed value that is a container of arrays."""
    arrays = isinstance(value, list) and any(isinstance(v, jax.Array) for v in value)
    if arrays or isinstance(value, tuple | dict):
        raise TypeError(
            f"`fit_posterior` expected the observed value of `{name}` to be one array; got a "
            f"{type(value).__name__} of {len(value)}. Make an array of it: `np.asarray`."
        )


def _is_foreign(value: Any) -> bool:
    """Whether a value is an array that is not JAX's: of NumPy, of pandas, or a list."""
    if isinstance(value, jax.Array | np.generic):
        return False
    return isinstance(value, list) or hasattr(value, "__array__")


def _is_for_all(msg: dict) -> bool:
    """Whether one number is observed at every place, such as a residual of zero."""
    written = isinstance(msg["value"], int | float)  # and not one of the data, which is a mistake
    if jnp.ndim(msg["value"]) or not msg["fn"].shape():
        return False
    return written or not msg["cond_indep_stack"]


def _without_mask(fn: Any) -> Any:
    """Take off the mask of `obs_mask`, which is the innermost, and leave the user's own."""
    if isinstance(fn.base_dist, dist.MaskedDistribution):
        return _without_mask(fn.base_dist).mask(mask_of(fn))
    return fn.base_dist


def _example(fn: Any) -> Any:
    return jax.eval_shape(lambda: fn.sample(jax.random.key(0)))
