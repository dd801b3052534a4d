"""The rows of new members are filled up, so that one search serves many numbers of them."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from at_draws import posterior_of
from groups import fitted_intercepts
from scipy.stats import kstest, norm

from bayesfield.inference import infer_codes
from bayesfield.inference.codes import padded
from bayesfield.inference.codes.layout import layout_of
from bayesfield.inference.program.binding import bind

WHERE = {"plate": "group", "num_samples": 64, "num_generators": 2, "num_starts": 2}


def curved(x, group, num_groups, y=None):
    with numpyro.plate("group", num_groups):
        z = numpyro.sample("z", dist.Normal(0, 1))
    with numpyro.plate("rows", x.shape[0]):
        numpyro.sample("y", dist.Normal(jnp.tanh(z[group]) + x, 0.3), obs=y)


def rows(lengths, seed=0):
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(len(lengths)), lengths)
    x = rng.uniform(-1, 1, len(group))
    return {"x": x, "group": group, "num_groups": len(lengths), "y": x + 0.3 * group}


@pytest.fixture(scope="module")
def posterior():
    z = np.random.default_rng(1).normal(size=(2, 3))
    return posterior_of(curved, rows((2, 2, 2)), {"z": z})


def test_ragged_members_of_one_padded_size_compile_no_search_again(posterior):
    """All that compiles again is the density, once for each new number of rows: 12 and 11."""
    infer_codes(posterior, rows((3, 5, 1)), key=jr.key(0), **WHERE)
    compiled = []

    def listen(event, duration_secs, **kwargs):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(kwargs["fun_name"])

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        for lengths in ((1, 6, 2), (7, 1, 4), (2, 0, 9)):
            infer_codes(posterior, rows(lengths, seed=1), key=jr.key(3), **WHERE)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert len(compiled) == 2, compiled
    assert all("_at" in name for name in compiled), compiled


def test_rows_that_are_filled_up_do_not_count():
    """A program with a closed form, a member with two rows and one without."""
    data = {"group": np.array([0, 2, 2]), "num_groups": 3, "y": np.array([1.0, 0.5, 0.7])}
    new = infer_codes(fitted_intercepts(), data, plate="group", key=jr.key(0), num_samples=4000)
    mu, tau = (new.draws[name][0].astype(float) for name in ("mu", "tau"))
    y = np.array([0.5, 0.7])
    cov = tau[:, None, None] ** 2 + 0.25 * np.eye(2)
    away = y - mu[:, None]
    inverse = np.linalg.inv(cov)
    squares = np.einsum("si,sij,sj->s", away, inverse, away)
    expected = -0.5 * (squares + np.linalg.slogdet(cov)[1] + 2 * np.log(2 * np.pi))
    np.testing.assert_allclose(new.stats["log_evidence"][0, :, 2], expected, rtol=2e-5, atol=2e-5)
    assert (new.stats["log_evidence"][0, :, 1] == 0).all()


def centred(x, group, num_groups, y=None):
    curved(x - x.sum() / 10, group, num_groups, y)


def spread(x, group, num_groups, y=None):
    curved(x / x.shape[0], group, num_groups, y)


def weighted(x, group, num_groups, y=None):
    counts = jax.ops.segment_sum(jnp.ones_like(x), group, num_groups)
    curved(x / counts[group], group, num_groups, y)


def placed(x, group, num_groups, y=None):
    curved(x + jnp.asarray(np.linspace(0.0, 1.0, len(x)), x.dtype), group, num_groups, y)


def walking(x, group, num_groups, y=None):
    _, steps = jax.lax.scan(lambda total, one: (total + one, total + one), 0.0, x)
    curved(steps, group, num_groups, y)


def turned(x, group, num_groups, y=None):
    curved(x + x[::-1], group, num_groups, y)


def ranked(x, group, num_groups, y=None):
    curved(jnp.sort(x), group, num_groups, y)


def added_up(x, group, num_groups, y=None):
    curved(jnp.cumsum(x), group, num_groups, y)


def in_pairs(x, group, num_groups, y=None):
    curved(x / jnp.equal(group[:, None], group).sum(1), group, num_groups, y)


UNLIKE = [centred, spread, weighted, placed, walking, turned, ranked, added_up, in_pairs]


@pytest.mark.parametrize("model", UNLIKE)
def test_a_program_whose_rows_know_of_each_other_is_not_filled_up(model):
    assert filled(curved) is not None
    assert filled(model) is None


def halving(g, dt):
    return 0.5 * 1.2 ** (jnp.flip(jnp.arange(len(g))) / 2)


def to_the_end(g, dt):
    return 0.2 + 0.5 * jnp.cumsum(dt[::-1])[::-1]


def crowded(g, dt):
    return 0.2 * jnp.sqrt(jnp.equal(g[:, None], g[None]).sum(1))


@pytest.mark.parametrize("trace_shows", [pytest.param(True, marks=pytest.mark.slow), False])
@pytest.mark.parametrize("scale", [halving, to_the_end, crowded])
def test_noise_that_depends_on_the_number_of_rows_is_right(scale, trace_shows, monkeypatch):
    """Also where only the densities show it, as of an operation that the trace check misses."""
    if not trace_shows:
        monkeypatch.setattr(padded, "_is_row_wise", lambda *_: True)

    def model(g, T, dt, y=None):
        with numpyro.plate("task", T):
            z = numpyro.sample("z", dist.Normal(0, 1))
        with numpyro.plate("rows", len(g)):
            numpyro.sample("y", dist.Normal(z[g], scale(g, dt)), obs=y)

    g, dt = np.zeros(20, int), np.ones(20, np.float32)
    y = np.random.default_rng(0).normal(1.0, 1.0, 20).astype(np.float32)
    data = {"g": g, "T": 1, "dt": dt, "y": y}
    posterior = posterior_of(model, data, {"z": np.zeros((2, 1))})
    new = infer_codes(posterior, data, plate="task", key=jr.key(0), num_samples=4000)
    weight = 1 / np.asarray(scale(g, dt), float) ** 2
    precision = 1 + weight.sum()
    found = (new.draws["z"].ravel() - (weight * y).sum() / precision) * precision**0.5
    assert kstest(found, norm.cdf).pvalue > 0.01


def filled(model):
    bound = bind(model, rows((3, 5, 1)))
    layout = layout_of(bound, "group", ("z",), {})
    return padded.padded(bound, {}, layout, "infer_codes")


def test_sizes_are_few_and_near():
    sizes = np.array([padded.size_of(n) for n in range(1, 5001)])
    assert (sizes >= np.arange(1, 5001)).all()
    assert (sizes[64:] <= 1.25 * np.arange(65, 5001)).all()
    assert len(set(sizes)) < 40
