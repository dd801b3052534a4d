"""Going on with the chains of a fit, in the process that made them or from a file."""

from typing import Any

import numpy as np

from ..engines.drive import Driven, Run, Stopwatch, drive
from ..engines.fitted import Fitted
from ..program.bound import BoundProgram
from ..program.described import described
from ..running.safely import interrupts_held
from ..storage.data_record import check_precision
from .convergence import with_verdict


def extend(
    bound: BoundProgram,
    fitted: Fitted,
    run: Run | None,
    num_samples: int,
    *,
    record: dict[str, Any] | None,
    progress: bool,
) -> tuple[Fitted, Run]:
    """Go on with a posterior's chains; see `Posterior.extend`."""
    if bound.data is None:
        raise ValueError(
            "`extend` needs the data of the fit, and the posterior was loaded without: give data "
            "to load, `Posterior.load(path, model, data)`."
        )
    if run is None:
        raise ValueError(
            "`extend` goes on from the last states of all chains of a fit, and there are none: the "
            "posterior is one trunk of several, or from a file and of an engine without chains or "
            "of your own. Fit again: `init=posterior` starts where this one ended."
        )
    engine = run.engine.extended(num_samples)
    if fitted.said["cut_short"] is not None:
        raise ValueError("`extend` expected a fit that ran to its end; this one was cut short.")
    check_precision("extend", bound, record)
    watch = Stopwatch.started()
    with interrupts_held() as hold:
        driven = drive(
            bound,
            engine,
            run.start,
            run.keys,
            hold=hold,
            watch=watch,
            progress=progress,
            reached=run.reached,
            first=fitted.num_draws,
        )
        longer = hold.to_the_end(_longer, fitted, run, driven)
        return with_verdict(hold, "extend", bound, longer), driven.run


def _longer(fitted: Fitted, run: Run, driven: Driven) -> Fitted:
    """Return the draws that there were and those that were added."""
    more, taken = driven.fitted, driven.taken
    left = driven.alive[run.reached.alive]  # of the chains that had been alive, those that are

    def joined(old: np.ndarray, new: np.ndarray) -> np.ndarray:
        return np.concatenate([old[left], new], axis=1)

    seconds = {n: fitted.said[n] + v for n, v in taken.items() if n.endswith("seconds")}
    settings = fitted.said | taken | seconds | {"settings": described(driven.run.engine)}
    return fitted._replace(
        draws={n: joined(v, more.draws[n]) for n, v in fitted.draws.items()},
        trunk=joined(fitted.trunk, more.trunk),
        params=more.params,
        stats={n: joined(v, more.stats[n]) for n, v in fitted.stats.items()},
        members=more.members,
        settings=settings,
    )
