"""Checks of what is drawn: a result of another call."""

from collections.abc import Sequence
from typing import Any

from bayesfield.checks import close_match, described


def check_result(call: str, argument: str, result: Any, maker: str, names: tuple[str, ...]) -> None:
    """Refuse anything but the Dataset that the public call `maker` returns."""
    held = hasattr(result, "data_vars") and all(name in result.variables for name in names)
    if not held:
        raise TypeError(
            f"`{call}` expected `{argument}` to be what `{maker}` returns; got "
            f"{described(result)}{' of something else' * hasattr(result, 'data_vars')}."
        )


def one_of_sites(call: str, site: str | None, known: Sequence[str]) -> str:
    """Return the site that is meant: the only one, or the one of that name."""
    if site is None and len(known) == 1:
        return known[0]
    if site is None or site not in known:
        raise ValueError(
            f"`{call}` expected `site` to name a site that can be drawn, among {[*known]}; got "
            f"{site!r}.{close_match(site, known) if site else ''}"
        )
    return site
