"""A table as a few lines: the columns of each role, and how they become numbers."""

from bayesfield.checks import listed

from .roles import Roles
from .scaling import UNITS, Dates, Labels, Scaling

WORDS = dict(zip(UNITS, ("weeks", "days", "hours", "minutes", "seconds"), strict=True))


def table_text(roles: Roles) -> str:
    """Return a line for each column: its role, its name, and what the program gets of it."""
    tasks = () if roles.task is None else (roles.task,)
    told = [("x", c.name, _told(c)) for c in roles.x]
    told += [("z", c.name, _told(c)) for c in roles.z]
    told += [("task", c.name, f"0 to {len(c.labels) - 1} for {_some(c)}") for c in tasks]
    told += [("y", c.name, "counts" if roles.counts else _told(c)) for c in roles.y]
    if roles.exposure is not None:
        told.append(("exposure", roles.exposure, "numbers, as they are"))
    told += [("known_sd", name, "in the units of the scaled outcome") for name in roles.known_sd]
    wide = [max(len(one[i]) for one in told) for i in range(2)]
    return "\n".join(
        ["Table", *(f"  {r:<{wide[0]}}  {name:<{wide[1]}}  {what}" for r, name, what in told)]
    )


def _told(column: Scaling) -> str:
    if isinstance(column, Labels):
        return f"a column of 0 and 1 for each of {_some(column)}"
    kind = "numbers"
    if isinstance(column, Dates):
        kind = f"{WORDS[column.unit]} from {column.origin}{' UTC' if column.zoned else ''}"
    elif column.flags:
        return "True and False as 1 and 0"
    if (column.centre, column.scale) == (0.0, 1.0):
        return f"{kind}, as they are"
    return f"{kind}, less {column.centre:.4g} and divided by {column.scale:.4g}"


def _some(column: Labels) -> str:
    return listed([str(label) for label in column.labels], 6)
