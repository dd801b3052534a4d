"""Refusing data that a program has marked as positive, for which a density would be NaN."""

from jax.extend.core import JaxprEqn

from bayesfield.marks import POSITIVE

from .known import Known, Visit


def mark_check(call: str) -> Visit:
    """Return a check, for each equation of a trace, that data marked as positive are.

    Args:
        call: The public call, for the error.

    Raises:
        ValueError: Raised by the check if a value is not greater than zero.
    """

    def check(eqn: JaxprEqn, known: list[Known | None]) -> None:
        given = known[0] if eqn.params.get("name") == POSITIVE else None
        if given is None:
            return
        outside = ~(given.value > 0)
        if outside.any():
            first = tuple(int(axis[0]) for axis in outside.nonzero())
            where = f" in row {first[0]}" if len(first) == 1 else f" at {first}" if first else ""
            raise ValueError(
                f"`{call}` expected `{given.argument}` to be greater than zero; got "
                f"{given.value[first]!s}{where}, and {outside.sum()} such values in all. Correct "
                "them, or leave those rows out."
            )

    return check
