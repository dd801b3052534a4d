"""Jobs that need nothing of each other: here, or wherever an executor puts them."""

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from bayesfield.checks import listed, warn

from .progress import Progress, counted_off
from .safely import Hold, interrupts_held


def check_executor(call: str, executor: Any) -> None:
    """Raise an error unless jobs can be handed to the executor.

    Raises:
        TypeError: It has no `submit`, or is a class.
        ValueError: Its processes are forked.
        ModuleNotFoundError: cloudpickle is not installed.
    """
    if isinstance(executor, type):
        raise TypeError(
            f"`{call}` expected `executor` to be an object with `submit`; got the class "
            f"{executor.__name__}. Make one of it: `{executor.__name__}(...)`."
        )
    if not callable(getattr(executor, "submit", None)):
        raise TypeError(
            f"`{call}` expected `executor` to have `submit`, as an executor of concurrent.futures, "
            f"loky or Dask has; got {type(executor).__name__}."
        )
    context = getattr(executor, "_mp_context", None)
    method = getattr(context, "get_start_method", None)
    if method is not None and method() == "fork":
        raise ValueError(
            f"`{call}` expected `executor` to start its processes anew; got one that forks this "
            "one, and JAX's threads do not survive that. Write "
            "`ProcessPoolExecutor(mp_context=multiprocessing.get_context('spawn'))`."
        )
    if find_spec("cloudpickle") is None:
        raise ModuleNotFoundError(
            f"`{call}(executor=...)` sends the program to other processes by cloudpickle, which is "
            "not installed: pip install 'bayesfield[executors]'."
        )


def run_jobs[J, R](
    executor: Any,
    function: Callable[[J], R],
    jobs: Sequence[J],
    hold: Hold,
    bar: Any = None,
) -> tuple[dict[int, R], dict[int, BaseException]]:
    """Call a function for each job, and return the results and what the others raised.

    A job whose process dies costs itself alone. At an interrupt those that have not ended are
    given up.

    Args:
        executor: Where they run, each sent there by cloudpickle.
        function: What is called, in JAX's precision of this process.
        jobs: Its arguments, without keys of JAX (`told_of` makes something of them to send).
        hold: Lets interrupts through while results are waited for.
        bar: Told of each job that has ended, by its `update`.

    Raises:
        TypeError: What the executor returns is no future.
    """
    import cloudpickle

    double = jax.config.jax_enable_x64
    back: dict[int, R] = {}
    lost: dict[int, BaseException] = {}
    futures = {}
    for number, job in enumerate(jobs):
        sent = cloudpickle.dumps((function, job, double))
        try:
            future = executor.submit(_work, sent)
        except Exception as error:  # a pool that a job has broken takes no more
            lost[number] = error
            continue
        _check_future(executor, future)
        futures[number] = future
    stopped: KeyboardInterrupt | None = None
    for number, future in futures.items():
        if stopped is not None and not future.done():
            future.cancel()
            lost[number] = stopped
            continue
        try:
            with hold.let_through():
                back[number] = future.result()
        except KeyboardInterrupt as error:
            stopped = lost[number] = error
        except Exception as error:  # whatever ended the process, the other jobs are whole
            lost[number] = error
        if bar is not None:
            bar.update(1)
    return back, lost


def run_all[J, R](
    call: str,
    name: str,
    labels: Sequence[Any],
    executor: Any,
    function: Callable[[J], R],
    jobs: Sequence[J],
    progress: Progress = False,
) -> dict[int, R]:
    """Call a function for each job, here where there is no executor, and warn of those lost.

    Args:
        call: The public call, for warnings and for the bar.
        name: What a job is, in the singular.
        labels: What each of them is called.
        executor: Where they run, or None.
        function: What is called.
        jobs: Its arguments.
        progress: Whether to show how many have ended.

    Raises:
        Exception: What the first job raised, here or where none came back.
    """
    with counted_off(call, len(jobs), progress, unit=name) as bar:
        if executor is None:
            back = {}
            for number, job in enumerate(jobs):
                back[number] = function(job)
                bar.update(1)
            return back
        with interrupts_held() as hold:
            back, lost = run_jobs(executor, function, jobs, hold, bar)
    if not back:
        raise next(iter(lost.values()))
    if lost:
        reason = next(iter(lost.values()))
        warn(
            f"`{call}` lost {len(lost)} of {len(jobs)} {name}s, which are left out "
            f"({why(reason)}): {listed([str(labels[i]) for i in lost])}."
        )
    return back


def why(error: BaseException) -> str:
    """Return an error's kind and its text, if it has one: that of a cancelled job has none."""
    return f"{type(error).__name__}: {error}".removesuffix(": ")


def told_of(keys: Array) -> tuple[np.ndarray, str]:
    """Return the numbers and the kind of keys, which another process can be sent."""
    return np.asarray(jax.random.key_data(keys)), str(jax.random.key_impl(keys))


def key_of(told: tuple[np.ndarray, str]) -> Array:
    """Return the keys that `told_of` was given."""
    return jax.random.wrap_key_data(jnp.asarray(told[0]), impl=told[1])


def _check_future(executor: Any, future: Any) -> None:
    """Raise an error unless a result can be waited for: other calls are named `submit` too."""
    if not all(callable(getattr(future, name, None)) for name in ("result", "done", "cancel")):
        raise TypeError(
            "`submit` of an `executor` is expected to return a future, with `result`, `done` and "
            f"`cancel`; got {type(future).__name__} from that of {type(executor).__name__}. Wrap "
            "it in an object whose `submit` does."
        )


def _work(sent: bytes) -> Any:
    """Run a job in this process."""
    import cloudpickle

    function, job, double = cloudpickle.loads(sent)
    with jax.enable_x64(double):
        return function(job)
