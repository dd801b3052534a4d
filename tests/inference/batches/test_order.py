"""In which order rows come, from every kind of source: each once a pass, and always the same."""

from itertools import islice

import jax.random as jr
import numpy as np
import pyarrow as pa
import pytest
import zarr
from pyarrow import parquet

from bayesfield.inference import Batches
from bayesfield.inference.batches.converted import rows_of
from bayesfield.inference.batches.feed import Feed

N, B = 103, 10
X, Y = np.arange(2 * N, dtype=np.float32).reshape(N, 2), np.arange(N, dtype=np.int32)
BLOCKS = {"block_size": 7, "num_blocks": 3}
ROWS = rows_of({"x": X, "y": Y}, ())


class Loader:
    """Rows in dicts of uneven sizes, from the start at each pass."""

    def __init__(self, *sizes):
        self.sizes = sizes

    def __iter__(self):
        ends = np.cumsum(self.sizes)
        for begin, end in zip([0, *ends], ends, strict=False):
            yield {"x": X[begin:end], "y": Y[begin:end]}


def made(begin, end):
    return {"x": X[begin:end], "y": Y[begin:end]}


def in_arrays(folder):
    return {"x": X, "y": Y}


def in_mapped_files(folder):
    np.save(folder / "x.npy", X)
    return {"x": np.load(folder / "x.npy", mmap_mode="r"), "y": Y}


def in_zarr(folder):
    group = zarr.open_group(folder / "rows.zarr", mode="w")
    for name, value, chunks in (("x", X, (9, 2)), ("y", Y, (9,))):
        group.create_array(name, data=value, chunks=chunks)
    return group


def in_parquet(folder):
    table = pa.table({"x0": X[:, 0], "x1": X[:, 1], "y": Y})
    parquet.write_table(table.slice(0, 60), folder / "a.parquet", row_group_size=11)
    parquet.write_table(table.slice(60), folder / "b.parquet", row_group_size=11)
    return [folder / "a.parquet", folder / "b.parquet"]


SOURCES = {
    "arrays": in_arrays,
    "mapped": in_mapped_files,
    "zarr": in_zarr,
    "parquet": in_parquet,
    "function": lambda folder: made,
    "loader": lambda folder: Loader(40, 1, 0, 30, 32),
}


@pytest.fixture(params=SOURCES)
def batches(request, tmp_path):
    columns = {"x": ["x0", "x1"], "y": "y"} if request.param == "parquet" else None
    source = SOURCES[request.param](tmp_path)
    return Batches(source, rows=N, batch_size=B, columns=columns, **BLOCKS)


def taken(batches, begin, steps, seed=0, length=4):
    """Return the rows of some steps, read in chunks of a few."""
    feed, found = Feed(batches, ROWS, jr.key(seed), lambda *block: None), []
    for at in range(begin, begin + steps, length):
        count = min(length, begin + steps - at)
        following = min(length, begin + steps - at - count)
        rows = feed.take(at, count, length, following)
        assert rows["x"].shape == (length, B, 2)
        assert (rows["x"][..., 0] == 2 * rows["y"]).all()
        found.append(np.asarray(rows["y"][:count]).ravel())
    return np.concatenate(found)


def test_each_pass_has_every_row_once_in_another_order(batches):
    order = taken(batches, 0, 3 * N // B)
    first, second = order[:N], order[N : 2 * N]
    assert np.array_equal(np.sort(first), Y)
    assert np.array_equal(np.sort(second), Y)
    assert (first != second).mean() > 0.5
    assert (np.diff(first) == 1).mean() < 0.3  # rows that lie side by side come apart


def test_the_order_goes_on_from_any_step_and_depends_on_the_key_alone(batches):
    whole = taken(batches, 0, 24)
    for begin in (3, 10, 11, 23):  # within a pass, at the end of one, in the third
        assert np.array_equal(taken(batches, begin, 24 - begin), whole[B * begin :])
    assert not np.array_equal(taken(batches, 0, 24, seed=1), whole)
    assert np.array_equal(taken(batches, 0, 24, length=7), whole)


def test_the_first_batch_is_of_rows_from_several_blocks(batches):
    rows = batches.first["y"]
    assert len(rows) == B
    assert len(np.unique(rows // 7)) > 2


def test_blocks_are_read_as_they_lie_and_few_are_held_at_a_time():
    asked = []

    def rows(begin, end):
        asked.append((begin, end))
        return made(begin, end)

    batches = Batches(rows, rows=N, batch_size=B, **BLOCKS)
    taken(batches, 0, 2 * N // B)
    assert max(end - begin for begin, end in asked) <= 3 * 7
    first = list(islice(asked, None))
    assert sum(end - begin for begin, end in first) <= 3 * N  # nothing is read twice in a pass


def test_a_group_says_its_arrays(tmp_path):
    shown = repr(Batches(in_zarr(tmp_path), rows=N, batch_size=B))
    assert shown in {f"Batches of {B} of {N} rows of {names}" for names in ("x, y", "y, x")}


def test_arrays_in_chunks_are_read_in_whole_chunks(tmp_path):
    edges = Batches(in_zarr(tmp_path), rows=N, batch_size=B).reader.edges(N, None, 10)
    assert np.array_equal(edges, [*range(0, N, 18), N])
    files = Batches(in_parquet(tmp_path), rows=N, batch_size=B)
    assert np.array_equal(files.reader.edges(N, None, 12), [0, 22, 44, 60, 82, N])


def test_the_columns_of_a_parquet_file_are_its_arguments_by_default(tmp_path):
    batches = Batches(in_parquet(tmp_path)[0], rows=60, batch_size=B)
    assert batches.first.keys() == {"x0", "x1", "y"}


def test_a_null_in_a_column_of_whole_numbers_is_named(tmp_path):
    path = tmp_path / "rows.parquet"
    whole = pa.array([0, 1, None, 2, 1, 0])
    parquet.write_table(pa.table({"group": whole, "y": [0.5] * 6}), path, row_group_size=2)
    batches = Batches(path, rows=6, batch_size=6)
    with pytest.raises(ValueError, match=r"of int64 without nulls.* in 'group', row 2\."):
        batches.reader.read(0, 6)
