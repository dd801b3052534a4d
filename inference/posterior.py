"""What a fit returns: draws, what they are draws of, and predictions from them."""

import dataclasses
import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from bayesfield.checks import (
    check_flag,
    check_key,
    check_path,
    check_size,
    check_texts,
    listed,
)

from .arguments import check_not_traced
from .data_record import check_precision, shapes_of
from .engine import Members, Run
from .findings import verdict
from .fingerprint import unchanged
from .labels import Labelled, axis_names, labelled
from .linear import linear
from .predict import run_program
from .program import Program, tracing
from .ranges import outside_of_fit
from .ready import on_new_data
from .replays import observations, replay
from .sites import Data, Sites, Values

if TYPE_CHECKING:
    import xarray as xr


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Posterior:
    """Draws of a program's latent sites given data, by any engine.

    Attributes:
        program: The program, bound to what of `data` is static.
        data: The arrays that it was fitted to; None where it was loaded without them.
        sites: Its sites.
        draws: Latent sites, `(chain, draw, *shape)`: SVI has one chain; an ensemble has one chain
            with a member a draw.
        params: Values of the params, `(trunk, *shape)`; a trunk is a distinct set of them.
        trunk: `(chain, draw)`: the place in `params` of each draw.
        stats: What the engine reports of each draw, `(chain, draw)`, named as ArviZ names it.
        losses: `(member, step)` where the engine has any, else None.
        members: Restarts, members or chains, the best first: what another fit can start from.
        settings: Engine, resolved settings, versions, seconds, whether it was cut short.
        modes: Expansion points of a linearised posterior (Laplace), unconstrained,
            `(start, *shape)`: each draw is predicted about the one of its own start, the number in
            `stats["start"]`. Empty for engines whose predictions run the program itself.
        record: Shapes and digest of the data where `data` is None, so that it can be saved again.
        run: The chains' last states, for `extend`; None where they are not to be had.
    """

    program: Program
    data: Data
    sites: Sites
    draws: Values
    params: Values
    trunk: np.ndarray
    stats: dict[str, np.ndarray]
    losses: np.ndarray | None
    members: Members
    settings: dict[str, Any]
    modes: Values = dataclasses.field(default_factory=dict)
    record: dict[str, Any] | None = None
    run: Run | None = None

    @property
    def predictive(self) -> Program:
        """What predictions run: the program, linear about the modes where there are any."""
        return linear(self.program, self.modes, self.sites) if self.modes else self.program

    @property
    def num_chains(self) -> int:
        """How many chains the draws are in."""
        return self.trunk.shape[0]

    @property
    def num_draws(self) -> int:
        """How many draws each chain has."""
        return self.trunk.shape[1]

    @property
    def num_trunks(self) -> int:
        """How many distinct sets of params the draws belong to."""
        return int(self.trunk.max()) + 1

    @property
    def cut_short(self) -> bool:
        """Whether the fit was interrupted."""
        return self.settings["cut_short"] is not None

    def __repr__(self) -> str:
        """Say in a few lines what it is, and what was found wrong with it."""
        size = sum(int(np.prod(site.shape)) for site in self.sites.latent)
        names = [site.name for site in self.sites.latent]
        trunks = f", {self.num_trunks} trunks" if self.num_trunks > 1 else ""
        cut = ", cut short" if self.cut_short else ""
        divergences = (
            f", {int(self.stats['diverging'].sum())} divergences"
            if "diverging" in self.stats
            else ""
        )
        return (
            f"Posterior by {self.settings['engine']}: {self.num_chains} chains x "
            f"{self.num_draws} draws{trunks}{cut}\n"
            f"  {size} latent values: {listed(names) or 'none'}; {len(self.params)} params\n"
            f"  {self.settings['run_seconds']:.1f} s running, "
            f"{self.settings['compile_seconds']:.1f} s compiling{divergences}"
            + (f"\n  {told}" if (told := verdict(self)) else "")
        )

    def values(self) -> Values:
        """Return every latent site and param as `(chain, draw, *shape)`.

        `bayesfield.realise(field, posterior.values(), name)` makes fields of them.
        """
        return self.draws | {name: value[self.trunk] for name, value in self.params.items()}

    @tracing
    def predict(
        self,
        data: Mapping[str, Any],
        *,
        key: PRNGKeyArray,
        sites: Iterable[str] | None = None,
        batch_size: int | None = None,
    ) -> "xr.Dataset":
        """Run the program on new data, once for each draw.

        Outputs are drawn, and everything else that is observed keeps its value. An output is an
        observed site that no other site's distribution depends on, as the trace of the program
        says; what a deterministic site alone is computed from is one, and that follows what is
        drawn. No outputs are a site that is fixed (`handlers.condition`, `obs=`) and read by
        others, and a covariate with a density. `fit_posterior(outputs=...)` says which are, where
        that is not what is meant: a program that writes a series as one site for each time, each
        read by the next, say.

        Args:
            data: Arguments; one that is left out takes its default, or None. Observations of
                outputs that are still there are not used. A covariate with a density is drawn
                where it is left out; of one with an `obs_mask` the values that are given stay, and
                the others are those of the fit at each draw if the mask and what is given are
                those of the fit, and drawn if not. A latent site that is given keeps that value.
                A plate that subsamples takes all of its rows.
            key: Draws the outputs, and whatever else has no value.
            sites: Names of the sites to return; by default the outputs and, for each,
                `<site>_mean`, the mean of its distribution: class probabilities where it is
                categorical, the median where the mean is not finite or not known. Where neither
                is known there is no `<site>_mean`, and the attrs say so.
            batch_size: How many draws run at a time; chosen by the size of the result by default.

        Returns:
            An xarray Dataset with dims (chain, draw, ...), plates by their names; `<site>_<plate>`
            where a plate has two sizes or is called as a site or an axis is. Its attr
            `outside_of_fit` names the arguments that go beyond what the fit has seen.

        Raises:
            TypeError: `data` holds an argument that the model does not take; an old-style key.
            ValueError: A latent site's plate changed its size; an unknown site.
            NotImplementedError: A site that has to be drawn cannot be; a variance is not known.
        """
        call = "predict"
        check_not_traced(call, data, key)
        key = check_key(call, key)
        self.check_unchanged(call)
        if batch_size is not None:
            check_size(call, "batch_size", batch_size)
        if sites is not None:
            sites = check_texts(call, "sites", sites)
        ready = on_new_data(self, "predict", data)
        outputs = ready.sites.outputs
        means = [f"{name}_mean" for name in outputs] if sites is None else []
        out = run_program(
            *ready,
            outputs if sites is None else sites,
            key,
            optional=means,
            batch_size=batch_size,
        )
        result = labelled(out)
        unknown = [name for name in means if name not in out]
        if unknown:
            note = f"neither the mean nor the median is known to NumPyro: no {', '.join(unknown)}"
            result = result.assign_attrs(note=note)
        beyond = outside_of_fit(self, ready.data)
        if beyond:
            result = result.assign_attrs(outside_of_fit=beyond)
        if not out:
            result = result.assign_attrs(note="the program has no output: name `sites` to return")
        return result

    @tracing
    def log_likelihood(self, data: Mapping[str, Any]) -> "xr.Dataset":
        """Return the log density of new observations, for each draw.

        Args:
            data: Arguments, observations with them, of any number of rows.

        Returns:
            An xarray Dataset with dims (chain, draw, ...), plates by their names: the log mean
            over draws is the log predictive density of a row. It has every observed site, outputs
            and others, in its own shape; values that are masked or NaN have NaN.

        Raises:
            ValueError: A latent site's plate changed its size; no observed site.
            NotImplementedError: A site's distribution has no density.
        """
        self.check_unchanged("log_likelihood")
        ready = on_new_data(self, "log_likelihood", data, fill=False)
        observed = {site.name: site for site in ready.sites.observed}
        if not observed:
            raise ValueError("`log_likelihood` expected observations in `data`; no site has any.")
        at = ready.program, ready.data, ready.draws
        found = replay(*at, parts=("log_likelihood",)).log_likelihood
        items, values = {}, observations(*at, observed)
        for name in observed:
            y, seen = values[name]
            axes = tuple(range(y.ndim - observed[name].event_dim, y.ndim))
            seen = seen.any(axes)
            value = np.asarray(found[name])
            if np.isnan(value[:, :, seen]).any():
                raise ValueError(
                    f"`log_likelihood` expected densities of `{name}` that are numbers; got NaN. "
                    "Does `data` hold NaN outside of the observations, or values outside of their "
                    "support?"
                )
            value = np.where(seen, value, np.nan)
            items[name] = Labelled(value, axis_names(observed[name], value.ndim - 2), name)
        return labelled(items)

    def to_datatree(
        self,
        *,
        key: PRNGKeyArray | None = None,
        prior: "xr.Dataset | None" = None,
        trunk: int | None = None,
        dims: Mapping[str, Iterable[str]] | None = None,
        coords: Mapping[str, Iterable[Any]] | None = None,
    ) -> "xr.DataTree":
        """Return an ArviZ DataTree with every group there is.

        Args:
            key: Draws the group posterior_predictive, which is left out without it.
            prior: What `sample_prior` returned, for the groups prior and prior_predictive.
            trunk: Only the draws of this trunk.
            dims: From a site's name to the names of its axes, where plates do not name them.
            coords: From an axis's name to its coordinates.

        Returns:
            The groups posterior (with deterministic sites), sample_stats (with the `trunk` of each
            draw where there are params), log_likelihood and observed_data (of every observed
            site), log_prior, constant_data, and those asked for, posterior_predictive of the
            outputs; settings as attrs. Values that are masked or NaN are left out of
            log_likelihood, as `az.loo` needs it: the axis of a site of one axis keeps the indices
            of the others as its coordinates, and a site of several axes has one axis,
            `<site>_seen`, with its places in each of them beside. Of a posterior that was loaded
            without its data: posterior (latent sites alone) and sample_stats, and the prior.
        """
        from .datatree import build

        self.check_unchanged("to_datatree")
        return build(self, key=key, prior=prior, trunk=trunk, dims=dims, coords=coords)

    def extend(self, num_samples: int, *, progress: bool = True) -> "Posterior":
        """Go on with the chains for `num_samples` more draws of each.

        The draws are those that one longer fit would have made: keys go by the number of the step,
        and the warm-up is not repeated. Params stay as they are.

        Args:
            num_samples: Draws to add to each chain.
            progress: Whether to show bars, where stderr is a terminal.

        Returns:
            A posterior of all the draws.

        Raises:
            TypeError: The engine has no chains that could go on.
            ValueError: The posterior was loaded without its data, or its fit was cut short.
        """
        from .extend import extend

        check_not_traced("extend")
        progress = check_flag("extend", "progress", progress)
        self.check_unchanged("extend")
        return extend(self, check_size("extend", "num_samples", num_samples), progress=progress)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything but the training data and the program's code to one file.

        The file is a NumPy archive, whatever its name, with a JSON header and no pickle in it. It
        holds draws, params (a learnt trunk), statistics, losses, starts of other fits, settings
        and the data's static arguments; of the data's arrays their shapes and a digest. Writing is
        atomic: an interrupt leaves what was there before.

        Args:
            path: Where to; a file that is there is replaced.

        Raises:
            FileNotFoundError: The directory does not exist.
            TypeError: An argument in the data is no array, int, bool, string or None, nor a dict,
                list or tuple of them.
        """
        from .storage import save

        check_path("save", "path", path)
        save(self, path)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        model: Callable[..., Any],
        data: Mapping[str, Any] | None = None,
    ) -> "Posterior":
        """Read a posterior that `save` wrote, in any process.

        Without the training data it predicts on new data and starts other fits; what replays the
        program on the training data raises an error, and `to_datatree` leaves those groups out.

        Args:
            path: The file.
            model: The program of the fit; code is not in the file. It is refused where its sites,
                supports, plates, params, fixed arrays (a frozen trunk) or numbers differ.
            data: The training data, checked against the digest in the file.

        Raises:
            FileNotFoundError: There is no such file.
            TypeError: `model` is not callable; `data` is no mapping.
            ValueError: The file is cut off, altered, of another kind or of a newer version; it is
                of another program, other data or another precision than this process works in.

        Warns:
            UserWarning: The program may compute something else than the saved one did: it has the
                same sites and arrays, but other operations; or its numbers cannot be compared, as
                the file was written by other versions of the libraries.
        """
        from .storage import load

        check_path("load", "path", path)
        return cls(**load(path, model, data))

    @tracing
    def check_unchanged(self, call: str) -> None:
        """Refuse to go on where the program computes something else now than when it was fitted.

        Raises:
            ValueError: What the program reads from outside has changed since.
        """
        check_precision(call, self)
        record = self.record if self.data is None else None
        shapes = self.data if record is None else shapes_of(record)[0]
        unchanged(call, self.program, shapes)

    def only_trunk(self, trunk: int) -> "Posterior":
        """Return the draws of one trunk: its chains, or its share of one chain.

        Its members are those on this trunk; losses stay those of the whole fit, and the chains of
        one of several trunks cannot go on by themselves (`extend`).
        """
        check_size("only_trunk", "trunk", trunk, least=0)
        if trunk >= self.num_trunks:
            raise ValueError(f"`trunk` must be below {self.num_trunks}; got {trunk}.")
        if self.num_trunks == 1:
            return self
        mine = self.trunk == trunk
        chains = mine.any(1)
        draws = mine[chains][0]  # a chain is on one trunk, or all of one chain's shares are equal

        def taken(values: dict) -> dict:
            return {name: np.asarray(value)[chains][:, draws] for name, value in values.items()}

        params = {name: value[trunk : trunk + 1] for name, value in self.params.items()}
        start, score = self.members
        on = np.ones(len(score), bool)
        for name, value in params.items():
            on &= (start.params[name] == value).reshape(len(score), -1).all(1)
        return dataclasses.replace(
            self,
            draws=taken(self.draws),
            params=params,
            trunk=np.zeros((int(chains.sum()), int(draws.sum())), int),
            stats=taken(self.stats),
            members=Members(jax.tree.map(lambda value: value[on], start), score[on]),
            run=None,
        )
