"""Site names are paths: the same wherever the field has been, and so are their values' effects."""

import copy
import functools
import io
import os
import pickle
import subprocess
import sys

import cloudpickle
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import pytest
from lifted import X, Z, film, lifted, names, prefixed, program, trace, two_draws, with_mlp
from numpyro import handlers

import bayesfield as bf
from cases import FIELDS

FILM_SITES = [
    f"field.conditioners.{i}.generator.net.{w}" for i in (0, 1) for w in ("weight", "bias")
]
MLP_SITES = [
    *(f"field.parameter_net.net.layers.{i}.{w}" for i in (0, 1) for w in ("weight", "bias")),
    *(f"field.generators.{i}.net.{w}" for i in (0, 1) for w in ("weight", "bias")),
]
KINDS = {"film": (lifted, FILM_SITES), "mlp": (with_mlp, MLP_SITES)}


def pickled(field):
    with pytest.raises(Exception, match="pickle"):
        pickle.dumps(with_mlp(jr.key(0)))
    return pickle.loads(pickle.dumps(field))


def serialised(field):
    file = io.BytesIO()
    eqx.tree_serialise_leaves(file, field)
    file.seek(0)
    blank = jax.tree.map(lambda leaf: jnp.zeros_like(leaf) if eqx.is_array(leaf) else leaf, field)
    return eqx.tree_deserialise_leaves(file, blank)


def changed(field):
    """Change a leaf and change it back."""
    leaf = jax.tree.leaves(field)[0]
    other = eqx.tree_at(lambda f: jax.tree.leaves(f)[0], field, leaf + 1.0)
    return eqx.tree_at(lambda f: jax.tree.leaves(f)[0], other, leaf)


JOURNEYS = {
    "deepcopy": copy.deepcopy,
    "pickle": pickled,
    "cloudpickle": lambda field: pickle.loads(cloudpickle.dumps(field)),
    "tree_at": changed,
    "partition": lambda field: eqx.combine(*eqx.partition(field, eqx.is_array)),
    "flatten": lambda field: jax.tree.unflatten(*jax.tree.flatten(field)[::-1]),
    "serialise": serialised,
    "filter_jit": eqx.filter_jit(lambda field: field),
}


def by_hand(field, draw):
    """The field with the values of `draw` put at their paths, one by one."""

    def at(path, tree):
        for step in path.split("."):
            tree = tree[int(step)] if step.isdigit() else getattr(tree, step)
        return tree

    for path, value in draw.items():
        field = eqx.tree_at(functools.partial(at, path), field, value)
    return field


def substituted(field, draw, **settings):
    model = handlers.substitute(program(field, **settings), data=prefixed(draw))
    return handlers.seed(model, jr.key(0))()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("journey", JOURNEYS)
def test_names_and_values_survive(journey, kind):
    make, sites = KINDS[kind]
    if (journey, kind) == ("pickle", "mlp"):
        pytest.skip("eqx.nn.MLP does not pickle; cloudpickle does")
    field = make(jr.key(0))
    travelled = JOURNEYS[journey](field)
    assert names(trace(program(travelled))) == sites
    results = [substituted(travelled, draw) for draw in two_draws(field)]
    wanted = [by_hand(field, draw)(X, Z) for draw in two_draws(field)]
    np.testing.assert_allclose(results, wanted, rtol=1e-5, atol=1e-6)
    assert not np.allclose(results[0], results[1], atol=1e-2)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["argument", "closure", "vmap", "plain jit"])
def test_two_substitutions_through_one_compiled_function(how, kind):
    make, sites = KINDS[kind]
    field = make(jr.key(0))
    traces = []

    def evaluate(field, draw):
        model = handlers.substitute(program(field), data=prefixed(draw))
        out = []
        tr = handlers.trace(handlers.seed(lambda: out.append(model()), jr.key(0))).get_trace()
        traces.append(names(tr))
        return out[0]

    draws = two_draws(field)
    if how == "argument":
        compiled = eqx.filter_jit(evaluate)
        results = [compiled(field, draw) for draw in draws]
    elif how == "closure":
        compiled = eqx.filter_jit(lambda draw: evaluate(field, draw))
        results = [compiled(draw) for draw in draws]
    elif how == "plain jit":
        compiled = jax.jit(functools.partial(evaluate, field))
        results = [compiled(draw) for draw in draws]
    else:
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *draws)
        results = jax.vmap(functools.partial(evaluate, field))(stacked)
    assert traces == [sites], "compiled once, under the same names"
    wanted = [bf.realise(field, prefixed(draw), "field")(X, Z) for draw in draws]
    np.testing.assert_allclose(results, wanted, rtol=1e-5, atol=1e-6)
    assert not np.allclose(results[0], results[1], atol=1e-2)


PROGRAM = """
import jax.random as jr
from lifted import lifted, names, program, trace, with_mlp
for make in (lifted, with_mlp):
    sites = trace(program(make(jr.key(0))))
    print(names(sites), names(sites, "param"))
"""


def test_names_are_the_same_in_two_processes():
    seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    env = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": os.path.dirname(__file__)}
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    here = [trace(program(make(jr.key(0)))) for make in (lifted, with_mlp)]
    assert done.stdout.splitlines() == [f"{names(t)} {names(t, 'param')}" for t in here]


@pytest.mark.parametrize("name", FIELDS)
def test_names_hold_neither_slash_nor_address(name):
    sites = trace(lambda: bf.random_field("f", bf.with_prior(FIELDS[name]())))
    for site in sites:
        steps = site.split(".")
        assert steps[0] == "f"
        assert all(step.isidentifier() or step.isdigit() for step in steps), site


class Named(eqx.Module):
    """A layer that keeps its arrays in a dictionary."""

    maps: dict

    def __call__(self, row):
        return row @ self.maps["in/out"]


def test_a_slash_in_a_dictionary_is_written_as_a_dot():
    net = Named({"in/out": jnp.ones((2, 8))})
    field = bf.AffineModulation.init(4, 2, key=jr.key(0), generator=net)
    sites = trace(lambda: bf.random_field("f", bf.with_prior(field, scale=1.0)))
    assert list(sites) == ["f.generator.net.maps.in.out"]


def test_fields_of_one_structure_are_equal_as_static_data():
    """So that a compiled function that takes a lifted field is compiled once for all of them."""
    count = []

    @eqx.filter_jit
    def sample(field):
        count.append(1)
        return handlers.seed(program(field), jr.key(0))()

    for seed in range(3):
        sample(lifted(jr.key(seed)))
        sample(bf.with_prior(film(jr.key(0)), scale=0.1 + seed))
    assert len(count) <= 2


def test_the_stack_of_handlers_is_left_as_it_was():
    with pytest.raises(RuntimeError):
        bf.random_field("f", lifted(jr.key(0)))
    assert numpyro.primitives._PYRO_STACK == []
