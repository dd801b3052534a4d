"""A whole fit by `Laplace` at many rows: what its parts take, its memory, and whether it covers.

    python benchmarks/whole_fit.py --n 1000000
    python benchmarks/whole_fit.py --n 1000000 --parts
    python benchmarks/whole_fit.py --n 1000000 --batches

One start with the defaults, of believable.py's first family and grid by a FiLM-SIREN half as wide,
whose every weight is random (1,073 values). Parts are timed as they come, by the clock and by the
processor; the steps and updates of the climb by least squares over its chunks. `--parts` runs a
few steps, one update and the end alone, from the start, and says what a whole fit would take.
`--batches` climbs by batches first, and leaves fifty steps to `Laplace` (docs/large_data.md).
"""

import argparse
import sys
import time
import warnings
from unittest import mock

import believable as b
import jax
import jax.random as jr
import numpy as np
from by_size import peak
from machine import describe

import bayesfield as bf
from bayesfield.inference import Batches, EnsembleMAP, Laplace, Start, diagnose, fit_posterior
from bayesfield.inference.engines.laplace import laplace
from bayesfield.inference.engines.laplace.climb import Alternation
from bayesfield.inference.program.binding import bind

FAMILY = next(iter(b.FAMILIES))
ENGINE = Laplace(num_starts=1)
SHORT = Laplace(num_starts=1, num_steps=50)  # of a start that batches have led to the mode
HEADER = "| part | s | CPU s |\n|---|---|---|"


def narrow(key):
    """A FiLM-SIREN of width 16 whose every weight is random."""
    k1, k2 = jr.split(key)
    trunk = bf.SIREN.init(1, 16, 1, depth=4, key=k1, first_omega=5.0, hidden_omega=5.0)
    field = bf.ConditionedINR.init(trunk, conditioner_cls=bf.FiLM, cond_dim=4, key=k2)
    return bf.with_prior(field, where="all")


MODEL = b.model(narrow(jr.key(0)))


def spent():
    """Seconds of the clock and of the processor."""
    return np.array([time.perf_counter(), time.process_time()])


def climbed(data, seed):
    """Return a start by batches."""
    batches = Batches(
        {name: np.asarray(values) for name, values in data.items()},
        rows=len(data["y"]),
        batch_size=8192,
    )
    members = EnsembleMAP(num_members=1)
    return fit_posterior(MODEL, batches, members, key=jr.key(seed), progress=False)


def marked_fit(data, seed, engine, init):
    """Return a fit; how many steps each chunk of its climb had; and when what was done."""
    lengths, chunks, marks = [], [], {"begun": spent()}
    say, end = Alternation.status, laplace.ends_of

    def after_a_chunk(phase, chunk):
        lengths.append(chunk["loss"].shape[-1])
        chunks.append(spent())
        at, (seconds, cpu) = sum(lengths), chunks[-1] - marks["begun"]
        print(f"{at} steps: {seconds:.0f} s, {cpu:.0f} CPU s", file=sys.stderr, flush=True)
        return say(phase, chunk)

    def marked_end(*args):
        marks["climbed"] = spent()
        found = jax.block_until_ready(end(*args))
        marks["ended"] = spent()
        return found

    with (
        mock.patch.object(Alternation, "status", after_a_chunk),
        mock.patch.object(laplace, "ends_of", marked_end),
    ):
        posterior = fit_posterior(MODEL, data, engine, key=jr.key(seed), init=init, progress=False)
    marks["done"] = spent()
    return posterior, np.array(lengths), np.array(chunks), marks


def updates_in(lengths, engine):
    """Return how many updates each chunk has, by the rule of `Alternation`."""
    period = engine.num_steps // (engine.num_updates // 2 + 1)
    index = np.arange(lengths.sum())
    among = (index % period == period - 1) & (index >= period)
    updates = among | (index >= engine.num_steps)
    return np.add.reduceat(updates.astype(int), np.cumsum(lengths) - lengths)


def parts_of(engine, lengths, chunks, marks):
    """Return seconds and CPU seconds of each part; the first chunk compiles, and is by itself."""
    updates, taken = updates_in(lengths, engine)[1:], np.diff(chunks, axis=0)
    step, update = np.linalg.lstsq(np.stack([lengths[1:] - updates, updates], 1), taken)[0]
    return {
        "until the first chunk is done": chunks[0] - marks["begun"],
        "the rest of the climb": marks["climbed"] - chunks[0],
        "of it a step": step,
        "of it an update": update,
        "the curvature at the end": marks["ended"] - marks["climbed"],
        "draws, and judging them": marks["done"] - marks["ended"],
        "in all": marks["done"] - marks["begun"],
    }


def whole(n, seed, by_batches):
    """Fit, print what the parts took, and judge."""
    data = b.rows(FAMILY, seed, n)
    print(HEADER)
    engine, init, begin = ENGINE, None, spent()
    if by_batches:
        engine, init = SHORT, climbed(data, seed)
        tell("the climb by batches", spent() - begin)
    posterior, *marked = marked_fit(data, seed, engine, init)
    held = peak()
    for name, taken in parts_of(engine, *marked).items():
        tell(name, taken)
    own, beyond = (
        b.judge(b.field_values(posterior, *points), b.truth_on(FAMILY, points)).mean(1)
        for points in (b.INSIDE, b.BEYOND)
    )
    print(
        f"\ncoverage {own[2]:.2f}, RMSE of f {np.sqrt(own[0]):.4f}, its sd {own[3]:.4f}, noise / "
        f"truth {b.noise_of(posterior):.3f}, coverage beyond {beyond[2]:.2f}, peak {held:.1f} GB"
    )
    print(*(f"{one.severity}: {one.what}" for one in diagnose(posterior).findings), sep="\n")


def parts(n, seed, steps=5):
    """Time steps, an update and the end from the start, compiled, and add up a whole fit."""
    program, arrays, sites = bind(MODEL, b.rows(FAMILY, seed, n))
    print(HEADER)
    begin = spent()
    engine = ENGINE.resolved(program, arrays, sites)
    once = tell("finding that rows stand alone", spent() - begin)
    (phase,) = engine.phases(program)
    params, position = program.start(arrays, {}, engine.init_strategy, jr.key(seed))
    state = phase.init(program, arrays, Start(params, position, {}), jr.key(0))
    step = (
        jax.jit(lambda data, state, index: phase.step(program, data, state, index, jr.key(0))[0])
        .lower(arrays, state, 0)
        .compile()
    )

    def timed(index, count):
        nonlocal state
        begin = spent()
        for _ in range(count):
            state = jax.block_until_ready(step(arrays, state, index))
        return (spent() - begin) / count

    timed(0, 1)
    climbed = engine.num_steps * tell("a step", timed(0, steps))
    updated = engine.num_updates * tell("an update", timed(engine.num_steps, 1))
    states, begin = jax.tree.map(lambda leaf: leaf[None], state), spent()
    laplace.ends_of(program, arrays, states, engine.rows_at_once, None)
    ended = tell("the curvature at the end", spent() - begin)
    tell("so in all", once + climbed + updated + ended)
    print(f"\npeak {peak():.1f} GB, {engine.rows_at_once} rows at a time")


def tell(name, taken):
    """Print a part's seconds and CPU seconds, and return them."""
    print(f"| {name} | {taken[0]:.3g} | {taken[1]:.3g} |", flush=True)
    return taken


def main():
    """Print the parts of a fit, and how well it covers."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--n", type=int, nargs="+", default=[10_000])
    parser.add_argument("--seed", type=int, default=6)
    parser.add_argument("--batches", action="store_true", help="climb by batches first")
    parser.add_argument("--parts", action="store_true", help="a few steps, an update and the end")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    print(describe())
    for n in args.n:
        print(f"\n{n:,} rows, seed {args.seed}\n")
        parts(n, args.seed) if args.parts else whole(n, args.seed, args.batches)


if __name__ == "__main__":
    main()
