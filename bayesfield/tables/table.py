"""A table: which column plays which role in a program, and how it becomes numbers."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bayesfield.checks import check_flag, check_number, check_one_of, described

from .bands import bands
from .checking import whole
from .frames import opened
from .printed import table_text
from .roles import Roles
from .scaling import UNITS, Labels

if TYPE_CHECKING:
    import xarray as xr

FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Table:
    """Turn a frame into the arrays that a program takes, and predictions into such a frame.

    `Table.of` makes one from the rows that a model is fitted to. It remembers the roles of the
    columns, their scaling, the calendar and the labels, so that other rows become the same numbers.
    A frame is an eager one of pandas, polars or pyarrow (the levels of a pandas index are columns
    too), or an xarray Dataset or DataArray, whose rows are the cells of its axes.

    Attributes:
        roles: The columns of each role, `x`, `z`, `task`, `y`, `exposure` and `known_sd`, with how
            each becomes numbers.

    Examples:
        >>> import bayesfield as bf, pandas as pd
        >>> train = pd.DataFrame(
        ...     {"day": pd.to_datetime(["2024-01-01", "2024-01-03", "2024-01-05"]),
        ...      "height": [10.0, 300.0, 10.0], "temperature": [4.0, None, 6.0]},
        ... )
        >>> table = bf.Table.of(train, x="day", z="height", y="temperature")
        >>> {name: array.tolist() for name, array in table.arrays(train).items()}
        {'x': [[-1.0], [1.0]], 'z': [[0.0], [0.0]], 'y': [-1.0, 1.0]}
        >>> table.inputs(train)["x"].tolist()  # what to predict at: every row
        [[-1.0], [0.0], [1.0]]
    """

    roles: Roles

    def __post_init__(self) -> None:
        """Refuse a frame, which `Table.of` takes."""
        if not isinstance(self.roles, Roles):
            raise TypeError(
                f"`Table` expected `roles` to be the roles of columns; got {described(self.roles)}."
                " Name them: `Table.of(frame, x=..., y=...)`."
            )

    def __repr__(self) -> str:
        """Return a line for each column: its role, and how it becomes numbers."""
        return table_text(self.roles)

    @classmethod
    def of(
        cls,
        frame: Any,
        *,
        x: str | Sequence[str],
        y: str | Sequence[str],
        z: str | Sequence[str] = (),
        task: str | None = None,
        exposure: str | None = None,
        known_sd: str | Sequence[str] | None = None,
        counts: bool = False,
        unscaled: str | Sequence[str] = (),
        unit: str = "D",
    ) -> "Table":
        """Make a table from the rows that a model will be fitted to.

        Numbers and dates are scaled to mean 0 and sd 1 over the rows with an outcome; an outcome
        too, unless it is a count or True and False.

        Args:
            frame: The training rows.
            x: The columns of the coordinates.
            y: The columns of the outcomes.
            z: The columns of the contexts.
            task: The column of the tasks' names.
            exposure: The column of the exposures, where the outcome is a count.
            known_sd: The column of the noise's sd, in the outcome's units; one for each outcome.
            counts: Whether the outcome is a count, which is checked and not scaled.
            unscaled: The columns whose numbers are taken as they are: an outcome that is a
                share, for `Beta`, say.
            unit: In what dates are counted: weeks "W", days "D", hours "h", minutes "m" or
                seconds "s".

        Raises:
            TypeError: No frame; a column of a kind that its role does not take.
            ValueError: A column that is not there; a value that is missing but for outcomes, or is
                infinite; no row with an outcome; an index that does not tell rows apart; a count
                that is none; an exposure or sd that is not positive; dates with and without a time
                zone, or out of the calendar.
        """
        call = "Table.of"
        check_one_of(call, "unit", unit, UNITS)
        check_flag(call, "counts", counts)
        named = {"x": x, "z": z, "task": task, "y": y, "exposure": exposure, "known_sd": known_sd}
        return cls(Roles.of(call, frame, named, counts, unscaled, unit))

    def arrays(self, frame: Any) -> dict[str, np.ndarray]:
        """Return what a program is fitted to, or scored on: the rows that have an outcome.

        Rows whose outcome is missing are left out, so that a fit is that of the other rows.

        Args:
            frame: The rows, with every role's column.

        Returns:
            By the names of a program's arguments: those of `inputs`, and `y (rows,)`, or `(rows,
            outcomes)` where there are several; counts, and True and False, are integers.

        Raises:
            TypeError: No frame; a column of another kind than in `Table.of`.
            ValueError: As of `Table.of`; a label that the table does not know.
        """
        call, names = "Table.arrays", [outcome.name for outcome in self.roles.y]
        return self.roles.arrays(call, opened(call, frame, (*self.roles.given, *names)))

    def inputs(self, frame: Any) -> dict[str, np.ndarray]:
        """Return what a program predicts at: every row, without the outcome.

        Args:
            frame: The rows; columns of outcomes are not read.

        Returns:
            By the names of a program's arguments, for each role that the table has: `x (rows, D)`,
            `z (rows, K)`, `task (rows,)` integers, `exposure (rows,)`, and `scale (rows,)`, the
            known sd in the units of the scaled outcome.

        Raises:
            TypeError: No frame; a column of another kind than in `Table.of`.
            ValueError: As of `Table.of`; a label that the table does not know.
        """
        rows = opened("Table.inputs", frame, self.roles.given)
        return self.roles.inputs("Table.inputs", rows, np.arange(rows.size))

    def frame(
        self,
        prediction: "xr.Dataset",
        frame: Any,
        *,
        quantiles: Sequence[float] = (0.05, 0.5, 0.95),
        site: str = "y",
    ) -> Any:
        """Return the frame with a prediction's mean, sd and quantiles, in the original units.

        Args:
            prediction: What `predict` returned at `table.inputs(frame)`. Of one with `quantiles`
                there are these quantiles alone, and `quantiles` here is not used.
            frame: The frame that was predicted.
            quantiles: Which quantiles, between 0 and 1.
            site: The site of the prediction: `y` is an observation, and `y_mean` its mean, whose
                band is that of the field alone.

        Returns:
            A frame of the same kind, index and order with the columns `<outcome>_mean`,
            `<outcome>_sd` and `<outcome>_q<percent>`. An xarray object comes back as a Dataset
            with these variables on its own axes.

        Raises:
            TypeError: `prediction` is no Dataset; no frame.
            ValueError: It has no draws of `site`, or other rows than `frame`; a quantile that is
                none; a column of these names is there already.
        """
        call = "Table.frame"
        rows = opened(call, frame, self.roles.given)
        columns = bands(call, prediction, site, self.roles.y, rows.size, quantiles)
        taken = sorted({*columns} & {*rows.names})
        if taken:
            raise ValueError(
                f"`{call}` expected `frame` to have no columns of the result's names; got {taken}. "
                "Give the frame without them."
            )
        return rows.with_columns(columns)

    def relabelled(self, frame: Any) -> "Table":
        """Return the table whose tasks are those of a frame: new members of the same population.

        Args:
            frame: The rows of the new tasks, in whose labels the table's are replaced.

        Raises:
            ValueError: The table has no task; a label is missing.
        """
        call = "Table.relabelled"
        if self.roles.task is None:
            raise ValueError(f"`{call}` expected a table with a task; got one without.")
        column = opened(call, frame, self.roles.given).column(self.roles.task.name)
        return Table(dataclasses.replace(self.roles, task=Labels.of(call, whole(call, column))))

    def length(self, name: str, length: float) -> float:
        """Return a length along a coordinate or context in the table's own numbers.

        Args:
            name: The column.
            length: In its units; of dates, in the unit in which they are counted. A year of 365.25
                days is the period of a season, say.

        Raises:
            ValueError: No such column of numbers or dates.
        """
        held = (*self.roles.x, *self.roles.z)
        scales = {c.name: c.scale for c in held if not isinstance(c, Labels)}
        check_one_of("Table.length", "name", name, scales)
        return check_number("Table.length", "length", length) / scales[name]

    def record(self) -> dict[str, Any]:
        """Return the table in JSON's types, to be saved with a posterior.

        `posterior.save(path, records={"table": table.record()})` saves it, and
        `Table.from_record(posterior.records["table"])` brings it back.
        """
        return {"format": FORMAT, **self.roles.to_json()}

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> "Table":
        """Return the table that `record` describes.

        Args:
            record: What `record` returned, in this process or another.

        Raises:
            ValueError: It is something else.
        """
        try:
            if record["format"] != FORMAT:
                raise ValueError(f"format {record['format']}")
            return cls(Roles.from_json(record))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                "`Table.from_record` expected `record` to be what `Table.record` returned; got "
                f"{described(record)} that cannot be read ({type(error).__name__}: {error})."
            ) from error

    @property
    def labels(self) -> dict[str, tuple[str | int, ...]]:
        """The labels of each column that has them, in the order of their integers."""
        tasks = () if self.roles.task is None else (self.roles.task,)
        held = (*self.roles.x, *self.roles.z, *tasks)
        return {c.name: c.labels for c in held if isinstance(c, Labels)}
