"""Which members of a plate are known by name, which are new, and which have no name."""

from collections.abc import Iterable, Set
from typing import Any, NamedTuple

import numpy as np

from bayesfield.checks import close_match, described

MISSING = "(missing)"
NEW, UNNAMED = -1, -2


class Named(NamedTuple):
    """The members of the plate by name.

    Attributes:
        labels: A name for each member; None without `names`.
        place: `(member,)`: the member's number in the fit, `NEW` or `UNNAMED`.
    """

    labels: list[Any] | None
    place: np.ndarray


def named(
    call: str,
    plate: str,
    names: Iterable[Any] | None,
    known: Iterable[Any] | None,
    *,
    num_members: int,
    num_known: int,
    new: str,
) -> Named:
    """Read the names of the new members, and find those that the fit knows.

    Args:
        call: The public call, for errors.
        plate: The plate.
        names: A name for each member of the new plate, None for one without; None where all of
            them are new.
        known: The names of the fit's members; by default their numbers.
        num_members: The size of the new plate.
        num_known: The size of the plate in the fit.
        new: "infer", or "error" to refuse a name that is not known.

    Raises:
        ValueError: There are not as many names as members; a name stands twice; one is new where
            `new="error"`.
    """
    if names is None:
        return Named(None, np.full(num_members, NEW))
    labels = [_plain(name) for name in _as_list(call, "names", names, num_members, plate)]
    before = [*range(num_known)] if known is None else known
    before = [_plain(name) for name in _as_list(call, "known", before, num_known, plate)]
    for argument, given in (("names", labels), ("known", before)):
        seen = [name for name in given if name is not None]
        twice = next((name for i, name in enumerate(seen) if name in seen[:i]), None)
        if twice is not None:
            raise ValueError(
                f"`{call}` expected `{argument}` with each name once, as all rows of a name share "
                f"a member of `{plate}`; got {twice!r} twice."
            )
    at = {name: i for i, name in enumerate(before) if name is not None}
    place = np.array([UNNAMED if name is None else at.get(name, NEW) for name in labels])
    if new == "error" and (place == NEW).any():
        name = labels[int(np.argmax(place == NEW))]
        close = close_match(str(name), [str(one) for one in before])
        raise ValueError(
            f"`{call}` expected `names` among those of the fit, as `new='error'`; got {name!r}."
            f"{close} `new='infer'` gives it a code from the population."
        )
    return Named([MISSING if name is None else name for name in labels], place)


def names_before(settings: dict[str, Any], plate: str) -> list[Any] | None:
    """Return the names that an earlier `infer_codes` gave the members of a plate, if any."""
    codes = settings.get("codes") or {}
    if codes.get("plate") != plate or not codes.get("names"):
        return None
    return [None if name == MISSING else name for name in codes["names"]]


def _as_list(call: str, argument: str, given: Any, number: int, plate: str) -> list[Any]:
    ordered = isinstance(given, Iterable) and not isinstance(given, str | Set)
    names = [*given] if ordered else []
    if not ordered or any(np.ndim(name) and not isinstance(name, tuple) for name in names):
        got = "a list of arrays" if ordered else described(given)
        raise TypeError(f"`{call}` expected `{argument}` to be a list of names; got {got}.")
    if len(names) != number:
        raise ValueError(
            f"`{call}` expected `{argument}` to hold a name for each of the {number} members of "
            f"`{plate}`; got {len(names)}."
        )
    return names


def _plain(name: Any) -> Any:
    """Return a name as a string or an int, which a file can hold; None where it is missing.

    What arrays of NumPy, JAX, xarray and pyarrow hold is made plain, as `0` is no `"0"`. Whole
    numbers beside a missing one are floats to pandas.
    """
    for made_plain in ("item", "as_py"):
        if hasattr(name, made_plain) and np.ndim(name) == 0:
            name = getattr(name, made_plain)()
    if _is_missing(name):
        return None
    if isinstance(name, float) and name.is_integer():
        return int(name)
    return name if isinstance(name, int | str) else str(name)


def _is_missing(name: Any) -> bool:
    """Whether a name is None, NaN, or pandas' NaT or NA."""
    try:
        return name is None or bool(name != name)
    except TypeError:  # NA, which is neither equal to itself nor not
        return True
