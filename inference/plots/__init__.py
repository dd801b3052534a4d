"""Pictures of a fit, on matplotlib: the extra `plots`.

- `bands`: a prediction over a coordinate, a panel for each task.
- `calibration`: the histogram of the PIT, and coverage by level.
- `variance`: the sources of a prediction's variance.
- `convergence`: R-hat and effective sizes of the function.
- `legend`: one for all panels, after more was drawn on them.

Each draws the result of a call, `predict`, `score`, `variance_split` or `diagnose`, and returns the
axes. They follow the style that is set, dark or light.
"""

from .bands import bands
from .calibration import calibration
from .canvas import legend
from .convergence import convergence
from .variance import variance

__all__ = ["bands", "calibration", "convergence", "legend", "variance"]
