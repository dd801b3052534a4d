"""Pictures of what guides and modes leave out."""

import jax.random as jr

from bayesfield.inference import NUTS, SVI, EnsembleMAP, fit_posterior

from .chains import ridge
from .style import BLUE, GREY, RED, explain, framed, save


def draw_guide():
    """Draw two values that are known together: by chains, by a guide, and by modes."""
    data, key = {"sd": 0.3, "y": 0.0}, jr.key(0)
    exact = fit_posterior(ridge, data, NUTS(), key=key)
    guide = fit_posterior(ridge, data, SVI("normal"), key=key)
    modes = fit_posterior(ridge, data, EnsembleMAP(), key=key)
    figure, axis = framed(3.0)
    some = {"s": 8, "lw": 0}
    axis.scatter(exact.draws["a"], exact.draws["b"], color=GREY, label="posterior", **some)
    axis.scatter(guide.draws["a"], guide.draws["b"], color=BLUE, label='SVI("normal")', **some)
    axis.scatter(
        modes.draws["a"], modes.draws["b"], color=RED, marker="X", s=60, label="EnsembleMAP()"
    )
    axis.set(xlabel="a", ylabel="b")
    explain(figure, 3)
    save(figure, "guide", guide, "Reweighted to the posterior")


DRAWN = (draw_guide,)
