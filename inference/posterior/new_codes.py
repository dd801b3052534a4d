"""Findings on codes that `infer_codes` has found for new members of a plate.

The alarm is not how many draws are left after weighting: that number is much the same where the
codes are right and where a mode was missed. It is whether two halves of the starts agree. Where
they do, a mode may still be missing that no start has found; the share of the starts that reached
the best one says how likely that is.
"""

from typing import Any

import numpy as np

from ..engines.fitted import Fitted
from .findings import WARNED, Finding, finding, narrower

FEWEST = 64  # effective draws: with fewer the draws are in doubt, and not the halves alone
RARE = 0.15  # of the starts: a best mode that so few have reached may not be the best there is


def code_report(plate: str, labels: list[Any], told: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return what the halves of the starts say of each member, in JSON's types.

    Args:
        plate: The plate.
        labels: A name for each member.
        told: `halves_apart`, `ess` and `share_at_best`, `(generator, member)`.
    """
    apart = np.nan_to_num(told["halves_apart"], nan=np.inf) ** 2
    # what the worst of so many members is apart by chance, given the number of draws in each half
    chance = 4 / np.maximum(np.nan_to_num(told["ess"]), FEWEST) * 2 * np.log(4 * apart.shape[1])
    apart = np.maximum(apart - chance, 0.0)
    # means that lie `d` sds apart have a variance of `d^2 / 4` between them
    between = np.where(np.isfinite(apart), apart / (4 + apart), 1.0)
    return {
        "plate": plate,
        "members": labels,
        "in_doubt": between.mean(0).tolist(),
        "share_at_best": told["share_at_best"].mean(0).tolist(),
    }


def code_findings(fitted: Fitted) -> list[Finding | None]:
    """Judge the codes of new members; empty for a posterior that `infer_codes` did not make."""
    told = (fitted.report or {}).get("codes")
    if not told:
        return []
    doubt, share = np.asarray(told["in_doubt"]), np.asarray(told["share_at_best"])
    worst = int(np.argmax(doubt))
    many = int((doubt >= WARNED).sum())
    member = f"member {told['members'][worst]} of `{told['plate']}`"
    found = finding(
        f"Two halves of the starts disagree on the codes of {member}"
        + (f" and of {many - 1} more" if many > 1 else "")
        + f": {doubt[worst]:.0%} of their variance lies between the halves",
        float(doubt[worst]),
        where=member,
        expected=f"less than {WARNED:.0%}",
        share=float(doubt[worst]),
        effect=f"a mode was missed by one of them, and bands may be too narrow by "
        f"{narrower(doubt[worst])} or lie elsewhere",
        change="Take more starts, `num_starts=64`.",
    )
    least = int(np.argmin(share))
    rare = finding(
        f"Only {share[least]:.0%} of the starts reached the best mode of member "
        f"{told['members'][least]} of `{told['plate']}`",
        float(share[least]),
        share=0.0,
        effect="another, better mode may have been found by none",
        change="Take more starts, `num_starts=64`, and look whether `log_evidence` rises.",
    )
    return [
        found if doubt[worst] >= WARNED else None,
        rare if share[least] < RARE else None,
    ]
