"""Laplace by few directions, beside all of them: what `rank` changes in the bands of a field.

    python benchmarks/low_rank.py --n 2000 --ranks 200 400 0
    python benchmarks/low_rank.py --field hyper-siren --n 8000 --ranks 200
    python benchmarks/low_rank.py --field last-layer --n 2000 --ranks 0

The family, the data and the grid are those of believable.py and there is one start. Every weight is
random, but for `last-layer`: there the readout of the trunk is, and all other weights are learnt.
Rank 0 keeps all directions; it comes last, and the others are set beside it: by how much their mean
differs in its sds, root mean square, and the ratio of their mean sd to its own. `least kept` is
what the data say of the last direction that is kept, its prior being one. The peak is of the
process until then. The findings of a fit go to the standard error, and so do, for every weight and
rank 0, the eigenvalues at the mode.
"""

import argparse
import sys
import time
import warnings

import believable as b
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from by_size import peak
from machine import describe
from numpyro.infer import init_to_median

import bayesfield as bf
from bayesfield.inference import Laplace, diagnose, fit_posterior
from bayesfield.inference.engines.laplace.gauss_newton import held_at
from bayesfield.inference.engines.place import Place
from bayesfield.inference.program.binding import bind

FAMILY = next(iter(b.FAMILIES))


def last_layer(key):
    return bf.with_prior(b.film_siren(key), where=lambda path, _: path.startswith("trunk.layers.3"))


FIELDS = {name: b.MODELS[name] for name in ("all", "hyper-siren")}
FIELDS["last-layer"] = b.model(last_layer)


def fitted(field, n, rank, seed):
    """A fit's draws of f on the grid, what a row says of it, and its findings."""
    engine = Laplace(num_starts=1, rank=rank or None)
    data = b.rows(FAMILY, seed, n)
    begin = time.process_time()
    posterior = fit_posterior(FIELDS[field], data, engine, key=jr.key(seed), progress=False)
    cpu = time.process_time() - begin
    held = peak()
    draws = np.asarray(b.field_values(posterior, *b.INSIDE))
    squared, _, coverage, _ = b.judge(draws, b.truth_on(FAMILY, b.INSIDE)).mean(1)
    least = posterior.settings["report"]["least_kept"]
    said = f"{coverage:.2f} | {np.sqrt(squared):.4f} | {b.noise_of(posterior):.2f} | {least:.2g}"
    findings = [f"{one.severity}: {one.what}" for one in diagnose(posterior).findings]
    if not rank and field == "all":
        values = spectrum(field, n, seed, posterior)
        findings += [f"the {r}th eigenvalue: {values[-r]:.3g}" for r in (100, 200, 400, 800, 1600)]
        findings += [
            f"above one: {(values > 1).sum()}; informed: {(values / (1 + values)).sum():.0f}"
        ]
    return draws, f"{said} | {cpu:.0f} | {held:.1f}", findings


def spectrum(field, n, seed, posterior):
    """The eigenvalues of the likelihood's curvature at the mode, the prior being one, rising."""
    program, arrays, sites = bind(FIELDS[field], b.rows(FAMILY, seed, n))
    engine = Laplace().resolved(program, arrays, sites)
    points = {name: posterior.draws[name][0, 0] for name in engine.hyper}
    params, position = program.start(arrays, points, init_to_median, jr.key(0))
    hyper = {name: position[name] for name in engine.hyper}
    free = {name: jnp.asarray(value[0]) for name, value in posterior.modes.items()}
    place = Place(program, arrays, params, hyper, free)

    @jax.jit
    def gram(place):
        curvature = held_at(place, block=engine.rows_at_once)
        features = curvature.whitened * curvature.prior**-0.5
        return features @ features.T

    return np.maximum(np.linalg.eigvalsh(np.asarray(gram(place), float)), 0)


def main():
    """Print a row for each rank."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--field", choices=FIELDS, default="all")
    parser.add_argument("--n", type=int, default=2000)
    parser.add_argument("--ranks", type=int, nargs="+", default=[100, 200, 400, 0])
    parser.add_argument("--seed", type=int, default=6)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    print(f"{describe()}\n\n{args.field}, {args.n} rows, seed {args.seed}\n")
    print("| rank | coverage | RMSE of f | noise / truth | least kept | CPU s | peak, GB |")
    print("|---" * 7 + "|", flush=True)
    kept = {}
    for rank in args.ranks:
        kept[rank], said, findings = fitted(args.field, args.n, rank, args.seed)
        print(f"| {rank or 'all'} | {said} |", flush=True)
        print(f"{rank or 'all'}:", *findings, sep="\n  ", file=sys.stderr, flush=True)
    if 0 in kept:
        mean, sd = kept[0].mean(0), kept[0].std(0)
        print("\n| rank | mean, in sds of all | sd, to that of all |\n|---|---|---|")
        for rank, draws in kept.items():
            off = np.sqrt(np.mean(((draws.mean(0) - mean) / sd) ** 2))
            print(f"| {rank or 'all'} | {off:.2f} | {np.mean(draws.std(0) / sd):.3f} |")


if __name__ == "__main__":
    main()
