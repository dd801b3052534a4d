"""Set the suite up before bayesfield is imported: types checked at run time, compilation cached."""

import gc
import itertools
import os
from pathlib import Path

# So that pytest run directly is as quick as by make; the suite compiles many small programs.
ROOT = Path(__file__).resolve().parent.parent
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / "build" / "jax-cache"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("MPLBACKEND", "Agg")

import jax  # noqa: E402 -- it reads the above when it is imported
import jaxtyping  # noqa: E402 -- it imports JAX
import pytest  # noqa: E402 -- jaxtyping comes before it

# Every annotation in bayesfield is checked in every test; BAYESFIELD_TYPECHECK=0 leaves that out.
if os.environ.get("BAYESFIELD_TYPECHECK", "1") != "0":
    jaxtyping.install_import_hook("bayesfield", "beartype.beartype")

QUICK = "JAX_DISABLE_MOST_OPTIMIZATIONS"  # set by `make test`
MAPS = Path("/proc/self/maps")
MOST_MAPS = 40_000  # Linux allows 65,530 in a process, and XLA takes some for each function


def pytest_collection_finish():
    """Leave what was imported to itself: tracing makes much garbage, and this is none of it."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


@pytest.fixture(scope="session")
def number_of_test():
    return itertools.count()


@pytest.fixture(autouse=True)
def room_for_machine_code(number_of_test, request):
    """Forget what was compiled where there is much; asked after eight tests, or a slow one."""
    yield
    often = request.node.get_closest_marker("slow") is not None  # one may take thousands
    if not MAPS.exists() or (next(number_of_test) % 8 and not often):
        return
    if MAPS.read_bytes().count(b"\n") > MOST_MAPS:
        jax.clear_caches()


@pytest.fixture(autouse=True, scope="module")
def compiled_as_marked(request):
    """Compile a file marked `optimised` as users do, one marked `quick` with the least work.

    What it starts in other processes too. The others are compiled as `make` says.
    """
    before = os.environ.get(QUICK, "0")
    marks = {mark.name for mark in request.node.iter_markers()}
    wanted = "0" if "optimised" in marks else "1" if "quick" in marks else before
    if wanted == before:
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(QUICK, wanted)
        jax.clear_caches()
        jax.config.update(QUICK.lower(), wanted == "1")
        yield
        jax.config.update(QUICK.lower(), before == "1")
        jax.clear_caches()


@pytest.fixture
def unchecked():
    """Switch the hook off for one test: on an argument of the wrong type it would answer first."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)
