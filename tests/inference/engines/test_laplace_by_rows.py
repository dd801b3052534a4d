"""The curvature by blocks of rows is that of the whole program, whatever the block."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro import handlers
from numpyro.infer import init_to_sample

from bayesfield.inference import Laplace, fit_posterior
from bayesfield.inference.engines.laplace import by_rows, covariance, evidence
from bayesfield.inference.engines.laplace.covariance import covariance_of
from bayesfield.inference.engines.laplace.curvature import has_one_scale
from bayesfield.inference.engines.laplace.evidence import evidence_update
from bayesfield.inference.engines.laplace.gauss_newton import Curvature, Summed, curvature_at
from bayesfield.inference.engines.place import Place
from bayesfield.inference.program.binding import bind

ROWS = 40
rng = np.random.default_rng(0)
DATA = {
    "x": rng.normal(size=(ROWS, 2)),
    "y": rng.normal(size=(ROWS, 3)),
    "kind": rng.integers(0, 3, size=ROWS),
    "task": rng.integers(0, 4, size=ROWS),
}


def two_outcomes(x, task, y=None, kind=None):
    """A mean and a scale that bend, by tasks, three a row, half of them masked; and classes."""
    with numpyro.plate("tasks", 4):
        z = numpyro.sample("z", dist.Normal(0, 1).expand([2]).to_event(1))
    b = numpyro.sample("b", dist.Normal(0, 0.5).expand([2, 3]).to_event(2))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1.0))
    h = jnp.tanh(x * z[task])
    with handlers.mask(mask=x[:, 0] > 0):
        spread = sigma * jnp.exp(0.3 * h[:, 1:])
        numpyro.sample("y", dist.Normal(h[:, :1] * jnp.arange(3), spread).to_event(1), obs=y)
    with numpyro.plate("rows", len(x)):
        numpyro.sample("kind", dist.Categorical(logits=h @ b), obs=kind)


def gamma_prior(x, task, y=None, kind=None):
    """A prior that is no Normal, and many values."""
    w = numpyro.sample("w", dist.Gamma(2.0, 1.0).expand([3]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1.0))
    with numpyro.plate("rows", len(x)):
        numpyro.sample(
            "kind", dist.Poisson(w[0] + w[task % 2 + 1] * sigma * x[:, 0] ** 2), obs=kind
        )


def bound(model, data):
    program, arrays, sites = bind(model, data)
    _, position = program.start(arrays, {}, init_to_sample, jr.key(3))
    hyper = {"sigma": position.pop("sigma")}
    return program, arrays, sites, Place(program, arrays, {}, hyper, position)


POISSON = {name: DATA[name] for name in ("x", "task", "kind")}
CASES = {"two outcomes": (two_outcomes, DATA), "gamma": (gamma_prior, POISSON)}


@pytest.mark.parametrize("case", CASES)
def test_curvature_is_that_of_the_whole_program_at_every_block(case):
    *_, place = bound(*CASES[case])

    @jax.jit
    def every():
        found = []
        for block in (None, 7, ROWS):  # the last block of seven is not full
            curvature = curvature_at(place, block=block)
            assert isinstance(curvature, Curvature if block is None else Summed)
            spreads = covariance_of(curvature).spreads(curvature)
            found.append((curvature.gram(jnp.ones(len(curvature.prior))), spreads))
        return found

    whole, *blocks = every()
    least = min(jnp.abs(part).max() for part in jax.tree.leaves(whole))
    assert least > 1e-3
    for one in blocks:
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(whole), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * jnp.abs(b).max())


def test_the_jacobian_is_held_where_it_has_fewer_rows_than_columns():
    few = {name: value[:1] for name, value in DATA.items()}
    *_, place = bound(two_outcomes, few)
    whole, rows = jax.jit(lambda: [curvature_at(place, block=block) for block in (None, 1)])()
    assert whole.whitened.shape == (9, 14)
    np.testing.assert_allclose(rows.whitened, whole.whitened, rtol=1e-5, atol=1e-5)


def centred(x, y=None):
    line(x - x.mean(0), y)


def counted(x, y=None):
    line(x / len(x), y)


def in_order(x, y=None):
    line(x + jnp.arange(len(x))[:, None], y)


def held_elsewhere(x, y=None):
    line(x + DATA["x"], y)


def of_each_row(x, y=None):
    line(x, y, numpyro.sample("shift", dist.Normal(0, 1).expand([len(x)]).to_event(1)))


def line(x, y=None, shift=0.0):
    w = numpyro.sample("w", dist.Normal(0, 1).expand([2]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1.0))
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.Normal(x @ w + shift, sigma), obs=y)


OMEGA, PHASE = rng.normal(size=(1, 12)), rng.uniform(0, 6, 12)


def waves(t, y, offset=0.0, slope=0.0):
    w = numpyro.sample("w", dist.Normal(0, 1).expand([12]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1.0))
    with numpyro.plate("rows", len(t)):
        mean = offset + slope + 10 * jnp.cos(t[:, :1] @ OMEGA + PHASE) @ w
        numpyro.sample("y", dist.Normal(mean, sigma), obs=y)


def centred_far_off(x, y=None):
    waves(x - x.mean(0), y, 101325.0)


def centred_beside_a_wide_site(x, y=None):
    b = numpyro.sample("b", dist.Normal(0, 1e6))
    waves(x - x.mean(0), y, slope=b * x[:, 0])


def far_off(x, y=None):
    waves(x, y, 101325.0)


def gated(x, y=None):
    """What the rows share is switched on by a param that starts at zero."""
    gate = numpyro.param("gate", 0.0)
    w = numpyro.sample("w", dist.Normal(0, 1).expand([2]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1.0))
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.Normal(x @ w + gate * jnp.mean(x @ w), sigma), obs=y)


def borrowed(x, prev, y=None):
    """A row alone has no other to borrow from: the index is clamped to its own."""
    waves(x[prev], y)


def with_kinks(x, y=None):
    w = numpyro.sample("w", dist.Normal(0, 1).expand([2, 12]).to_event(2))
    v = numpyro.sample("v", dist.Normal(0, 1).expand([12]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1.0))
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.Normal(jax.nn.relu(x @ w) @ v, sigma), obs=y)


def faulty(x, y=None):
    if len(x) == 1:
        raise MemoryError("no matter of shapes")
    line(x, y)


def refusing(x, y=None):
    assert len(x) > 1
    line(x, y)


def refusing_values(x, y=None):
    line(eqx.error_if(x, jnp.sum(x != 0) < 3, "too few"), y)


LINE = {"x": DATA["x"], "y": DATA["y"][:, 0]}


NEED_OTHERS = [
    *(centred, counted, in_order, held_elsewhere, of_each_row),
    *(gated, centred_far_off, centred_beside_a_wide_site, refusing, refusing_values),
]


@pytest.mark.parametrize("model", NEED_OTHERS)
def test_rows_that_need_others_are_not_made_by_themselves(model):
    program, arrays, sites, _ = bound(model, LINE)
    assert by_rows.block_for(program, arrays, sites, ("sigma",), 7) is None
    with pytest.raises(ValueError, match=r"`Laplace` expected `rows_at_once` for a program"):
        Laplace(rows_at_once=7).resolved(program, arrays, sites)


@pytest.mark.parametrize("number", [0, 1])
def test_one_row_that_needs_another_is_found(number):
    x, prev = rng.normal(size=(900, 2)), np.arange(900)
    prev[[311][:number]] = 500
    program, arrays, sites, _ = bound(borrowed, {"x": x, "prev": prev, "y": x[:, 0]})
    found = by_rows.block_for(program, arrays, sites, ("sigma",), 7)
    assert found == (None if number else 7)


@pytest.mark.parametrize("model", [far_off, with_kinks])
def test_rounding_is_no_need_of_others(model):
    x = rng.normal(size=(20_000, 2))
    program, arrays, sites, _ = bound(model, {"x": x, "y": x[:, 0]})
    assert by_rows.block_for(program, arrays, sites, ("sigma",), 7) == 7


def test_a_fault_that_is_no_matter_of_one_row_is_not_hidden():
    program, arrays, sites, _ = bound(faulty, LINE)
    with pytest.raises(MemoryError, match="no matter of shapes"):
        by_rows.block_for(program, arrays, sites, ("sigma",), 7)


def test_rows_are_made_by_themselves_where_the_jacobian_is_large(monkeypatch):
    for model, data in (*CASES.values(), (line, LINE)):
        program, arrays, sites, _ = bound(model, data)
        assert by_rows.block_for(program, arrays, sites, ("sigma",), 7) == 7
        assert by_rows.block_for(program, arrays, sites, ("sigma",)) is None
    monkeypatch.setattr(by_rows, "WORTH", 0)
    assert by_rows.block_for(program, arrays, sites, ("sigma",)) == ROWS


@pytest.mark.parametrize(
    "factor",
    [
        lambda half: covariance._factor(half.T @ half, half),
        lambda half: covariance._of_few_rows(jnp.ones(5), half.T),
    ],
    ids=["many rows", "few rows"],
)
def test_the_orthogonal_factor_is_made_only_where_it_is_needed(factor):
    text = jax.jit(factor).lower(jnp.ones((5, 3))).compile().as_text()
    always = text[text.index("ENTRY") :]  # and not what a loop runs
    assert "potrf" in always
    assert "geqrf" in text.replace(always, "")
    assert "geqrf" not in always


def weighted(x, y=None, seen=None, shape=1.0, floor=0.0):
    w = numpyro.sample("w", dist.Normal(0, 1).expand([2]).to_event(1))
    tau = numpyro.sample("tau", dist.HalfNormal(1.0))
    u = numpyro.sample("u", dist.Normal(0, tau))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1.0))
    with numpyro.plate("rows", len(x)), handlers.scale(scale=0.7):
        around = dist.Normal(x @ w + u * x[:, 0] ** 2, sigma * shape + floor)
        numpyro.sample("y", around, obs=y, obs_mask=seen)


def heavy(x, y=None):
    w = numpyro.sample("w", dist.Normal(0, 1).expand([2]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1.0))
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.StudentT(4.0, x @ w, sigma), obs=y)


def seen_by_weight(x, y=None):
    w = numpyro.sample("w", dist.Normal(0, 1).expand([2]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1.0))
    with numpyro.plate("rows", len(x)), handlers.scale(scale=1 / (1 + sigma)):
        numpyro.sample("y", dist.Normal(x @ w, sigma), obs=y)


SHAPES = 1.0 + DATA["x"][:, 0] ** 2
SEEN = np.arange(ROWS) % 3 > 0


@pytest.mark.parametrize(
    ("model", "more", "free", "one"),
    [
        (weighted, {}, ("w", "u"), True),
        (weighted, {"seen": SEEN, "floor": 0.1}, ("w", "u"), True),
        (weighted, {}, ("w", "u", "tau"), True),  # a prior whose curvature is a matrix
        (weighted, {"shape": SHAPES, "floor": 0.1}, ("w", "u"), False),
        (weighted, {}, ("w", "u", "sigma"), False),
        (seen_by_weight, {}, ("w",), False),
        (heavy, {}, ("w",), False),
    ],
)
@pytest.mark.parametrize("whole", [False, True])
def test_one_scale_needs_no_second_pass_and_is_updated_as_by_one(
    model, more, free, one, whole, monkeypatch
):
    program, arrays, sites = bind(model, LINE | more)
    _, start = program.start(arrays, {}, init_to_sample, jr.key(3))
    names = {site.name for site in sites.inferred.latent}
    hyper = {name: start[name] for name in names if name not in free}
    place = Place(program, arrays, {}, hyper, {name: start[name] for name in free})
    passes = []
    each = Summed.each
    monkeypatch.setattr(Summed, "each", lambda *args: passes.append(1) or each(*args))

    def update():
        return jax.jit(lambda: evidence_update(place, block=7, whole=whole))()

    assert has_one_scale(place) == one
    ours = update()
    assert bool(passes) != one
    monkeypatch.setattr(evidence, "has_one_scale", lambda place: False)
    theirs = update()
    assert passes
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)
    for name in hyper:  # all of them have moved
        assert not np.allclose(ours[0].hyper[name], hyper[name], atol=1e-2)


def test_a_fit_is_the_same_at_every_block():
    # of two starts at one mode rounding decides which comes first
    engine = Laplace(num_starts=1, num_steps=60, num_updates=6, num_samples=50)
    fits = [
        fit_posterior(line, LINE, dataclasses.replace(engine, rows_at_once=rows), key=jr.key(0))
        for rows in (None, 7)
    ]
    assert [fit.settings["settings"]["rows_at_once"] for fit in fits] == [None, 7]
    whole, blocks = fits
    np.testing.assert_allclose(blocks.stats["log_evidence"], whole.stats["log_evidence"], rtol=1e-5)
    for name, draws in whole.draws.items():
        np.testing.assert_allclose(blocks.draws[name], draws, rtol=1e-4, atol=1e-4)
