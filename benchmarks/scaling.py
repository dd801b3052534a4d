"""How fits grow with size: parts of `Laplace` by rows, and a cost model of each engine.

    python benchmarks/scaling.py growth --n 10000 30000 100000
    python benchmarks/scaling.py model

`growth` times, in CPU seconds of the compiled call alone, what `Laplace` does: a step of its climb,
an update by blocks of rows, and the curvature at the end in double precision on the host. The field
is the FiLM-SIREN of believable.py with random generators. `model` prints what whole fits take by
the formulas below. The page docs/scaling.md says what both teach.
"""

import argparse
import time
from typing import NamedTuple

import believable as b
import jax
import jax.random as jr
import numpy as np
from by_size import peak
from machine import describe

from bayesfield.inference import Laplace, Start
from bayesfield.inference.engines.laplace.ends import ends_of
from bayesfield.inference.program.binding import bind

FAMILY = next(iter(b.FAMILIES))

# Growth, measured ---------------------------------------------------------------------------------


def parts_of(n, what):
    """From a part's name to a call of it; also the number of values and the rows of a block."""
    program, arrays, sites = bind(b.MODELS[what], b.rows(FAMILY, 6, n))
    engine = Laplace(num_starts=1).resolved(program, arrays, sites)
    (phase,) = engine.phases(program)
    params, position = program.start(arrays, {}, engine.init_strategy, jr.key(6))
    state = phase.init(program, arrays, Start(params, position, {}), jr.key(0))
    step = jax.jit(lambda data, state, index: phase.step(program, data, state, index, jr.key(0))[0])
    calls = {
        name: lambda index=index: step(arrays, state, index)
        for name, index in (("step", 0), ("update", engine.num_steps))
    }
    states, block = jax.tree.map(lambda leaf: leaf[None], state), engine.rows_at_once
    calls["end"] = lambda: ends_of(program, arrays, states, block, None)
    return calls, sum(value.size for value in jax.tree.leaves(state.point[1])), block


def cpu_of(call, least=2.0):
    """CPU seconds of a call that is compiled."""
    jax.block_until_ready(call())
    calls, begin = 0, time.process_time()
    while time.process_time() - begin < least:
        jax.block_until_ready(call())
        calls += 1
    return (time.process_time() - begin) / calls


def growth(sizes, what):
    """Print a row for each number of rows."""
    print("CPU s, by the model in brackets, and exponents of growth from the row before\n")
    print("| rows | values | block | a step | | an update | | the end | | peak |")
    print("|---" * 10 + "|", flush=True)
    before = None
    for n in sizes:
        calls, values, block = parts_of(n, what)
        said = {"step": gradient(CORES, n), "update": curvature(CORES, n, values)}
        said["end"] = ending(CORES, n, values)
        taken = {name: cpu_of(call) for name, call in calls.items()}
        cells = []
        for name, seconds in taken.items():
            grown = before and np.log(seconds / before[1][name]) / np.log(n / before[0])
            cells += [
                f"{seconds:.3g} ({CORES.count * said[name]:.3g})",
                f"{grown:.2f}" if before else "",
            ]
        print(f"| {n:,} | {values} | {block} | {' | '.join(cells)} | {peak():.1f} GB |", flush=True)
        before = n, taken


# A cost model -------------------------------------------------------------------------------------


class Machine(NamedTuple):
    """What a machine does; each was measured but two of the H200.

    Its `product` is from the data sheet and its `entry` from the bandwidth there.

    Attributes:
        start: Seconds that a step takes whatever its rows.
        row: Seconds of value and gradient, a row of a FiLM-SIREN of width 32 and depth 4.
        entry: Seconds in which an entry of the Jacobian by rows is made.
        product: Operations a second of a product of float32 matrices.
        held: Bytes that a step over all rows holds for each of them.
        memory: Bytes.
        count: Processors that CPU seconds are of.
        host: Operations a second of a product of float64 matrices on the host.
        read: Seconds in which a thread of the host reads a row of a batch.
    """

    start: float
    row: float
    entry: float
    product: float
    held: float
    memory: float
    count: int = 1
    host: float = 1.35e11
    read: float = 1.1e-7


CORES = Machine(
    start=1e-4, row=4.4e-7, entry=4.5e-9, product=2.7e11, held=1.7e3, memory=16e9, count=2
)
CARD = Machine(start=2.3e-4, row=3.05e-9, entry=1e-11, product=6e13, held=2.07e4, memory=141e9)

STEPS = {"EnsembleMAP": 2000, "SVI": 4000, "Laplace": 1500}
UPDATES = 10
SEARCHED = 4  # gradients that the evaluations of an update take as long as
GRADIENTS = {"NUTS": 357_000, "MCLMC": 96_000}  # of four chains together, SAMPLERS.md
BATCH = 16_384


def gradient(machine, rows):
    """Seconds of value and gradient over all rows: `rows x weights` operations."""
    return machine.start + rows * machine.row


def curvature(machine, rows, values, rank=None):
    """Seconds of an update of Laplace: operations over the rate of products.

    All directions, of `m` the smaller of rows and values: `2 n d m` for the products of rows, as
    much for the spread of each row, and `m^3` for the factor and its inverse. Of few: `4 n d r` in
    each of three passes over the rows, and `2 n d r`. Each pass makes the Jacobian anew, and the
    steps are searched for by evaluations of the density.
    """
    made, searched = rows * values * machine.entry, SEARCHED * gradient(machine, rows)
    if rank:
        products = rows * values * (12 * (rank + 10) + 2 * rank) / machine.product
        return 4 * made + searched + products
    least = min(rows, values)
    return 2 * made + searched + (4 * rows * values * least + least**3) / machine.product


def ending(machine, rows, values):
    """Seconds of the curvature at the end, in double precision on the host."""
    least = min(rows, values)
    made = rows * values * machine.entry
    return made + (2 * rows * values * least + least**3 / 3) / machine.host


def fits(machine, rows, values, devices=1, rank=200):
    """Seconds of a whole fit by each engine, one lane, compilation left out."""
    own = max(1, rows // devices)  # rows of a device, where they are split
    at_all, at_batch = gradient(machine, own), gradient(machine, BATCH)
    climb = STEPS["Laplace"] * at_all
    updates = UPDATES * curvature(machine, own, values)
    return {
        "SVI, batches": STEPS["SVI"] * max(at_batch, BATCH * machine.read),
        "EnsembleMAP": STEPS["EnsembleMAP"] * at_all,
        "SVI": STEPS["SVI"] * at_all,
        "Laplace": climb + updates + ending(machine, rows, values),
        "its climb alone": climb,
        "its end on the host": ending(machine, rows, values),
        "Laplace, rank 200": climb + UPDATES * curvature(machine, own, values, rank),
        "MCLMC, 4 chains": GRADIENTS["MCLMC"] * at_all,
        "NUTS, 4 chains": GRADIENTS["NUTS"] * at_all,
    }


def spelt(seconds):
    for size, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{float(f'{seconds / size:.2g}'):,.0f} {name}"
    return f"{float(f'{seconds:.2g}'):.3g} s"


def model(values):
    """Print what fits take by the model."""
    sizes = [10**power for power in (4, 5, 6, 7, 8, 9)]
    for name, machine, devices in (
        ("Two cores", CORES, 1),
        ("An H200", CARD, 1),
        ("64 H200", CARD, 64),
    ):
        most = devices * machine.memory / machine.held
        print(f"\n{name}, {values:,} values; a step over all rows is full at {most:.1e} rows.\n")
        print("| engine | " + " | ".join(f"{n:.0e}" for n in sizes) + " |")
        print("|---" * (len(sizes) + 1) + "|")
        columns = [fits(machine, n, values, devices) for n in sizes]
        for engine in columns[0]:
            by_batches, on_host = engine.endswith("batches"), engine.endswith("host")
            cells = [
                spelt(column[engine]) if n < most or by_batches or on_host else "full"
                for n, column in zip(sizes, columns, strict=True)
            ]
            print(f"| {engine} | {' | '.join(cells)} |")


def main():
    """Print the tables asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["growth", "model"])
    parser.add_argument("--n", type=int, nargs="+", default=[10_000, 30_000, 100_000])
    parser.add_argument("--random", choices=["generators", "all"], default="generators")
    parser.add_argument("--values", type=int, default=961)
    args = parser.parse_args()
    print(f"{describe()}\n")
    if args.what == "growth":
        growth(args.n, args.random)
    else:
        model(args.values)


if __name__ == "__main__":
    main()
