"""How much of the time of a fit was compilation."""

import time
from typing import Any

import jax

from ..program.trace import keeps_arrays


class Clock:
    """Measure the time spent tracing and compiling apart from the time spent running.

    JAX dispatches calls asynchronously: a call that compiles returns once it has compiled.
    """

    def __init__(self) -> None:
        self.compiling = 0.0
        self.running = 0.0
        self._compiled = False

    def add(self, compiling: float, running: float) -> None:
        """Add the time that earlier processes of the same run have spent."""
        self.compiling += compiling
        self.running += running

    def call(self, fn: Any, *args: Any) -> Any:
        """Call a compiled function, wait for its result, and add the time that it took."""
        self._compiled = False
        begin = time.perf_counter()
        jax.monitoring.register_event_duration_secs_listener(self._listen)
        try:
            out = fn(*args)
        except jax.errors.UnexpectedTracerError as error:
            raise TypeError(keeps_arrays("fit_posterior")) from error
        finally:
            jax.monitoring.unregister_event_duration_listener(self._listen)
        returned = time.perf_counter() if self._compiled else begin
        jax.block_until_ready(out)
        self.compiling += returned - begin
        self.running += time.perf_counter() - returned
        return out

    def _listen(self, event: str, duration_secs: float, **_: Any) -> None:
        del duration_secs
        self._compiled |= event == "/jax/core/compile/backend_compile_duration"
