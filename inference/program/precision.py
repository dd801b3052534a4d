"""Converting arrays to the working precision, refusing what it cannot hold."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bayesfield.checks import warn

# The rms error of rounding may be at most this share of the sd of a column.
LOSS = 5e-4
ROUNDING = 1e-13  # a column with a smaller relative range is constant up to rounding


def copied(array: np.ndarray, dtype: Any) -> jax.Array:
    """Return a copy on the device, since JAX might otherwise read the caller's own memory."""
    return jax.device_put(np.array(array, dtype, order="C", copy=True))  # compiles nothing


def integer(call: str, name: str, array: np.ndarray) -> jax.Array:
    """Take integers as they are, or refuse those that would wrap around."""
    dtype = jax.dtypes.canonicalize_dtype(array.dtype.newbyteorder("="))
    if array.size and dtype.itemsize < array.dtype.itemsize:
        info = jnp.iinfo(dtype)
        low, high = int(array.min()), int(array.max())
        if low < info.min or high > info.max:
            raise ValueError(
                f"`{call}` expected `{name}` to hold integers that fit {dtype}, from {info.min} to "
                f"{info.max}; got values from {low} to {high}, which would wrap around. Subtract "
                f"the smallest (`{name} - {name}.min()`), give them in a larger unit or as floats, "
                "or work in 64 bits: `jax.config.update('jax_enable_x64', True)`."
            )
    working = jnp.finfo(jnp.result_type(float)).dtype
    if array.size > 1 and working == np.float32 and np.abs(array).max(initial=0) >= 2**24:
        problem = _loss(array.astype(np.float64), working)
        if problem:
            warn(
                f"`{name}` holds integers, which are kept exactly; but as {working} {problem}. "
                f"If the program computes with them as numbers, subtract the first value before: "
                f"`{name} - {name}[0]`."
            )
    return copied(array, dtype)


def floating(call: str, name: str, array: np.ndarray) -> jax.Array:
    """Take floats in the working precision, or refuse those that it merges or cannot hold."""
    working = jnp.finfo(jnp.result_type(float)).dtype
    if array.dtype.itemsize <= working.itemsize or not array.size:
        return copied(array, working)
    finite = np.isfinite(array)
    if (np.abs(array, where=finite, out=np.zeros(array.shape)) > jnp.finfo(working).max).any():
        largest = np.abs(array[finite]).max()
        raise ValueError(
            f"`{call}` expected `{name}` to hold values that {working} can hold, up to "
            f"{jnp.finfo(working).max:.1e}; got {largest:.3g}. Rescale it."
        )
    problem = _lossy_part(array, working)
    if problem:
        raise ValueError(
            f"`{call}` expected `{name}` to hold values that {working} tells apart; got "
            f"{array.dtype} that it does not: {problem}. Subtract the first value, in float64, and "
            f"rescale: `({name} - {name}[0]) / {name}.std()`; or work in 64 bits: "
            "`jax.config.update('jax_enable_x64', True)`."
        )
    return copied(array, working)


def _lossy_part(array: np.ndarray, working: Any) -> str:
    """Say what rounding to `working` loses of an array or of a column; "" if nothing."""
    whole = _loss(array.ravel(), working)
    if whole or array.ndim < 2 or array.size < 2 * array.shape[-1] ** 2:
        return whole  # with more columns than rows the last axis is no axis of features
    for i, column in enumerate(array.reshape(-1, array.shape[-1]).T):
        problem = _loss(column, working)
        if problem:
            return f"in column {i} {problem}"
    return ""


def _loss(values: np.ndarray, working: Any) -> str:
    """Say what rounding to `working` loses of the values of one quantity; "" if nothing."""
    values = values[np.isfinite(values)].astype(np.float64)
    if not values.size:
        return ""
    largest = float(np.abs(values).max())
    rounded = values.astype(working).astype(np.float64)
    rounded[np.abs(rounded) < jnp.finfo(working).tiny] = 0.0  # as XLA does
    if largest and not rounded.any():
        return f"all values, the largest of them {largest:.3g}, become zero"
    if np.ptp(values) <= ROUNDING * largest or np.array_equal(values, rounded):
        return ""
    spread = float(values.std())
    error = float(np.sqrt(np.mean((rounded - values) ** 2)))
    step = float(np.spacing(np.asarray(largest, working)))
    if error > LOSS * spread:
        return (
            f"neighbouring numbers near {largest:.6g} are {step:.3g} apart, and the values have "
            f"an sd of {spread:.3g}"
        )
    distinct = np.unique(values)
    gaps = np.diff(distinct)
    if len(distinct) > 2 and gaps.min() > 0.5 * np.median(gaps) and gaps.max() < 0.5 * step:
        return (
            f"neighbouring numbers near {largest:.6g} are {step:.3g} apart, and the values "
            f"{np.median(gaps):.3g}"
        )
    return ""
