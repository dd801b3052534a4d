"""What is shipped: the link's files are real in the wheel, and nothing leans on one machine."""

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def run(*command, cwd=ROOT):
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    out = tmp_path_factory.mktemp("wheel")
    done = run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = out.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


def test_wheel_holds_the_package_and_nothing_else(wheel):
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"bayesfield"}
    assert "bayesfield/py.typed" in wheel.namelist()


def test_wheel_holds_inference_as_real_files(wheel):
    sources = sorted((ROOT / "bayesfield" / "inference").rglob("*.py"))
    fit = ROOT / "bayesfield" / "inference" / "fit.py"
    assert (fit if fit.exists() else fit.with_name("__init__.py")) in sources
    for source in sources:
        name = source.relative_to(ROOT).as_posix()
        assert wheel.getinfo(name).external_attr >> 28 != 0o12, f"{name} is a symbolic link"
        assert wheel.read(name) == source.read_bytes()


@pytest.mark.slow
def test_sdist_holds_inference_under_the_package(tmp_path):
    done = run(sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = tmp_path.glob("*.tar.gz")
    shutil.unpack_archive(path, tmp_path / "unpacked", filter="data")
    (top,) = (tmp_path / "unpacked").iterdir()
    unpacked = top / "bayesfield" / "inference"
    assert unpacked.is_dir()
    assert not unpacked.is_symlink()
    sources = sorted(p.name for p in (ROOT / "bayesfield" / "inference").iterdir() if p.suffix)
    assert sorted(p.name for p in unpacked.iterdir() if p.suffix) == sources
    assert not (top / "inference").exists()


def test_link_is_relative():
    link = ROOT / "bayesfield" / "inference"
    if not (ROOT / "inference").is_dir():
        pytest.skip("an unpacked sdist has the folder itself")
    assert link.readlink() == Path("../inference")


@pytest.mark.skipif(not (ROOT / "inference").is_dir(), reason="an unpacked sdist has none")
def test_inference_is_no_package_of_its_own():
    program = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import inference"
    done = run(sys.executable, "-c", program)
    assert done.returncode != 0
    assert "ImportError" in done.stderr
    assert "import it as bayesfield.inference" in done.stderr


def test_no_file_names_a_registry():
    done = run(ROOT / ".ci" / "check-hosts")
    assert done.returncode == 0, done.stderr


def test_a_registry_would_be_found(tmp_path):
    host = ".".join(["pypi", "org"])
    (tmp_path / "notes.md").write_text(f"first\nsee https://{host}/simple\n")
    done = run(ROOT / ".ci" / "check-hosts", tmp_path)
    assert done.returncode == 1
    assert "notes.md:2:" in done.stderr


def test_constraints_are_plain_pins():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line.strip() and not line.startswith("#")]
    pin = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9.!+]+( *; *[^@]+)?")
    assert [line for line in pins if not pin.fullmatch(line)] == []
    names = [re.sub(r"[-_.]+", "-", line.split("==")[0]).lower() for line in pins]
    assert "bayesfield" not in names
    assert all(";" in line for line, name in zip(pins, names, strict=True) if names.count(name) > 1)
