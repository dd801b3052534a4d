"""What every likelihood is: how observations scatter around a field's values."""

import abc
from typing import Any

import equinox as eqx
import numpyro.distributions as dist
from jaxtyping import Array

from bayesfield.settings_text import settings_text


class AbstractLikelihood(eqx.Module):
    """How observations scatter around a field's values `f`.

    To add one, in this package or in a script, write two methods:

    - `scatter` draws what the scatter depends on besides `f`, at sites of its own, and returns it;
      None where there is nothing to draw.
    - `around` takes `f` and what `scatter` returned, and gives the distribution of `y`.

    `regression` calls them once each, outside of the plates of points. `f` is `(*batch,)` where the
    field has one output and `(*batch, C)` where it has several; the batch is `(points,)` or
    `(tasks, points)`. The distribution has that batch shape, with or without further axes, which
    become one event a point.

    Either method may take keyword arguments that the program was called with: `x`, `z`, `task` (the
    index of each point's task: as given, or the place along a leading axis of tasks), `scale`, and
    any others, such as `exposure`. It gets those that it names. Give one a default if it may be
    left out; an argument that neither method names is refused.

    Any object with these two methods serves. As an `equinox.Module` (or a frozen dataclass) two
    of the same settings are equal, and a second fit compiles nothing.

    Examples:
        >>> import equinox as eqx, numpyro.distributions as dist
        >>> class Binomial(eqx.Module):
        ...     def scatter(self):
        ...         return None
        ...     def around(self, f, scatter, *, trials):
        ...         return dist.Binomial(trials, logits=f)
    """

    def __repr__(self) -> str:
        """Show the call that makes it."""
        return settings_text(self)

    @abc.abstractmethod
    def scatter(self) -> Any:
        """Draw what the scatter depends on besides the field's values, each at its own site."""

    @abc.abstractmethod
    def around(self, f: Array, scatter: Any) -> dist.Distribution:
        """Return the distribution of observations around `f`, given what `scatter` returned."""
