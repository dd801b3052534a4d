"""Do the bands cover? Fits by defaults of noisy families of sines, against an exact GP.

    python benchmarks/believable.py all generators laplace --seeds 3

The field's values are judged on a 14 x 14 grid of (a, x) within the data, and on one beyond them in
a. RMSE and CRPS of f are multiples of the GP's (RBF on (a, x), hyper-parameters and noise by
marginal likelihood). FiLM-SIREN is the field, Hyper-RFF for `rff` and `laplace-rff`. Seconds are of
a second, warm fit with other data where `--warm` is given.
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
from bayesfield.inference import NUTS, SVI, EnsembleMAP, Laplace, diagnose, fit_posterior

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


def model(field):
    return bf.regression(field, bf.Gaussian(dist.HalfNormal(0.5)))


MODELS = {  # nothing is left for a key to draw where every weight is random
    "all": model(bf.with_prior(film_siren(jr.key(0)), where="all")),
    "rff": model(bf.with_prior(hyper_rff(jr.key(0)), where="all")),
    "generators": model(lambda key: bf.with_prior(film_siren(key))),
}


def nuts_from_modes(name):
    return lambda data, key: fit_posterior(MODELS[name], data, NUTS(), init=EnsembleMAP(), key=key)


METHODS = {
    "all": nuts_from_modes("all"),
    "rff": nuts_from_modes("rff"),
    "generators": lambda data, key: fit_posterior(
        MODELS["generators"], data, NUTS(num_trunks=4), init=SVI(num_restarts=4), key=key
    ),
    "svi": lambda data, key: fit_posterior(
        MODELS["generators"], data, SVI("normal", num_restarts=4, num_trunks=4), key=key
    ),
    "long": lambda data, key: fit_posterior(
        MODELS["all"], data, NUTS(num_samples=1000), init=EnsembleMAP(), key=key
    ),
    "laplace": lambda data, key: fit_posterior(MODELS["all"], data, Laplace(), key=key),
    "laplace-generators": lambda data, key: fit_posterior(
        MODELS["generators"],
        data,
        Laplace(hold_params=True),
        init=SVI(num_restarts=4),
        key=key,
    ),
    "laplace-rff": lambda data, key: fit_posterior(MODELS["rff"], data, Laplace(), key=key),
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


def grid(low, high, num_a, num_x=14):
    a, x = jnp.meshgrid(jnp.linspace(low, high, num_a), jnp.linspace(-2.8, 2.8, num_x))
    return a.ravel(), x.ravel()


def gaussian_process(a, x, y, a_new, x_new):
    """Mean and sd of f of the exact GP at its best marginal likelihood."""
    points, new = jnp.stack([a, x], 1), jnp.stack([a_new, x_new], 1)

    def kernel(h, p, q):
        scaled = (p[:, None] - q) / jnp.exp(h[:2])
        return jnp.exp(2 * h[2] - 0.5 * jnp.sum(scaled**2, -1))

    def covariance(h):
        return kernel(h, points, points) + (jnp.exp(2 * h[3]) + 1e-6) * jnp.eye(len(y))

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

    h = climb(jnp.log(jnp.array([1.0, 1.0, 1.0, 0.1])))
    solve = jax.scipy.linalg.cho_factor(covariance(h), lower=True)
    cross = kernel(h, new, points)
    mean = cross @ jax.scipy.linalg.cho_solve(solve, y)
    half = jax.scipy.linalg.solve_triangular(solve[0], cross.T, lower=True)
    return mean, jnp.sqrt(jnp.maximum(jnp.exp(2 * h[2]) - jnp.sum(half**2, 0), 1e-10))


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


def field_values(posterior, a, x):
    drawn = posterior.predict({"x": x[:, None], "z": contexts(a)}, key=jr.key(0), sites=["y_mean"])
    return drawn["y_mean"].values.reshape(-1, len(a))


def run(method, family, seed, *, warm):
    """One fit and one GP; a dict of numbers."""
    a, x, y = observe(family, seed)
    data = {"x": x[:, None], "z": contexts(a), "y": y}
    fit = METHODS[method]
    if warm:
        _, _, other = observe(family, seed + 50)
        fit(data | {"y": other}, jr.key(seed + 50))
    begin = time.perf_counter()
    posterior = fit(data, jr.key(seed))
    seconds = time.perf_counter() - begin
    inside, outside = grid(1.2, 3.8, 14), grid(4.2, 5.5, 7)
    truth = {
        name: np.asarray(FAMILIES[family](*g))
        for name, g in (("inside", inside), ("outside", outside))
    }
    own = judge(field_values(posterior, *inside), truth["inside"])
    beyond = judge(field_values(posterior, *outside), truth["outside"])
    gp = judge(gaussian_draws(*gaussian_process(a, x, y, *inside)), truth["inside"])
    found = diagnose(posterior)
    rhat = found["rhat"].where(found["quantity"] == "y_mean", drop=True).values
    share = found.get("between_trunk_share")
    sigma = next(v for n, v in posterior.draws.items() if n.endswith("sigma"))
    return {
        "own": own,
        "gp": gp,
        "beyond": beyond,
        "rhat": (np.nanmax(rhat), np.nanmedian(rhat)) if np.isfinite(rhat).any() else (np.nan,) * 2,
        "sigma": sigma.mean(),
        "share": np.nan if share is None else float(share[found["quantity"] == "y_mean"].mean()),
        "uncertain": any("trunk is uncertain" in str(text) for text in found.attrs["findings"]),
        "seconds": seconds,
        "depth": float(posterior.stats.get("tree_depth", np.array(np.nan)).mean()),
    }


def main():
    """Print a row for each method and family."""
    parser = argparse.ArgumentParser()
    parser.add_argument("methods", nargs="+", choices=METHODS)
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--families", type=int, default=1)
    parser.add_argument("--warm", action="store_true")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    fast = rates(interleaved(rate_cases(), rounds=5))
    print(describe(), *(f"{rate:.1e} {name}s a second" for name, rate in fast.items()), sep="; ")
    print(
        "| fit | family | coverage (GP) | RMSE / GP | CRPS / GP | sigma / 0.1 | "
        "sd outside / inside (coverage) | R-hat of f, max, median | "
        "between trunks (said) | depth | s |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for method in args.methods:
        for family in list(FAMILIES)[: args.families]:
            runs = [
                run(method, family, args.first + s, warm=args.warm and s == 0)
                for s in range(args.seeds)
            ]
            own, gp, beyond = (
                np.mean([r[name] for r in runs], axis=(0, 2)) for name in ("own", "gp", "beyond")
            )
            rhats = np.array([r["rhat"] for r in runs]).max(0)
            print(
                f"| {method} | {family} | {own[2]:.2f} ({gp[2]:.2f}) | "
                f"{np.sqrt(own[0] / gp[0]):.2f} | {own[1] / gp[1]:.2f} | "
                f"{np.mean([r['sigma'] for r in runs]) / NOISE:.2f} | "
                f"{beyond[3] / own[3]:.1f} ({beyond[2]:.2f}) | {rhats[0]:.3f}, {rhats[1]:.3f} | "
                f"{np.mean([r['share'] for r in runs]):.2f} "
                f"({sum(r['uncertain'] for r in runs)} of {len(runs)}) | "
                f"{np.mean([r['depth'] for r in runs]):.1f} | "
                + ", ".join(f"{r['seconds']:.0f}" for r in runs)
                + " |",
                flush=True,
            )


if __name__ == "__main__":
    main()
