"""What a fit returns: draws, what they are draws of, and predictions from them."""

import dataclasses
import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import PRNGKeyArray

from bayesfield.checks import (
    check_flag,
    check_key,
    check_path,
    check_size,
)

from ..engines.drive import Run
from ..engines.fitted import Fitted, Members
from ..engines.laplace.linear import predictive
from ..program.arguments import check_not_traced
from ..program.bound import BoundProgram
from ..program.fingerprint import unchanged
from ..program.program import Program, tracing
from ..program.sites import Data, Sites, Values
from ..running.safely import Hold
from ..storage.data_record import check_precision, shapes_of
from ..storage.files import load, save
from .convergence import with_verdict
from .datatree import build
from .extend import extend
from .predictions import log_likelihoods, predicted
from .summary import summary
from .trunks import of_trunk

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
    def bound(self) -> BoundProgram:
        """The program, its data and its sites."""
        return BoundProgram(self.program, self.data, self.sites)

    @property
    def fitted(self) -> Fitted:
        """The draws and what was reported of them."""
        own = {name: getattr(self, name) for name in Fitted._fields if name != "report"}
        return Fitted(**own, report=self.settings.get("report"))

    @classmethod
    def of(
        cls,
        bound: BoundProgram,
        fitted: Fitted,
        record: dict[str, Any] | None = None,
        run: Run | None = None,
    ) -> "Posterior":
        """Put draws, and what they are draws of, together."""
        parts = {name: part for name, part in fitted._asdict().items() if name != "report"}
        parts |= {"modes": fitted.modes or {}, "settings": fitted.said}
        return cls(**bound._asdict(), **parts, record=record, run=run)

    def judged(self, hold: Hold, call: str) -> "Posterior":
        """Judge the fit and warn once of what is wrong with it; `settings["judged"]` keeps it."""
        return self._with(with_verdict(hold, call, self.bound, self.fitted), self.run)

    def _with(self, fitted: Fitted, run: Run | None) -> "Posterior":
        return Posterior.of(self.bound, fitted, self.record, run)

    @property
    def predictive(self) -> Program:
        """What predictions run: the program, linear about the modes where there are any."""
        return predictive(self.bound, self.modes)

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
        """Say in a few lines what it is, and what was found wrong with it."""
        return summary(self.sites, self.fitted)

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
        observed site that no other site's distribution depends on; a site that is fixed
        (`handlers.condition`) and read by others is none, nor is a covariate with a density.
        `fit_posterior(outputs=...)` says which are where that is not what is meant: of a series
        written as one site for each time, say.

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
        check_not_traced("predict", data, key)
        key = check_key("predict", key)
        self.check_unchanged("predict")
        return predicted(self.bound, self.fitted, data, key=key, sites=sites, batch_size=batch_size)

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
        return log_likelihoods(self.bound, self.fitted, data)

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
        self.check_unchanged("to_datatree")
        fitted = self.fitted if trunk is None else self.only_trunk(trunk).fitted
        return build(self.bound, fitted, key=key, prior=prior, dims=dims, coords=coords)

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
        check_not_traced("extend")
        progress = check_flag("extend", "progress", progress)
        self.check_unchanged("extend")
        num_samples = check_size("extend", "num_samples", num_samples)
        longer = extend(
            self.bound, self.fitted, self.run, num_samples, record=self.record, progress=progress
        )
        return self._with(*longer)

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
        check_path("save", "path", path)
        save(path, self.bound, self.fitted, self.record, self.run)

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
        check_path("load", "path", path)
        return cls.of(*load(path, model, data))

    @tracing
    def check_unchanged(self, call: str) -> None:
        """Refuse to go on where the program computes something else now than when it was fitted.

        Raises:
            ValueError: What the program reads from outside has changed since.
        """
        check_precision(call, self.bound, self.record)
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
        return self._with(of_trunk(self.fitted, trunk), None)
