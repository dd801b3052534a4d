"""Optimisers as settings: compared by value, and built inside the trace that uses them."""

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import optax
from jaxtyping import Array

from bayesfield.checks import check_positive, check_size


class CosineCycles(eqx.Module):
    """A learning-rate schedule of cosine one-cycles in a row, compared by its settings.

    Each cycle rises from `peak / 25` to `peak` over the first 30 % of its steps and falls to
    `peak / 25000`. Each rise is a chance to leave a shallow basin.

    Attributes:
        num_steps: The number of steps of all cycles together.
        peak: The highest learning rate.
        num_cycles: How many cycles.

    Examples:
        >>> from bayesfield.inference import CosineCycles
        >>> rate = CosineCycles(num_steps=1000, peak=0.01, num_cycles=5)
        >>> float(rate(60)) == max(float(rate(step)) for step in range(0, 200, 10))
        True

    References:
        Smith, Topin, Super-Convergence, 2017. https://arxiv.org/abs/1708.07120
        Loshchilov, Hutter, SGDR, 2016. https://arxiv.org/abs/1608.03983
    """

    num_steps: int = eqx.field(static=True)
    peak: float = eqx.field(static=True)
    num_cycles: int = eqx.field(static=True)

    def __call__(self, step: Array | int) -> Array:
        """Return the learning rate at `step`."""
        length = self.num_steps // self.num_cycles
        cycle = optax.cosine_onecycle_schedule(length, self.peak, final_div_factor=1e3)
        boundaries = [length * (i + 1) for i in range(self.num_cycles - 1)]
        return jnp.asarray(optax.join_schedules([cycle] * self.num_cycles, boundaries)(step))


def cosine_cycles(num_steps: int, *, peak: float = 3e-3, num_cycles: int = 5) -> CosineCycles:
    """Return the schedule of `num_cycles` cosine one-cycles over `num_steps`.

    Args:
        num_steps: The engine's; what does not divide by `num_cycles` stays at the lowest rate.
        peak: The highest learning rate.
        num_cycles: How many cycles.

    Raises:
        ValueError: Fewer than four steps a cycle; a peak that is not positive.

    Examples:
        >>> from bayesfield.inference import SVI, cosine_cycles
        >>> engine = SVI(num_steps=1000, learning_rate=cosine_cycles(1000, peak=0.01))
    """
    check_size("cosine_cycles", "num_cycles", num_cycles)
    check_size("cosine_cycles", "num_steps", num_steps, least=4 * num_cycles)
    return CosineCycles(num_steps, check_positive("cosine_cycles", "peak", peak), num_cycles)


def check_optimizer(call: str, optimizer: Any, learning_rate: Any) -> None:
    """Refuse an optimiser and a learning rate that `build_optimizer` cannot combine."""
    if isinstance(optimizer, optax.GradientTransformation):
        if learning_rate is not None:
            raise ValueError(
                f"`{call}` expected `learning_rate` to be None beside an optax transformation, "
                f"which has its learning rate already; got {learning_rate!r}. Leave "
                "`learning_rate` out, or pass the constructor, `optimizer=optax.adam`."
            )
        return
    if not callable(optimizer):
        raise TypeError(
            f"`{call}` expected `optimizer` to be an optax constructor, `optax.adam`, or a "
            f"transformation; got {type(optimizer).__name__}."
        )
    if learning_rate is None or callable(learning_rate):
        return
    positive = isinstance(learning_rate, int | float) and not isinstance(learning_rate, bool)
    if not (positive and 0 < learning_rate < math.inf):
        raise ValueError(
            f"`{call}` expected `learning_rate` to be a positive number or a schedule; got "
            f"{learning_rate!r}."
        )


def build_optimizer(
    optimizer: Callable | optax.GradientTransformation,
    learning_rate: float | Callable | None,
    num_steps: int,
    peak: float,
) -> optax.GradientTransformation:
    """Build the optax transformation from its settings.

    Called inside a trace, because optax transformations do not compare by value and the settings
    do. Where no rate is given it is a cosine one-cycle with its maximum at `peak`, which gets
    further than a constant rate in the same number of steps.
    """
    if isinstance(optimizer, optax.GradientTransformation):
        return optimizer
    return optimizer(learning_rate or CosineCycles(max(num_steps, 4), peak, 1))
