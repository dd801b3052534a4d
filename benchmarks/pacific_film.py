"""The winters of examples/pacific_sst.py by a FiLM-SIREN with the same residual.

    python benchmarks/pacific_film.py --seeds 0

It bends in its code, so codes are sampled: weights and codes of the training are at modes, and
codes of new winters are inferred.
"""

import argparse
import sys
import time
import warnings
from pathlib import Path

import jax.random as jr
import numpy as np
import numpyro.distributions as dist

import bayesfield as bf
from bayesfield.inference import ConvergenceWarning, EnsembleMAP, fit_posterior, infer_codes

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
import pacific_sst as example

RESIDUAL = bf.GaussianProcessResidual(dist.LogNormal(-1.0, 0.7), dist.HalfNormal(0.25))


def make_film(key):
    k1, k2 = jr.split(key)
    trunk = bf.SIREN.init(2, 64, 1, depth=3, key=k1, first_omega=3.0, hidden_omega=3.0)
    field = bf.ConditionedINR.init(trunk, conditioner_cls=bf.FiLM, cond_dim=8, key=k2)
    return bf.with_prior(field, where="all")


def film(x, cells, y, seed, members=4, steps=600):
    """Return what predicts by a FiLM-SIREN: its weights at modes, and codes that are inferred."""
    codes = bf.LatentCodes(8)
    noise = bf.Gaussian(dist.HalfNormal(0.5))
    model = bf.regression(make_film, noise, codes=codes, residual=RESIDUAL)
    engine = EnsembleMAP(num_members=members, num_steps=steps, learning_rate=0.01)
    fitted = fit_posterior(model, {"x": x[cells], "y": y}, engine, key=jr.key(seed))

    def predict(seen, given):
        data = {"x": x[seen], "y": given}
        new = infer_codes(fitted, data, plate="tasks", num_samples=64, key=jr.key(seed))
        return moments(new, data | {"x_new": x})

    return predict


def moments(posterior, data):
    sites = ["y_new_mean", "y_new_variance"]
    found = posterior.predict(data, key=jr.key(0), sites=sites)
    mean, variance = (np.concatenate(found[name].to_numpy()).astype(float) for name in sites)
    return mean.mean(0), np.sqrt(variance.mean(0) + mean.var(0))


def main(seeds):
    sst, places = example.load()
    x = (places - example.CENTRE) / example.UNIT
    for seed in seeds:
        start = time.process_time()
        split = example.Split.of(sst.shape, seed)
        y = np.take_along_axis(sst[split.train], split.train_cells, 1)
        centre, unit = y.mean(), y.std()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            predict = film(x, split.train_cells, (y - centre) / unit, seed)
            for count in example.SEEN:
                seen, new = split.test_cells[:, :count], sst[split.test]
                given = np.take_along_axis(new, seen, 1)
                mean, sd = predict(seen, (given - centre) / unit)
                score, covered = example.scores(new, centre + unit * mean, unit * sd, seen)
                print(f"seed {seed}, {count} seen: {score:.3f} ({covered:.2f})", flush=True)
        print(f"{time.process_time() - start:.0f} s of CPU", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="The winters by a FiLM-SIREN.")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    main(parser.parse_args().seeds)
