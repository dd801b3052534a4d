"""Indices in data: which a fit refuses, and which arguments are members of a group."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesfield.inference.program import loops
from bayesfield.inference.program.following import follow
from bayesfield.inference.program.indices import index_check

B = jnp.arange(5.0)
A = jnp.zeros((5, 5))


def checked(use, **data):
    """Check a function of arrays as a program is, and return the arguments that are labels."""
    labels = set()
    trace = jax.make_jaxpr(lambda data: use(**data))(data)
    follow(trace, data, (index_check("f", data, labels),))
    return labels


def at(*indices):
    return np.array(indices)


@pytest.fixture
def little_room(monkeypatch):
    """Follow a tenth of the steps of a long loop: none of those here needs more."""
    monkeypatch.setattr(loops, "ROOM", loops.ROOM // 10)


@pytest.mark.parametrize(
    "use",
    [
        lambda g: B.at[g].get(mode="clip"),
        lambda g: B.at[g].get(mode="fill", fill_value=0.0),
        lambda g: jnp.take(B, g, mode="fill", fill_value=0.0),
    ],
    ids=["clip", "fill", "take"],
)
def test_clip_and_fill_do_not_hide_a_negative_index_that_jax_counts_from_the_end(use):
    checked(use, g=at(0, 9))
    with pytest.raises(IndexError, match=r"`g` to index.*got -1 in row 1.*from the end"):
        checked(use, g=at(9, -1))


def branch(i):
    return jax.lax.switch(i, [lambda: 1.0, lambda: 2.0, lambda: 3.0, lambda: 4.0, lambda: 5.0])


def while_below(g):
    return jax.lax.while_loop(lambda c: c[0] < 2, lambda c: (c[0] + 1, c[1] + B[g[c[0]]]), (0, 0.0))


# How g is used, good values of it, and bad ones; axes have five entries
COMPUTED = {
    "two-way": (lambda g: A.ravel()[g[0] * 5 + g[1]], at(4, 4), at(5, 0)),
    "lag": (lambda g: B[g + 1], at(0, 3), at(0, 4)),
    "halved": (lambda g: B[g // 2], at(0, 9), at(0, 10)),
    "group of a group": (lambda g: B[jnp.array([0, 3, 5])[g]], at(0, 1), at(0, 2)),
    "summed up": (lambda g: B[jnp.cumsum(g)], at(1, 3), at(1, 4)),
    "greatest": (lambda g: B[jnp.max(g)], at(1, 4), at(1, 5)),
    "ranks": (lambda g: B[jnp.argsort(g) + g], at(0, 1), at(0, 4)),
    "threshold": (lambda g: B[:1][(g > 3).astype(int)], at(1, 3), at(1, 4)),
    "bin": (lambda g: B[jnp.floor(g / 2.0).astype(int)], at(0, 9), at(0, 10)),
    "searched": (lambda g: B[jnp.searchsorted(jnp.arange(5), g)], at(0, 4), at(0, 9)),
    "along axis": (lambda g: jnp.take_along_axis(A[:2], g[:, None], 1), at(0, 4), at(0, 5)),
    "segment sum": (lambda g: jax.ops.segment_sum(B[:2], g, 5), at(0, 4), at(0, 5)),
    "segment max": (lambda g: jax.ops.segment_max(B[:2], g, 5), at(0, 4), at(0, -1)),
    "set": (lambda g: B.at[g].set(1.0), at(0, 4), at(0, 5)),
    "add": (lambda g: A.at[g, 0].add(1.0), at(0, 4), at(0, -1)),
    "slice": (lambda g: jax.lax.dynamic_slice(B, (g[0],), (2,)), at(3), at(4)),
    "slices": (
        lambda g: jax.vmap(lambda i: jax.lax.dynamic_slice(B, (i,), (2,)))(g), at(0, 3), at(0, 4),
    ),
    "update": (lambda g: jax.lax.dynamic_update_slice(B, B[:2], (g[0],)), at(3), at(4)),
    "one-hot": (lambda g: jax.nn.one_hot(g, 5), at(0, 4), at(0, 5)),
    "one-hot, negative": (lambda g: jax.vmap(lambda i: jax.nn.one_hot(i, 5))(g), at(0), at(-1)),
    "switch": (lambda g: branch(g[0]), at(4), at(5)),
    "switches": (lambda g: jax.vmap(branch)(g), at(4, 0), at(-1, 0)),
    "scan": (lambda g: jax.lax.scan(lambda s, i: (s + B[i + 1], s), 0.0, g), at(0, 3), at(0, 4)),
    "state": (lambda g: jax.lax.scan(lambda s, i: (s + i, B[s + i]), 0, g), at(1, 2), at(3, 3)),
    "for": (lambda g: jax.lax.fori_loop(0, 2, lambda i, s: s + B[g[i]], 0.0), at(0, 4), at(0, 5)),
    "for so many": (
        lambda g: jax.lax.fori_loop(0, g[0], lambda i, s: s + B[g[i]], 0.0), at(2, 4), at(2, 5),
    ),
    "while": (while_below, at(0, 4), at(0, 5)),
    "branch": (lambda g: jax.lax.cond(g[0] > 0, lambda: B[g[0]], lambda: 0.0), at(4), at(5)),
    "long": (
        lambda g: jax.lax.fori_loop(0, 9999, lambda i, s: s + B[g[i]], 0.0),
        np.zeros(9999, int), np.where(np.arange(9999) == 7777, 5, 0),
    ),
}  # fmt: skip


@pytest.mark.usefixtures("little_room")
@pytest.mark.parametrize("name", COMPUTED)
def test_an_index_that_is_computed_is_checked_wherever_it_is_used(name):
    use, good, bad = COMPUTED[name]
    checked(use, g=good)
    with pytest.raises(IndexError, match=r"`f` expected `g` to (index|start|number).*; got "):
        checked(use, g=bad)


@pytest.mark.parametrize(
    "use", [lambda i: B[i], lambda i: jax.ops.segment_sum(B[:2], i, 5)], ids=["taken", "summed"]
)
def test_indices_that_stand_in_the_program_are_checked_too(use):
    with pytest.raises(IndexError, match=r"`f` expected `model` to index an axis of 5.*got 5, wh"):
        checked(lambda x: use(jnp.array([0, 5])) + x[0], x=at(0))


def within_branch(i):
    return jax.lax.cond(i > 0, lambda: B[i - 1], lambda: 0.0)


RIGHT = {
    "wrapped, then clipped": (
        lambda g: jnp.take(B, jnp.where(g < 0, g + 5, g), mode="clip"), at(-1, 9),
    ),
    "wrapped by hand": (lambda g: B[jnp.where(g < 0, g + 5, g)], at(-1, 0)),
    "rolled": (lambda g: jnp.roll(B, g[0]) + B[(g[0] - 1) % 5], at(-7)),
    "from the end": (lambda g: B[-1] + B[jnp.array([-1, 0])].sum() + g[0], at(7)),
    "bins": (lambda g: B[jnp.clip(jnp.searchsorted(B, g * 1.0), 0, 4)], at(-1, 9)),
    "bins from the right": (lambda g: B[jnp.searchsorted(B, g * 1.0, side="right") - 1], at(0, 9)),
    "interpolated": (lambda g: jnp.interp(g, B, B), at(-3, 9)),
    "histogram": (lambda g: jnp.histogram(g, bins=B)[0], at(-3, 2, 9)),
    "count": (lambda g: B[(g > 3).astype(int)], at(0, 99)),
    "reference level": (lambda g: jax.nn.one_hot(g - 1, 4), at(0, 4)),
    "zeros meant": (lambda g: jax.nn.one_hot(jnp.where((g >= 0) & (g < 5), g, -1), 5), at(-9, 7)),
    "left out": (
        lambda g: jax.ops.segment_sum(B[:2], jnp.where((g >= 0) & (g < 5), g, 5), 5), at(-9, 7),
    ),
    "masked lag": (lambda g: jnp.where(g > 0, jnp.exp(B[g - 1]), 0.0), at(0, 1)),
    "masked rows": (lambda g: jnp.where((g < 5)[:, None], A[g], 0.0), at(0, 9)),
    "masked group": (lambda g: B[jnp.where(g < 2, jnp.array([3, 4])[g], 0)], at(1, 9)),
    "branch": (lambda g: within_branch(g[0]), at(0)),
    "branches": (lambda g: jax.vmap(within_branch)(g), at(0, 1)),
    "branch in a scan": (lambda g: jax.lax.map(within_branch, g), at(0, 1, 5)),
    "long": (
        lambda g: jax.lax.fori_loop(0, 9999, lambda i, s: s + B[g[i] % 5], 0.0), np.arange(9999),
    ),
    "greatest of none": (lambda g: B[g[:0].max(initial=0)], at(3)),
    "clipped switch": (lambda g: branch(jnp.clip(g[0], 0, 4)), at(9)),
}  # fmt: skip


@pytest.mark.usefixtures("little_room")
@pytest.mark.parametrize("name", RIGHT)
def test_a_program_that_says_what_is_meant_is_let_through(name):
    use, g = RIGHT[name]
    checked(use, g=g)


@pytest.mark.parametrize(
    "use",
    [
        lambda g, latent: jnp.where(g > -1, latent[g - 1], 0.0),
        lambda g, latent: jnp.where(g > 0, latent[g - 1].sum(), 0.0),
        lambda g, latent: jnp.where(latent[:2] > 0, latent[g - 1], 0.0),
    ],
    ids=["the wrong rows", "summed before", "by what is not known"],
)
def test_a_mask_lets_through_only_what_it_leaves_out(use):
    g = at(0, 1)
    trace = jax.make_jaxpr(lambda data, latent: use(data["g"], latent))({"g": g}, B)
    with pytest.raises(IndexError, match="got 0 in row 0, there the index -1"):
        follow(trace, {"g": g}, (index_check("f", {"g": g}, set()),))


@pytest.mark.parametrize("mode", ["wrap", "clip"])
def test_a_negative_index_that_take_is_told_what_to_do_with_is_let_through(mode):
    checked(lambda g: jnp.take(B, g, mode=mode), g=at(0, -1, 9))


def test_a_constant_beside_an_index_does_not_hide_it():
    def use(g):
        return B[jnp.concatenate([jnp.array([-1]), g])]

    checked(use, g=at(0, 4))
    for bad in (77, -2):
        with pytest.raises(IndexError, match=f"`g` to index an axis of 5.*got {bad} in row 1"):
            checked(use, g=at(0, bad))


@pytest.mark.parametrize(
    "use",
    [
        lambda g: jax.vmap(lambda i: B[i])(g),
        lambda g: jax.vmap(lambda i: A[i, -1])(g),
        lambda g: jax.vmap(lambda row, i: row[i])(A[:2], g),
    ],
    ids=["an entry", "beside a number", "in each row"],
)
def test_an_index_within_vmap_is_checked(use):
    checked(use, g=at(0, 4))
    for bad in (-1, 9):
        with pytest.raises(IndexError, match=f"`g` to index an axis of 5.*got {bad} in row 1"):
            checked(use, g=at(0, bad))


def test_clipping_within_vmap_is_let_through():
    checked(lambda g: jax.vmap(lambda i: jnp.take(B, i, mode="clip"))(g), g=at(0, 9))
    checked(lambda g: jax.vmap(lambda i: B.at[i].get(mode="clip"))(g), g=at([0, 1], [2, 9]))


@pytest.mark.parametrize("h", [at(0, 8), at(0, 8, 1), at([0, 2, 8])], ids=str)
def test_of_two_indices_the_bad_one_is_named(h):
    where = r"in row 1" if h.ndim == 1 else r"at \(0, 2\)"

    def use(g, h, empty=None):
        return A[g[:, None], h[None]]

    with pytest.raises(IndexError, match=f"`h` to index an axis of 5 entries.*got 8 {where}"):
        checked(use, g=at(3, 4), h=h)
    empty = np.zeros(0, int)
    assert checked(use, empty=empty, g=at(3, 4), h=h % 5) == {"g", "h"}


def test_what_a_masked_lag_should_take_is_said():
    with pytest.raises(IndexError, match=r"got 0 in row 0, there the index -1.*maximum\(t - 1, 0"):
        checked(lambda t: B[t - 1], t=at(0, 1))


@pytest.mark.parametrize(
    ("use", "labels"),
    [
        (lambda x, n: B[(x > 0.5).astype(int)], set()),
        (lambda x, n: B[(n > 3).astype(int)], set()),
        (lambda x, n: B[jnp.sum(n) % 5], set()),
        (lambda x, n: B[n + 1], {"n"}),
        (lambda x, n: jnp.where(n == 0, x, 0.0), set()),
        (lambda x, n: B[n], {"n"}),
        (lambda x, n: jax.nn.one_hot(n, 5), {"n"}),
        (lambda x, n: jax.vmap(lambda i: i == jnp.arange(5))(n), {"n"}),
        (lambda x, n: n[:, None] == n, {"n"}),
    ],
    ids=[
        "a threshold",
        "a threshold of counts",
        "a sum",
        "a lag",
        "a count",
        "an index",
        "one-hot",
        "one-hot by hand",
        "same member",
    ],
)
def test_only_whole_numbers_that_index_are_members(use, labels):
    assert checked(use, x=np.array([0.1, 0.9, 0.3]), n=at(0, 3, 1)) == labels
