"""Which engine at which size: fits of one family at N rows, each in a process of its own.

    python benchmarks/by_size.py --n 512 --engine laplace svi --what all generators --seeds 6
    python benchmarks/by_size.py --n 50000 --engine svi --what generators --lanes 1

The families, the field, the data and the grid are those of believable.py; an exact GP is fitted at
512 rows only. `--lanes` are the starts of Laplace, the restarts and trunks of SVI, the members of
EnsembleMAP (2 of these for each lane) and the trunks of NUTS and MCLMC on generators, whose chains
start at EnsembleMAP or, on generators, at SVI. Seconds, of the clock and of the processor, are of
the fit alone and hold all that it compiles. The peak is the most memory that the process had held
when the fit ended, all that it imports included. A fit that is not done within `--limit` seconds
is ended, and its row has the peak until then.
"""

import argparse
import functools
import itertools
import json
import os
import resource
import subprocess
import sys
import threading
import time
import warnings

import believable as b
import jax.random as jr
import numpy as np
from machine import describe

from bayesfield.inference import MCLMC, NUTS, SVI, EnsembleMAP, Laplace, fit_posterior

COLUMNS = (
    "rows | what is random | engine | seed | coverage (GP) | RMSE of f (/ GP) | noise / truth | "
    "s | CPU s | peak, GB"
)


def learnt(lanes):
    return SVI(num_restarts=lanes)


ENGINES = {  # by what is random: the engine of so many lanes, and where it starts
    "all": {
        "laplace": lambda lanes: (Laplace(num_starts=lanes), None),
        "svi": lambda lanes: (SVI(num_restarts=lanes), None),
        "svi-normal": lambda lanes: (SVI("normal", num_restarts=lanes), None),
        "ensemble-map": lambda lanes: (EnsembleMAP(num_members=2 * lanes), None),
        "nuts": lambda lanes: (NUTS(), EnsembleMAP(num_members=2 * lanes)),
        "mclmc": lambda lanes: (MCLMC(), EnsembleMAP(num_members=2 * lanes)),
    },
    "generators": {
        "laplace": lambda lanes: (
            Laplace(hold_params=True, num_starts=lanes),
            learnt(lanes),
        ),
        "svi": lambda lanes: (SVI(num_restarts=lanes, num_trunks=lanes), None),
        "svi-normal": lambda lanes: (SVI("normal", num_restarts=lanes, num_trunks=lanes), None),
        "ensemble-map": lambda lanes: (EnsembleMAP(num_members=2 * lanes), None),
        "nuts": lambda lanes: (NUTS(num_trunks=lanes), learnt(lanes)),
        "mclmc": lambda lanes: (MCLMC(num_trunks=lanes), learnt(lanes)),
    },
}


# In the process of one fit ------------------------------------------------------------------------


def peak():
    """The most memory that this process has held, in GB."""
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KB; bytes on a Mac
    return held / (1e9 if sys.platform == "darwin" else 1e6)


def end():
    """Hand over the peak, and leave in the middle of the fit."""
    print(json.dumps({"peak": peak()}), flush=True)
    os._exit(0)


def measure(n, what, engine, seed, *, lanes, limit, family):
    """One fit, judged: what a row shows, as a dict of numbers; of the exact GP its errors only."""
    if engine == "gp":
        gp = b.reference(family, seed).mean(1)
        return {"squared": float(gp[0]), "coverage": float(gp[2])}
    data = b.rows(family, seed, n)
    engine, init = ENGINES[what][engine](lanes)
    timer = threading.Timer(limit, end)
    timer.daemon = True
    timer.start()
    begin, begin_cpu = time.perf_counter(), time.process_time()
    posterior = fit_posterior(
        b.MODELS[what], data, engine, init=init, key=jr.key(seed), progress=False
    )
    seconds, cpu = time.perf_counter() - begin, time.process_time() - begin_cpu
    timer.cancel()
    held = peak()
    own = b.judge(b.field_values(posterior, *b.INSIDE), b.truth_on(family, b.INSIDE)).mean(1)
    found = {"squared": own[0], "coverage": own[2], "noise": b.noise_of(posterior)}
    found |= {"seconds": seconds, "cpu": cpu, "peak": held}
    return {name: float(value) for name, value in found.items()}


# In the process that prints the table -------------------------------------------------------------


def in_its_own_process(case):
    """Measure a case; an empty dict where the process died."""
    own = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    command = [sys.executable, __file__, "--case", json.dumps(case)]
    done = subprocess.run(command, env=own, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else {}


@functools.cache
def exact(seed, family):
    """The errors of the GP, fitted once for all rows of a seed."""
    case = {"args": (b.N, "", "gp", seed), "lanes": 1, "limit": 0, "family": family}
    return in_its_own_process(case)


def cells(case, found):
    """The cells of a row."""
    n, what, engine, seed = case["args"]
    first = [f"{n}", what, engine, f"{seed}"]
    if "seconds" not in found:
        said = f"not done in {case['limit']:.0f} s" if found else "ended by the system"
        return [*first, said, "", "", "", "", f"{found['peak']:.1f}" if found else ""]
    rmse, coverage = f"{np.sqrt(found['squared']):.4f}", f"{found['coverage']:.2f}"
    if n == b.N:
        gp = exact(seed, case["family"])
        rmse += f" ({np.sqrt(found['squared'] / gp['squared']):.2f})"
        coverage += f" ({gp['coverage']:.2f})"
    numbers = (f"{found['noise']:.2f}", f"{found['seconds']:.0f}", f"{found['cpu']:.0f}")
    return [*first, coverage, rmse, *numbers, f"{found['peak']:.1f}"]


def main():
    """Print a row for each size, each part of the weights, each engine and each seed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--n", type=int, nargs="+", default=[512])
    parser.add_argument("--what", nargs="+", choices=ENGINES, default=[*ENGINES])
    parser.add_argument("--engine", nargs="+", choices=ENGINES["all"], default=[*ENGINES["all"]])
    parser.add_argument("--seeds", type=int, nargs="+", default=[6])
    parser.add_argument("--family", type=int, default=0, help="its number")
    parser.add_argument("--lanes", type=int, default=4)
    parser.add_argument("--limit", type=float, default=360, help="seconds of a fit")
    parser.add_argument("--case", help="what a process of one fit is told")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    if args.case is not None:
        case = json.loads(args.case)
        print(json.dumps(measure(*case.pop("args"), **case)))
        return
    family = [*b.FAMILIES][args.family]
    print(describe(), family, f"{args.lanes} lanes", sep="; ")
    print(f"\n| {COLUMNS} |\n|{'---|' * (COLUMNS.count('|') + 1)}", flush=True)
    settings = {"lanes": args.lanes, "limit": args.limit, "family": family}
    for row in itertools.product(args.n, args.what, args.engine, args.seeds):
        case = {"args": row, **settings}
        print("| " + " | ".join(cells(case, in_its_own_process(case))) + " |", flush=True)


if __name__ == "__main__":
    main()
