"""What a program reads from outside is a part of it: a changed one is never taken for the old one.

Each change is made to what a program reads (a global, an attribute, a helper, a rule), the program
itself staying the same object, as it does in a notebook.
"""

import contextlib
import dataclasses
import functools
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
import pytest
from at_draws import at_draws
from inference_cases import X, Y
from numpyro import handlers
from numpyro.contrib.control_flow import scan
from numpyro.infer import init_to_value
from scipy.interpolate import CubicSpline

import bayesfield as bf
from bayesfield.inference import (
    NUTS,
    SVI,
    EnsembleMAP,
    Posterior,
    derivatives,
    diagnose,
    fit_posterior,
    sample_prior,
    score,
    variance_split,
)
from bayesfield.inference.batches.source import Made
from bayesfield.inference.program.binding import bind
from bayesfield.inference.program.described import spelt

# A few steps are all that a digest needs.
pytestmark = pytest.mark.filterwarnings("ignore::bayesfield.inference.ConvergenceWarning")
DATA = {"x": X, "y": Y}
TINY = NUTS(num_chains=2, num_warmup=30, num_samples=30, max_tree_depth=4)
OUTSIDE = {"scale": 5.0}  # stands for the globals of a notebook


def digest(model, data=DATA):
    return bind(model, data)[0].code.digest


@contextlib.contextmanager
def compilations():
    found = []

    def listen(event, duration_secs, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            found.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield found
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def observe(f, y, scale=0.5):
    with numpyro.plate("rows", len(X)):
        numpyro.sample("y", dist.Normal(f, scale), obs=y)


class Settings:
    scale = 1.0


class Own(dist.Distribution):
    """A distribution of the user's own, whose parameters do not say all of its density."""

    support = dist.constraints.real

    def __init__(self, loc):
        self.loc = loc
        super().__init__(batch_shape=jnp.shape(loc))

    def log_prob(self, value):
        return -OUTSIDE["scale"] * jnp.abs(value - self.loc)

    def sample(self, key, sample_shape=()):
        return self.loc + jr.normal(key, sample_shape + self.batch_shape)


@jax.custom_jvp
def square(value):
    return value**2


@square.defjvp
def _(primals, tangents):
    return square(primals[0]), OUTSIDE["scale"] * primals[0] * tangents[0]


@jax.custom_vjp
def cube(value):
    return value**3


cube.defvjp(lambda v: (cube(v), v), lambda v, c: (OUTSIDE["scale"] * v * c,))


def helper(value):
    return OUTSIDE["helper"](value)


def a_prior(x, y=None):
    observe(numpyro.sample("s", dist.Normal(0, OUTSIDE["scale"])) * x, y)


def an_attribute(x, y=None):
    observe(numpyro.sample("s", dist.Normal(0, 1)) * x, y, Settings.scale)


def a_helper(x, y=None):
    observe(helper(numpyro.sample("s", dist.Normal(0, 1))) * x, y)


def an_array(x, y=None):
    observe(numpyro.sample("s", dist.Normal(0, 1)) * OUTSIDE["array"], y)


def a_density(x, y=None):
    with numpyro.plate("rows", len(X)):
        numpyro.sample("y", Own(numpyro.sample("s", dist.Normal(0, 1)) * x), obs=y)


class OwnSupport(dist.constraints.Constraint):
    event_dim = 0

    def __call__(self, x):
        return x > 0

    def tree_flatten(self):
        return (), ((), {})


class OwnBijection(dist.transforms.ParameterFreeTransform):
    domain, codomain = dist.constraints.real, OwnSupport()

    def __call__(self, x):
        return jnp.exp(OUTSIDE["scale"] * x)

    def _inverse(self, y):
        return jnp.log(y) / OUTSIDE["scale"]

    def log_abs_det_jacobian(self, x, y, intermediates=None):
        return OUTSIDE["scale"] * x + jnp.log(OUTSIDE["scale"])


dist.biject_to.register(OwnSupport, lambda _: OwnBijection())


def a_bijection(x, y=None):
    """The support of a site of the user's own, and how engines move in it."""
    observe(numpyro.sample("s", dist.ImproperUniform(OwnSupport(), (), ())) * x, y)


def a_derivative(x, y=None):
    observe(square(numpyro.sample("s", dist.Normal(0, 1))) * x, y)


def a_reverse_rule(x, y=None):
    observe(cube(numpyro.sample("s", dist.Normal(0, 1))) * x, y)


def a_factor(x, y=None):
    s = numpyro.sample("s", dist.Normal(0, 1))
    numpyro.factor("pull", -OUTSIDE["scale"] * s**2)
    observe(s * x, y)


def a_start(x, y=None):
    s = numpyro.param("s", lambda key: OUTSIDE["scale"] * jr.normal(key))
    observe(s * x, y)


def a_constraint(x, y=None):
    high = dist.constraints.interval(0.0, OUTSIDE["scale"])
    observe(numpyro.param("s", jnp.asarray(0.1), constraint=high) * x, y)


def a_scan(x, y=None):
    drift = numpyro.sample("drift", dist.HalfNormal(0.5))

    def step(level, seen):
        level = numpyro.sample("level", dist.Normal(OUTSIDE["scale"] * level, drift))
        numpyro.sample("y", dist.Normal(level, 0.3), obs=seen)
        return level, None

    scan(step, jnp.asarray(0.0), y, length=len(X))


def a_field(x, y=None):
    def make(key):
        trunk = bf.SIREN.init(1, 4, 1, depth=2, key=key, first_omega=OUTSIDE["scale"])
        return bf.with_prior(trunk, where="all")

    observe(bf.random_field("field", make)(x[:, None])[:, 0], y)


def a_plate(x, y=None):
    with numpyro.plate("rows", len(X), subsample_size=int(OUTSIDE["scale"])) as rows:
        s = numpyro.param("s", 1.0)
        numpyro.sample("y", dist.Normal(s * x[rows], 1.0), obs=None if y is None else y[rows])


READS = {
    f.__name__: f
    for f in (a_prior, a_density, a_derivative, a_reverse_rule, a_factor, a_start, a_constraint)
} | {f.__name__: f for f in (a_bijection, a_scan, a_field, a_plate)}


@pytest.mark.parametrize("name", READS)
def test_a_number_that_a_program_reads_is_a_part_of_it(name, monkeypatch):
    before = digest(READS[name])
    assert digest(READS[name]) == before
    monkeypatch.setitem(OUTSIDE, "scale", 4.0)
    assert digest(READS[name]) != before


def test_attributes_helpers_and_arrays_that_a_program_reads_are_a_part_of_it(monkeypatch):
    monkeypatch.setitem(OUTSIDE, "helper", lambda v: v)
    monkeypatch.setitem(OUTSIDE, "array", X)
    before = [digest(model) for model in (an_attribute, a_helper, an_array)]
    monkeypatch.setattr(Settings, "scale", 2.0)
    monkeypatch.setitem(OUTSIDE, "helper", lambda v: 2 * v)
    monkeypatch.setitem(OUTSIDE, "array", X[::-1])
    after = [digest(model) for model in (an_attribute, a_helper, an_array)]
    assert all(one != other for one, other in zip(before, after, strict=True))


def test_an_array_that_a_program_keeps_from_one_run_to_the_next_is_refused():
    @functools.cache
    def grid(size):
        return jnp.linspace(0.0, 1.0, size)

    def model(x, y=None):
        observe(latent() * grid(len(X)), y)

    with pytest.raises(TypeError, match=r"`fit_posterior` expected.*keeps an array.*`cache_clear"):
        fit_posterior(model, DATA, TINY, key=jr.key(0))
    with pytest.raises(TypeError, match=r"`sample_prior` expected.*keeps an array"):
        sample_prior(model, {"x": X}, key=jr.key(0))


def test_sites_under_a_transformation_of_jax_are_refused_in_a_sentence():
    def model(x, y=None):
        observe(jax.vmap(lambda row: numpyro.sample("s", dist.Normal(row, 1)))(x), y)

    with pytest.raises(TypeError, match=r"`fit_posterior` expected.*sites under.*in a `plate`"):
        bind(model, DATA)


PAIRS = {
    "a static argument": (lambda x, p, y=None: observe(latent() * x**p, y), {"p": 3}, {"p": 7}),
    "a choice": (lambda x, k, y=None: observe(latent() * (x if k == "a" else 2 * x), y),
                 {"k": "a"}, {"k": "b"}),
}  # fmt: skip


def latent():
    return numpyro.sample("s", dist.Normal(0, 1))


@pytest.mark.parametrize("name", PAIRS)
def test_what_a_static_argument_changes_is_seen(name):
    model, one, other = PAIRS[name]
    assert digest(model, DATA | one) != digest(model, DATA | other)


def test_which_operand_is_which_and_what_is_fixed_in_an_operation_count():
    models = [
        lambda x, y=None: observe(x - latent(), y),
        lambda x, y=None: observe(latent() - x, y),
        lambda x, y=None: observe(latent() * jnp.roll(x, 1), y),
        lambda x, y=None: observe(latent() * jnp.roll(x, 2), y),
        lambda x, y=None: observe(latent() * jax.lax.cumsum(x), y),
        lambda x, y=None: observe(latent() * jax.lax.cumsum(x, reverse=True), y),
        lambda x, y=None: observe(jax.lax.fori_loop(0, 2, lambda _, v: v * x, latent() * x), y),
        lambda x, y=None: observe(jax.lax.fori_loop(0, 3, lambda _, v: v * x, latent() * x), y),
        lambda x, y=None: observe(jax.lax.cond(True, jnp.sin, jnp.cos, latent() * x), y),
        lambda x, y=None: observe(jax.lax.cond(True, jnp.cos, jnp.sin, latent() * x), y),
    ]
    found = [digest(model) for model in models]
    assert len(set(found)) == len(found)


def test_names_plates_and_order_count():
    def named(name, plate):
        def model(x, y=None):
            s = numpyro.sample(name, dist.Normal(0, 1))
            with numpyro.plate(plate, len(X)):
                numpyro.sample("y", dist.Normal(s * x, 1.0), obs=y)

        return model

    pairs = [("s", "rows"), ("t", "rows"), ("s", "points")]
    assert len({digest(named(*pair)) for pair in pairs}) == 3


def test_the_same_text_twice_is_one_program():
    def made():
        return lambda x, y=None: observe(latent() * x, y)

    assert digest(made()) == digest(made())
    assert digest(partial(lambda x, y=None, *, k: observe(k * latent() * x, y), k=2.0)) == digest(
        lambda x, y=None: observe(2.0 * latent() * x, y)
    )
    fixed = handlers.condition(made(), {"s": 2.0})
    assert digest(fixed) == digest(handlers.condition(made(), {"s": 2.0}))
    assert digest(fixed) != digest(handlers.condition(made(), {"s": 3.0}))


def exact(scale):
    """Mean of the slope under a prior of that scale: the conjugate posterior."""
    precision = scale**-2 + X @ X / 0.25
    return X @ Y / 0.25 / precision


@pytest.mark.parametrize("engine", [TINY, SVI(num_steps=1000, num_samples=60)])
def test_a_fit_after_a_change_is_of_the_new_program(engine, monkeypatch):
    first = fit_posterior(a_prior, DATA, engine, key=jr.key(0))
    monkeypatch.setitem(OUTSIDE, "scale", 0.01)
    second = fit_posterior(a_prior, DATA, engine, key=jr.key(0))
    assert abs(first.draws["s"].mean() - exact(5.0)) < 0.3
    assert abs(second.draws["s"].mean() - exact(0.01)) < 0.01
    prior = sample_prior(a_prior, {"x": X}, key=jr.key(1))
    assert float(prior["s"].std()) < 0.02


USES = {
    "predict": lambda p: p.predict({"x": X}, key=jr.key(1)),
    "log_likelihood": lambda p: p.log_likelihood(DATA),
    "to_datatree": lambda p: p.to_datatree(),
    "extend": lambda p: p.extend(5),
    "save": lambda p: p.save("not-written"),
    "score": lambda p: score(p, DATA, key=jr.key(1)),
    "variance_split": lambda p: variance_split(p, {"x": X}, key=jr.key(1)),
    "derivatives": lambda p: derivatives(p, {"x": X}),
    "diagnose": diagnose,
}


@pytest.fixture(scope="module")
def fitted():
    return fit_posterior(a_prior, DATA, TINY, key=jr.key(0))


@pytest.mark.parametrize("name", USES)
def test_a_posterior_says_that_its_program_has_changed_since(name, fitted, monkeypatch):
    monkeypatch.setitem(OUTSIDE, "scale", 0.01)
    text = rf"`{name}` expected the program that .* fitted with.*\(the scale of `s`\).*has changed"
    with pytest.raises(ValueError, match=text):
        USES[name](fitted)


def test_a_program_that_is_put_back_is_the_old_one_again(fitted, monkeypatch):
    before = USES["predict"](fitted)
    with monkeypatch.context() as changed:
        changed.setitem(OUTSIDE, "scale", 0.01)
        with pytest.raises(ValueError, match="has changed"):
            USES["predict"](fitted)
    with compilations() as found:
        after = USES["predict"](fitted)
    assert not found
    assert before.equals(after)


def test_a_file_of_operands_the_other_way_round_is_refused(tmp_path):
    minus = fit_posterior(lambda x, y=None: observe(x - latent(), y), DATA, TINY, key=jr.key(0))
    minus.save(tmp_path / "fit.bf")
    with pytest.raises(ValueError, match="the loc of `y` is computed otherwise"):
        Posterior.load(tmp_path / "fit.bf", lambda x, y=None: observe(latent() - x, y))


def test_a_checkpoint_of_another_static_argument_is_refused(tmp_path):
    def power(x, p, y=None):
        observe(latent() * x**p, y)

    fit_posterior(power, DATA | {"p": 3}, TINY, key=jr.key(0), checkpoint=tmp_path / "run")
    with pytest.raises(ValueError, match="of another fit"):
        fit_posterior(power, DATA | {"p": 7}, TINY, key=jr.key(0), checkpoint=tmp_path / "run")


def rate(step):
    return OUTSIDE["scale"] * 1e-3 * jnp.ones_like(step, float)


# Settings that are functions, made anew, with what they do unchanged.
MADE = {
    "a transformation": lambda: EnsembleMAP(num_members=2, num_steps=20, optimizer=optax.sgd(1e-3)),
    "a rate": lambda: SVI(num_steps=20, num_samples=9, learning_rate=lambda step: 1e-3),
    "a program": lambda: SVI(num_steps=20, num_samples=10),
    "a start": lambda: EnsembleMAP(
        num_members=2, num_steps=21, init_strategy=init_to_value(values={"s": 0.3})
    ),
}


@pytest.mark.parametrize("name", MADE)
def test_programs_and_settings_made_anew_compile_nothing(name):
    def made():
        return handlers.condition(lambda x, y=None: observe(latent() * x, y), {"z": 1.0})

    fit_posterior(made(), DATA, MADE[name](), key=jr.key(0))
    with compilations() as found:
        fit_posterior(made(), DATA, MADE[name](), key=jr.key(1))
    assert not found


class Slotted:
    __slots__ = ("held",)

    def __init__(self, held):
        self.held = held


@dataclasses.dataclass(frozen=True, slots=True)
class SlottedData:
    held: float


def with_property(body):
    return type("WithProperty", (), {"held": property(body)})()


# What a learning rate, a guide or an optimiser may read, made of a number
READ_BY_SETTINGS = {
    "slots": Slotted,
    "slots of a dataclass": SlottedData,
    "slots of a library": lambda v: CubicSpline([0.0, 1.0, 2.0], [0.0, v, 2.0]),
    "a property": lambda v: with_property(lambda self, v=v: v),
    "a jitted function": lambda v: jax.jit(lambda step: v * step),
    "a cached function": lambda v: functools.cache(lambda step: v * step),
    "a static method": lambda v: staticmethod(lambda step: v * step),
}


@pytest.mark.parametrize("name", READ_BY_SETTINGS)
def test_settings_are_told_apart_by_what_they_read(name):
    make = READ_BY_SETTINGS[name]
    one, again, other = (spelt(make(v)) for v in (1.0, 1.0, 2.0))
    assert one == again != other


SCRIPT = """
class Rate:
    def __init__(self, by):
        self.by = by

def rate(step):
    return 0.1 * step

def read(begin, end):
    return {"x": [0.0] * (end - begin)}
"""


def test_a_script_is_the_same_in_a_process_that_it_has_spawned():
    """`multiprocessing` gives it another name there: a checkpoint was of another fit."""
    told = []
    for name in ("__main__", "__mp_main__", "another"):
        space = {"__name__": name}
        exec(SCRIPT, space)
        source = Made(space["read"]).description()
        told.append((spelt(space["rate"]), spelt(space["Rate"](2.0)), source))
    here, spawned, other = told
    assert here == spawned
    assert not any(a == b for a, b in zip(here, other, strict=True))


def test_a_rate_that_reads_another_number_is_another_rate(monkeypatch):
    engine = EnsembleMAP(num_members=1, num_steps=5, learning_rate=rate)
    first = fit_posterior(a_prior, DATA, engine, key=jr.key(0))
    monkeypatch.setitem(OUTSIDE, "scale", 50.0)
    second = fit_posterior(a_prior, DATA, engine, key=jr.key(0))
    moved = [np.ptp(p.losses[0]) for p in (first, second)]
    assert moved[1] > 3 * moved[0]


def test_what_a_fit_holds_is_not_changed_with_the_arrays_that_it_was_given():
    class Model(eqx.Module):
        weight: np.ndarray

        def __call__(self, x, y=None):
            observe(latent() * self.weight * x, y)

    weight, data = np.ones(8, np.float32), {"x": X.astype(np.float32), "y": Y.copy()}
    posterior = at_draws(Model(weight), data, s=np.ones(3))

    def results():
        tree = posterior.to_datatree()
        means = posterior.predict({"x": X}, key=jr.key(0), sites=["y_mean"])["y_mean"]
        return means, tree["log_likelihood"]["y"], tree["constant_data"]["x"]

    before = [np.array(value) for value in results()]
    weight[:], data["x"][:], data["y"][:] = 3.0, 7.0, 9.0
    for was, now in zip(before, results(), strict=True):
        np.testing.assert_array_equal(now, was)


def test_arrays_of_a_module_are_arguments_and_not_constants():
    class Model(eqx.Module):
        weight: jax.Array

        def __call__(self, x, y=None):
            observe(latent() * self.weight * x, y)

    one, two = Model(jnp.ones(8)), Model(2 * jnp.ones(8))
    fit_posterior(one, DATA, TINY, key=jr.key(0))
    with compilations() as found:
        other = fit_posterior(two, DATA, TINY, key=jr.key(0))
    assert not found
    assert abs(other.draws["s"].mean() - exact(1.0) / 2) < 0.3


def test_a_fit_reads_what_the_last_cell_of_a_notebook_left():
    space = {"numpyro": numpyro, "dist": dist, "observe": observe}
    exec("def f(s, x): return s * x\nS = 5.0", space)
    exec(
        "def model(x, y=None): observe(f(numpyro.sample('s', dist.Normal(0, S)), x), y)",
        space,
    )
    first = fit_posterior(space["model"], DATA, TINY, key=jr.key(0))
    exec("def f(s, x): return 4.0 * s * x", space)
    second = fit_posterior(space["model"], DATA, TINY, key=jr.key(0))
    assert abs(first.draws["s"].mean() / second.draws["s"].mean() - 4) < 0.4
