"""Set the suite up before bayesfield is imported: types checked at run time, compilation cached."""

import os
from pathlib import Path

# So that pytest run directly is as quick as by make; the suite compiles many small programs.
ROOT = Path(__file__).resolve().parent.parent
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / "build" / "jax-cache"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("MPLBACKEND", "Agg")

import jax  # noqa: E402
import jaxtyping  # noqa: E402 -- it imports JAX, which reads the above
import pytest  # noqa: E402

# Every annotation in bayesfield is checked in every test; BAYESFIELD_TYPECHECK=0 leaves that out.
if os.environ.get("BAYESFIELD_TYPECHECK", "1") != "0":
    jaxtyping.install_import_hook("bayesfield", "beartype.beartype")

MAPS = Path("/proc/self/maps")
MOST_MAPS = 20_000  # Linux allows 65,530 in a process, and XLA takes some for each function


@pytest.fixture(autouse=True, scope="module")
def room_for_machine_code():
    """Forget what was compiled when a file ends, where a process has had much of it."""
    yield
    if MAPS.exists() and MAPS.read_bytes().count(b"\n") > MOST_MAPS:
        jax.clear_caches()


@pytest.fixture
def unchecked():
    """Switch the hook off for one test: on an argument of the wrong type it would answer first."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)
