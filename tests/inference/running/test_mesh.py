"""Lanes and rows over the devices of a mesh: the fit is that of one device."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import mesh_cases
import numpy as np
import pytest
from mesh_cases import DATA, LONG, MEMBERS, NOISE, SHORT, fitted, mesh_of

from bayesfield.inference import Batches

# chains of a few draws have not converged, and need not
pytestmark = pytest.mark.filterwarnings("ignore::bayesfield.inference.ConvergenceWarning")
CASES = Path(mesh_cases.__file__)
FOUR = "--xla_force_host_platform_device_count=4"


def test_a_mesh_of_one_device_gives_the_fit_without_one(tmp_path):
    whole, mesh = fitted(SHORT), mesh_of(rows=1, lanes=1)
    on_mesh = fitted(SHORT, mesh=mesh, checkpoint=tmp_path / "fit")
    np.testing.assert_allclose(on_mesh.draws["slope"], whole.draws["slope"], rtol=1e-4)
    assert on_mesh.settings["mesh"] == {"lanes": 1, "rows": 1}
    again = fitted(SHORT, mesh=mesh, checkpoint=tmp_path / "fit")
    np.testing.assert_array_equal(again.draws["slope"], on_mesh.draws["slope"])
    longer = [posterior.extend(2, progress=False).draws["slope"] for posterior in (on_mesh, whole)]
    np.testing.assert_allclose(*longer, rtol=1e-4)
    with pytest.raises(ValueError, match=r"its layout differs \(together: on a mesh, any\)"):
        fitted(SHORT, checkpoint=tmp_path / "fit")


@pytest.mark.parametrize(
    ("mesh", "error", "said"),
    [
        (4, TypeError, "expected `mesh` to be a mesh of JAX.*got int"),
        (jax.make_mesh((1,), ("chains",)), ValueError, r"an axis 'lanes'.*got 'chains'\. Name"),
        (jax.make_mesh((1, 1), ("lanes", "x")), ValueError, "got 'lanes', 'x'. Name them"),
    ],
    ids=["int", "chains", "x"],
)
@pytest.mark.usefixtures("unchecked")
def test_other_meshes_are_refused(mesh, error, said):
    with pytest.raises(error, match=said):
        fitted(SHORT, mesh=mesh)


def test_a_mesh_and_an_executor_are_refused():
    from concurrent.futures import ThreadPoolExecutor

    with pytest.raises(ValueError, match="expected `mesh` or `executor`; got both"):
        fitted(SHORT, mesh=mesh_of(lanes=1), executor=ThreadPoolExecutor(1))


def exact(x, y):
    """The mean and sd of the slope, whose prior has sd 2."""
    precision = x @ x / NOISE**2 + 1 / 2.0**2
    return x @ y / NOISE**2 / precision, precision**-0.5


def errors_off(draws, mean, sd):
    """By how many Monte Carlo errors the mean and the sd of draws are off."""
    import arviz as az

    tree = az.from_dict({"posterior": {"slope": draws}})
    size = [float(az.mcse(tree, method=method)["slope"]) for method in ("mean", "sd")]
    return abs(draws.mean() - mean) / size[0], abs(draws.std() - sd) / size[1]


@pytest.mark.slow
def test_four_devices_give_the_fits_of_one(tmp_path):
    run = [sys.executable, str(CASES), "four_devices", str(tmp_path / "draws.npz")]
    subprocess.run(run, check=True, env=os.environ | {"XLA_FLAGS": FOUR})
    with np.load(tmp_path / "draws.npz") as file:
        found = dict(file)
    batches = Batches(DATA, rows=len(DATA["x"]), batch_size=4)
    for name, expected in {
        "short": fitted(SHORT),
        "members": fitted(MEMBERS),
        "split": fitted(MEMBERS),
        "batches": fitted(MEMBERS, batches),
    }.items():
        np.testing.assert_allclose(found[name], expected.draws["slope"], rtol=1e-4, err_msg=name)
    assert found["long"].shape == (4, LONG.num_samples)
    assert max(errors_off(found["long"], *exact(**DATA))) < 4
    # not so if the row that is repeated to make them even were seen twice
    twice = {name: np.append(value, value[-1]) for name, value in DATA.items()}
    assert max(errors_off(found["long"], *exact(**twice))) > 4
    assert "multiple of the number of devices over which `mesh` splits rows, 2" in str(
        found["batch"]
    )
    assert "at most as many devices as there are rows of observations, 3; got 4" in str(
        found["few"]
    )
