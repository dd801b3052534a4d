"""Which leaves are random: `with_prior` on everything that is shipped, `Prior`, `freeze`."""

import functools
import pickle

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
import pytest
from lifted import X, Z, arrays, film, names, priors, program, trace

import bayesfield as bf
from cases import CONDITIONERS, FIELDS, KEY, NETWORKS

LAYERS = CONDITIONERS | FIELDS
WITHOUT_ARRAYS = {
    "Coordinates",
    "SeasonalHarmonics",
    "DyadicFourierFeatures",
    "SphereFeatures",
    "ConcatenatedFeatures",
}
NET = "conditioners.0.generator.net"


def scale_of(prior):
    """The sd of every element of a `Prior`."""
    return jnp.broadcast_to(jnp.sqrt(prior.distribution.variance), prior.shape)


def inside_a_generator(module):
    """The paths of array leaves inside a `Generator`, found without `with_prior`."""
    found = set()

    def visit(node, path, inside):
        inside = inside or isinstance(node, bf.Generator)
        if isinstance(node, eqx.Module):
            for name in node.__dataclass_fields__:
                visit(getattr(node, name), [*path, name], inside)
        elif isinstance(node, tuple):
            for i, child in enumerate(node):
                visit(child, [*path, str(i)], inside)
        elif eqx.is_array(node) and inside:
            found.add(".".join(path))

    visit(module, [], False)
    return found


@pytest.mark.parametrize("name", LAYERS)
def test_generators_become_random_and_nothing_else_does(name):
    plain = LAYERS[name]()
    lifted = bf.with_prior(plain)
    assert set(priors(lifted)) == inside_a_generator(plain) != set()
    assert set(arrays(lifted)) == set(arrays(plain)) - inside_a_generator(plain)
    for path, prior in priors(lifted).items():
        assert prior.shape == prior.distribution.shape() == arrays(plain)[path].shape
        assert prior.distribution.batch_shape == ()


@pytest.mark.parametrize("name", LAYERS | NETWORKS)
def test_all_makes_every_leaf_random(name):
    plain = (LAYERS | NETWORKS)[name]()
    if not arrays(plain):
        assert name in WITHOUT_ARRAYS
        with pytest.raises(TypeError, match=r"`field` to be a module that holds arrays; got"):
            bf.with_prior(plain, where="all")
        return
    undeclared = "sequential" in name or "RBF" in name or name == "RandomKitchenSinks"
    lifted = bf.with_prior(plain, where="all", scale=1.0 if undeclared else None)
    assert set(priors(lifted)) == set(arrays(plain))
    assert not arrays(lifted)


@pytest.mark.parametrize("name", LAYERS)
def test_a_predicate_chooses_leaves_by_path_and_value(name):
    plain = LAYERS[name]()
    matrices = {path for path, leaf in arrays(plain).items() if leaf.ndim == 2}
    lifted = bf.with_prior(plain, where=lambda path, leaf: leaf.ndim == 2, scale=1.0)
    assert set(priors(lifted)) == matrices
    (first, *_) = arrays(plain)
    assert set(priors(bf.with_prior(plain, where=lambda p, _: p == first, scale=1.0))) == {first}


def test_depth_4_bayesian_film_siren_has_exactly_six_sites():
    trunk = bf.SIREN.init(1, 8, 1, depth=4, key=KEY)
    field = bf.ConditionedINR.init(
        trunk, conditioner_cls=bf.BayesianAffineModulation, cond_dim=2, key=KEY
    )
    sites = [f"conditioners.{i}.generator.net.{w}" for i in range(3) for w in ("weight", "bias")]
    assert names(trace(lambda: field(X, Z))) == sites
    assert names(trace(program(field))) == [f"field.{site}" for site in sites]


STUDENT = functools.partial(dist.StudentT, 4.0)
WHOLE = dist.Uniform(-0.1, jnp.array(0.1))


@pytest.mark.parametrize("family", [dist.Normal, dist.Laplace, dist.Cauchy, STUDENT, dist.Logistic])
@pytest.mark.parametrize("center", ["zero", "value"])
def test_any_family_is_placed_at_its_centre_with_its_scale(family, center):
    plain = film(KEY)
    lifted = bf.with_prior(plain, prior=family, scale=0.7, center=center)
    for path, prior in priors(lifted).items():
        value = arrays(plain)[path]
        wanted = family(value if center == "value" else jnp.zeros_like(value), 0.7)
        at = value + jr.normal(KEY, value.shape)
        assert jnp.allclose(prior.distribution.log_prob(at), wanted.log_prob(at).sum(), rtol=1e-5)


def test_a_whole_distribution_is_used_as_it_is():
    for prior in priors(bf.with_prior(film(KEY), prior=WHOLE)).values():
        inside = jnp.full(prior.shape, 0.05)
        log_prob = prior.distribution.log_prob(inside)
        assert jnp.allclose(log_prob, np.prod(prior.shape) * np.log(5.0), rtol=1e-5)
        assert prior.distribution.support(inside)
        assert not prior.distribution.support(inside.at[0].set(0.2))


def test_a_distribution_with_event_axes_fits_leaves_that_end_in_them():
    covariance = jnp.array([[1.0, 0.5], [0.5, 2.0]])
    joint = dist.MultivariateNormal(covariance_matrix=covariance)
    lifted = bf.with_prior(film(KEY), prior=joint, where=lambda path, _: path == f"{NET}.weight")
    (prior,) = priors(lifted).values()
    assert prior.shape == (8, 2)
    value = jr.normal(KEY, (8, 2))
    assert jnp.allclose(prior.distribution.log_prob(value), joint.log_prob(value).sum(), rtol=1e-5)


def test_repeated_lifting_goes_leaf_by_leaf_the_particular_first():
    lifted = bf.with_prior(film(KEY), prior=dist.Laplace, scale=0.1, where=lambda p, _: "1." in p)
    lifted = bf.with_prior(lifted, scale=0.2)
    lifted = bf.with_prior(lifted, prior=dist.Cauchy, where="all")
    inner = {path: p.distribution.base_dist for path, p in priors(lifted).items()}
    assert inner[f"{NET}.weight"].base_dist.scale == jnp.float32(0.2)
    assert len(inner) == len(arrays(film(KEY)))
    for path, wanted in (
        ("conditioners.1.generator.net.bias", dist.Laplace),
        ("trunk.layers.1.weight", dist.Laplace),
        (f"{NET}.bias", dist.Normal),
        ("trunk.layers.0.weight", dist.Cauchy),
    ):
        assert isinstance(inner[path].base_dist, wanted), path


@pytest.mark.parametrize("scale", [0.3, jnp.array(0.3), np.full(2, 0.3)])
def test_scale_is_a_number_or_what_broadcasts_to_the_leaf(scale):
    lifted = bf.with_prior(film(KEY), scale=scale, where=lambda path, _: path == f"{NET}.weight")
    (prior,) = priors(lifted).values()
    assert jnp.allclose(scale_of(prior), 0.3)


def test_scale_is_a_function_of_path_and_leaf():
    lifted = bf.with_prior(film(KEY), scale=lambda p, leaf: leaf.ndim + 10.0 * p.endswith("bias"))
    for path, prior in priors(lifted).items():
        assert jnp.allclose(scale_of(prior), 11.0 if path.endswith("bias") else 2.0)


def test_random_features_keep_their_own_priors():
    feat = bf.RBFFourierFeatures.init(1, 4, lengthscale=dist.Gamma(jnp.array(2.0), 3.0))
    lifted = bf.with_prior(
        bf.RandomKitchenSinks.init(feat=feat, out_features=1, key=KEY), where="all"
    )
    assert isinstance(priors(lifted)["feat.lengthscale"].distribution, dist.Gamma)
    assert jnp.allclose(scale_of(priors(lifted)["readout.weight"]), 1.0)


def test_lifting_changes_nothing_but_the_chosen_leaves():
    plain = film(KEY)
    before = jax.tree.map(jnp.array, plain)
    lifted = bf.with_prior(plain)
    assert eqx.tree_equal(plain, before)
    assert eqx.tree_equal(lifted.trunk, plain.trunk)


def test_generator_mlps_carry_the_calibration_in_their_last_layer():
    linear, deep = (bf.AffineModulation.init(3, 4, key=KEY, generator=g) for g in (None, mlp()))
    of_linear = scale_of(priors(bf.with_prior(linear))["generator.net.weight"])
    of_deep = scale_of(priors(bf.with_prior(deep))["generator.net.layers.1.weight"])
    assert jnp.allclose(of_linear[:, 0] * np.sqrt(4), of_deep[:, 0] * np.sqrt(5), rtol=1e-6)
    hidden = scale_of(priors(bf.with_prior(deep))["generator.net.layers.0.weight"])
    assert jnp.allclose(hidden, np.sqrt(2.0 / 4), rtol=1e-6)


# The scales at which `benchmarks/believable.py` measured the bands of a FiLM-SIREN.
MEASURED = {
    "trunk.layers.0.weight": 1 / np.sqrt(3),
    "trunk.layers.0.bias": 0.3,
    "trunk.layers.1.weight": np.sqrt(2 / 32) / 5.0,
    "trunk.layers.1.bias": 0.3,
    "trunk.layers.2.weight": 1 / np.sqrt(32),
    "trunk.layers.2.bias": 0.3,
    "conditioners.0.generator.net.weight": 0.15,
    "conditioners.1.generator.net.bias": 0.15,
}


def test_the_scales_of_a_film_siren_are_those_that_were_measured():
    trunk = bf.SIREN.init(1, 32, 1, depth=3, key=KEY, first_omega=5.0, hidden_omega=5.0)
    field = bf.ConditionedINR.init(trunk, conditioner_cls=bf.FiLM, cond_dim=4, key=KEY)
    found = priors(bf.with_prior(field, where="all"))
    for path, scale in MEASURED.items():
        np.testing.assert_allclose(scale_of(found[path]), scale, rtol=1e-6)


def mlp():
    return eqx.nn.MLP(4, 6, 5, 1, key=KEY)


@pytest.mark.parametrize("value", [0.0, 5.0])
def test_default_scales_do_not_depend_on_the_values_of_the_weights(value):
    plain = film(KEY)
    other = jax.tree.map(lambda leaf: jnp.full_like(leaf, value), plain)
    for where in ("generators", "all"):
        ours, theirs = (priors(bf.with_prior(f, where=where)) for f in (plain, other))
        assert all(jnp.array_equal(scale_of(ours[p]), scale_of(theirs[p])) for p in ours)


class Custom(eqx.Module):
    """A layer of the user's own."""

    gain: jax.Array

    def __call__(self, row):
        return row @ self.gain


class Declared(Custom):
    """One that declares its scales."""


@bf.prior_scales.register
def _(module: Declared):
    return {"gain": 1.0 / module.gain.shape[0]}


def test_a_layer_without_declared_scales_needs_scale():
    conditioner = bf.AffineModulation.init(3, 4, key=KEY, generator=Custom(jnp.ones((4, 6))))
    with pytest.raises(ValueError, match=r"to be given for the leaf `generator\.net\.gain`"):
        bf.with_prior(conditioner)
    (prior,) = priors(bf.with_prior(conditioner, scale=0.5)).values()
    assert jnp.allclose(scale_of(prior), 0.5)


def test_a_registered_layer_needs_none():
    conditioner = bf.AffineModulation.init(3, 4, key=KEY, generator=Declared(jnp.ones((4, 6))))
    (prior,) = priors(bf.with_prior(conditioner)).values()
    assert jnp.allclose(scale_of(prior), 0.25)


TWINS = {
    bf.BayesianConcatConditioner: bf.ConcatConditioner,
    bf.BayesianAffineModulation: bf.AffineModulation,
    bf.BayesianHyperLinear: bf.HyperLinear,
}


@pytest.mark.parametrize("twin", TWINS, ids=lambda twin: twin.__name__)
def test_bayesian_names_are_the_lift(twin):
    plain = TWINS[twin].for_features(3, 4, key=KEY)
    for given, scale in (({}, None), ({"prior_std": 0.25}, 0.25)):
        ours, wanted = twin(3, 4, key=KEY, **given), bf.with_prior(plain, scale=scale)
        assert jax.tree.structure(ours) == jax.tree.structure(wanted)
        assert eqx.tree_equal(ours, wanted)
        by_path = priors(ours)
        assert all(jnp.array_equal(scale_of(p), scale_of(by_path[k])) for k, p in by_path.items())


@pytest.mark.parametrize("twin", TWINS, ids=lambda twin: twin.__name__)
def test_bayesian_names_serve_as_conditioner_cls_and_pickle_by_name(twin):
    assert pickle.loads(pickle.dumps(twin)) is twin
    assert twin is getattr(bf, twin.__name__)
    half = functools.partial(twin, prior_std=0.5)
    field = film(KEY, kind=pickle.loads(pickle.dumps(half)))
    assert len(priors(field)) == 4
    assert all(jnp.allclose(scale_of(prior), 0.5) for prior in priors(field).values())
    with pytest.raises(ValueError, match=r"expected `scale of `generator.*greater than zero"):
        film(KEY, kind=functools.partial(twin, prior_std=-1.0))


def test_frozen_leaves_hold_their_values():
    plain = film(KEY)
    field = bf.freeze(plain, "generators")
    assert set(arrays(plain)) - set(arrays(field)) == inside_a_generator(plain)
    assert jnp.allclose(field(X, Z), plain(X, Z), atol=1e-6)
    assert priors(bf.freeze(bf.with_prior(plain), "all")).keys() == inside_a_generator(plain)
    assert not arrays(bf.freeze(bf.with_prior(plain), "all"))


def test_a_frozen_leaf_has_no_gradient_when_trained_by_hand():
    field = bf.freeze(film(KEY), lambda path, _: path == "trunk.layers.0.weight")
    grads = eqx.filter_grad(lambda f: jnp.sum(f(X, Z) ** 2))(field)
    assert not grads.trunk.layers[0].weight.value.any()
    assert grads.trunk.layers[1].weight.any()
    free = eqx.filter_grad(lambda f: jnp.sum(f(X, Z) ** 2))(film(KEY))
    assert free.trunk.layers[0].weight.any()


def test_a_path_selects_the_leaf_or_what_the_module_there_holds():
    trunk = bf.with_prior(film(KEY), where="trunk")
    assert priors(trunk).keys() == {p for p in arrays(film(KEY)) if p.startswith("trunk.")}
    layer = bf.with_prior(film(KEY), where="trunk.layers.1")
    assert priors(layer).keys() == {"trunk.layers.1.weight", "trunk.layers.1.bias"}
    leaf = bf.freeze(film(KEY), "trunk.layers.1.bias")
    assert set(arrays(film(KEY))) - set(arrays(leaf)) == {"trunk.layers.1.bias"}


def test_frozen_leaves_are_left_alone_by_a_lift():
    field = bf.with_prior(bf.freeze(film(KEY), lambda p, _: p == f"{NET}.bias"))
    assert f"{NET}.bias" not in priors(field)
    assert f"{NET}.weight" in priors(field)


def lift(**given):
    return lambda: bf.with_prior(film(KEY), **given)


BAD = {
    "no leaf": (lift(where=lambda p, _: False), r"`where` to select an array leaf of Conditioned"),
    "all lifted": (lambda: bf.with_prior(lift()()), r"selects none of \['trunk.layers.0.weight'"),
    "nothing free": (
        lambda: bf.with_prior(lift(where="all")()),
        r"no leaves: all hold priors or are frozen",
    ),
    "unknown where": (
        lift(where="trunk.layer.0"),
        r"'trunk.layer.0' selects none of .*mean 'trunk.layers.0",
    ),
    "freeze nothing": (lambda: bf.freeze(film(KEY), lambda p, _: False), r"`freeze` expected"),
    "freeze where": (lambda: bf.freeze(film(KEY), "weights"), r"`freeze` expected `where`"),
    "center": (lift(center="one"), r"`center` to be 'zero' or 'value'; got 'one'"),
    "zero scale": (lift(scale=0.0), r"scale of `conditioners.0.* greater than zero; got 0.0"),
    "negative scale": (lift(scale=lambda p, _: -1.0), r"greater than zero; got -1.0"),
    "nan scale": (lift(scale=np.nan), r"greater than zero; got nan"),
    "both": (lift(prior=WHOLE, scale=1.0), r"either a distribution.*got both"),
    "both centre": (lift(prior=WHOLE, center="value"), r"either a distribution.*got both"),
    "scale shape": (lift(scale=jnp.ones(3)), r"at the leaf `conditioners.0.generator.net.weight`"),
    "batch shape": (
        lift(prior=dist.Normal(jnp.zeros(3), 1.0)),
        r"leaf's shape \(8, 2\); got Normal of batch shape \(3,\) and event shape \(\)",
    ),
    "event shape": (
        lift(prior=dist.MultivariateNormal(jnp.zeros(3), jnp.eye(3))),
        r"leaf's shape \(8, 2\); got MultivariateNormal of batch shape \(\) and event shape \(3,\)",
    ),
    "rank": (
        lambda: bf.Prior(dist.Normal(jnp.zeros((2, 3)), 1.0), (3,)),
        r"leaf's shape \(3,\); got Normal of batch shape \(2, 3\)",
    ),
    "event rank": (lambda: bf.Prior(dist.Dirichlet(jnp.ones(3)), ()), r"leaf's shape \(\);"),
}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("call", BAD)
def test_bad_input_is_refused(call):
    make, message = BAD[call]
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.usefixtures("unchecked")
def test_a_prior_is_a_numpyro_distribution():
    with pytest.raises(TypeError, match=r"to be a NumPyro distribution; got str"):
        bf.Prior("Normal", (2,))
    with pytest.raises(TypeError, match=r"to be a NumPyro distribution; got Array"):
        bf.with_prior(film(KEY), prior=lambda loc, scale: loc)
