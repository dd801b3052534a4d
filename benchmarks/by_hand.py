"""The tutorial's networks as they are written by hand, with `jnp.sin` and `vmap` over rows.

What the library is measured against: no class of the library, a context for each row, value and
gradient by JAX. `sine` is an argument, so that the same network has an identity in its place.
"""

import jax
import jax.numpy as jnp
import jax.random as jr

WIDTH, DEPTH, OMEGA, COND_DIM = 32, 4, 5.0, 4


def _dense(key, d_in, d_out, bound):
    return {"w": jr.uniform(key, (d_out, d_in), minval=-bound, maxval=bound), "b": jnp.zeros(d_out)}


def _mlp(key, sizes):
    keys = jr.split(key, len(sizes) - 1)
    pairs = zip(keys, sizes[:-1], sizes[1:], strict=True)
    return [_dense(k, d_in, d_out, d_in**-0.5) for k, d_in, d_out in pairs]


def _run_mlp(layers, z):
    for layer in layers[:-1]:
        z = jax.nn.relu(layer["w"] @ z + layer["b"])
    return layers[-1]["w"] @ z + layers[-1]["b"]


def film_siren(key, width=WIDTH, depth=DEPTH, cond_dim=COND_DIM):
    """Weights of a FiLM-modulated SIREN, 1 coordinate to 1 value."""
    keys = jr.split(key, 2 * depth)
    sizes = [1, *[width] * (depth - 1)]
    bounds = [1.0, *[(6.0 / width) ** 0.5 / OMEGA] * (depth - 2)]
    layers = [
        {
            "dense": _dense(keys[2 * i], sizes[i], sizes[i + 1], bounds[i]),
            "film": _dense(keys[2 * i + 1], cond_dim, 2 * width, cond_dim**-0.5),
        }
        for i in range(depth - 1)
    ]
    return {"layers": layers, "readout": _dense(keys[-1], width, 1, (6.0 / width) ** 0.5)}


def film_siren_at(params, x, z, sine=jnp.sin):
    """One row: `x (1,)`, `z (K,)` to a scalar."""
    h = x
    for layer in params["layers"]:
        h = sine(OMEGA * (layer["dense"]["w"] @ h + layer["dense"]["b"]))
        shift, scale = jnp.split(layer["film"]["w"] @ z + layer["film"]["b"], 2)
        h = (1.0 + jnp.tanh(scale)) * h + shift
    return (params["readout"]["w"] @ h + params["readout"]["b"])[0]


def hyper_siren(key, width=WIDTH, depth=DEPTH, cond_dim=COND_DIM):
    """Weights of a SIREN whose every weight comes from a network of the context."""
    key_net, *keys = jr.split(key, depth + 1)
    sizes = [1, *[width] * (depth - 1), 1]
    heads = [
        _dense(k, 16, sizes[i] * sizes[i + 1] + sizes[i + 1], (6.0 / width) ** 0.5 / OMEGA / 4.0)
        for i, k in enumerate(keys)
    ]
    return {"net": _mlp(key_net, [cond_dim, 32, 32, 16]), "heads": heads}


def hyper_siren_at(params, x, z, sine=jnp.sin):
    """One row: `x (1,)`, `z (K,)` to a scalar."""
    code = _run_mlp(params["net"], z)
    h = x
    for i, head in enumerate(params["heads"]):
        flat = head["w"] @ code + head["b"]
        d_out = flat.shape[0] // (h.shape[0] + 1)
        h = flat[:-d_out].reshape(d_out, -1) @ h + flat[-d_out:]
        h = sine(OMEGA * h) if i < len(params["heads"]) - 1 else h
    return h[0]


def hyper_rff(key, num_features=WIDTH, cond_dim=COND_DIM):
    """Weights of random Fourier features that a network of the context generates."""
    k1, k2 = jr.split(key)
    return {
        "net": _mlp(k1, [cond_dim, 64, 64, 2 * num_features + 1]),
        "readout": _dense(k2, 2 * num_features, 1, 3.0**0.5),
    }


def hyper_rff_at(params, x, z, sine=jnp.sin):
    """One row: `x (1,)`, `z (K,)` to a scalar; the cosine is the sine a quarter turn on."""
    flat = _run_mlp(params["net"], z)
    m = (flat.shape[0] - 1) // 2
    angle = flat[:m] * x[0] / jnp.exp(flat[-1]) + flat[m : 2 * m]
    cosine = jnp.cos(angle) if sine is jnp.sin else sine(angle)
    features = jnp.concatenate([cosine, sine(angle)]) / m**0.5
    return (params["readout"]["w"] @ features + params["readout"]["b"])[0]


def value_and_grad(row, **options):
    """The mean squared error over rows `x (N, 1)`, `z (N, K)`, `y (N,)`, and its gradient."""

    def loss(params, x, z, y):
        predicted = jax.vmap(lambda x, z: row(params, x, z, **options))(x, z)
        return jnp.mean((predicted - y) ** 2)

    return jax.value_and_grad(loss)
