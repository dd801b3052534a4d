"""Frames and xarray objects as rows: columns by name in, columns of results out."""

import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from bayesfield.checks import close_match, described, listed

from .column import EXACT, Column, column_of, wrong_kind


class Frame:
    """An eager frame of pandas, polars, pyarrow or another library that narwhals knows."""

    def __init__(self, call: str, native: Any):
        """Take the frame; refuse one whose index does not tell its rows apart."""
        import narwhals.stable.v2 as nw

        self.call = call
        try:
            self.frame = nw.from_native(native, eager_only=True)
        except TypeError:
            lazy = " Collect it first: `frame.collect()`." if hasattr(native, "collect") else ""
            if isinstance(native, str | os.PathLike):
                lazy = " Read the file first: `pandas.read_csv(path)`."
            raise TypeError(
                f"`{call}` expected `frame` to be an eager frame (pandas, polars, pyarrow) or an "
                f"xarray Dataset or DataArray; got {described(native)}.{lazy}"
            ) from None
        except nw.exceptions.DuplicateError:
            raise ValueError(
                f"`{call}` expected `frame` to have columns of different names; got one twice. "
                "Rename it, or leave it out."
            ) from None
        index = nw.maybe_get_index(self.frame)
        if index is not None and index.has_duplicates:
            twice = index[index.duplicated()].tolist()[0]
            raise ValueError(
                f"`{call}` expected the index of `frame` to tell its rows apart; got {twice!r} "
                "twice. Make it a column: `frame.reset_index()`."
            )
        self.levels = {} if index is None else {n: index for n in index.names if n is not None}
        self.size = len(self.frame)
        self.names = [*self.frame.columns, *(n for n in self.levels if n not in self.frame.columns)]

    def column(self, name: str) -> Column:
        """Return a column, or a level of the index."""
        import narwhals.stable.v2 as nw

        check_held(self.call, name, self.names)
        if name in self.frame.columns:
            series = self.frame[name]
        else:
            level = self.levels[name].get_level_values(name)
            series = nw.from_native(level.to_series(), series_only=True)
        dtype, zoned = series.dtype, False
        if isinstance(dtype, nw.Datetime) and dtype.time_zone is not None:
            series, zoned = series.dt.convert_time_zone("UTC").dt.replace_time_zone(None), True
        elif dtype == nw.Date:
            series = series.cast(nw.Datetime("us"))
        elif dtype.is_numeric() or dtype == nw.Boolean:
            column = column_of(self.call, name, series.cast(nw.Float64).to_numpy())
            if (
                dtype.is_integer()
                and np.abs(column.values).max(initial=0, where=~column.missing) >= EXACT
            ):
                return column_of(self.call, name, np.array(series.to_list(), object))
            return column._replace(flags=dtype == nw.Boolean)
        elif dtype.is_nested() or dtype in (nw.Time, nw.Binary, nw.Unknown):
            own = f"{series.to_native().dtype if dtype == nw.Unknown else dtype}"
            months = " Make them dates: `to_timestamp()`." if own.startswith("period") else ""
            raise wrong_kind(self.call, name, own, months)
        return column_of(self.call, name, np.asarray(series.to_numpy()), zoned=zoned)

    def with_columns(self, values: Mapping[str, np.ndarray]) -> Any:
        """Return the frame with more columns, in its own kind, index and order."""
        import narwhals.stable.v2 as nw

        backend = self.frame.implementation
        new = [nw.new_series(n, v, nw.Float64, backend=backend) for n, v in values.items()]
        return self.frame.with_columns(new).to_native()


class Grid:
    """An xarray object; its rows are the cells of the axes that some variables have together."""

    def __init__(self, call: str, native: Any, names: Iterable[str]):
        """Take the object; `names` are the variables whose axes are stacked."""
        self.call = call
        if not hasattr(native, "data_vars"):
            native = native.to_dataset(name="value" if native.name is None else native.name)
        self.grid = native
        self.names = [str(name) for name in (*native.data_vars, *native.coords, *native.dims)]
        for name in names:
            check_held(call, name, self.names)
        self.sizes = {d: native.sizes[d] for name in names for d in native[name].dims}
        self.size = int(np.prod([*self.sizes.values()], dtype=int))
        for dim in self.sizes:
            index = native.indexes.get(dim)
            if index is not None and index.has_duplicates:
                twice = index[index.duplicated()].tolist()[0]
                raise ValueError(
                    f"`{call}` expected the coordinate {dim!r} to tell its entries apart; got "
                    f"{twice} twice. Drop one: `frame.drop_duplicates({dim!r})`."
                )

    def column(self, name: str) -> Column:
        """Return a variable, repeated along the axes that it does not have."""
        check_held(self.call, name, self.names)
        values = self.grid[name]
        new = {dim: size for dim, size in self.sizes.items() if dim not in values.dims}
        values = values.expand_dims(new).transpose(*self.sizes).values
        return column_of(self.call, name, np.reshape(values, -1))

    def with_columns(self, values: Mapping[str, np.ndarray]) -> Any:
        """Return the Dataset with more variables, unstacked."""
        shape = (*self.sizes.values(),)
        return self.grid.assign({n: ((*self.sizes,), v.reshape(shape)) for n, v in values.items()})


def opened(call: str, native: Any, names: Iterable[str]) -> Frame | Grid:
    """Return a frame or an xarray object as rows.

    Args:
        call: The public call, for errors.
        native: What the user gave.
        names: The columns that will be read; an xarray object's rows are the cells of their axes.
    """
    xarray = sys.modules.get("xarray")  # not imported by us: who has such an object has done it
    if xarray is not None and isinstance(native, xarray.Dataset | xarray.DataArray):
        return Grid(call, native, names)
    return Frame(call, native)


def check_held(call: str, name: str, names: list[str]) -> None:
    """Refuse a name that the frame does not have."""
    if name not in names:
        text = [str(one) for one in names]
        renamed = " Name them by text: `frame.columns.map(str)`." if text != names else ""
        raise ValueError(
            f"`{call}` expected `frame` to have a column {name!r}; got {listed(text, 8) or 'none'}."
            f"{renamed or close_match(name, names)}"
        )
