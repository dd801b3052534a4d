"""What is carried through the package: a program, the data that it is bound to, its sites there."""

from typing import NamedTuple

from .program import Program
from .sites import Data, Sites


class BoundProgram(NamedTuple):
    """A program and its data, as `bind` returns them.

    Attributes:
        program: The program, with what of its arguments is static.
        data: The arrays among its arguments; None where a posterior was loaded without them.
        sites: All of its sites.
    """

    program: Program
    data: Data
    sites: Sites
