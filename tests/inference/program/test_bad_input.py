"""What cannot be fitted is refused with a sentence, before anything is compiled."""

import contextlib

import jax
import jax.monitoring
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
import pandas as pd
import pytest
from inference_cases import (
    PROGRAMS,
    X,
    Y,
    line,
    nested,
    params_only,
    reads_values,
    two_observed,
    with_params,
)
from numpyro.contrib.control_flow import scan

from bayesfield.inference import (
    NUTS,
    SVI,
    EnsembleMAP,
    Laplace,
    cosine_cycles,
    fit_posterior,
    start,
)
from bayesfield.inference.running import crew, loop

# Fits of a few steps, which have not arrived and say so: what is tested is something else.
pytestmark = pytest.mark.filterwarnings("ignore::bayesfield.inference.ConvergenceWarning")

KEY = jr.key(0)
DATA = {"x": X, "y": Y}
TINY = EnsembleMAP(num_members=1, num_steps=4)


def holding(bad):
    """Y with a bad value at 3."""
    return np.where(np.arange(len(Y)) == 3, bad, Y)


def positional(*args, y=None):
    numpyro.sample("y", dist.Normal(numpyro.sample("mu", dist.Normal()), 1), obs=y)


def unplated(x, y=None):
    slope = numpyro.sample("slope", dist.Normal(0, 1))
    numpyro.sample("y", dist.Normal(slope * x, 1), obs=y)


def discrete(y):
    which = numpyro.sample("which", dist.Bernoulli(0.5))
    numpyro.sample("y", dist.Normal(which, 1).expand([len(Y)]), obs=y)


def pinned(y):
    level = numpyro.sample("level", dist.Delta(2.0))
    numpyro.sample("y", dist.Normal(level, 1).expand([len(Y)]), obs=y)


def empty(y):
    numpyro.sample("y", dist.Normal(0, 1).expand([len(Y)]), obs=y)


def subsampled(x, y):
    slope = numpyro.sample("slope", dist.Normal(0, 1))
    with numpyro.plate("rows", x.shape[0], subsample_size=4) as rows:
        numpyro.sample("y", dist.Normal(slope * x[rows], 1), obs=y[rows])


def param_in_scan(x, y):
    def step(level, seen):
        decay = numpyro.param("decay", 0.5)
        return numpyro.sample("y", dist.Normal(decay * level, 1), obs=seen), None

    scan(step, numpyro.sample("level", dist.Normal(0, 1)), y)


def unseen(x):
    numpyro.sample("y", dist.Normal(numpyro.sample("slope", dist.Normal(0, 1)) * x, 1))


def out_of_support(y):
    end = numpyro.sample("end", dist.HalfNormal(1.0))
    with numpyro.plate("rows", y.shape[0]):
        numpyro.sample("waits", dist.Uniform(0.0, end), obs=y)


@contextlib.contextmanager
def nothing_run(monkeypatch):
    """Refuse whatever would compile: the drawing of starts, and the loop."""

    def fail(*args, **kwargs):
        pytest.fail("the fit began before its input was refused")

    with monkeypatch.context() as patch:
        patch.setattr(start, "_draw", fail)
        patch.setattr(loop, "initial_states", fail)
        patch.setattr(crew, "chunk", fail)
        yield


# name -> (model, data, engine, other arguments of fit_posterior, error, text)
REFUSED = {
    "nan": (line, {"x": X, "y": holding(np.nan)}, TINY, {}, ValueError,
            r"expected `y` to be finite; got 1 values that are NaN or infinite, the first at "
            r"\(3,\).*handlers.mask`.*`obs_mask`, which makes a latent.*allow_nan=\('y',\)"),
    "infinity": (line, {"x": holding(np.inf), "y": Y}, TINY, {}, ValueError,
                 r"`x` to be finite; got 1 values that are NaN or infinite"),
    "nan in another": (line, {"x": holding(np.nan), "y": Y}, TINY, {"allow_nan": ("y",)},
                       ValueError, r"`x` to be finite; got 1 values"),
    "nan in a pytree": (lambda x, y: None, {"x": {"a": X, "b": holding(-np.inf)}, "y": Y}, TINY,
                        {}, ValueError, r"`x\['b'\]` to be finite; got 1 values"),
    "allow_nan string": (line, DATA, TINY, {"allow_nan": "y"}, TypeError,
                         r"expected `allow_nan` to be a tuple of names, .*; got a string"),
    "allow_nan unknown": (line, DATA, TINY, {"allow_nan": ("w",)}, ValueError,
                          r"expected `allow_nan` to name arguments in `data`.*got \['w'\]"),
    "empty": (line, {"x": X[:0], "y": Y[:0]}, TINY, {}, ValueError,
              r"`x` to hold values; it is empty: got shape \(0,\)"),
    "shape, plate": (line, {"x": X, "y": Y[:-1]}, TINY, {}, ValueError,
                     r"observed value of `y` to have the shape \(8,\).*Normal inside the plates "
                     r"\[\('rows', 8\)\]; got \(7,\)"),
    "shape, column": (line, {"x": X, "y": Y[:, None]}, TINY, {}, ValueError,
                      r"observed value of `y` to have.*got \(8, 1\)"),
    "shape, scalar": (line, {"x": X, "y": 1.0}, TINY, {}, ValueError,
                      r"observed value of `y` to have.*got \(\)"),
    "shape, beyond the plate": (line, {"x": X, "y": np.tile(Y, (3, 1))}, TINY, {}, ValueError,
                                r"observed value of `y` to have the shape \(8,\).*got \(3, 8\)"),
    "shape, no plate": (unplated, {"x": X, "y": Y[:-1]}, TINY, {}, ValueError,
                        r"observed value of `y` to have the shape \(8,\) of its distribution, "
                        r"Normal; got \(7,\)"),
    "shape, two plates": (nested, {"num_groups": 3, "num_rows": 4, "y": np.ones((4, 3))}, TINY, {},
                          ValueError, r"`y` to have the shape \(3, 4\).*'groups', 3.*got \(4, 3\)"),
    "second site": (two_observed, DATA | {"count": np.ones(3, int)}, TINY, {}, ValueError,
                    r"observed value of `count` to have.*Poisson.*got \(3,\)"),
    "a param in a scan": (param_in_scan, DATA, TINY, {}, ValueError,
                          r"`fit_posterior` expected params before a `scan` or `cond`; got `decay`"
                          r".*stay as it starts. Make it before"),
    "unknown name": (line, DATA | {"z": X}, TINY, {}, TypeError,
                     r"arguments that `line` takes, of \['x', 'y'\]; got \['z'\]"),
    "missing name": (line, {"y": Y}, TINY, {}, TypeError,
                     r"`data` to hold \['x'\], which `line` requires; got \['y'\]"),
    "args": (positional, {"y": 1.0}, TINY, {}, TypeError,
             r"arguments by name; got `positional`, which takes `\*args`"),
    "data a tuple": (line, (X, Y), TINY, {}, TypeError,
                     r"`fit_posterior` expected `data` to map the model's argument.*got tuple"),
    "data a frame": (line, pd.DataFrame({"x": X, "y": Y}), TINY, {}, TypeError,
                     r"got DataFrame\. A `bayesfield.Table` of the frame makes one, scaled"),
    "data an array": (line, X, TINY, {}, TypeError, r"Name the argument that it is: `\{'x': x\}`"),
    "no model": (None, DATA, TINY, {}, TypeError,
                 r"expected `model` to be a NumPyro program.*got NoneType"),
    "discrete": (discrete, {"y": Y}, TINY, {}, ValueError,
                 r"discrete ones, \['which'\].*Sum them out"),
    "pinned": (pinned, {"y": Y}, TINY, {}, ValueError,
               r"sites that can take other values; got \['level'\].*`numpyro.deterministic`"),
    "outputs": (line, DATA, TINY, {"outputs": 3}, ValueError,
                r"expected `outputs` to name observed sites, of \['y'\]; got 3"),
    "no path": (line, DATA, TINY, {"checkpoint": "a\0b"}, TypeError, r"`checkpoint` to be a path"),
    "no array": (line, {"x": "abc", "y": Y}, TINY, {}, TypeError,
                 r"`fit_posterior` expected `data`.*`x` = 'abc', no array"),
    "nothing to fit": (empty, {"y": Y}, TINY, {}, ValueError,
                       r"a latent site or a param to fit; got one with neither"),
    "reads values": (reads_values, DATA, TINY, {}, TypeError,
                     r"reads the values of an array in Python \(.*inference_cases\.py:\d+: "
                     r"if x\.mean\(\) > 0.*Compute what it reads beforehand"),
    "engine's name": (line, DATA, "hmc", {}, ValueError,
                      r"one of \['ensemble_map', .*'svi'\] or \"auto\"; got 'hmc'"),
    "engine's class": (line, DATA, SVI, {}, TypeError,
                       r"expected `backend` to be an engine.*got SVI itself"),
    "another object": (line, DATA, optax.adam(1e-3), {}, TypeError,
                       r"expected `backend` to be an engine"),
    "init's name": (line, DATA, TINY, {"init": "hmc"}, ValueError,
                    r"expected `init` to be one of \['ensemble_map'"),
    "init's class": (line, DATA, TINY, {"init": SVI}, TypeError,
                     r"expected `init` to be a posterior, an engine to run first, or a dict"),
    "init's names": (line, DATA, TINY, {"init": {"slop": 1.0}}, ValueError,
                     r"expected `init` to name sites .*, of \['slope', 'sigma'\]; got `slop`"),
    "init's shape": (line, DATA, TINY, {"init": {"slope": np.ones(2)}}, ValueError,
                     r"expected `init` to hold `slope` of shape \(\); got shape \(2,\)"),
    "old key": (line, DATA, TINY, {"key": jr.PRNGKey(0)}, TypeError,
                r"`fit_posterior` expected `key` to be a typed key.*wrap_key_data"),
    "int key": (line, DATA, TINY, {"key": 0}, TypeError, r"a typed key.*got int"),
    "several keys": (line, DATA, TINY, {"key": jr.split(KEY)}, ValueError, r"expected one `key`"),
    "params": (with_params, DATA, NUTS(), {}, ValueError,
               r"program's params, `intercept`, which MCMC holds fixed.*init=SVI"),
    "params not in init": (with_params, DATA, NUTS(), {"init": {"slope": 0.3}}, ValueError,
                           r"program's params, `intercept`, which MCMC holds fixed"),
    "params only": (params_only, DATA, NUTS(), {}, ValueError,
                    r"a latent site to sample; got params alone.*SVI or EnsembleMAP"),
    "params only, init": (params_only, DATA, NUTS(), {"init": TINY}, ValueError,
                          r"a latent site to sample; got params alone"),
    "subsampling": (subsampled, DATA, NUTS(), {}, ValueError,
                    r"`NUTS` expected .* all of its data.*subsampling in the plates \['rows'\]"),
    "subsampling, init": (subsampled, DATA, NUTS(), {"init": SVI()}, ValueError,
                          r"subsampling in the plates \['rows'\]"),
    "trunks, no params": (line, DATA, NUTS(num_trunks=2), {}, ValueError,
                          r"`num_trunks` to be 1 for .* without params.*got 2.*`num_chains`"),
    "trunks, members": (with_params, DATA, NUTS(num_trunks=3), {"init": SVI(num_restarts=2)},
                        ValueError, r"`init` to have at least `num_trunks=3` members; got 2"),
    "trunks, a dict": (with_params, DATA, NUTS(num_trunks=2), {"init": {"intercept": 0.3}},
                       ValueError, r"`init` to have at least `num_trunks=2` members; got 1"),
    "held, no init": (with_params, DATA, Laplace(hold_params=True), {}, ValueError,
                      r"program's params, `intercept`, which `hold_params=True` holds fixed"),
    "held, members": (with_params, DATA, Laplace(hold_params=True), {"init": SVI()}, ValueError,
                      r"at least `num_starts=4` members; got 1.*num_restarts=4"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_refused_before_anything_runs(case, monkeypatch, unchecked):
    model, data, engine, others, error, text = REFUSED[case]
    with nothing_run(monkeypatch), pytest.raises(error, match=text):
        fit_posterior(model, data, engine, **({"key": KEY} | others))


def test_good_input_gets_past_where_bad_input_is_stopped(monkeypatch):
    with nothing_run(monkeypatch), pytest.raises(pytest.fail.Exception, match="the fit began"):
        fit_posterior(line, DATA, TINY, key=KEY)


def test_refusing_compiles_nothing():
    """By JAX's own count; the first refusal compiles what makes keys and arrays."""
    found = []

    def listen(event, duration, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            found.append(event)

    def refuse():
        with pytest.raises(ValueError, match="which MCMC holds fixed"):
            fit_posterior(with_params, {"x": X[:5], "y": Y[:5]}, NUTS(), key=KEY)

    refuse()
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        refuse()
        assert not found
        jax.block_until_ready(jax.jit(lambda a: a * 3.25 + 1)(jnp.ones(17)))
        assert found  # the listener hears what is compiled
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


@pytest.mark.filterwarnings("ignore:subsample_size does not match")  # NumPyro's own, and goes on
def test_a_batch_larger_than_its_plate_is_refused():
    def model(y):
        level = numpyro.sample("level", dist.Normal(0, 1))
        with numpyro.plate("rows", len(Y), subsample_size=100):
            numpyro.sample("y", dist.Normal(level, 1), obs=y)

    match = r"plate `rows`, which has a size of \d+, to take.*`subsample_size=100`"
    with pytest.raises(ValueError, match=match):
        fit_posterior(model, {"y": Y}, TINY, key=KEY)


def test_an_argument_that_may_be_none_and_is_read_all_the_same_is_named():
    def model(x, y=None):
        slope = numpyro.sample("slope", dist.Normal(0, 1))
        with numpyro.plate("rows", len(Y), subsample_size=4) as rows:
            numpyro.sample("y", dist.Normal(slope * x[rows], 1), obs=y[rows])

    posterior = fit_posterior(model, DATA, TINY, key=KEY)
    with pytest.raises(
        TypeError, match=r"`predict`.*hold \['y'\], which `model` reads without ask"
    ):
        posterior.predict({"x": X}, key=KEY)


def test_a_key_must_be_given():
    with pytest.raises(TypeError, match="key"):
        fit_posterior(line, DATA, TINY)


def test_a_posterior_of_another_program_is_refused_with_the_sites_that_differ(monkeypatch):
    other = fit_posterior(line, DATA, TINY, key=KEY)
    with nothing_run(monkeypatch), pytest.raises(ValueError, match=r"another program.*sigma \(\)"):
        fit_posterior(with_params, DATA, TINY, key=KEY, init=other)
    # and where names agree and shapes do not
    model, data = PROGRAMS["nested"]()
    small = fit_posterior(model, data, TINY, key=KEY)
    larger = {"num_groups": 5, "num_rows": 4, "y": np.ones((5, 4))}
    with nothing_run(monkeypatch), pytest.raises(ValueError, match=r"level \(5, 1\)"):
        fit_posterior(model, larger, TINY, key=KEY, init=small)


def test_a_program_without_observations_warns_that_its_prior_comes_back():
    with pytest.warns(UserWarning, match="no observed site: the result is its prior"):
        fit_posterior(unseen, {"x": X}, TINY, key=KEY)


def test_a_density_finite_at_no_start_names_the_site():
    with pytest.raises(FloatingPointError, match=r"not finite at any of 10 starts: `waits` has"):
        fit_posterior(out_of_support, {"y": 1e6 * np.ones(3)}, TINY, key=KEY)


def test_nan_is_let_through_where_it_is_allowed():
    model, data = PROGRAMS["masked"]()
    data = data | {"y": np.where(data["seen"], data["y"], np.nan)}
    with pytest.raises(ValueError, match="`y` to be finite; got 2 values"):
        fit_posterior(model, data, TINY, key=KEY)
    posterior = fit_posterior(model, data, TINY, key=KEY, allow_nan=("y",))
    assert all(np.isfinite(value).all() for value in posterior.draws.values())


COUNTS = [
    (SVI, ("num_steps", "num_restarts", "num_trunks", "num_samples", "num_particles")),
    (EnsembleMAP, ("num_members", "num_steps")),
    (NUTS, ("num_chains", "num_warmup", "num_samples", "num_trunks", "max_tree_depth")),
]


@pytest.mark.parametrize(
    ("engine", "name"), [(engine, name) for engine, names in COUNTS for name in names]
)
def test_counts_are_positive_integers(engine, name, unchecked):
    for value in (0, -1):
        with pytest.raises(ValueError, match=rf"`{name}` to be at least 1; got {value}"):
            engine(**{name: value})
    for value in (2.5, True, "3"):
        with pytest.raises(TypeError, match=rf"`{name}` to be an integer; got"):
            engine(**{name: value})


# name -> (what is called, error, text)
SETTINGS = {
    "guide's name": (lambda: SVI(guide="laplace"), ValueError,
                     r"`guide` to be one of \[.*'low_rank'.*\]; got 'laplace'"),
    "guide's type": (lambda: SVI(guide=3), TypeError, r"a name, an AutoGuide .*got int"),
    "trunks of restarts": (lambda: SVI(num_trunks=3, num_restarts=2), ValueError,
                           r"`num_trunks` to be at most `num_restarts=2`; got 3"),
    "a metric": (lambda: NUTS(metric="full"), ValueError,
                 r"`metric` to be one of \['diagonal', 'dense', 'site'\]; got 'full'"),
    "accept 0": (lambda: NUTS(target_accept_prob=0.0), ValueError, r"between 0 and 1; got 0"),
    "accept 1": (lambda: NUTS(target_accept_prob=1.0), ValueError, r"between 0 and 1; got 1"),
    "both rates": (lambda: SVI(optimizer=optax.adam(1e-3), learning_rate=1e-3), ValueError,
                   r"has its learning rate already; got 0.001. Leave `learning_rate` out"),
    "no rate": (lambda: EnsembleMAP(learning_rate="fast"), ValueError,
                r"`EnsembleMAP` expected `learning_rate` to be a positive number or a schedule"),
    "rate 0": (lambda: SVI(learning_rate=0.0), ValueError, r"a positive number or a schedule"),
    "optimizer's name": (lambda: SVI(optimizer="adam"), TypeError,
                         r"an optax constructor, `optax.adam`.*got str"),
    "cycles": (lambda: cosine_cycles(7, num_cycles=2), ValueError,
               r"`num_steps` to be at least 8; got 7"),
    "peak": (lambda: cosine_cycles(100, peak=0.0), ValueError, r"`peak` to be greater than zero"),
}  # fmt: skip


@pytest.mark.parametrize("case", SETTINGS)
def test_a_setting_that_cannot_be_is_refused_where_it_is_made(case, unchecked):
    make, error, text = SETTINGS[case]
    with pytest.raises(error, match=text):
        make()


def test_the_size_of_a_plate_that_is_not_that_of_its_rows_is_explained():
    def wrong(x, y=None):
        slope = numpyro.sample("slope", dist.Normal(0, 1))
        with numpyro.plate("rows", len(X) + 1):
            numpyro.sample("y", dist.Normal(slope * x, 1.0), obs=y)

    with pytest.raises(ValueError, match="Incompatible shapes") as caught:
        fit_posterior(wrong, DATA, TINY, key=jr.key(0))
    assert "a frame may have more rows than its arrays" in "".join(caught.value.__notes__)
