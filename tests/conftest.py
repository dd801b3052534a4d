"""Set the suite up before bayesfield is imported: types checked at run time, compilation cached."""

import os
from pathlib import Path

# As the Makefile has it, so that pytest run directly is as quick.
ROOT = Path(__file__).resolve().parent.parent
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / "build" / "jax-cache"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
os.environ.setdefault("MPLBACKEND", "Agg")

from jaxtyping import install_import_hook  # noqa: E402 -- it imports JAX, which reads the above

# Every annotation in bayesfield is checked in every test; BAYESFIELD_TYPECHECK=0 leaves that out.
if os.environ.get("BAYESFIELD_TYPECHECK", "1") != "0":
    install_import_hook("bayesfield", "beartype.beartype")
