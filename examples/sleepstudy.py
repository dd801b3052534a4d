"""A mixed model as a field with codes: reaction times under sleep deprivation.

18 subjects on days 0 to 9, in milliseconds (Belenky et al. 2003, as `sleepstudy` in lme4). The code
of a subject is an intercept and a slope with a mean and a covariance, and the field is the line of
that code. It is linear in its code, so the codes are integrated out and NUTS draws six numbers. Six
times every sixth subject is left out; of each days 0 to 4 are seen, and days 5 to 9 predicted.

    python examples/sleepstudy.py --json out/sleepstudy.json
    python examples/sleepstudy.py --smoke     # seconds: does it run?
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
from figures import save
from jaxtyping import Array
from scipy.stats import norm

import bayesfield as bf
from bayesfield.inference import NUTS, fit_posterior, plots

# Subject, then the reaction time of each day.
TABLE = """
308 249.56 258.7047 250.8006 321.4398 356.8519 414.6901 382.2038 290.1486 430.5853 466.3535
309 222.7339 205.2658 202.9778 204.707 207.7161 215.9618 213.6303 217.7272 224.2957 237.3142
310 199.0539 194.3322 234.32 232.8416 229.3074 220.4579 235.4208 255.7511 261.0125 247.5153
330 321.5426 300.4002 283.8565 285.133 285.7973 297.5855 280.2396 318.2613 305.3495 354.0487
331 287.6079 285.0 301.8206 320.1153 316.2773 293.3187 290.075 334.8177 293.7469 371.5811
332 234.8606 242.8118 272.9613 309.7688 317.4629 309.9976 454.1619 346.8311 330.3003 253.8644
333 283.8424 289.555 276.7693 299.8097 297.171 338.1665 332.0265 348.8399 333.36 362.0428
334 265.4731 276.2012 243.3647 254.6723 279.0244 284.1912 305.5248 331.5229 335.7469 377.299
335 241.6083 273.9472 254.4907 270.8021 251.4519 254.6362 245.4523 235.311 235.7541 237.2466
337 312.3666 313.8058 291.6112 346.1222 365.7324 391.8385 404.2601 416.6923 455.8643 458.9167
349 236.1032 230.3167 238.9256 254.922 250.7103 269.7744 281.5648 308.102 336.2806 351.6451
350 256.2968 243.4543 256.2046 255.5271 268.9165 329.7247 379.4445 362.9184 394.4872 389.0527
351 250.5265 300.0576 269.8939 280.5891 271.8274 304.6336 287.7466 266.5955 321.5418 347.5655
352 221.6771 298.1939 326.8785 346.8555 348.7402 352.8287 354.4266 360.4326 375.6406 388.5417
369 271.9235 268.4369 257.2424 277.6566 314.8222 317.2135 298.1353 348.1229 340.28 366.5131
370 225.264 234.5235 238.9008 240.473 267.5373 344.1937 281.1481 347.5855 365.163 372.2288
371 269.8804 272.4428 277.8989 281.7895 279.1705 284.512 259.2658 304.6306 350.7807 369.4692
372 269.4117 273.474 297.5968 310.6316 287.1726 329.6076 334.4818 343.2199 369.1417 364.1236
"""
SUBJECTS = np.array([line.split()[0] for line in TABLE.split("\n") if line])
REACTION = np.array([line.split()[1:] for line in TABLE.split("\n") if line], float)
DAYS = np.arange(10.0)
X = ((DAYS - 4.5) / 4.5)[:, None]
CENTRE, UNIT = 300.0, 100.0  # milliseconds, so that the priors of scale one are wide


@dataclass(frozen=True)
class Settings:
    """The sizes and the seed."""

    seed: int = 0
    num_warmup: int = 300
    num_samples: int = 300
    num_chains: int = 2
    folds: int = 6
    json: Path | None = None
    out: Path = Path("out")


class Line(bf.AbstractField):
    """The line whose intercept and slope are a linear map of the context."""

    map: Array
    in_features: int = eqx.field(static=True, default=1)
    out_features: int = eqx.field(static=True, default=1)
    cond_dim: int = eqx.field(static=True, default=2)

    def evaluate(self, x, z):
        line = jnp.tensordot(self.map, z, 1)
        return line[:1] + line[1:] * x


MODEL = bf.regression(
    bf.freeze(Line(jnp.eye(2)), "all"),
    bf.Gaussian(dist.HalfNormal(1.0)),
    codes=bf.LatentCodes(2, names=("intercept", "slope"), integrate=True),
)


def fit(settings, y, key):
    engine = NUTS(
        num_warmup=settings.num_warmup,
        num_samples=settings.num_samples,
        num_chains=settings.num_chains,
    )
    return fit_posterior(MODEL, {"x": X, "y": (y - CENTRE) / UNIT}, engine, key=key)


def effects(posterior):
    """Posterior means of the line on day 0, of its slope a day, and of the noise, in ms."""
    draws = posterior.fitted.draws
    middle, slope = np.asarray(draws["z_loc"], float).mean((0, 1))
    noise = UNIT * float(np.mean(draws["sigma"]))
    return {
        "intercept": CENTRE + UNIT * (middle - slope),
        "slope": UNIT * slope / 4.5,
        "sigma": noise,
    }


def predict(posterior, y):
    """Mean and sd of days 5 to 9, given days 0 to 4 of subjects that were not in the fit."""
    data = {"x": X[:5], "y": (y[:, :5] - CENTRE) / UNIT, "x_new": X[5:]}
    sites = ["y_new_mean", "y_new_variance"]
    found = posterior.predict(data, key=jr.key(0), sites=sites)
    mean, variance = (found[name].to_numpy().astype(float) for name in sites)
    sd = np.sqrt(variance.mean((0, 1)) + mean.var((0, 1)))
    return CENTRE + UNIT * mean.mean((0, 1)), UNIT * sd


def crps(y, mean, sd):
    """CRPS of a normal, in closed form."""
    w = (y - mean) / sd
    return sd * (w * (2 * norm.cdf(w) - 1) + 2 * norm.pdf(w) - 1 / np.sqrt(np.pi))


def draw(posterior, out, path):
    """Subjects that were not in the fit: days 0 to 4 are seen, days 5 to 9 predicted."""
    y = REACTION[out]
    data = {"x": X[:5], "y": (y[:, :5] - CENTRE) / UNIT, "x_new": X[5:]}
    predicted = CENTRE + UNIT * posterior.predict(data, key=jr.key(1), sites=["y_new"])
    points = {"given": (DAYS[:5], y[:, :5]), "observed": (DAYS[5:], y[:, 5:])}
    words = {"xlabel": "day without sleep", "ylabel": "reaction time (ms)"}
    of_each = {"by": SUBJECTS[out], "title": "subject {}".format}
    save(plots.bands(predicted, DAYS[5:], points=points, **of_each, **words), path)


def main(settings):
    """Fit all subjects, then each fold; draw; return the table, a dict of numbers."""
    settings.out.mkdir(parents=True, exist_ok=True)
    keys = jr.split(jr.key(settings.seed), settings.folds + 1)
    table = {"all subjects": effects(fit(settings, REACTION, keys[0]))}
    found = []
    for i in range(settings.folds):
        out = np.arange(i, len(REACTION), 6)
        posterior = fit(settings, np.delete(REACTION, out, axis=0), keys[i + 1])
        mean, sd = predict(posterior, REACTION[out])
        if i == 0:
            draw(posterior, out, settings.out / "sleepstudy.png")
        y = REACTION[out, 5:]
        inside = np.abs(y - mean) < norm.ppf(0.95) * sd
        found.append([(y - mean) ** 2, crps(y, mean, sd), inside])
    squared, score, inside = np.mean(found, axis=(0, 2, 3))
    table["new subjects"] = {
        "RMSE": float(np.sqrt(squared)),
        "crps": float(score),
        "coverage": float(inside),
    }
    print(
        "intercept {intercept:.2f} ms, slope {slope:.2f} ms a day, sigma {sigma:.2f} ms".format(
            **table["all subjects"]
        )
    )
    print(
        "days 5 to 9 of new subjects: RMSE {RMSE:.1f} ms, CRPS {crps:.1f} ms, 90 % band "
        "{coverage:.2f}; figure in {out}/".format(**table["new subjects"], out=settings.out)
    )
    if settings.json is not None:
        settings.json.parent.mkdir(parents=True, exist_ok=True)
        settings.json.write_text(json.dumps(table, indent=1))
    return table


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A mixed model as a field with codes.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="where to write the table")
    parser.add_argument("--smoke", action="store_true", help="small settings, in seconds")
    parser.add_argument("--out", type=Path, default=Path("out"), help="where the figure goes")
    args = vars(parser.parse_args())
    small = {"num_warmup": 10, "num_samples": 10, "folds": 1} if args.pop("smoke") else {}
    main(Settings(**args, **small))
