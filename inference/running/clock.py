"""What of a fit's time was compilation."""

import time
from typing import Any

import jax


class Clock:
    """Parts the time spent in tracing and compiling from the time spent in running.

    A call is dispatched asynchronously: the one that compiles returns when it has compiled.
    """

    def __init__(self) -> None:
        self.compiling = 0.0
        self.running = 0.0
        self._compiled = False

    def add(self, compiling: float, running: float) -> None:
        """Book the time of the processes that a run goes on from."""
        self.compiling += compiling
        self.running += running

    def call(self, fn: Any, *args: Any) -> Any:
        """Call a compiled function, wait for what it returns, and book the time."""
        self._compiled = False
        begin = time.perf_counter()
        jax.monitoring.register_event_duration_secs_listener(self._listen)
        try:
            out = fn(*args)
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
