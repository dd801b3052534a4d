"""What is said of an index that is out of range, and what to do."""

from typing import NamedTuple

import numpy as np

from .known import Known


class Use(NamedTuple):
    """What an index is for: what it was expected to do, and what to do where it goes beyond."""

    to: str
    beyond: str


_NUMBERED = "Number its values from 0, or give the program more entries. "
TAKEN = Use(
    "index an axis of {size} entries",
    _NUMBERED + "If the nearest entry is meant, say so: `a[jnp.clip(i, 0, {last})]`.",
)
DROPPED = Use(
    "index an axis of {size} entries",
    "JAX leaves such a row out without a word. " + _NUMBERED + "If it is to be left out, say so: "
    "`jnp.where((i >= 0) & (i < {size}), i, {size})`.",
)
SLICED = Use(
    "start a slice of {width} of {size} entries",
    "JAX moves such a slice to where it fits. Pad the array, or start it earlier. If the nearest "
    "slice is meant, say so: `jnp.clip(i, 0, {last})`.",
)
BRANCH = Use(
    "number one of {size} branches",
    "`switch` takes the nearest. Number its values from 0, or give it more branches. If the "
    "nearest is meant, say so: `jnp.clip(i, 0, {last})`.",
)
CLASS = Use(
    "number one of {size} classes",
    "`one_hot` makes zeros of it. Number its values from 0, or give it more classes. If zeros are "
    "meant, say so: `jnp.where((i >= 0) & (i < {size}), i, -1)`.",
)
NEGATIVE = (
    "JAX counts a negative index from the end. Leave rows without a member out, or give them one: "
    "`jnp.where(i < 0, 0, i)`; for one that is masked, `x[jnp.maximum(t - 1, 0)]`. If counting "
    "from the end is meant, say so: `a[i % {size}]`."
)


def of_the_data(
    call: str, argument: str, given: str, use: Use, size: int, width: int, *, counted: bool
) -> str:
    """Return the text of an error about an index that is computed from the data.

    Args:
        call: The public call.
        argument: The argument of the data.
        given: What stands there, and where, as `spelled` says it.
        use: What the index is for.
        size: How many entries there are.
        width: How many a slice takes.
        counted: Whether JAX counts it from the end.
    """
    remedy = NEGATIVE if counted else use.beyond
    text = f"`{{call}}` expected `{{argument}}` to {use.to}, from 0 to {{last}}; got {{given}}. "
    facts = {"size": size, "width": width, "last": size - width}
    return (text + remedy).format(call=call, argument=argument, given=given, **facts)


def spelled(source: Known | None, place: int, taken: int) -> str:
    """Say which value of an argument, if it is one of it alone, makes an index."""
    if source is None:
        return f"one from which the index {taken} is computed"
    row = tuple(int(i[0]) for i in np.nonzero(source.place == place))
    where = f" in row {row[0]}" if len(row) == 1 else f" at {row}" if row else ""
    value = source.value[row]
    return f"{value}{where}" + (f", there the index {taken}" if taken != value else "")


def of_the_program(call: str, index: int, size: int) -> str:
    """Return the text of an error about an index that stands in the program."""
    given = index - (size if index < 0 else 0)
    return (
        f"`{call}` expected `model` to index an axis of {size} entries, from 0 to {size - 1} or "
        f"from -{size}; got {given}, which stands in the program or is an argument that is a "
        "Python int. Number entries from 0, or give the program more of them."
    )
