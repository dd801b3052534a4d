"""Twelve weather stations in a CSV: one that was never seen, and sixty days ahead at the others.

The file has dates, names, places and gaps, as such files do. `bf.Table` knows which column plays
which role: it turns dates into numbers, scales every column by the training rows, leaves the gaps
out, and puts predictions back beside the rows that they are of, in degrees C. The four lines that
do all of it are in `fit_and_predict`.

The field is given the day, the annual cycle as two harmonics, and as context a station's latitude,
longitude and height; every weight is random. The climatology beside it is one annual cycle for all
stations. What is written to the CSV is made up here: an annual cycle that depends on place and
height, and weather that takes days to pass.

    python examples/stations.py              # figure and CSV in out/
    python examples/stations.py --seed 1 --json table.json
    python examples/stations.py --smoke      # seconds: does it run?
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import jax.random as jr
import matplotlib.pyplot as plt
import numpy as np
import numpyro.distributions as dist
import pandas as pd
from figures import save

import bayesfield as bf
from bayesfield.inference import Laplace, fit_posterior, plots

YEAR = 365.25  # days
PLACE = ["latitude", "longitude", "height"]


@dataclass(frozen=True)
class Settings:
    """The sizes, the seed, and where the figure and the CSV go."""

    seed: int = 0
    stations: int = 12
    days: int = 3 * 365
    ahead: int = 60
    num_starts: int = 2
    num_steps: int = 600
    num_samples: int = 400
    out: Path = Path("out")


# The file --------------------------------------------------------------------------------------


def write_csv(path, settings):
    """Write daily mean temperatures, some missing, with the places of the stations."""
    rng = np.random.default_rng(settings.seed)
    dates = pd.date_range("2021-01-01", periods=settings.days, freq="D")
    parts = []
    for i in range(settings.stations):
        latitude, longitude = rng.uniform(45.8, 47.8), rng.uniform(6.0, 10.5)
        height = rng.uniform(250.0, 2200.0)
        level = 11.5 - 0.0055 * (height - 400.0) - 0.8 * (latitude - 46.8)
        swing = 9.5 - 0.0012 * (height - 400.0) + 0.5 * (longitude - 8.0)
        late = 200.0 + 0.006 * (height - 400.0)  # the warmest day comes later high up
        angle = 2.0 * np.pi * (np.arange(settings.days) - late) / YEAR
        weather = rng.normal(size=settings.days)
        for t in range(1, settings.days):
            weather[t] = 0.7 * weather[t - 1] + np.sqrt(1.0 - 0.7**2) * weather[t]
        value = level + swing * np.cos(angle) + 0.6 * np.cos(2.0 * angle) + 2.5 * weather
        value[rng.random(settings.days) < 0.05] = np.nan
        start = rng.integers(settings.days - 45)
        value[start : start + 45] = np.nan  # a sensor that was broken for weeks
        places = {"latitude": latitude, "longitude": longitude, "height": height}
        parts.append(
            pd.DataFrame({"station": f"S{i:02d}", "date": dates, **places, "temperature": value})
        )
    shuffled = pd.concat(parts).sample(frac=1.0, random_state=settings.seed)
    shuffled.to_csv(path, index=False, float_format="%.3f")


def split(frame, settings):
    """Return the training rows, those of the station held out, and the days ahead."""
    names = sorted(frame["station"].unique())
    held = np.random.default_rng(settings.seed + 1000).choice(names)
    last = frame["date"].max() - pd.Timedelta(days=settings.ahead)
    own, later = frame["station"] == held, frame["date"] > last
    return frame[~own & ~later], frame[own], frame[~own & later]


# The field -------------------------------------------------------------------------------------


def make_model(year, key):
    """Return the program: a FiLM-SIREN of the day and of the annual cycle, and Gaussian noise.

    Args:
        year: The length of a year in the numbers of `x`.
        key: Draws the field's first weights.
    """
    k1, k2 = jr.split(key)
    seasons = bf.SeasonalHarmonics(1, seasonality_periods=(year,), num_seasonal_harmonics=(2,))
    features = bf.ConcatenatedFeatures((bf.Coordinates(1), seasons))
    width = features.out_features
    trunk = bf.SIREN.init(width, 12, 1, depth=2, key=k1, first_omega=1.0, hidden_omega=1.0)
    field = bf.ConditionedINR.init(trunk, conditioner_cls=bf.FiLM, cond_dim=len(PLACE), key=k2)
    field = bf.with_prior(bf.with_features(field, features), where="all")
    return bf.regression(field, bf.Gaussian(dist.HalfNormal(0.5)))


def fit_and_predict(settings, train, new):
    """Fit the field to the training rows and return the new ones with their bands."""
    k1, k2, k3 = jr.split(jr.key(settings.seed), 3)
    engine = Laplace(
        num_starts=settings.num_starts,
        num_steps=settings.num_steps,
        num_samples=settings.num_samples,
    )
    table = bf.Table.of(train, x="date", z=PLACE, y="temperature")
    model = make_model(table.length("date", YEAR), k1)
    posterior = fit_posterior(model, table.arrays(train), engine, key=k2)
    return posterior, table.frame(posterior.predict(table.inputs(new), key=k3), new)


def climatology(train, new):
    """Return the new rows with the band of one annual cycle for all stations, by least squares."""

    def features(frame):
        angle = 2.0 * np.pi * (frame["date"] - train["date"].min()).dt.days.to_numpy() / YEAR
        waves = [wave(k * angle) for k in (1, 2) for wave in (np.cos, np.sin)]
        return np.stack([np.ones(len(frame)), *waves], axis=1)

    seen = train.dropna(subset="temperature")
    weights = np.linalg.lstsq(features(seen), seen["temperature"], rcond=None)[0]
    sd = np.std(seen["temperature"] - features(seen) @ weights)
    mean = features(new) @ weights
    return new.assign(
        temperature_mean=mean,
        temperature_q5=mean - 1.645 * sd,
        temperature_q95=mean + 1.645 * sd,
    )


def scores(bands):
    """Return the error of the mean and the coverage of the 90 % band where there is a value."""
    bands = bands.dropna(subset="temperature")
    y = bands["temperature"]
    return {
        "rmse": float(np.sqrt(np.mean((bands["temperature_mean"] - y) ** 2))),
        "coverage": float(((bands["temperature_q5"] < y) & (y < bands["temperature_q95"])).mean()),
    }


# The figure ------------------------------------------------------------------------------------


def draw(path, train, bands, titles):
    """Draw a station a row: what was seen, the bands, and what came."""
    axes = plt.subplots(len(titles), 1, figsize=(9, 6.2), layout="constrained")[1]
    seen = {"seen in the fit": (train["date"], train["temperature"], train["station"])}
    look = {"points": seen, "title": titles.get, "ylabel": "temperature (°C)", "ax": axes}
    save(plots.bands(bands[bands["station"].isin(titles)], "date", by="station", **look), path)


# The whole -------------------------------------------------------------------------------------


def main(settings):
    """Write the file, fit, score, draw; return the table, a dict of numbers for each model."""
    settings.out.mkdir(parents=True, exist_ok=True)
    path = settings.out / "stations.csv"
    write_csv(path, settings)
    frame = pd.read_csv(path, parse_dates=["date"])
    train, station, ahead = split(frame, settings)

    posterior, bands = fit_and_predict(settings, train, pd.concat([station, ahead]))
    print(posterior)
    found = {"field": bands, "climatology": climatology(train, bands[frame.columns])}
    parts = {"held out": station.index, "ahead": ahead.index}
    table = {
        name: {
            f"{part} {score}": value
            for part, rows in parts.items()
            for score, value in scores(of_model.loc[rows]).items()
        }
        for name, of_model in found.items()
    }
    print(f"\n{'':<14}" + "".join(f"{column:>20}" for column in table["field"]))
    for name, row in table.items():
        print(f"{name:<14}" + "".join(f"{value:>20.2f}" for value in row.values()))
    print("Errors in degrees C; coverage of 90 % bands.")

    held, other = station["station"].iloc[0], ahead["station"].min()
    recent = train[train["date"] > train["date"].max() - pd.Timedelta(days=YEAR)]
    titles = {held: f"{held}, held out", other: f"{other}, {settings.ahead} days ahead"}
    draw(settings.out / "stations.png", recent, bands, titles)
    print(f"{path} and stations.png in {settings.out}/")
    return table


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Weather stations, from a CSV and back.")
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the table there")
    parser.add_argument("--smoke", action="store_true", help="small settings, in seconds")
    args = parser.parse_args()
    sizes = {"stations": 4, "days": 200, "num_starts": 1, "num_steps": 20, "num_samples": 20}
    small = sizes if args.smoke else {}
    table = main(Settings(**{"out": args.out, "seed": args.seed} | small))
    if args.json is not None:
        args.json.write_text(json.dumps(table, indent=1))
