"""The public surface, and the shape of the house."""

import ast
import doctest
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import equinox as eqx
import pytest

import bayesfield as bf
from bayesfield import inference
from cases import CONDITIONERS, DEFAULT_FIELDS, FIELDS, LIKELIHOODS, NETWORKS

PACKAGE = Path(bf.__file__).parent
MODULES = sorted(
    name
    for _, name, _ in pkgutil.walk_packages(bf.__path__, "bayesfield.")
    if not name.startswith("bayesfield.inference")
)
PUBLIC = {name: getattr(bf, name) for name in bf.__all__}
INFERENCE = {name: getattr(inference, name) for name in inference.__all__}
KINDS = {
    bf.AbstractNetwork: NETWORKS,
    bf.AbstractConditioner: CONDITIONERS,
    bf.AbstractField: FIELDS,
    bf.AbstractLikelihood: LIKELIHOODS,
}
# Prior and Frozen stand in trees of these kinds, Generator inside; the others are no modules of x.
OF_NO_KIND = {
    "Frozen",
    "GaussianProcessResidual",
    "Generator",
    "LatentCodes",
    "Prior",
    "PriorCheck",
    "Regression",
    "Table",
    "TaskRegression",
}
OF_NO_KIND |= {"Panel", "SeriesResidual", "SpatialCodes"}


def classes():
    """Return every class that the package defines, the private ones too."""
    modules = [importlib.import_module(name) for name in MODULES]
    found = {
        value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, type) and value.__module__.startswith("bayesfield.")
    }
    return sorted(found, key=lambda cls: cls.__name__)


def kind_of(make):
    return type(eqx.filter_eval_shape(make)).__name__


def concrete(kind):
    return {
        cls.__name__
        for cls in PUBLIC.values()
        if isinstance(cls, type) and issubclass(cls, kind) and not inspect.isabstract(cls)
    }


def test_every_public_concrete_class_stands_in_a_registry():
    for kind, registry in KINDS.items():
        assert {kind_of(make) for make in registry.values()} == concrete(kind)
    in_a_registry = set().union(*map(concrete, KINDS))
    others = {name for name, value in PUBLIC.items() if isinstance(value, type)}
    abstract = {kind.__name__ for kind in KINDS}
    assert others - in_a_registry - abstract - {"FiLM"} == OF_NO_KIND
    assert {kind_of(make) for make in DEFAULT_FIELDS.values()} == concrete(bf.AbstractField)


def test_an_instance_is_named_after_its_class():
    for registry in KINDS.values():
        for name, make in registry.items():
            assert name.split("-")[0] == kind_of(make)


def test_every_class_is_abstract_or_final():
    modules = [cls for cls in classes() if issubclass(cls, eqx.Module)]
    assert len(modules) > 15
    for cls in modules:
        bases = [b for b in cls.__mro__[1:] if b.__module__.startswith("bayesfield.")]
        assert all(base.__name__.startswith("Abstract") for base in bases), cls
        is_abstract = bool(cls.__abstractmethods__ or getattr(cls, "__abstractvars__", ()))
        assert is_abstract == cls.__name__.startswith("Abstract"), cls
        if is_abstract:
            with pytest.raises(TypeError, match=r"[Aa]bstract"):
                cls()


def test_only_the_abstract_class_stands_between_a_module_and_its_call():
    for kind in KINDS:
        for name in concrete(kind):
            assert "__call__" not in vars(PUBLIC[name]), name


def members(cls):
    for name, value in vars(cls).items():
        inner = getattr(value, "__func__", getattr(value, "fget", value))
        if not name.startswith("_") and inspect.isfunction(inner):
            yield name, inner


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_symbol_is_documented(name):
    value = PUBLIC[name]
    text = inspect.getdoc(value) or ""
    first = text.split("\n")[0]
    assert first.endswith((".", ":", "?"))
    assert not first.startswith(f"{name}(")  # as Python words it where nobody has
    if not isinstance(value, type):
        return
    fields = getattr(value, "_fields", None) or [*inspect.get_annotations(value)]
    if fields or not issubclass(value, bf.AbstractLikelihood):  # some have nothing to hold
        assert "Attributes:" in text
        listed = re.findall(r"^ +(\w+): ", text.split("Attributes:")[1], flags=re.MULTILINE)
        assert fields
        assert listed[: len(fields)] == list(fields)
    for member, function in members(value):
        assert function.__doc__, member


def test_the_public_names_are_those_of_the_package():
    assert sorted(bf.__all__) == sorted(set(bf.__all__))
    names = {n for n, v in vars(bf).items() if not n.startswith("_") and not inspect.ismodule(v)}
    assert names == set(bf.__all__)
    for name in ("networks", "conditioners", "features", "fields", "models", "tables"):
        folder = importlib.import_module(f"bayesfield.{name}")
        assert set(folder.__all__) <= set(bf.__all__)
    summary = bf.__doc__
    forgotten = [n for n in bf.__all__ if n not in summary]
    allowed = {"Frozen", "Generator", "Linear", "Panel", "PriorCheck", "Regression"}
    allowed |= {"TaskRegression"}
    assert {n for n in forgotten if not n.startswith(("Abstract", "Bayesian"))} <= allowed


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_in_docstrings_run(name):
    failures, _ = doctest.testmod(
        importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE
    )
    assert failures == 0


# Which rooms a room may import from. Imports point one way, so the order is the house's.
ROOMS = [
    "private",
    "checks",
    "marks",
    "generators",
    "prior_scales",
    "settings_text",
    "priors",
    "lifting",
    "tree_text",
    "blueprint",
    "random_field",
    "prior_check",
    "networks",
    "conditioners",
    "features",
    "fields",
    "models",
    "tables",
]
MAY_NOT = {
    "generators": {"priors", "prior_scales"},
    "networks": {"conditioners", "prior_check"},
    "conditioners": {"networks", "prior_check"},
    "features": {"conditioners", "prior_check"},
    "fields": {"prior_check", "features"},
    "models": {"networks", "features", "prior_check"},
}
ENGINES = {"blackjax", "optax", "numpyro.infer", "numpyro.optim", "numpyro.contrib", "arviz"}


def imports(path, package):
    """Return the dotted names that a file imports, relative ones resolved: `a.b` of `a.b.c`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parts, *([node.module] if node.module else [])])
            found |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return found


def sources(folder, package):
    """Yield each file with the package it lies in."""
    for path in sorted(folder.rglob("*.py")):
        inside = path.relative_to(folder)
        if inside.parts[0] != "inference":
            yield path, ".".join([package, *inside.parts[:-1]])


def rooms_of(names):
    prefix = "bayesfield."
    return {n.removeprefix(prefix).split(".")[0] for n in names if n.startswith(prefix)}


def test_imports_point_one_way():
    seen = set()
    for path, package in sources(PACKAGE, "bayesfield"):
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if room == "__init__":
            continue
        seen.add(room)
        assert room in ROOMS, f"{path.name} has no place in the order of imports"
        below = set(ROOMS[: ROOMS.index(room) + 1]) - MAY_NOT.get(room, set())
        names = imports(path, package)
        assert rooms_of(names) <= below, path
        assert "bayesfield" not in names, f"{path} imports the package that imports it"
    assert seen == set(ROOMS)


def test_no_engine_and_no_arviz_outside_of_inference():
    for path, package in sources(PACKAGE, "bayesfield"):
        for name in imports(path, package):
            assert not any(f"{name}.".startswith(f"{engine}.") for engine in ENGINES), path
            assert not name.startswith("bayesfield.inference"), path


def test_inference_imports_nothing_from_the_fields_side():
    folder = PACKAGE / "inference"
    paths = list(sources(folder, "bayesfield.inference"))
    assert paths
    for path, package in paths:
        names = {n for n in imports(path, package) if n.split(".")[0] == "bayesfield"}
        # The wording of errors, and what a program marks in its trace, lie below both sides.
        assert rooms_of(names) <= {"inference", "checks", "marks", "private"}, path
        assert "bayesfield" not in names, path


# In `inference/` likewise; rooms of one line may not import each other.
FLOORS = [
    {"program"},
    {"batches"},
    {"running", "predicting"},
    {"engines"},
    {"storage"},
    {"posterior"},
    {"start"},
    {"auto"},
    {"plan"},
    {"fit"},
    {"codes", "judging"},
    {"plots"},
]


def modules_of(folder, package):
    """Return each module of a package with those of the package that it imports, at any depth."""
    paths = {}
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        paths[".".join([package, *parts]).removesuffix(".__init__")] = path
    arrows = {}
    for module, path in paths.items():
        inside = module if path.name == "__init__.py" else module.rpartition(".")[0]
        found = imports(path, inside)
        files = {name for name in found if paths.get(name, folder).name != "__init__.py"}
        arrows[module] = files & set(paths) - {module}  # `from . import loop` names the package too
    return arrows


def circles(arrows):
    """Yield the modules from which a path of imports leads back to them."""
    for module in arrows:
        seen, left = set(), [*arrows[module]]
        while left:
            name = left.pop()
            if name not in seen:
                seen.add(name)
                left += arrows[name]
        if module in seen:
            yield module


def test_imports_of_inference_point_one_way():
    package = "bayesfield.inference"
    floors = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
    for module, used in modules_of(PACKAGE / "inference", package).items():
        if module == package:
            continue
        room = module.split(".")[2]
        assert room in floors, f"{module} has no place in the order of imports"
        for other in used - {package}:
            below = other.split(".")[2]
            assert below == room or floors[below] < floors[room], f"{module} imports {other}"


def test_no_imports_go_in_a_circle():
    for folder, package in (
        (PACKAGE / "inference", "bayesfield.inference"),
        (PACKAGE, "bayesfield"),
    ):
        assert not [*circles(modules_of(folder, package))]


def test_a_circle_of_imports_is_found():
    assert [*circles({"a": {"b"}, "b": {"c"}, "c": {"b"}})] == ["b", "c"]


def test_no_file_is_longer_than_300_lines_and_no_function_than_60():
    for path in (*PACKAGE.rglob("*.py"), *(PACKAGE / "inference").rglob("*.py")):
        text = path.read_text()
        assert len(text.splitlines()) <= 300, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                begin = node.body[1 if ast.get_docstring(node) and node.body[1:] else 0].lineno
                assert node.end_lineno - begin < 60, f"{path}: {node.name}"


@pytest.mark.parametrize("folder", ["benchmarks", "examples"])
def test_no_script_is_longer_than_300_lines(folder):
    scripts = [*Path(__file__).parent.parent.joinpath(folder).glob("*.py")]
    assert scripts
    for path in scripts:
        assert len(path.read_text().splitlines()) <= 300, path


def test_imports_are_read_as_python_reads_them(tmp_path):
    file = tmp_path / "a.py"
    file.write_text("from ..priors import Prior\nfrom . import siren\nimport numpyro.infer as i\n")
    assert imports(file, "bayesfield.networks") == {
        "bayesfield.priors",
        "bayesfield.priors.Prior",
        "bayesfield.networks",
        "bayesfield.networks.siren",
        "numpyro.infer",
    }


# bayesfield.inference


INFERENCE_MODULES = sorted(
    name for _, name, _ in pkgutil.walk_packages(inference.__path__, "bayesfield.inference.")
)


@pytest.mark.slow
@pytest.mark.parametrize("name", INFERENCE_MODULES)
def test_the_examples_in_docstrings_of_inference_run(name):
    module = importlib.import_module(name)
    failures, _ = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert failures == 0


@pytest.mark.parametrize("name", INFERENCE)
def test_every_public_symbol_of_inference_is_documented(name):
    value = INFERENCE[name]
    text = inspect.getdoc(value) or ""
    first = text.split("\n")[0]
    assert first.endswith((".", ":", "?"))
    assert not first.startswith(f"{name}(")  # as Python words it where nobody has
    if not isinstance(value, type) or issubclass(value, Warning):
        return
    fields = [*inspect.get_annotations(value)]
    if fields:
        assert "Attributes:" in text
        listed = re.findall(r"^ +(\w+): ", text.split("Attributes:")[1], flags=re.MULTILINE)
        assert listed[: len(fields)] == fields
    for member, function in members(value):
        assert function.__doc__, member


@pytest.mark.parametrize("name", [n for n, v in INFERENCE.items() if inspect.isfunction(v)])
def test_every_public_function_of_inference_describes_its_arguments(name):
    function = INFERENCE[name]
    text = inspect.getdoc(function)
    assert text
    for argument in inspect.signature(function).parameters:
        assert re.search(rf"^ +{argument}: |`{argument}`", text, flags=re.MULTILINE), argument


def test_every_class_of_inference_is_abstract_or_final():
    modules = [importlib.import_module(name) for name in INFERENCE_MODULES]
    found = {
        value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, eqx.Module)
        and value.__module__.startswith("bayesfield.inference")
    }
    assert {inference.SVI, inference.NUTS, inference.EnsembleMAP, inference.Program} <= found
    for cls in found:
        bases = [b for b in cls.__mro__[1:] if b.__module__.startswith("bayesfield.")]
        assert all(base.__name__.startswith("Abstract") for base in bases), cls
        is_abstract = bool(cls.__abstractmethods__ or getattr(cls, "__abstractvars__", ()))
        assert is_abstract == cls.__name__.startswith("Abstract"), cls
        if is_abstract:
            with pytest.raises(TypeError, match=r"[Aa]bstract"):
                cls()


def test_the_public_names_are_those_of_inference():
    assert sorted(inference.__all__) == sorted(set(inference.__all__))
    public = {n: v for n, v in vars(inference).items() if not n.startswith("_")}
    names = {n for n, v in public.items() if not inspect.ismodule(v)}
    assert names == set(inference.__all__)


def test_an_import_brings_no_engine_and_no_arviz_and_that_of_inference_optax():
    heavy = ["arviz", "arviz_stats", "arviz_plots", "xarray", "blackjax", "optax", "matplotlib"]
    both = [*heavy, "narwhals", "pandas", "numpyro"]
    program = (
        "import sys\n"
        f"import bayesfield\nprint(*[n for n in {both} if n in sys.modules])\n"
        f"import bayesfield.inference\nprint(*[n for n in {heavy} if n in sys.modules])"
    )
    done = subprocess.check_output([sys.executable, "-c", program], text=True)
    assert done.splitlines() == ["numpyro", "optax"]


def test_no_file_is_called_utils():
    names = {path.stem for path in PACKAGE.rglob("*.py")}
    assert not names & {"util", "utils", "helpers", "misc", "common"}


def test_an_init_file_only_hands_names_on():
    for path in PACKAGE.rglob("__init__.py"):
        nodes = ast.parse(path.read_text()).body
        kinds = {type(node) for node in nodes}
        assert not kinds & {ast.FunctionDef, ast.ClassDef}, path
