"""Effective draws of f a second, of whole fits: the library's against NumPyro's by hand.

    python benchmarks/effective_draws.py                 # half an hour, nearly all of it by hand
    python benchmarks/effective_draws.py mixture all
    python benchmarks/effective_draws.py hand mclmc all --chains 1

By hand is what a notebook does: the trunk by joint MAP from fresh weights under loose priors, then
NumPyro's NUTS on the generators, with its own defaults (a depth of 10). Noisy `sin(a x)` at 256
points, f judged at 8 x 8, four chains of as many steps as the library's defaults. Seconds are of a
whole fit without compilation, the trunk's or the starts' included; draws on several trunks add up.
Ratios are to the first row. `--chains` are those by hand, which run one after the other.
"""

import argparse
import time
import warnings
from functools import partial

import by_hand
import jax
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
from arviz_stats.base.array import array_stats
from believable import METHODS, MODELS, contexts, grid, rows
from numpyro import handlers, infer
from numpyro.infer.autoguide import AutoDelta

from bayesfield.inference import MCLMC, NUTS, SVI, EnsembleMAP, diagnose, fit_posterior

N = 256
CHAINS, WARMUP, SAMPLES = 4, 150, 200  # the library's defaults, for by hand too
CLIMB = 3000
PROBE = dict(zip(("a", "x"), grid(1.2, 3.8, 8, num_x=8), strict=True))

START = by_hand.film_siren(jr.key(0))
FRESH = {  # the trunk and the generators begin at fresh weights, as one trains such a network
    f"{name}_{n}": v
    for i, layer in enumerate(START["layers"])
    for name, part in ((f"dense_{i}", layer["dense"]), (f"film_{i}", layer["film"]))
    for n, v in part.items()
} | {f"dense_out_{n}": v for n, v in START["readout"].items()}


def hand_model(x, z, y=None):
    """Every weight a site: loose priors on the trunk's, the library's on the generators'."""

    def sample(name, scale, like):
        return {
            n: numpyro.sample(f"{name}_{n}", dist.Normal(0.0, scale).expand(v.shape).to_event())
            for n, v in like.items()
        }

    layers = [
        {
            "dense": sample(f"dense_{i}", 1.0, layer["dense"]),
            "film": sample(f"film_{i}", 0.15, layer["film"]),
        }
        for i, layer in enumerate(START["layers"])
    ]
    params = {"layers": layers, "readout": sample("dense_out", 1.0, START["readout"])}
    sigma = numpyro.sample("sigma", dist.HalfNormal(0.5))
    f = jax.vmap(partial(by_hand.film_siren_at, params))(x, z)
    numpyro.deterministic("f", f)
    with numpyro.plate("points", x.shape[0]):
        numpyro.sample("y", dist.Normal(f, sigma), obs=y)


def by_hand_compiled(data, chains=CHAINS):
    """Return `data, key -> draws of f (chain, draw, 64) and sigma`, compiled for such data."""
    guide = AutoDelta(hand_model, init_loc_fn=infer.init_to_value(values=FRESH))
    climb = infer.SVI(hand_model, guide, optax.adam(1e-2), infer.Trace_ELBO())

    def fit(data, key):
        k1, k2, k3 = jr.split(key, 3)
        state, _ = jax.lax.scan(
            lambda s, _: climb.update(s, **data), climb.init(k1, **data), length=CLIMB
        )
        found = guide.median(climb.get_params(state))
        trunk = {n: v for n, v in found.items() if n.startswith("dense")}
        rest = {n: v for n, v in found.items() if n not in trunk}
        model = handlers.condition(hand_model, data=trunk)
        kernel = infer.NUTS(model, init_strategy=infer.init_to_value(values=rest))
        mcmc = infer.MCMC(
            kernel,
            num_warmup=WARMUP,
            num_samples=SAMPLES,
            num_chains=chains,
            chain_method="sequential",  # faster here than mapped chains, by a third
            progress_bar=False,
        )
        mcmc.run(k2, **data)
        draws = mcmc.get_samples()
        at = {"x": PROBE["x"][:, None], "z": contexts(PROBE["a"])}
        f = infer.Predictive(model, draws, return_sites=["f"])(k3, **at)["f"]
        return f.reshape(chains, -1, f.shape[-1]), draws["sigma"]

    return jax.jit(fit).lower(data, jr.key(0)).compile()  # `MCMC` alone compiles in each fit


def warmed(fit):
    """Return what fits other data first, and hands on the fit."""

    def prepare(data):
        fit(data, jr.key(1))
        return fit

    return prepare


def data_of(seed):
    return rows("sin(a x)", seed, N)


def fully_random(data, key):
    model = MODELS["all"]
    return fit_posterior(model, data, MCLMC(), init=EnsembleMAP(), key=key, progress=False)


def judge_hand(result):
    f, sigma = map(np.asarray, result)
    statistics = {"chain_axis": 0, "draw_axis": 1}
    ess = array_stats.ess(f, method="bulk", **statistics)
    return ess, array_stats.rhat(f, **statistics), sigma.mean()


def judge_library(posterior):
    at = {"x": PROBE["x"][:, None], "z": contexts(PROBE["a"])}
    found = diagnose(posterior, probe=at)
    found = found.isel(quantity=found["quantity"].values == "y_mean")
    sigma = next(v for n, v in posterior.draws.items() if n.endswith("sigma"))
    return found["ess_bulk"].sum("trunk").values, found["rhat"].values, sigma.mean()


def one_trunk(data, key):
    model = MODELS["generators"]
    return fit_posterior(model, data, NUTS(), init=SVI(), key=key, progress=False)


ROWS = {  # what it is, how it is prepared, and how its result is judged
    "hand": ("NumPyro by hand: generators, trunk by joint MAP", by_hand_compiled, judge_hand),
    "one-trunk": ("generators: `NUTS(), init=SVI()`", warmed(one_trunk), judge_library),
    "mixture": (
        "generators: `NUTS(num_trunks=4), init=SVI(num_restarts=4)`",
        warmed(METHODS["generators"]),
        judge_library,
    ),
    "all": ("all weights: `NUTS(), init=EnsembleMAP()`", warmed(METHODS["all"]), judge_library),
    "mclmc": ("all weights: `MCLMC(), init=EnsembleMAP()`", warmed(fully_random), judge_library),
}


def main():
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("rows", nargs="*", default=[*ROWS], help=f"of {[*ROWS]}; all by default")
    parser.add_argument("--chains", type=int, default=CHAINS, help="by hand")
    args = parser.parse_args()
    rows = args.rows
    if unknown := set(rows) - set(ROWS):
        parser.error(f"no such rows: {sorted(unknown)}")
    warnings.simplefilter("ignore")
    print(
        "| NUTS, N=256 | s | least ESS of f a second (ratio) | median (ratio) | R-hat of f, max, "
        "median | sigma / 0.1 |"
    )
    print("|---|---|---|---|---|---|")
    first = None
    for name, prepare, judge in (ROWS[row] for row in rows):
        fit = prepare(data_of(1), args.chains) if name == ROWS["hand"][0] else prepare(data_of(1))
        begin = time.perf_counter()
        result = jax.block_until_ready(fit(data_of(0), jr.key(0)))
        seconds = time.perf_counter() - begin
        ess, rhat, sigma = judge(result)
        rates = np.array([ess.min(), np.median(ess)]) / seconds
        first = rates if first is None else first
        (least, median), (more, most) = rates, rates / first
        print(
            f"| {name} | {seconds:.0f} | {least:.3f} ({more:.1f}) | {median:.3f} ({most:.1f}) | "
            f"{np.max(rhat):.3f}, {np.median(rhat):.3f} | {sigma / 0.1:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
