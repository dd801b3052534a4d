"""Draw the pictures of docs/diagnostics.md, each from a fit that has the fault.

    python docs/draw_findings.py

The PNGs go into docs/images.
"""

import warnings

from finding_pictures import chains, climbs, guides, held, learnt, new_tasks, unadjusted

from bayesfield.inference import ConvergenceWarning

if __name__ == "__main__":
    warnings.simplefilter("always", ConvergenceWarning)
    for part in (chains, unadjusted, climbs, guides, held, learnt, new_tasks):
        for draw in part.DRAWN:
            draw()
