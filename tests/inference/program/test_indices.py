"""Indices in data: which a fit refuses, and which arguments are members of a group."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesfield.inference.program.indices import index_check
from bayesfield.inference.program.known import follow

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
        (lambda x, n: jnp.where(n == 0, x, 0.0), set()),
        (lambda x, n: B[n], {"n"}),
        (lambda x, n: jax.nn.one_hot(n, 5), {"n"}),
        (lambda x, n: jax.vmap(lambda i: i == jnp.arange(5))(n), {"n"}),
        (lambda x, n: n[:, None] == n, {"n"}),
    ],
    ids=["a threshold", "a count", "an index", "one-hot", "one-hot by hand", "same member"],
)
def test_only_whole_numbers_that_index_are_members(use, labels):
    assert checked(use, x=np.array([0.1, 0.9, 0.3]), n=at(0, 3, 1)) == labels
