"""Every benchmark in one process, their tables into `benchmarks/RESULTS.md`: `make bench`."""

import contextlib
import io
import subprocess
import sys
import warnings
from datetime import date
from pathlib import Path

import ensemble
import fits
import loop_overhead
import memory_and_growth
import nuts
import tracing
import training_step
from machine import describe, interleaved, rate_cases, rates

HERE = Path(__file__).parent
SUITES = {
    "Whole fits": fits,  # first: its cold calls want a process that has compiled nothing
    "Training step": training_step,
    "EnsembleMAP": ensemble,
    "NUTS": nuts,
    "Contexts, predictions, memory, growth": memory_and_growth,
    "Chunks of the loop": loop_overhead,
    "Tracing a program": tracing,
}


class Both(io.StringIO):
    """Keeps what is printed, and prints it."""

    def write(self, text):
        sys.__stdout__.write(text)
        sys.__stdout__.flush()
        return super().write(text)


def import_seconds(statement):
    """Time imports in a new process; the best of three."""
    code = f"import time; t = time.perf_counter(); {statement}; print(time.perf_counter() - t)"
    command = [sys.executable, "-c", code]
    return min(float(subprocess.check_output(command)) for _ in range(3))


def main():
    """Run, print and write."""
    warnings.simplefilter("ignore")  # chains this short have not converged, and need not
    out = Both()
    with contextlib.redirect_stdout(out):
        print("# Results\n")
        print(f"Written by `make bench` on {date.today()}: {describe()}.")
        own, peers = import_seconds("import bayesfield"), import_seconds("import numpyro, equinox")
        print(f"`import bayesfield` takes {own / peers:.2f} x `import numpyro, equinox`.")
        for title, suite in SUITES.items():
            print(f"\n## {title}\n\n{suite.__doc__.strip()}\n")
            suite.main()
        found = rates(interleaved(rate_cases()))
        spelled = ", ".join(f"{name} {rate:.3g}" for name, rate in found.items())
        print(f"\nRates of this machine, operations a second: {spelled}.")
    (HERE / "RESULTS.md").write_text(out.getvalue())


if __name__ == "__main__":
    main()
