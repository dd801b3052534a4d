"""Which sites of a program are drawn anew in a prediction, and which keep their values.

An output is drawn: an observed site that no other site's distribution depends on (`Sites.outputs`).
Every other observed site keeps its value: one that is fixed (`handlers.condition`, `obs=`), or a
covariate with a density.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import jax.numpy as jnp
import numpyro
from jaxtyping import PRNGKeyArray
from numpyro.primitives import Messenger

from ..program.sites import Sites
from ..program.wrappers import innermost


class Redrawn:
    """Records the sites that could not be drawn.

    Attributes:
        failed: From the name of such a site to the error that was raised.
    """

    def __init__(self) -> None:
        self.failed: dict[str, NotImplementedError] = {}


@contextmanager
def redrawing(names: Iterable[str], *, given: bool = False) -> Iterator[Redrawn]:
    """Draw the values of some observed sites anew; sites that depend on them see the new values.

    The handler is outermost, also outside of handlers in the model, so it acts last. Unlike
    NumPyro's `uncondition` it draws as many values as were observed where the distribution itself
    has fewer, acts within `scan`, and leaves every other observed site alone. A site that cannot
    be drawn is recorded and not raised, because its mean can be computed without its value.

    Args:
        names: The sites.
        given: Whether they keep observed values and are drawn only where they have none.
    """
    redrawn = Redrawn()
    with _Redraw(frozenset(names), given, redrawn.failed):
        yield redrawn


class _Redraw(Messenger):
    def __init__(self, names: frozenset[str], given: bool, failed: dict[str, NotImplementedError]):
        super().__init__()
        self.names, self.given, self.failed = names, given, failed

    def process_message(self, msg: dict) -> None:
        if msg["type"] == "control_flow":  # sites inside a scan meet no other handler
            msg["kwargs"]["substitute_stack"].append(("substitute", self._drawn_inside))
        elif msg["type"] != "sample" or msg.get("_control_flow_done", False):
            return
        elif msg["value"] is None or self._is_redrawn(msg):
            msg["value"], msg["is_observed"] = self._drawn(msg), False

    def _is_redrawn(self, msg: dict) -> bool:
        named = msg["type"] == "sample" and msg["name"] in self.names
        return named and msg["is_observed"] and not self.given

    def _drawn_inside(self, msg: dict) -> Any:
        return self._drawn(msg) if self._is_redrawn(msg) else None

    def _drawn(self, msg: dict) -> Any:
        """Draw a site, in the shape of its observations."""
        sample_shape = msg["kwargs"]["sample_shape"]
        if msg["value"] is not None:
            msg["fn"], sample_shape = as_wide(msg["fn"], jnp.shape(msg["value"])), ()
        key = msg["kwargs"]["rng_key"]
        key = numpyro.prng_key() if key is None else key
        try:
            return draw(msg["name"], msg["fn"], key, sample_shape)
        except NotImplementedError as error:
            if msg["name"] not in self.names:
                raise
            self.failed[msg["name"]] = error
            return jnp.zeros(msg["fn"].shape())


def draw(name: str, fn: Any, key: PRNGKeyArray | None, sample_shape: tuple[int, ...] = ()) -> Any:
    """Draw from a site's distribution; the error names the site where it cannot be sampled."""
    try:
        return fn(rng_key=key, sample_shape=sample_shape)
    except (NotImplementedError, ImportError) as error:
        reason = f" ({error})" if str(error) else ""
        needs = "Install what NumPyro asks for, g" if isinstance(error, ImportError) else "G"
        raise NotImplementedError(
            f"The site `{name}` has to be drawn, and its distribution, "
            f"{type(innermost(fn)).__name__}, cannot be sampled{reason}. {needs}ive its value in "
            "`data`, do not ask for it, or use a distribution with `sample`."
        ) from error


def as_wide(fn: Any, shape: tuple[int, ...]) -> Any:
    """Expand a distribution to the shape of its observations, where that is larger."""
    batch = jnp.broadcast_shapes(fn.batch_shape, shape[: len(shape) - fn.event_dim])
    return fn if batch == fn.batch_shape else fn.expand(batch)


def statements(sites: Sites) -> dict[str, str]:
    """Map each observed site to its name in the program's `sample` statement.

    The two differ where the statement has an `obs_mask`: NumPyro then makes two sites of `y`,
    `y_observed` and a latent `y_unobserved`.
    """
    stems = {site.name: site.name.removesuffix("_observed") for site in sites.observed}
    return {n: stem if stem in sites.masked else n for n, stem in stems.items()}


def statements_in(sites: Sites, new: Sites) -> dict[str, str]:
    """Map each output of a fit, by its name on new data, to its name in the `sample` statement.

    Its names in the fit and on new data differ where only one of them has an `obs_mask`. An output
    whose observations the new data leave out is a latent site there.
    """
    here = {site.name for site in (*new.latent, *new.observed)}
    names = statements(sites)
    found = {}
    for name in sites.outputs:
        stem = names.get(name, name)
        for other in (name, stem, f"{stem}_observed"):
            if other in here:
                found[other] = stem
                break
    return found


def predictions_in(sites: Sites, new: Sites) -> dict[str, str]:
    """Map each site that predictions on new data return to its name in the `sample` statement.

    Beside the outputs of the fit these are sites that only the new data bring about and that
    nothing reads: values at other points, given those that were observed.
    """
    fitted = {s.name for s in (*sites.latent, *sites.observed)} | {*sites.outputs}
    read = {name for parts in new.reads.values() for names in parts.values() for name in names}
    halves = {f"{stem}_{half}" for stem in new.masked for half in ("observed", "unobserved")}
    own = [s.name for s in (*new.latent, *new.observed) if s.name not in fitted | read | halves]
    return statements_in(sites, new) | {name: name for name in own}


def imputed(sites: Sites) -> dict[str, str]:
    """Map each site that `obs_mask` imputes, except replicates, to its observed counterpart."""
    latent = {site.name for site in sites.latent} - {*sites.replicates}
    pairs = {f"{stem}_unobserved": f"{stem}_observed" for stem in sites.masked}
    return {name: given for name, given in pairs.items() if name in latent}
