"""Refusing data that are not what a program has marked them to be: positive, or an index."""

from jax.extend.core import JaxprEqn

from bayesfield.marks import INDEX, POSITIVE

from .following import Visit
from .known import Later

# By the mark: what does not keep to it, and what was expected.
EXPECTED = {
    POSITIVE: (lambda value: ~(value > 0), "greater than zero"),
    INDEX: (lambda value: value < 0, "indices from 0"),
}


def mark_check(call: str) -> Visit:
    """Return a check, for each equation of a trace, that data keep to their marks.

    Args:
        call: The public call, for the error.

    Raises:
        ValueError: Raised by the check if a value does not.
    """

    def check(eqn: JaxprEqn, known: list[Later | None]) -> None:
        mark = EXPECTED.get(str(eqn.params.get("name")))
        given = known[0].now() if mark and known[0] else None
        if mark is None or given is None:
            return
        fails, expected = mark
        outside = fails(given.value)
        if outside.any():
            first = tuple(int(axis[0]) for axis in outside.nonzero())
            where = f" in row {first[0]}" if len(first) == 1 else f" at {first}" if first else ""
            raise ValueError(
                f"`{call}` expected `{given.argument}` to be {expected}; got "
                f"{given.value[first]!s}{where}, and {outside.sum()} such values in all. Correct "
                "them, or leave those rows out."
            )

    return check
