"""Whether a posterior is used as it was fitted: the same program, in the same precision."""

from typing import Any

from ..program.bound import BoundProgram
from ..program.fingerprint import unchanged
from .data_record import check_precision, shapes_of


def check_as_fitted(call: str, bound: BoundProgram, record: dict[str, Any] | None) -> None:
    """Raise if the program computes something else now than when it was fitted.

    Args:
        call: The public call.
        bound: The program and its data.
        record: What is known of the data where they are not there.

    Raises:
        ValueError: Something that the program reads from outside has changed; or this process
            works in another precision than the fit did.
    """
    check_precision(call, bound, record)
    record = record if bound.data is None else None
    shapes = bound.data if record is None else shapes_of(record)[0]
    unchanged(call, bound.program, shapes)
