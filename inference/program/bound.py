"""`BoundProgram`: a program with its data and its sites, as passed around in this package."""

from typing import NamedTuple

from .program import Program
from .sites import Data, Sites


class BoundProgram(NamedTuple):
    """Hold a program with its data and its sites, as `bind` returns them.

    Attributes:
        program: The program, with its static arguments.
        data: The arrays among its arguments; None if a posterior was loaded without them.
        sites: All of its sites.
    """

    program: Program
    data: Data
    sites: Sites
