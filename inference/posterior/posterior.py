"""The posterior that a fit returns: its draws, and what can be done with them."""

import dataclasses
import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from bayesfield.checks import check_path

from ..batches.batches import Batches
from ..engines.drive import Run
from ..engines.fitted import Fitted, Members
from ..engines.laplace.linear import predictive
from ..program.bound import BoundProgram
from ..program.program import Program
from ..program.sites import Data, Sites, Values
from ..program.tracing import tracing
from ..running.progress import Progress
from ..storage.as_fitted import check_as_fitted
from ..storage.files import load, save
from ..storage.records import Records, checked
from .datatree import build
from .extend import extend
from .predictions import log_likelihoods, predicted
from .printed import AbstractPrinted
from .trunks import of_trunk

if TYPE_CHECKING:
    import xarray as xr


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Posterior(AbstractPrinted):
    """Hold the draws of a program's latent sites given data, and predict from them.

    Attributes:
        program: The program, bound to the static arguments in `data`.
        data: The arrays that it was fitted to; None if it was loaded without them.
        sites: The sites of the program.
        draws: The latent sites, `(chain, draw, *shape)`; SVI and ensembles have one chain.
        params: Values of the params, `(trunk, *shape)`; a trunk is a distinct set of them.
        trunk: `(chain, draw)`: the index in `params` of each draw.
        stats: What the engine reports of each draw, `(chain, draw)`, by ArviZ's names.
        losses: `(member, step)`; None if the engine has none.
        members: Restarts, members or chains, the best first, from which another fit can start.
        settings: Engine, resolved settings, versions, seconds, whether it was cut short.
        modes: Laplace's modes, unconstrained, `(start, *shape)`; draws' are in `stats["start"]`.
        record: Shapes and digest of the data, by which it is saved again if `data` is None.
        run: The last states of the chains, for `extend`, or None.
        records: What `save` was given to keep with it, by name, such as a `Table`'s record.

    Examples:
        >>> import jax, jax.numpy as jnp, numpyro, numpyro.distributions as dist
        >>> from bayesfield.inference import NUTS, fit_posterior
        >>> def model(x, y=None):
        ...     slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
        ...     with numpyro.plate("rows", x.shape[0]):
        ...         numpyro.sample("y", dist.Normal(slope * x, 0.5), obs=y)
        >>> x = jnp.linspace(-1.0, 1.0, 20)
        >>> data = {"x": x, "y": 2.0 * x}
        >>> posterior = fit_posterior(model, data, NUTS(), key=jax.random.key(0))
        >>> posterior.num_chains, posterior.num_draws
        (4, 200)
        >>> bands = posterior.predict({"x": x[:3]}, key=jax.random.key(1), quantiles=(0.05, 0.95))
        >>> bands["y_mean"].shape
        (2, 3)
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
    records: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def bound(self) -> BoundProgram:
        """The program, its data and its sites."""
        return BoundProgram(self.program, self.data, self.sites)

    @property
    def fitted(self) -> Fitted:
        """The draws and all that the engine reported with them."""
        own = {name: getattr(self, name) for name in Fitted._fields if name != "report"}
        return Fitted(**own, report=self.settings.get("report"))

    @classmethod
    def of(
        cls,
        bound: BoundProgram,
        fitted: Fitted,
        record: dict[str, Any] | None = None,
        run: Run | None = None,
        records: Records = None,
    ) -> "Posterior":
        """Make a posterior of a bound program and the result of an engine."""
        parts = {name: part for name, part in fitted._asdict().items() if name != "report"}
        parts |= {"modes": fitted.modes or {}, "settings": fitted.said}
        return cls(**bound._asdict(), **parts, record=record, run=run, records=records or {})

    def _with(self, fitted: Fitted, run: Run | None) -> "Posterior":
        return Posterior.of(self.bound, fitted, self.record, run, self.records)

    @property
    def predictive(self) -> Program:
        """The program that predictions run, which is linear about the modes if there are any."""
        return predictive(self.bound, self.modes)

    def values(self) -> Values:
        """Return every latent site and param, `(chain, draw, *shape)`, as `realise` takes them."""
        return self.draws | {name: value[self.trunk] for name, value in self.params.items()}

    @tracing
    def predict(
        self,
        data: Mapping[str, Any] | Batches,
        *,
        key: PRNGKeyArray,
        sites: Iterable[str] | None = None,
        quantiles: Iterable[float] | None = None,
        num_draws: int | None = None,
        coords: Mapping[str, Iterable[Any]] | None = None,
        batch_size: int | None = None,
        summaries: Iterable[str | float] | None = None,
        to: str | os.PathLike[str] | None = None,
        block_size: int | None = None,
        mesh: jax.sharding.Mesh | None = None,
    ) -> "xr.Dataset":
        """Run the program on new data, once for each draw.

        Outputs are drawn; all other observed sites keep their values. An output is an observed
        site that no other one depends on: a covariate with a density is none, nor a site that is
        fixed and read by others. Where that is wrong, name them: `fit_posterior(outputs=...)`.

        Args:
            data: Arguments; one that is left out takes its default, or None. Observations of
                outputs are ignored. A covariate with a density is drawn if it is left out. Of one
                with an `obs_mask`, given values stay; the others are the fit's at each draw if
                mask and given values are those of the fit, else drawn. A latent site that is given
                keeps that value. A plate that subsamples takes all of its rows. Or `Batches`.
            key: Draws the outputs, and all else without a value.
            sites: Names of the sites to return; by default the outputs and the mean of each one's
                distribution, `<site>_mean`: class probabilities if it is categorical, the median
                if the mean is not finite or unknown. If both are unknown the attrs say so.
            quantiles: Of the draws, in their place; those of `y_mean` are a band of the function.
            num_draws: Use about so many of the draws, spread evenly; by default all.
            coords: From an axis's name to its coordinates, `{"points": times}`.
            batch_size: How many draws run at a time; by default it depends on the result's size.
            summaries: `"mean"`, `"sd"` and quantiles in the place of draws, a block of rows at a
                time, each row by itself; (mean, sd, 0.05, 0.5, 0.95) with `to` or `Batches`.
            to: A zarr store that they are written to, and read from as they are asked for. The same
                call goes on where one was stopped.
            block_size: How many rows a block has.
            mesh: The devices to run on, as in `fit_posterior`: draws are spread over its axis
                "lanes", rows of `data` over "rows". The numbers are those of one device but for
                rounding. All processes of a job make the same call; each gets the whole result.

        Returns:
            An xarray Dataset with dims (chain, draw, ...), (quantile, ...) or (summary, ...) and
            plates by their names: `<site>_<plate>` if a plate has two sizes or another's name. The
            attr `outside_of_fit` names what goes beyond the fit.

        Raises:
            TypeError: `data` holds an argument that the model does not take; an old-style key.
            ValueError: A latent site's plate changed its size; a name is unknown; a row depends on
                others; `to` holds something else.
            NotImplementedError: A site without a value cannot be drawn; a variance is unknown.
        """
        blocks = {"summaries": summaries, "to": to, "block_size": block_size}
        whole = {"quantiles": quantiles, "coords": coords, "batch_size": batch_size}
        own = self.bound, self.fitted, self.record, data
        return predicted(*own, key, sites, num_draws, whole=whole, blocks=blocks, mesh=mesh)

    @tracing
    def log_likelihood(
        self, data: Mapping[str, Any], *, mesh: jax.sharding.Mesh | None = None
    ) -> "xr.Dataset":
        """Return the log density of new observations, for each draw.

        Args:
            data: Arguments with their observations, of any number of rows.
            mesh: The devices to run on, as in `predict`.

        Returns:
            An xarray Dataset of every observed site, its dims as in `predict`; NaN where masked.

        Raises:
            ValueError: The size of a latent site's plate changed; no observed site.
            NotImplementedError: A site's distribution has no density.
        """
        return log_likelihoods(self.bound, self.fitted, self.record, data, mesh)

    def to_datatree(
        self,
        *,
        key: PRNGKeyArray | None = None,
        prior: "xr.Dataset | None" = None,
        trunk: int | None = None,
        dims: Mapping[str, Iterable[str]] | None = None,
        coords: Mapping[str, Iterable[Any]] | None = None,
        predictions: Mapping[str, Any] | None = None,
        pred_coords: Mapping[str, Iterable[Any]] | None = None,
    ) -> "xr.DataTree":
        """Return an ArviZ DataTree with every group that the posterior has.

        Args:
            key: Draws the group posterior_predictive, which is left out without it.
            prior: What `sample_prior` returned, for the groups prior and prior_predictive.
            trunk: Keep only the draws of this trunk.
            dims: From a site or an argument to the names of its axes, if plates do not name them.
            coords: From an axis's name to its coordinates.
            predictions: Data out of sample, as `predict` takes them, for predictions (its outputs
                at this `key`) and predictions_constant_data.
            pred_coords: Coordinates of these two; members of the posterior have those of `coords`.

        Returns:
            Settings as attrs, and the groups posterior (with deterministic sites), sample_stats,
            log_likelihood and observed_data of every observed site, log_prior, constant_data, and
            on request the others. log_likelihood leaves out values that are masked or NaN, as
            `az.loo` needs it; its axis, or of several `<site>_seen`, has the indices of the rest.
        """
        self.check_unchanged("to_datatree")
        own = self if trunk is None else self.only_trunk(trunk)
        return build(self.bound, own.fitted, key, prior, predictions, dims, coords, pred_coords)

    def extend(self, num_samples: int, *, progress: Progress = True) -> "Posterior":
        """Continue the chains, and return the old draws and `num_samples` more of each chain.

        The draws are those of one longer fit, with no second warm-up. `progress` is as in the fit.

        Raises:
            TypeError: The engine has no chains.
            ValueError: The posterior has no data, or its fit was cut short.
        """
        own = self.bound, self.fitted, self.run, self.record
        return self._with(*extend(*own, num_samples, progress=progress))

    def save(self, path: str | os.PathLike[str], *, records: Records = None) -> None:
        """Write everything but the training data and the program's code to one file.

        The file is a NumPy archive with a JSON header and no pickle, with shapes and a digest of
        the data's arrays. An interrupt leaves the old file as it was.

        Args:
            path: The file; one that exists is replaced.
            records: Values of JSON's types by name, to be found in `records` after `load`.

        Raises:
            TypeError: An argument is no array, int, bool, string, None, dict, list or tuple.
        """
        check_path("save", "path", path)
        own = self.bound, self.fitted, self.record, self.run
        save(path, *own, {**self.records, **checked(records)})

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        model: Callable[..., Any],
        data: Mapping[str, Any] | Batches | None = None,
    ) -> "Posterior":
        """Read a posterior that `save` wrote, in any process.

        Without the training data it can predict and start other fits; what needs them raises an
        error, and `to_datatree` leaves those groups out.

        Args:
            path: The file.
            model: The program of the fit, as code is not in the file; another one is refused.
            data: The training data, checked against the file's digest (of `Batches`, a first one).

        Raises:
            FileNotFoundError: There is no such file.
            TypeError: `model` is not callable; `data` is not a mapping.
            ValueError: The file is damaged, or of another kind, program, data or precision.
        """
        check_path("load", "path", path)
        return cls.of(*load(path, model, data))

    @tracing
    def check_unchanged(self, call: str) -> None:
        """Raise a ValueError if the program computes something else now than when it was fitted."""
        check_as_fitted(call, self.bound, self.record)

    def only_trunk(self, trunk: int) -> "Posterior":
        """Return the draws of one trunk alone; `extend` cannot continue one of several."""
        alone = of_trunk(self.fitted, trunk)
        return self if alone is None else self._with(alone, None)
