"""What is printed: a field in a few lines, with sizes and what is random; no address anywhere."""

import re

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
import pytest

import bayesfield as bf
from bayesfield.settings_text import distribution_text
from cases import CONDITIONERS, FIELDS, LIKELIHOODS, NETWORKS

EVERY = NETWORKS | CONDITIONERS | FIELDS


def film():
    trunk = bf.SIREN.init(1, 32, 1, depth=4, key=jr.key(0))
    return bf.ConditionedINR.init(trunk, conditioner_cls=bf.FiLM, cond_dim=4, key=jr.key(1))


def test_a_field_shows_its_parts_their_sizes_and_what_is_random():
    assert repr(bf.with_prior(film())).split("\n") == [
        "ConditionedINR: x (1,), z (4,) -> (1,); 3,169 values: 960 random, 2,209 learnt",
        "  trunk         SIREN               2,209  learnt",
        "  conditioners  3 AffineModulation    960  random, Normal",
    ]


def test_a_part_whose_leaves_differ_is_followed_by_its_own():
    field = bf.with_prior(film(), dist.Laplace, where="trunk.layers.1")
    field = bf.freeze(field, where="conditioners")
    head, *rows = str(field).split("\n")
    assert head.endswith("3,169 values: 1,056 random, 1,153 learnt, 960 frozen")
    assert "    layers      3 SirenDense, 1 Linear  2,209" in rows
    random = [row for row in rows if "random" in row]
    assert [row.split() for row in random] == [["1", "SirenDense", "1,056", "random,", "Laplace"]]
    assert rows[-1].split() == ["conditioners", "3", "AffineModulation", "960", "frozen"]


def test_a_leaf_is_shown_by_its_shape():
    layer = bf.with_prior(bf.SirenDense.init(2, 3, key=jr.key(0)), where="weight")
    assert repr(layer).split("\n") == [
        "SirenDense: x (2,) -> (3,); 9 values: 6 random, 3 learnt",
        "  weight  array (3, 2)  6  random, Normal",
        "  bias    array (3,)    3  learnt",
    ]


@pytest.mark.parametrize("name", EVERY)
def test_every_module_takes_a_few_lines_and_counts_every_value(name):
    module = EVERY[name]()
    text = repr(module)
    assert text.startswith(f"{type(module).__name__}: ")
    assert len(text.split("\n")) <= 12
    arrays = jax.tree.leaves(eqx.filter(module, eqx.is_array))
    size = sum(array.size for array in arrays)
    assert (f"{size:,} values" if size else "no values") in text
    lifted = repr(bf.with_prior(module, scale=1.0, where="all")) if size else "all random"
    assert "all random" in lifted
    assert "0x" not in lifted


def test_a_module_is_shown_where_it_is_traced_and_by_its_shapes():
    shapes = eqx.filter_eval_shape(film)
    assert repr(shapes) == repr(film())
    shown = []
    jax.eval_shape(lambda scale: shown.append(repr(bf.with_prior(film(), scale=scale))), 0.1)
    assert shown == [repr(bf.with_prior(film()))]


def test_many_parts_are_cut_short():
    trunk = bf.SIREN.init(1, 2, 1, depth=30, key=jr.key(0))
    field = bf.with_prior(trunk, where=lambda path, leaf: path.endswith("weight"))
    lines = repr(field).split("\n")
    assert len(lines) == 18
    assert lines[-1].startswith("  and ")


def test_a_prior_says_its_distribution_and_its_shape():
    prior = bf.Prior(dist.LogNormal(0.0, np.array([0.5, 0.7])), (3, 2))
    assert repr(prior) == "Prior(LogNormal(loc=0, scale=0.5 to 0.7), shape=(3, 2))"
    (bias,) = [repr(p) for p in jax.tree.leaves(bf.with_prior(film()), is_leaf=is_bias)][-1:]
    assert bias == "Prior(Normal(loc=0, scale=0.15), shape=(64,))"


def is_bias(node):
    return isinstance(node, bf.Prior)


def test_a_distribution_is_told_by_its_parameters():
    assert (
        distribution_text(dist.HalfNormal(0.5).expand([3]).to_event(1)) == "HalfNormal(scale=0.5)"
    )
    text = distribution_text(dist.MultivariateNormal(jnp.zeros(2), jnp.eye(2)))
    assert text.startswith("MultivariateNormal(loc=0, ")
    positive = dist.TransformedDistribution(dist.Normal(0.0, 2.0), dist.transforms.ExpTransform())
    assert distribution_text(positive) == "TransformedDistribution(Normal(loc=0, scale=2))"
    shown = []
    jax.eval_shape(lambda s: shown.append(distribution_text(dist.Normal(0.0, s))), 1.0)
    assert shown == ["Normal(loc=0, scale=computed)"]


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_a_likelihood_is_shown_as_the_call_that_makes_it(name):
    likelihood = LIKELIHOODS[name]()
    text = repr(likelihood)
    assert re.fullmatch(rf"{type(likelihood).__name__}\(.*\)", text)
    assert "0x" not in text
    assert "plate='task'" not in text


def test_a_program_shows_its_parts():
    model = bf.regression(bf.with_prior(film()), bf.Gaussian(dist.HalfNormal(0.5)))
    first, field, *_, last = repr(model).split("\n")
    assert first == "Regression"
    assert field.startswith("  field: ConditionedINR: x (1,), z (4,)")
    assert last == "  likelihood: Gaussian(scale=HalfNormal(scale=0.5))"

    residual = bf.GaussianProcessResidual(dist.LogNormal(0.0, 0.5), dist.HalfNormal(1.0))
    tasks = bf.regression(film, bf.Gaussian(0.1), codes=bf.LatentCodes(4), residual=residual)
    assert repr(tasks).split("\n") == [
        "TaskRegression",
        "  field: made by film(key)",
        "  likelihood: Gaussian(scale=0.1)",
        "  codes: LatentCodes(cond_dim=4)",
        "  residual: GaussianProcessResidual(lengthscale=LogNormal(loc=0, scale=0.5), "
        "scale=HalfNormal(scale=1))",
    ]
    many = bf.panel(film, bf.Gaussian(0.1), code_dim=4)
    assert repr(many).split("\n")[1:] == [
        "  field: made by film(key)",
        "  likelihood: Gaussian(scale=0.1)",
        "  code_dim: 4",
    ]


def test_a_check_of_a_prior_prints_its_table_wherever_it_is_shown():
    found = bf.PriorCheck(*np.ones((4, 2)), ("Too rough.",))
    assert repr(found) == str(found)
    head, *rows, last = repr(found).split("\n")
    assert head.split() == ["context", "sd", "correlation", "roughness", "lengthscale"]
    assert len(rows) == 2
    assert last == "Too rough."
