"""Who may import whom, what is imported when, and that every public name is there and explained."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

import convatlas
from tiny import python, write_split, write_weights

SOURCE = Path(convatlas.__file__).parent
ROOT_MODULES = {"errors", "catalogue", "cache", "locks", "mapped"}  # for everybody

# Each part of the package: the parts below it, and the libraries it is built on.
PARTS: dict[str, tuple[set[str], set[str]]] = {
    "errors": (set(), set()),
    "locks": (set(), set()),
    "cache": ({"locks"}, set()),
    "mapped": ({"cache", "locks"}, {"numpy"}),
    "catalogue": ({"zoo"}, {"torch"}),  # only to compute itself: see below
    "cards": (set(), set()),
    "zoo": (set(), {"torch", "jaxtyping"}),
    "analysis": (set(), {"torch"}),
    "data": (set(), {"numpy", "PIL", "simplejpeg"}),
    "metrics": (set(), {"numpy"}),
    "studies": ({"zoo", "analysis", "cards", "metrics", "train"}, {"torch", "safetensors"}),
    "report": (set(), {"altair", "jinja2", "markupsafe", "vl_convert"}),
    "weights": ({"zoo", "data"}, {"torch", "safetensors", "huggingface_hub"}),
    "bundle": ({"zoo", "data", "metrics", "weights"}, {"torch", "safetensors", "numpy", "PIL"}),
    "train": (
        {"zoo", "data", "metrics", "weights", "bundle"},
        {"torch", "safetensors", "numpy", "lightning_fabric"},
    ),
    "transfer": ({"zoo", "data", "metrics", "weights", "bundle", "train"}, {"torch", "numpy"}),
    "jobs": (
        {
            "",
            "cards",
            "zoo",
            "analysis",
            "data",
            "metrics",
            "weights",
            "bundle",
            "train",
            "transfer",
            "studies",
            "report",
        },
        {"torch", "numpy", "PIL", "sklearn"},
    ),
    "cli": (
        {"", "cards", "analysis", "data", "weights", "bundle", "train", "transfer", "studies", "jobs", "report"},
        {"typer", "rich"},
    ),
}
# Parts of parts that are held to less, or something else: the closed-form probe is arithmetic and knows neither torch nor images.
NARROWER: dict[str, tuple[set[str], set[str]]] = {
    "weights/published.py": ({"catalogue", "data"}, {"torchvision", "timm"}),  # those only to compute itself
    "transfer/probe.py": ({"metrics"}, {"numpy"}),
    "transfer/ridge.py": (set(), {"numpy"}),
}
# What a command may load before it has found out that it needs torch.
LIGHT = ("catalogue", "cards", "cache", "data", "metrics", "report", "cli", "jobs", "transfer", "weights.source")
HEAVY = [
    "torchvision",
    "timm",
    "sklearn",
    "pandas",
    "scipy",
    "matplotlib",
    "altair",
    "huggingface_hub",
    "lightning_fabric",
    "fastai",
]


@dataclass(frozen=True)
class Import:
    """One import statement's module, and whether it is met when its file is imported."""

    file: str
    line: int
    module: str
    at_once: bool

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.module}"


def imports(path: Path) -> Iterator[Import]:
    def walk(node: ast.AST, at_once: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            deeper = at_once and not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                deeper = False
            modules: list[str] = []
            if isinstance(child, ast.Import):
                modules = [alias.name for alias in child.names]
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{path}: imports are absolute"
                assert child.module
                # `from convatlas import zoo` names a part; `from convatlas import __version__` the package itself
                modules = [
                    f"convatlas.{alias.name}" if child.module == "convatlas" else child.module for alias in child.names
                ]
            for module in modules:
                yield Import(path.relative_to(SOURCE).as_posix(), getattr(child, "lineno", 0), module, at_once)
            yield from walk(child, deeper)

    yield from walk(ast.parse(path.read_text(encoding="utf-8")), True)


ALL = [found for path in sorted(SOURCE.rglob("*.py")) for found in imports(path)]


def part_of(file: str) -> str:
    return file.split("/")[0].removesuffix(".py")


def test_every_part_has_a_place() -> None:
    parts = {part_of(path.relative_to(SOURCE).as_posix()) for path in SOURCE.rglob("*.py")}
    assert parts - {"__init__", "__main__"} == set(PARTS)
    below = {part: others & set(PARTS) for part, (others, _) in PARTS.items()}
    for part in set(PARTS) - ROOT_MODULES:
        assert part not in {far for other in below[part] for far in below[other]}, f"{part} would import itself"


@pytest.mark.parametrize("part", PARTS)
def test_imports_point_downwards(part: str) -> None:
    for found in ALL:
        if part_of(found.file) != part:
            continue
        parts, libraries = NARROWER.get(found.file, PARTS[part])
        top, _, rest = found.module.partition(".")
        if top == "convatlas":
            allowed = parts | ROOT_MODULES | {part} if part not in ROOT_MODULES else parts | {"errors"}
            if found.file in NARROWER:
                allowed = parts | {"errors", "transfer"}
            assert rest.split(".")[0] in allowed, str(found)
        elif top not in sys.stdlib_module_names:
            assert top in libraries, str(found)


def test_the_walk_sees_imports() -> None:
    seen = {(found.file, found.module, found.at_once) for found in ALL}
    assert ("jobs/fit.py", "convatlas.cache", True) in seen
    assert ("transfer/features.py", "torch", False) in seen
    assert ("zoo/convnet.py", "jaxtyping", False) in seen
    assert ("__init__.py", "convatlas.zoo.convnet", False) in seen


def test_the_catalogue_needs_the_zoo_only_to_compute_itself() -> None:
    assert not [str(found) for found in ALL if found.file == "catalogue.py" and found.at_once and "zoo" in found.module]


def test_nothing_below_the_command_line_prints() -> None:
    for path in SOURCE.rglob("*.py"):
        file = path.relative_to(SOURCE).as_posix()
        if file.startswith(("cli/", "train/recipes/")):
            continue
        calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
        assert not [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"], file


def public(module: ModuleType) -> list[str]:
    return [f"{module.__name__}.{name}" for name in module.__all__]


PACKAGES = [convatlas, *(importlib.import_module(f"convatlas.{name}") for name in ("zoo", "data", "metrics", "report"))]


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_all_is_what_can_be_imported(package: ModuleType) -> None:
    assert len(set(package.__all__)) == len(package.__all__)
    for name in package.__all__:
        assert getattr(package, name) is not None
    assert set(package.__all__) <= set(dir(package))


def test_names_for_type_checkers_are_the_names_at_run_time() -> None:
    typed: dict[str, set[str]] = {}
    for node in ast.walk(ast.parse(Path(convatlas.__file__).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("convatlas."):
            typed[str(node.module)] = {alias.name for alias in node.names}
    assert typed == {module: set(names) for module, names in convatlas._HOMES.items()}
    assert sorted(name for names in typed.values() for name in names) == sorted(convatlas.__all__)
    for module, names in typed.items():
        for name in names:
            assert getattr(convatlas, name) is getattr(importlib.import_module(module), name)


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="module 'convatlas' has no attribute 'fitt'"):
        convatlas.fitt  # noqa: B018 - looking it up is the test


@pytest.mark.parametrize("name", [name for package in PACKAGES for name in public(package)])
def test_every_public_name_is_explained(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    value = getattr(importlib.import_module(module), attribute)
    if not callable(value):
        return
    assert value.__doc__ and not value.__doc__.startswith(f"{attribute}("), "no docstring"  # a dataclass makes its own
    if not inspect.isclass(value) or module != "convatlas":
        return
    for method, found in vars(value).items():
        if not method.startswith("_") and inspect.isfunction(found) and method != "to_json":
            assert found.__doc__, f"{name}.{method} has no docstring"


def loaded(code: str, *arguments: str | Path) -> list[str]:
    """The modules in an interpreter that ran `code`."""
    report = "\nimport sys, json\nprint('modules ' + json.dumps(sorted(sys.modules)), file=sys.stderr)"
    outcome = python(code + report, *arguments)
    lines = [line for line in outcome.stderr.splitlines() if line.startswith("modules ")]
    assert lines, outcome.stderr
    return json.loads(lines[-1].removeprefix("modules "))


def test_importing_the_package_imports_nothing_else() -> None:
    modules = loaded("import convatlas")
    assert [name for name in modules if name.startswith("convatlas")] == ["convatlas"]
    assert not {"torch", "numpy", "PIL", "typer"} & set(modules)


def test_what_runs_before_torch_is_needed_does_not_import_it() -> None:
    parts = ", ".join(f"convatlas.{part}" for part in LIGHT)
    heavy = {found.file for found in ALL if found.at_once and found.module == "torch"}
    files = [f"jobs/{path.name}" for path in sorted((SOURCE / "jobs").glob("[!_]*.py"))]
    names = ", ".join(f"convatlas.jobs.{Path(file).stem}" for file in files if file not in heavy)
    assert "convatlas.jobs.fit," in names and "convatlas.jobs.images," in names
    modules = loaded(
        f"import {parts}, {names}, convatlas.transfer.features, convatlas.transfer.probe, convatlas.cli.verbs"
    )
    assert "torch" not in modules
    assert not [name for name in HEAVY if name in modules]


COMMAND = """
import sys
from convatlas.cli import main
sys.argv = ["convatlas", *sys.argv[1:]]
try:
    main()
except SystemExit as leaving:
    assert leaving.code in (0, None), leaving.code
"""


@pytest.mark.parametrize(
    "command",
    [
        "list",
        "list resnet* --json",
        "list --weights",
        "list --recipes",
        "list nasnet* --recipes --json",
        "show resnet50 --as card",
        "show lenet5 --as card --json",
        "compare",
        "compare vgg* resnet50 --by density --json",
        "--help",
        "fit --help",
        "--version",
        "cache show",
        "check",
    ],
)
def test_commands_that_compute_nothing_import_no_torch(command: str, tmp_path: Path) -> None:
    arguments: list[str | Path] = [*command.split()]
    if command == "check":
        arguments.append(write_split(tmp_path / "photos", {"train": 3}))
    modules = loaded(COMMAND, *arguments)
    assert "convatlas.cli.verbs" in modules
    assert "torch" not in modules
    assert not [name for name in HEAVY if name in modules]


@pytest.mark.parametrize("network", ["mobilenet_v1_025", "resnet20_cifar"])
def test_a_whole_fit_imports_only_what_it_needs(tmp_path: Path, network: str) -> None:
    write_split(tmp_path / "photos", {"train": 4, "test": 2})
    weights = write_weights(tmp_path / "tiny.safetensors", name=network)
    modules = loaded(COMMAND, "fit", tmp_path / "photos", "--weights", weights, "--out", tmp_path / "out")
    assert (tmp_path / "out/report.html").is_file()
    assert "torch" in modules
    assert not [name for name in [*HEAVY, "torch._dynamo"] if name in modules]
