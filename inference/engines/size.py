"""How large a program is, and what that says of the two cheap approximations.

Two numbers decide. *Rows for each value*: a guide without correlations gives each value that the
data know a spread of its own, and the noise scale takes their sum in. Of `N` rows and `P` values
that is a share of at most `P / N` of its variance (posterior/guide_noise.py has the derivation), so
such a guide is for programs of many rows to a value. *Rows times values*: a Gauss-Newton
curvature costs that many numbers for each start. What was measured: benchmarks/BY_SIZE.md.
"""

from typing import NamedTuple

import numpy as np

from ..program.sites import Site, Sites

ROWS = 6  # to a value: noise that takes in the spread of all values is a tenth too large at most
ENTRIES = 40_000_000  # rows times values that curvatures may cost, of all starts together


class Size(NamedTuple):
    """Hold how many numbers a program observes, draws and fits.

    Attributes:
        rows: Observed values.
        values: Latent values.
        params: Numbers of params.
    """

    rows: int
    values: int
    params: int

    @property
    def has_many_rows(self) -> bool:
        """Whether a guide without correlations has the noise about right."""
        return self.rows >= ROWS * self.values

    @property
    def starts(self) -> int:
        """How many starts may have their curvature."""
        return ENTRIES // max(1, self.rows * self.values)


def size_of(sites: Sites) -> Size:
    """Count the numbers of a program's sites."""
    return Size(*(_numbers(part) for part in (sites.observed, sites.latent, sites.params)))


def _numbers(sites: tuple[Site, ...]) -> int:
    return sum(int(np.prod(site.shape)) for site in sites)
