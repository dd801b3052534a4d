r"""El Nino: a year of sea-surface temperature from its first four months, with bands.

Monthly means off the coast of Peru, 1950 to 2010, as `statsmodels` ships them. Every year is a
task: the coordinate is the month, the context is January to April, standardised, and the field
returns the anomaly of May to December, the departure from the mean of the training years.

With 46 years to learn from, the structure has to come from the model and its priors:

- the field is linear in the context (FiLM with `gamma="identity"` on one fixed sine layer), so its
  66 random weights are smooth functions of the month, one for each month of the context;
- how much a month tells fades with its age: the prior scale of its weights is `tau * fade ** age`,
  and both numbers are learnt, being sample sites themselves;
- what the first months do not tell lasts too: the errors of a year are correlated from month to
  month (AR(1)), so eight months of one year are not counted as eight observations; their sd varies
  by month around a common one.

So few values are sampled: NUTS fits five splits of the years, 46 to train and 15 to test.
Climatology and a ridge regression for each month stand beside it, and on the first split the other
engines, each with a line on what is wrong with it.

    python examples/el_nino.py             # a minute or two on two cores; figures in out/
    python examples/el_nino.py --engine-splits 5    # the engines on every split
    python examples/el_nino.py --smoke     # seconds: does it run?
"""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import jax.numpy as jnp
import jax.random as jr
import matplotlib.pyplot as plt
import numpy as np
import numpyro
import numpyro.distributions as dist
from engines import Fit, compare, draw_rank, flat, report
from numpyro.handlers import reparam
from numpyro.infer.reparam import LocScaleReparam
from scipy.stats import norm
from statsmodels.datasets import elnino
from tqdm import tqdm

import bayesfield as bf
from bayesfield.inference import NUTS, SVI, EnsembleMAP, cosine_cycles, diagnose, fit_posterior

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
AGE = jnp.array([3.0, 2.0, 1.0, 0.0])  # months from the context's columns to April
X = jnp.linspace(-1.0, 1.0, 8)[:, None]  # May to December
COLOUR = "#1f6f9f"


@dataclass(frozen=True)
class Settings:
    """The sizes, and where the figures go."""

    splits: int = 5
    num_warmup: int = 400  # after 250 one chain of forty was caught in the neck at tau > 1
    num_samples: int = 400
    num_chains: int = 2
    svi_steps: int = 2000
    engine_splits: int = 1  # on how many of them the engines are compared
    out: Path = Path("out")


# The data --------------------------------------------------------------------------------------


def load():
    """Return the years `(61,)` and the temperatures `(61, 12)` in degrees C."""
    table = elnino.load_pandas().data.to_numpy(float)
    return table[:, 0].astype(int), table[:, 1:]


def split(i):
    years = np.random.default_rng(i).permutation(61)
    return np.sort(years[:46]), np.sort(years[46:])


def standardise(sst, train):
    """Contexts and anomalies in units of the training years, and the way back to degrees C."""
    first, rest = sst[:, :4], sst[:, 4:]
    z = (first - first[train].mean(0)) / first[train].std(0)
    mean = rest[train].mean(0)
    unit = (rest[train] - mean).std()
    return z, (rest - mean) / unit, mean, unit


# The model -------------------------------------------------------------------------------------


def make_field():
    """Functions of the month, linear in the context: only the FiLM generator will be random."""
    key_trunk, key_film = jr.split(jr.key(0))
    trunk = bf.SIREN.init(1, 8, 1, depth=2, key=key_trunk, first_omega=1.5)

    def linear_film(num_features, cond_dim, *, key):
        return bf.AffineModulation.init(num_features, cond_dim, gamma="identity", key=key)

    field = bf.ConditionedINR.init(trunk, conditioner_cls=linear_film, cond_dim=4, key=key_film)
    return bf.freeze(field, lambda path, leaf: path.startswith("trunk"))


FIELD = make_field()
WEIGHT = "field.conditioners.0.generator.net.weight"


def prior_scale(tau, fade):
    """The scales of the generator's leaves: weights `(16, 4)`, a column for each month given."""
    return lambda path, leaf: tau * fade**AGE if path.endswith("weight") else jnp.array(0.1)


def departure(field, z):
    """The anomaly `(years, 8)`: the trunk alone is subtracted, so no context means climatology."""
    return (field(X, z[:, None, :]) - FIELD.trunk(X))[..., 0]


@reparam(config={WEIGHT: LocScaleReparam(0.0)})  # weights in units of their scale: NUTS likes it
def model(z, y=None):
    tau = numpyro.sample("tau", dist.HalfNormal(0.5))
    fade = numpyro.sample("fade", dist.Uniform())
    field = bf.random_field("field", bf.with_prior(FIELD, scale=prior_scale(tau, fade)))

    spread = numpyro.sample("spread", dist.HalfNormal(0.3))
    common = numpyro.sample("common", dist.LogNormal(-0.5, 0.5))
    with numpyro.plate("months", 8):
        month = numpyro.sample("month", dist.Normal())
    sd = numpyro.deterministic("sd", common * jnp.exp(spread * month))

    rho = numpyro.sample("rho", dist.Beta(4.0, 2.0))
    lag = jnp.arange(8)[:, None] - jnp.arange(8)
    cholesky = jnp.where(lag >= 0, rho ** jnp.abs(lag), 0.0)  # of the AR(1) correlation matrix
    cholesky *= jnp.where(jnp.arange(8) > 0, jnp.sqrt(1.0 - rho**2), 1.0)
    errors = dist.MultivariateNormal(departure(field, z), scale_tril=sd[:, None] * cholesky)
    with numpyro.plate("years", z.shape[0]):
        return numpyro.sample("y", errors, obs=y)


def engines_of(settings):
    """SVI, and NUTS from its fit: chains start at the guide, its scales are their first metric."""
    rate = cosine_cycles(settings.svi_steps, peak=1e-2, num_cycles=1)
    svi = SVI(num_steps=settings.svi_steps, learning_rate=rate)
    nuts = NUTS(
        num_chains=settings.num_chains,
        num_warmup=settings.num_warmup,
        num_samples=settings.num_samples,
        target_accept_prob=0.9,
    )
    return svi, nuts


def fit(settings, key, z, y):
    """Fit by NUTS; the second split compiles nothing, its shapes being the first's."""
    svi, nuts = engines_of(settings)
    return fit_posterior(model, {"z": z, "y": y}, nuts, init=svi, key=key, progress=False)


def predict(posterior, z):
    """The mean `(draw, years, 8)` and the sd `(draw, 1, 8)` of every draw."""
    drawn = posterior.predict({"z": z}, key=jr.key(0), sites=["y_mean", "sd"])
    return flat(drawn["y_mean"]).astype(float), flat(drawn["sd"])[:, None].astype(float)


def compare_engines(settings, sst, i):
    """Fit split `i` by every engine and score what each says of its test years."""
    train, test = split(i)
    z, y, _, unit = standardise(sst, train)
    svi, nuts = engines_of(settings)
    ensemble = EnsembleMAP(num_steps=settings.svi_steps)
    fits = {
        "SVI": Fit(model, svi),
        "EnsembleMAP": Fit(model, ensemble),
        "NUTS": Fit(model, nuts, "SVI"),
    }
    own, new = ({"z": z[years], "y": y[years]} for years in (train, test))
    return compare(fits, own, new, recommended="NUTS", key=jr.key(i), unit=unit)


def average(tables):
    """Average the scores of splits of equal size; squared errors and not their roots."""
    of = {name: {c: [t[name][c] for t in tables] for c in tables[0][name]} for name in tables[0]}
    mean = {name: {c: float(np.mean(v)) for c, v in row.items()} for name, row in of.items()}
    for name, row in of.items():
        mean[name]["RMSE"] = float(np.sqrt(np.mean(np.square(row["RMSE"]))))
    return mean


# Baselines: a mean and an sd for every month of the test years -----------------------------------


def climatology(sst, train, test):
    rest = sst[train, 4:]
    return np.tile(rest.mean(0), (len(test), 1)), rest.std(0, ddof=1)


def ridge(sst, train, test, columns=(0, 1, 2, 3), penalty=1.0):
    z, _, mean, _ = standardise(sst, train)
    z, rest = z[:, columns], sst[train, 4:] - mean
    inverse = np.linalg.inv(z[train].T @ z[train] + penalty * np.eye(len(columns)))
    weights = inverse @ z[train].T @ rest
    freedom = len(train) - 1 - np.trace(z[train] @ inverse @ z[train].T)
    sd = np.sqrt(((rest - z[train] @ weights) ** 2).sum(0) / freedom)
    return mean + z[test] @ weights, sd


# Scores ----------------------------------------------------------------------------------------


def absolute_moment(mean, sd):
    """E|d| for d ~ N(mean, sd)."""
    w = mean / sd
    return mean * (2.0 * norm.cdf(w) - 1.0) + 2.0 * sd * norm.pdf(w)


def crps(y, mean, sd):
    """CRPS in closed form of the equal mixture of Gaussians along the first axis."""
    sd = np.broadcast_to(sd, mean.shape)
    pairs = absolute_moment(mean[:, None] - mean, np.sqrt(sd[:, None] ** 2 + sd**2))
    return absolute_moment(y - mean, sd).mean(0) - 0.5 * pairs.mean((0, 1))


def mixture_band(mean, sd, level=0.9):
    """The central band of the same mixture: quantiles by bisection of its distribution function."""
    sd = np.broadcast_to(sd, mean.shape)
    band = []
    for q in (0.5 - level / 2, 0.5 + level / 2):
        low, high = (mean - 8 * sd).min(0), (mean + 8 * sd).max(0)
        for _ in range(40):
            middle = (low + high) / 2
            below = norm.cdf((middle - mean) / sd).mean(0) < q
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        band.append((low + high) / 2)
    return band


def scores(y, mean, sd):
    """Squared error, CRPS and hit of the 90 % band, each `(years, 8)`."""
    low, high = mixture_band(mean, sd)
    return np.stack([(mean.mean(0) - y) ** 2, crps(y, mean, sd), (low < y) & (y < high)])


# Figures ---------------------------------------------------------------------------------------


def draw_bands(path, sst, years, train, shown, mean, sd):
    """Four held-out years: what was given, what was predicted, what came."""
    figure, axes = plt.subplots(1, 4, figsize=(12, 3.4), sharey=True, layout="constrained")
    months = np.arange(12)
    for axis, year, i in zip(axes, shown, range(4), strict=True):
        for level, colour in ((0.9, "#c6dbec"), (0.5, "#8dbbda")):
            low, high = mixture_band(mean[:, i], sd[:, 0], level)
            label = f"{level:.0%} band"
            axis.fill_between(months[4:], low, high, color=colour, lw=0, label=label)
        axis.plot(months[4:], mean[:, i].mean(0), color=COLOUR, label="mean")
        axis.plot(months, sst[train].mean(0), color="0.55", ls="--", label="climatology")
        axis.plot(months[:4], sst[year, :4], "o", color="0.6", ms=4, label="given")
        axis.plot(months[4:], sst[year, 4:], "o", color="black", ms=4, label="observed")
        axis.set(title=f"{years[year]}", xlim=(-0.4, 11.4))
        axis.set_xticks(months, [name[0] for name in MONTHS])
    axes[0].set_ylabel("sea-surface temperature (°C)")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=6, frameon=False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def draw_crps(path, table):
    """CRPS month by month."""
    figure, axis = plt.subplots(figsize=(6.4, 3.2), layout="constrained")
    styles = {
        "climatology": ("0.55", "--"),
        "ridge": ("#d1603d", ":"),
        "ridge, April": ("#d1603d", "-"),
    }
    for name, rows in table.items():
        colour, style = styles.get(name, (COLOUR, "-"))
        axis.plot(MONTHS[4:], rows, color=colour, ls=style, marker="o", ms=4, label=name)
    axis.set_ylabel("CRPS (°C)")
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4, frameon=False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


# The whole -------------------------------------------------------------------------------------


def main(settings):
    """Fit every split, score, draw; return the table, a dict of numbers for each model."""
    settings.out.mkdir(parents=True, exist_ok=True)
    years, sst = load()
    found = {"climatology": [], "ridge": [], "ridge, April": [], "field": []}
    rhat, start = [], time.perf_counter()
    for i in tqdm(range(settings.splits), desc="NUTS", unit="split"):
        train, test = split(i)
        z, y, mean, unit = standardise(sst, train)
        posterior = fit(settings, jr.key(i), z[train], y[train])
        rhat.append(float(diagnose(posterior, probe={"z": z[test]})["rhat"].max()))
        f, sd = (unit * draws for draws in predict(posterior, z[test]))
        f += mean

        found["field"].append(scores(sst[test, 4:], f, sd))
        for name, (m, s) in {
            "climatology": climatology(sst, train, test),
            "ridge": ridge(sst, train, test),
            "ridge, April": ridge(sst, train, test, columns=(3,)),
        }.items():
            found[name].append(scores(sst[test, 4:], m[None], s[None]))
        if i == 0:  # from the coldest April of the test years to the warmest
            order = np.argsort(z[test, 3])[[0, 5, 9, 14]]
            draw_bands(
                settings.out / "el_nino_bands.png", sst, years, train, test[order], f[:, order], sd
            )
    seconds = time.perf_counter() - start

    table, by_month = {}, {}
    print(f"\n{'':<14}{'RMSE':>8}{'CRPS':>8}{'90 % band':>11}   CRPS of each split")
    for name, parts in found.items():
        squared, score, inside = np.mean(parts, axis=(0, 2))
        by_month[name] = score
        table[name] = {
            "RMSE": float(np.sqrt(squared.mean())),
            "CRPS": float(score.mean()),
            "coverage": float(inside.mean()),
        }
        of_splits = " ".join(f"{part[1].mean():.3f}" for part in parts)
        print(
            f"{name:<14}"
            + "{RMSE:>8.3f}{CRPS:>8.3f}{coverage:>11.2f}".format(**table[name])
            + f"   {of_splits}"
        )
    draw_crps(settings.out / "el_nino_crps.png", by_month)
    table["field"] |= {"rhat": float(max(rhat)), "seconds": seconds}
    print("CRPS and band: closed form of the mixture of Gaussians over draws, in degrees C.")
    print(f"NUTS: worst R-hat of a prediction {max(rhat):.2f}, {seconds:.0f} s for all splits.")
    for name in ("climatology", "ridge", "ridge, April"):
        gain = table[name]["CRPS"] - table["field"]["CRPS"]
        ahead = [
            m
            for m, more in zip(MONTHS[4:], by_month[name] > by_month["field"], strict=True)
            if more
        ]
        print(f"{'The field' if gain > 0 else name} wins by {abs(gain):.3f}: ", end="")
        print(f"field against {name}, ahead in {len(ahead)} of 8 months ({', '.join(ahead)}).")

    print(f"\nThree engines on {settings.engine_splits} of the splits, in degrees C:", end="")
    posteriors, first = compare_engines(settings, sst, 0)
    others = [compare_engines(settings, sst, i)[1] for i in range(1, settings.engine_splits)]
    by_engine = average([first, *others])
    report(posteriors, by_engine)
    train, test = split(0)
    z, _, mean, unit = standardise(sst, train)
    order = np.argsort(z[test, 3])[[0, 5, 9, 14]]
    for name, posterior in posteriors.items():
        f, sd = (unit * draws for draws in predict(posterior, z[test]))
        path = settings.out / f"el_nino_bands_{name}.png"
        draw_bands(path, sst, years, train, test[order], (f + mean)[:, order], sd)
    draw_rank(settings.out / "el_nino_rank.png", posteriors["NUTS"], ["tau", "fade", "rho"])
    print(f"figures in {settings.out}/")
    return table | by_engine


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="El Nino: May to December from January to April.")
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--engine-splits", type=int, default=1, help="compare engines on so many")
    parser.add_argument("--smoke", action="store_true", help="small settings, in seconds")
    args = parser.parse_args()
    smoke = {"splits": 1, "num_warmup": 10, "num_samples": 10, "svi_steps": 40}
    small = smoke if args.smoke else {}
    main(Settings(out=args.out, engine_splits=args.engine_splits, **small))
