"""Continuing the chains of a fit, in the process that made them or from a file."""

from typing import Any

import numpy as np

from bayesfield.checks import check_size

from ..engines.drive import Driven, Run, Stopwatch, drive
from ..engines.fitted import Fitted
from ..program.arguments import check_not_traced
from ..program.bound import BoundProgram
from ..program.described import described
from ..running.progress import Progress, check_progress
from ..running.safely import interrupts_held
from ..storage.as_fitted import check_as_fitted
from .convergence import with_verdict
from .ready import check_holds_data


def extend(
    bound: BoundProgram,
    fitted: Fitted,
    run: Run | None,
    record: dict[str, Any] | None,
    num_samples: int,
    *,
    progress: Progress,
) -> tuple[Fitted, Run]:
    """Continue the chains of a posterior; see `Posterior.extend`."""
    check_not_traced("extend")
    progress = check_progress("extend", progress)
    check_as_fitted("extend", bound, record)
    num_samples = check_size("extend", "num_samples", num_samples)
    check_holds_data("extend", bound)
    if "codes" in fitted.said:
        raise ValueError(
            "`extend` expected a posterior that holds the last states of its chains; got one by "
            "`infer_codes`, whose draws are independent. Ask that for more: `num_samples=`."
        )
    if run is None:
        raise ValueError(
            "`extend` expected a posterior that holds the last states of its chains; got one "
            "without. It is one trunk of several, or it was loaded from a file and its engine has "
            "no chains or is your own. Fit again: `init=posterior` starts where this one ended."
        )
    engine = run.engine.extended(num_samples)
    if fitted.said["cut_short"] is not None:
        raise ValueError(
            "`extend` expected a fit that ran to its end; got one that was cut short. Fit again, "
            "from a `checkpoint` if there is one, or with `init=posterior`."
        )
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
    """Return the old draws and the new ones as one result."""
    more, taken = driven.fitted, driven.taken
    left = driven.alive[run.reached.alive]  # which of the chains that were alive still are

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
