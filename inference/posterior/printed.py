"""How a posterior shows itself: a line, a few lines, or a table in a notebook."""

import abc
from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any, NoReturn

import jax
import numpy as np

from ..engines.fitted import Fitted
from ..program.sites import Data, Site, Sites
from .guesses import DRAWS, TREE, guessed
from .summary import one_line, scalars, summary

MOST_ROWS = 40


class AbstractPrinted(abc.ABC):
    """What has sites and a result, counts its draws, and shows itself.

    Attributes:
        sites: The sites of the program.
        data: The arrays that it was fitted to, or None.
        settings: How it was fitted.
    """

    sites: Sites
    data: Data
    settings: dict[str, Any]

    if not TYPE_CHECKING:  # a checker would take any name for one that is there

        def __getattr__(self, name: str) -> NoReturn:
            """Say where else to look, where a name is known from another library or as a site."""
            held = self.__dict__.get("sites")
            sites = () if held is None else [site.name for site in held.latent]
            advice = "" if name.startswith("_") else guessed(name, sites)
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute {name!r}. {advice}".rstrip(),
                name=name,
                obj=self,
            )

        def __getitem__(self, name: Any) -> NoReturn:
            """Say that draws are not read so."""
            sites = [site.name for site in self.sites.latent]
            advice = guessed(name, sites) or f"{DRAWS} {TREE}"
            raise TypeError(f"a {type(self).__name__} is not read by brackets. {advice}")

    @property
    @abc.abstractmethod
    def fitted(self) -> Fitted:
        """The result of the engine."""

    @property
    def num_chains(self) -> int:
        """How many chains the draws are in."""
        return self.fitted.num_chains

    @property
    def num_draws(self) -> int:
        """How many draws each chain has."""
        return self.fitted.num_draws

    @property
    def num_trunks(self) -> int:
        """How many distinct sets of params the draws belong to."""
        return self.fitted.num_trunks

    @property
    def cut_short(self) -> bool:
        """Whether the fit was interrupted."""
        return self.settings["cut_short"] is not None

    def __repr__(self) -> str:
        """Say in a line what the posterior is and whether it can be trusted."""
        return one_line(self.sites, self.fitted)

    def __str__(self) -> str:
        """Say in a few lines what the posterior is, and what was found wrong with it."""
        return summary(self.sites, self.fitted)

    def _repr_html_(self) -> str:
        """Show in a notebook what `print` says, with the groups of its DataTree to unfold."""
        text = escape(summary(self.sites, self.fitted, short=True)).replace("\n", "<br>")
        judged = self.settings.get("judged") or {}
        lists = [_items(name, judged.get(name, [])) for name in ("warnings", "notes")]
        return f"<div>{text}{''.join(lists)}{''.join(self._groups())}</div>"

    def _groups(self) -> Iterable[str]:
        """Yield a table for each group of the DataTree: what it holds, and of which shape."""
        fitted, sites = self.fitted, self.sites
        known = dict(scalars(sites, fitted))
        known |= dict.fromkeys([site.name for site in sites.deterministic], "computed")
        known |= dict.fromkeys(sites.outputs, "an output")
        stats = [(name, str(np.shape(value)[2:])) for name, value in fitted.stats.items()]
        data = self.data if isinstance(self.data, dict) else {}
        held = [(name, _shapes(value)) for name, value in data.items() if jax.tree.leaves(value)]
        groups = {
            "posterior": [_of_site(site) for site in (*sites.latent, *sites.deterministic)],
            "params": [_of_site(site) for site in sites.params],
            "sample_stats": stats,
            "observed_data": [_of_site(site) for site in sites.observed],
        }
        for name, rows in groups.items():
            yield _table(name, [(*row, known.get(row[0], "")) for row in rows])
        yield _table("data", [(*row, "") for row in held])


def _of_site(site: Site) -> tuple[str, str]:
    plates = {axis: name for name, axis in site.plates}
    axes = [
        f"{plates[i]}: {size}" if i in plates else str(size) for i, size in enumerate(site.shape)
    ]
    return site.name, f"({', '.join(axes)}{',' * (len(axes) == 1 and not plates)})"


def _shapes(value: Any) -> str:
    return ", ".join(str(np.shape(leaf)) for leaf in jax.tree.leaves(value))


def _items(name: str, texts: Sequence[str]) -> str:
    inside = "".join(f"<li>{escape(text)}</li>" for text in texts)
    return _unfolded(name, inside, len(texts), "ul") if texts else ""


def _table(name: str, rows: list[tuple[str, str, str]]) -> str:
    if not rows:
        return ""
    cells = [
        f"<tr>{''.join(f'<td style="text-align:left">{escape(cell)}</td>' for cell in row)}</tr>"
        for row in rows[:MOST_ROWS]
    ]
    if len(rows) > MOST_ROWS:
        cells.append(f"<tr><td>and {len(rows) - MOST_ROWS} more</td></tr>")
    return _unfolded(name, "".join(cells), len(rows), "table")


def _unfolded(name: str, inside: str, number: int, tag: str) -> str:
    return f"<details><summary>{name} ({number})</summary><{tag}>{inside}</{tag}></details>"
