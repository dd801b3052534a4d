"""What is said to who looks for a posterior's draws where other libraries keep theirs."""

from collections.abc import Collection

DRAWS = "`posterior.draws` has the draws of each site, `(chain, draw, ...)`."
TREE = "`posterior.to_datatree()` is what ArviZ takes."
GUESSES = {
    **dict.fromkeys(("samples", "get_samples", "posterior_samples"), DRAWS),
    **dict.fromkeys(("summary", "print_summary"), f"`print(posterior)` has the verdict. {TREE}"),
    **dict.fromkeys(("plot", "plot_trace"), f"`bayesfield.inference.plots` draws results. {TREE}"),
    **dict.fromkeys(("posterior", "idata", "to_inferencedata", "sample_dims"), TREE),
    "posterior_predictive": "`posterior.predict(data, key=key)` predicts.",
}


def guessed(name: object, sites: Collection[str]) -> str:
    """Return where to find what was asked for by a name; empty where nobody knows."""
    if name in sites:
        return f"Its draws are `posterior.draws[{name!r}]`, `(chain, draw, ...)`."
    return GUESSES.get(str(name), "")
