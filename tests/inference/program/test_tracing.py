"""Programs are run with products in full precision, on an accelerator too."""

import contextlib

import jax
import jax.numpy as jnp
import pytest

from bayesfield.inference.program.tracing import TRACING


def precision_of_a_product():
    made = jax.make_jaxpr(jnp.dot)(jnp.ones((2, 2)), jnp.ones((2, 2)))
    return str(made.eqns[-1].params["precision"])


@pytest.mark.parametrize(
    ("backend", "chosen", "expected"),
    [("cpu", None, "None"), ("gpu", None, "HIGHEST"), ("gpu", "high", "HIGH,")],
)
def test_products_of_a_program(backend, chosen, expected, monkeypatch):
    """JAX rounds the factors of a product on a GPU; a choice of the user's holds."""
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    with jax.default_matmul_precision(chosen) if chosen else contextlib.nullcontext():
        before = jax.config.jax_default_matmul_precision
        with TRACING:
            assert expected in precision_of_a_product() + ","
        assert jax.config.jax_default_matmul_precision == before
    assert precision_of_a_product() == "None"
