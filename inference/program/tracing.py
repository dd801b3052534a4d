"""One thread at a time runs or compiles programs, and products are made in full precision."""

import contextlib
import functools
import threading
from collections.abc import Callable
from typing import Any

import jax


class _Tracing:
    """Hold this to run or compile a program: one thread at a time, products in full precision.

    NumPyro has one stack of handlers for all threads. An accelerator rounds the factors of a
    float32 product to some ten bits unless it is told otherwise, and a curvature made of such
    products need not be positive. What the user has set in `jax_default_matmul_precision` holds.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._entered: list[contextlib.AbstractContextManager] = []

    def __enter__(self) -> None:
        self._lock.acquire()
        try:
            entered = _full_precision()
            entered.__enter__()
            self._entered.append(entered)
        except BaseException:
            self._lock.release()
            raise

    def __exit__(self, *error: Any) -> None:
        try:
            self._entered.pop().__exit__(*error)
        finally:
            self._lock.release()


def _full_precision() -> contextlib.AbstractContextManager:
    chosen = jax.config.jax_default_matmul_precision is not None
    if chosen or jax.default_backend() == "cpu":  # a CPU has full precision
        return contextlib.nullcontext()
    return jax.default_matmul_precision("highest")


TRACING = _Tracing()


def tracing[**P, T](function: Callable[P, T]) -> Callable[P, T]:
    """Let one thread at a time run a function that traces programs."""

    @functools.wraps(function)
    def alone(*args: P.args, **kwargs: P.kwargs) -> T:
        with TRACING:
            return function(*args, **kwargs)

    return alone
