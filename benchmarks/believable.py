"""Do the bands cover? Fits by defaults of noisy families of sines, against an exact GP.

    python benchmarks/believable.py all generators laplace --seeds 3
    python benchmarks/believable.py laplace-hyper-siren --seeds 3 --first 6 --family 0 1 --each

The field's values are judged on a 14 x 14 grid of (a, x) within the data, and on one beyond them in
a. RMSE and CRPS of f are multiples of the GP's (RBF on (a, x), hyper-parameters and noise by
marginal likelihood). FiLM-SIREN is the field, Hyper-RFF for `rff` and `laplace-rff`, HyperSIREN for
those that end in `hyper-siren`. Seconds are of a second, warm fit with other data where `--warm` is
given; CPU seconds are those of all threads.
"""

import argparse
import time
import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
import optax
from machine import describe, interleaved, rate_cases, rates

import bayesfield as bf
from bayesfield.inference import MCLMC, NUTS, SVI, EnsembleMAP, Laplace, diagnose, fit_posterior

NOISE, N = 0.1, 512
FAMILIES = {
    "sin(a x)": lambda a, x: jnp.sin(a * x),
    "sin(a x + 0.3 x^2)": lambda a, x: jnp.sin(a * x + 0.3 * x**2),
}


def film_siren(key):
    k1, k2 = jr.split(key)
    trunk = bf.SIREN.init(1, 32, 1, depth=4, key=k1, first_omega=5.0, hidden_omega=5.0)
    return bf.ConditionedINR.init(trunk, conditioner_cls=bf.FiLM, cond_dim=4, key=k2)


def hyper_rff(key):
    k1, k2 = jr.split(key)
    net = eqx.nn.MLP(4, 65, 32, 1, key=k1)  # 32 frequencies, 32 phases, the log of the lengthscale
    feat = bf.HyperFourierFeatures.init(parameter_net=net, in_features=1, n_features=32, cond_dim=4)
    return bf.ConditionedRFFNet.init(feat=feat, out_features=1, key=k2)


def hyper_siren(key):
    sizes = {"depth": 4, "cond_dim": 4}
    return bf.HyperSIREN.init(1, 32, 1, key=key, first_omega=5.0, hidden_omega=5.0, **sizes)


def model(field):
    return bf.regression(field, bf.Gaussian(dist.HalfNormal(0.5)))


MODELS = {  # nothing is left for a key to draw where every weight is random
    "all": model(bf.with_prior(film_siren(jr.key(0)), where="all")),
    "rff": model(bf.with_prior(hyper_rff(jr.key(0)), where="all")),
    "hyper-siren": model(bf.with_prior(hyper_siren(jr.key(0)), where="all")),
    "generators": model(lambda key: bf.with_prior(film_siren(key))),
}


def method(model, engine, init=None):
    """Return `data, key -> posterior`."""
    return lambda data, key: fit_posterior(
        MODELS[model], data, engine, init=init, key=key, progress=False
    )


METHODS = {
    "all": method("all", NUTS(), EnsembleMAP()),
    "rff": method("rff", NUTS(), EnsembleMAP()),
    "generators": method("generators", NUTS(num_trunks=4), SVI(num_restarts=4)),
    "svi-generators": method("generators", SVI(num_restarts=4, num_trunks=4)),
    "svi": method("generators", SVI("normal", num_restarts=4, num_trunks=4)),
    "long": method("all", NUTS(num_samples=1000), EnsembleMAP()),
    "mclmc": method("all", MCLMC(), EnsembleMAP()),
    "laplace": method("all", Laplace()),
    "laplace-generators": method("generators", Laplace(hold_params=True), SVI(num_restarts=4)),
    "laplace-rff": method("rff", Laplace()),
    "mclmc-rff": method("rff", MCLMC(), EnsembleMAP()),
    "laplace-hyper-siren": method("hyper-siren", Laplace()),
    "svi-hyper-siren": method("hyper-siren", SVI("linearised", num_restarts=4)),
    "auto-hyper-siren": method("hyper-siren", "auto"),
}


def contexts(a):
    """`a (n,)`, standardised, as four equal columns."""
    return jnp.broadcast_to(((a - 2.5) / 0.866)[:, None], (len(a), 4))


def observe(family, seed, n=N):
    """Return `a (n,)`, `x (n,)` and the noisy `y (n,)`."""
    k1, k2, k3 = jr.split(jr.key(100 + seed), 3)
    a = jr.uniform(k1, (n,), minval=1.0, maxval=4.0)
    x = jr.uniform(k2, (n,), minval=-3.0, maxval=3.0)
    return a, x, FAMILIES[family](a, x) + NOISE * jr.normal(k3, (n,))


def rows(family, seed, n=N):
    """Return the data that a program takes; fewer rows are the first of more."""
    a, x, y = observe(family, seed, n)
    return {"x": x[:, None], "z": contexts(a), "y": y}


def grid(low, high, num_a, num_x=14):
    a, x = jnp.meshgrid(jnp.linspace(low, high, num_a), jnp.linspace(-2.8, 2.8, num_x))
    return a.ravel(), x.ravel()


INSIDE, BEYOND = grid(1.2, 3.8, 14), grid(4.2, 5.5, 7)  # of the data's range in a


def truth_on(family, points):
    return np.asarray(FAMILIES[family](*points))


def gaussian_process(points, y, new):
    """Mean and sd of f at `new (m, D)`, of the exact GP at its best marginal likelihood."""
    num = points.shape[1]  # lengthscales, then the scale of f, then the noise

    def kernel(h, p, q):
        scaled = (p[:, None] - q) / jnp.exp(h[:num])
        return jnp.exp(2 * h[num] - 0.5 * jnp.sum(scaled**2, -1))

    def covariance(h):
        return kernel(h, points, points) + (jnp.exp(2 * h[num + 1]) + 1e-6) * jnp.eye(len(y))

    def loss(h):
        return -dist.MultivariateNormal(jnp.zeros(len(y)), covariance(h)).log_prob(y)

    optimizer = optax.adam(0.05)

    @jax.jit
    def climb(h):
        def step(carry, _):
            h, memory = carry
            updates, memory = optimizer.update(jax.grad(loss)(h), memory)
            return (optax.apply_updates(h, updates), memory), None

        return jax.lax.scan(step, (h, optimizer.init(h)), length=200)[0][0]

    h = climb(jnp.log(jnp.append(jnp.ones(num + 1), 0.1)))
    solve = jax.scipy.linalg.cho_factor(covariance(h), lower=True)
    cross = kernel(h, new, points)
    mean = cross @ jax.scipy.linalg.cho_solve(solve, y)
    half = jax.scipy.linalg.solve_triangular(solve[0], cross.T, lower=True)
    return mean, jnp.sqrt(jnp.maximum(jnp.exp(2 * h[num]) - jnp.sum(half**2, 0), 1e-10))


def gaussian_draws(mean, sd, num=2000):
    return np.asarray(mean + sd * jr.normal(jr.key(9), (num, len(mean))))


def judge(draws, truth):
    """Squared error, CRPS and hit of the 90 % band of draws `(draw, point)`, and their sd."""
    low, high = np.quantile(draws, (0.05, 0.95), axis=0)
    ordered = np.sort(draws, axis=0)
    n = len(draws)
    weights = (2.0 * np.arange(1, n + 1) - n - 1.0)[:, None]
    crps = np.abs(draws - truth).mean(0) - (weights * ordered).sum(0) / n**2
    hit = (low < truth) & (truth < high)
    return np.stack([(draws.mean(0) - truth) ** 2, crps, hit, draws.std(0)])


def reference(family, seed):
    """What `judge` returns of the exact GP within the data."""
    a, x, y = observe(family, seed)
    found = gaussian_process(jnp.stack([a, x], 1), y, jnp.stack(INSIDE, 1))
    return judge(gaussian_draws(*found), truth_on(family, INSIDE))


def noise_of(posterior):
    """Return the mean of the noise scale's draws over the truth."""
    return next(v for n, v in posterior.draws.items() if n.endswith("sigma")).mean() / NOISE


def field_values(posterior, a, x):
    drawn = posterior.predict({"x": x[:, None], "z": contexts(a)}, key=jr.key(0), sites=["y_mean"])
    return drawn["y_mean"].values.reshape(-1, len(a))


def run(method, family, seed, *, warm):
    """One fit and one GP; a dict of numbers."""
    data, fit = rows(family, seed), METHODS[method]
    if warm:
        fit(data | {"y": rows(family, seed + 50)["y"]}, jr.key(seed + 50))
    begin, begin_cpu = time.perf_counter(), time.process_time()
    posterior = fit(data, jr.key(seed))
    seconds, cpu = time.perf_counter() - begin, time.process_time() - begin_cpu
    own, beyond = (
        judge(field_values(posterior, *points), truth_on(family, points))
        for points in (INSIDE, BEYOND)
    )
    found = diagnose(posterior)
    rhat = found["rhat"].where(found["quantity"] == "y_mean", drop=True).values
    share = found.get("between_trunk_share")
    return {
        "own": own,
        "gp": reference(family, seed),
        "beyond": beyond,
        "rhat": (np.nanmax(rhat), np.nanmedian(rhat)) if np.isfinite(rhat).any() else (np.nan,) * 2,
        "noise": noise_of(posterior),
        "share": np.nan if share is None else float(share[found["quantity"] == "y_mean"].mean()),
        "uncertain": any("trunk is uncertain" in str(text) for text in found.attrs["findings"]),
        "seconds": seconds,
        "cpu": cpu,
        "depth": float(posterior.stats.get("tree_depth", np.array(np.nan)).mean()),
    }


COLUMNS = (
    "fit | family | seeds | coverage (GP) | RMSE / GP | CRPS / GP | sigma / 0.1 | "
    "sd outside / inside (coverage) | R-hat of f, max, median | "
    "between trunks (said) | depth | s | CPU s"
)


def cells(method, family, runs):
    """The cells of a row: the pooled runs, by seed."""
    own, gp, beyond = (
        np.mean([r[name] for r in runs.values()], axis=(0, 2)) for name in ("own", "gp", "beyond")
    )
    found = {name: [r[name] for r in runs.values()] for name in next(iter(runs.values()))}
    rhats = np.max(found["rhat"], axis=0)
    return [
        method,
        family,
        " ".join(f"{seed}" for seed in runs),
        f"{own[2]:.2f} ({gp[2]:.2f})",
        f"{np.sqrt(own[0] / gp[0]):.2f}",
        f"{own[1] / gp[1]:.2f}",
        f"{np.mean(found['noise']):.2f}",
        f"{beyond[3] / own[3]:.1f} ({beyond[2]:.2f})",
        f"{rhats[0]:.3f}, {rhats[1]:.3f}",
        f"{np.mean(found['share']):.2f} ({sum(found['uncertain'])} of {len(runs)})",
        f"{np.mean(found['depth']):.1f}",
        *(", ".join(f"{second:.0f}" for second in found[n]) for n in ("seconds", "cpu")),
    ]


def show(*row):
    print("| " + " | ".join(row) + " |", flush=True)


def main():
    """Print a row for each method and family, and where it is asked for one for each seed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("methods", nargs="+", choices=METHODS)
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--family", type=int, nargs="+", default=[0], help="numbers")
    parser.add_argument("--each", action="store_true", help="a row for each seed too")
    parser.add_argument("--warm", action="store_true")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    fast = rates(interleaved(rate_cases(), rounds=5))
    print(describe(), *(f"{rate:.1e} {name}s a second" for name, rate in fast.items()), sep="; ")
    print(f"\n| {COLUMNS} |\n|{'---|' * (COLUMNS.count('|') + 1)}", flush=True)
    for method in args.methods:
        for family in ([*FAMILIES][number] for number in args.family):
            runs = {}
            for seed in range(args.first, args.first + args.seeds):
                runs[seed] = run(method, family, seed, warm=args.warm and not runs)
                if args.each and args.seeds > 1:
                    show(*cells(method, family, {seed: runs[seed]}))
            show(*cells(method, family, runs))


if __name__ == "__main__":
    main()
