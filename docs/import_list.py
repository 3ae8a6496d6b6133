"""The list of imports between packages in docs/architecture.md: ``python docs/import_list.py`` prints it,
``--write`` updates the page.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- imports: python docs/import_list.py --write -->\n", "<!-- /imports -->"


def package_of(module: str) -> str:
    """The package below torc_slurm that a module is in."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def imports() -> dict[str, set[str]]:
    """For each package the packages that it imports from."""
    found: dict[str, set[str]] = {}
    for path in sorted((ROOT / "torc_slurm").rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        package = package_of(module)
        if not package or "sbatch_templates" in path.parts:
            continue
        targets = found.setdefault(package, set())
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module is not None:
                names = [f"{node.module}.{alias.name}" for alias in node.names] if node.module == "torc_slurm" else []
                targets.update(package_of(name) for name in names or [node.module] if name.startswith("torc_slurm."))
    packages = set(found)
    return {package: (targets & packages) - {package} for package, targets in found.items()}


def in_order(found: dict[str, set[str]]) -> list[str]:
    """The packages, each after those that it imports from."""
    ordered: list[str] = []
    left = dict(found)
    while left:
        free = sorted(package for package, targets in left.items() if targets <= set(ordered)) or sorted(left)
        ordered += free
        for package in free:
            del left[package]
    return ordered


def import_list() -> str:
    """One line for each package: what it imports from."""
    found = imports()
    width = max(map(len, found))
    lines = [f"{'package':{width}}   imports from"]
    lines += [f"{package:{width}}   {', '.join(sorted(found[package])) or '(none)'}" for package in in_order(found)]
    count = sum(map(len, found.values()))
    return "```text\n" + "\n".join(lines) + f"\n\n{len(found)} packages, {count} imports between them\n```\n"


def page_with_list(text: str) -> str:
    """The page's text with the current list."""
    before, _, rest = text.partition(BEGIN)
    return before + BEGIN + import_list() + END + rest.partition(END)[2]


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        PAGE.write_text(page_with_list(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        sys.stdout.write(import_list())
