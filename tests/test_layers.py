"""Imports go one way. This file has the order of the layers; a module may import only from lower layers.

Imports are read from the source with ``ast``: those inside functions count, those for type checking do not.
"""

from __future__ import annotations

import ast
import fnmatch
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import torc_slurm

PACKAGE = Path(torc_slurm.__file__).parent

# Lowest first. Modules of one layer may import one another if that makes no cycle.
LAYERS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("glossary", ("torc_slurm",)),
    ("common", ("torc_slurm.common.*",)),
    ("files", ("torc_slurm.files.*",)),
    ("records", ("torc_slurm.records.*",)),
    ("spec and plan", ("torc_slurm.spec.*",)),
    ("sizing", ("torc_slurm.sizing.*",)),
    ("schema", ("torc_slurm.database.migrations", "torc_slurm.database.*_schema")),
    (
        "node",
        (
            "torc_slurm.database.bare_sqlite",
            "torc_slurm.database.batch",
            "torc_slurm.database.node_file",
            "torc_slurm.database.spool",
            "torc_slurm.database.plain_spool",
            "torc_slurm.database.journal",
        ),
    ),
    ("slurm and step", ("torc_slurm.step.*", "torc_slurm.slurm.*")),
    ("database", ("torc_slurm.database.*",)),
    ("use cases", ("torc_slurm.usecases.*",)),
    ("reports", ("torc_slurm.reports.*",)),
    ("plots", ("torc_slurm.plots.*",)),
    ("runner", ("torc_slurm.runner.*",)),
    ("cli", ("torc_slurm.cli.*",)),
)
# These two never import one another, directly or through others.
COMPOSITION_ROOTS = ("torc_slurm.step", "torc_slurm.cli")
# What torc-step may not load before the job starts: each costs the job milliseconds.
TOO_SLOW_BEFORE_THE_JOB = frozenset(
    (
        "argparse",
        "dataclasses",
        "enum",
        "json",
        "logging",
        "pathlib",
        "psutil",
        "re",
        "signal",
        "sqlite3",
        "subprocess",
        "tempfile",
        "typing",
    )
)


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def source_files() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if "sbatch_templates" not in path.parts)


MODULES = {module_name(path): path for path in source_files()}


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and any(
        getattr(name, "id", getattr(name, "attr", "")) == "TYPE_CHECKING" for name in ast.walk(node.test)
    )


def nodes(tree: ast.AST, *, inside_functions: bool) -> Iterator[ast.AST]:
    """Every node that can run; without ``inside_functions``, only what runs at import."""
    for child in ast.iter_child_nodes(tree):
        if is_type_checking(child):
            assert isinstance(child, ast.If)
            for statement in child.orelse:  # runs instead
                yield statement
                yield from nodes(statement, inside_functions=inside_functions)
            continue
        if not inside_functions and isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        yield child
        yield from nodes(child, inside_functions=inside_functions)


def imports(module: str, *, inside_functions: bool = True) -> set[str]:
    """The modules that a module of the package imports, as full names."""
    found: set[str] = set()
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    for node in nodes(tree, inside_functions=inside_functions):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            assert node.module is not None
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name for name in names if name in MODULES} or {node.module}
    return found


def test_what_is_imported_from_the_package_exists() -> None:
    for module in MODULES:
        for name in imports(module):
            assert not name.startswith("torc_slurm") or name in MODULES, f"{module} imports {name}"


def own_imports(module: str, *, inside_functions: bool = True) -> set[str]:
    return {name for name in imports(module, inside_functions=inside_functions) if name in MODULES}


def layer_of(module: str) -> int:
    """The layer of the longest matching pattern."""
    fits = [
        (len(pattern), number)
        for number, (_, patterns) in enumerate(LAYERS)
        for pattern in patterns
        if fnmatch.fnmatchcase(module, pattern)
    ]
    assert fits, f"{module} stands in no layer; give it one in {__file__}"
    return max(fits)[1]


def is_package(module: str) -> bool:
    return MODULES[module].name == "__init__.py"


def reachable(start: set[str]) -> set[str]:
    seen: set[str] = set()
    todo = list(start)
    while todo:
        module = todo.pop()
        if module not in seen:
            seen.add(module)
            todo += own_imports(module)
    return seen


@pytest.mark.parametrize("module", [name for name in MODULES if not is_package(name)])
def test_imports_only_from_lower_layers(module: str) -> None:
    too_high = [name for name in own_imports(module) if not is_package(name) and layer_of(name) > layer_of(module)]
    assert not too_high, f"{module} ({LAYERS[layer_of(module)][0]}) imports upwards: {too_high}"


@pytest.mark.parametrize("module", [name for name in MODULES if is_package(name)])
def test_packages_import_nothing(module: str) -> None:
    assert imports(module) <= {"__future__"}


def test_no_cycles() -> None:
    for module in MODULES:
        assert module not in reachable(own_imports(module)), f"{module} imports itself through others"


def test_every_module_is_in_a_package() -> None:
    assert not [module for module in MODULES if module.count(".") == 1 and not is_package(module)]


def package_of(module: str) -> str:
    """The package of a module."""
    parts = module.split(".")
    return ".".join(parts[:2])


def test_no_cycles_between_packages() -> None:
    imported: dict[str, set[str]] = {}
    for module in MODULES:
        packages = {package_of(name) for name in own_imports(module)} - {package_of(module)}
        imported.setdefault(package_of(module), set()).update(packages)
    for package in imported:
        seen: set[str] = set()
        todo = list(imported[package])
        while todo:
            other = todo.pop()
            if other not in seen:
                seen.add(other)
                todo += imported.get(other, ())
        assert package not in seen, f"{package} imports itself through {sorted(seen)}"


def test_the_wrapper_and_the_slurm_commands_do_not_import_each_other() -> None:
    for one, other in (("torc_slurm.step.", "torc_slurm.slurm."), ("torc_slurm.slurm.", "torc_slurm.step.")):
        reached = reachable({name for name in MODULES if name.startswith(one)})
        assert not {name for name in reached if name.startswith(other)}


def test_the_wrapper_knows_neither_spec_nor_plan() -> None:
    reached = reachable({name for name in MODULES if name.startswith("torc_slurm.step.")})
    assert not {name for name in reached if name.startswith("torc_slurm.spec")}


def test_the_entry_points_do_not_import_each_other() -> None:
    for one, other in (COMPOSITION_ROOTS, COMPOSITION_ROOTS[::-1]):
        reached = reachable({name for name in MODULES if name.startswith(one + ".")})
        assert not {name for name in reached if name.startswith(other + ".")}


def loaded_before_the_job() -> set[str]:
    """The modules that torc_slurm.step.main loads at import, and at run time in main(), with all that these import."""
    seen: set[str] = set()
    todo = ["torc_slurm.step.main", *own_imports("torc_slurm.step.main")]
    outside: set[str] = set()
    while todo:
        module = todo.pop()
        if module not in seen:
            seen.add(module)
            named = imports(module, inside_functions=False)
            todo += [name for name in named if name in MODULES]
            outside |= {name for name in named if name not in MODULES}
    return outside


def test_only_cheap_standard_library_is_loaded_before_the_job() -> None:
    roots = {name.partition(".")[0] for name in loaded_before_the_job()}
    assert roots <= set(sys.stdlib_module_names)
    assert not roots & TOO_SLOW_BEFORE_THE_JOB


def test_a_real_start_loads_nothing_slow() -> None:
    """Checked with the interpreter, because a module of the standard library can import others."""
    code = (
        "import sys; before = set(sys.modules); import torc_slurm.step.main; "
        + "".join(f"import {name}; " for name in sorted(own_imports("torc_slurm.step.main")))
        + "print(*(set(sys.modules) - before))"
    )
    command = [sys.executable, "-S", "-c", f"import sys; sys.path.insert(0, {str(PACKAGE.parent)!r}); {code}"]
    loaded = set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    assert not loaded & TOO_SLOW_BEFORE_THE_JOB


def sql_outside_database(path: Path) -> Iterator[str]:
    keywords = ("SELECT ", "INSERT INTO ", "UPDATE ", "DELETE FROM ", "CREATE TABLE ")
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.lstrip().startswith(keywords):
            yield f"{path.name}:{node.lineno}"


def test_sql_stands_in_the_database_package_only() -> None:
    elsewhere = [path for path in source_files() if "database" not in path.parts]
    assert not [place for path in elsewhere for place in sql_outside_database(path)]


def test_modules_are_short() -> None:
    lengths = {module: len(path.read_text(encoding="utf-8").splitlines()) for module, path in MODULES.items()}
    assert not {module: length for module, length in lengths.items() if length > 400}


def test_the_picture_in_the_docs_is_that_of_the_code() -> None:
    docs = Path(__file__).parents[1] / "docs"
    import_list = docs / "import_list.py"
    shown = subprocess.run([sys.executable, import_list], capture_output=True, text=True, check=True).stdout
    page = (docs / "architecture.md").read_text(encoding="utf-8")
    assert shown in page, "run python docs/import_list.py --write"
