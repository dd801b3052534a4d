"""How a NumPyro program is fitted.

One function, `fit_posterior`, fits any program with any engine and returns a `Posterior`. It and
the engines come with version 0.2; what a model is made of is in `bayesfield` itself.

The sources lie in the top-level folder `inference/`, and `bayesfield/inference` is a link to it.
"""

if __name__ != "bayesfield.inference":
    raise ImportError(
        f"this folder is a part of bayesfield and was imported as {__name__!r}: "
        "import it as bayesfield.inference."
    )
