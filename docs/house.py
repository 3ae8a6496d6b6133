"""The picture of the package's imports in docs/architecture.md: ``python docs/house.py`` prints it, ``--write`` puts it
in place.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- house -->\n", "<!-- /house -->"


def room_of(module: str) -> str:
    """The package below torc_slurm, or the module beside the packages."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def arrows() -> dict[str, set[str]]:
    """For each room the rooms that it imports from."""
    found: dict[str, set[str]] = {}
    for path in sorted((ROOT / "torc_slurm").rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        room = room_of(module)
        if not room or "sbatch_templates" in path.parts:
            continue
        targets = found.setdefault(room, set())
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module is not None:
                names = [f"{node.module}.{alias.name}" for alias in node.names] if node.module == "torc_slurm" else []
                targets.update(room_of(name) for name in names or [node.module] if name.startswith("torc_slurm."))
    rooms = set(found)
    return {room: (targets & rooms) - {room} for room, targets in found.items()}


def in_order(found: dict[str, set[str]]) -> list[str]:
    """The rooms, each behind those that it imports from."""
    ordered: list[str] = []
    left = dict(found)
    while left:
        free = sorted(room for room, targets in left.items() if targets <= set(ordered)) or sorted(left)
        ordered += free
        for room in free:
            del left[room]
    return ordered


def picture() -> str:
    """One line for each room: what it imports from."""
    found = arrows()
    width = max(map(len, found))
    lines = [f"{room:{width}} <- {', '.join(sorted(found[room])) or '-'}" for room in in_order(found)]
    count = sum(map(len, found.values()))
    return "```text\n" + "\n".join(lines) + f"\n\n{len(found)} rooms, {count} arrows\n```\n"


def page_with_picture(text: str) -> str:
    """The page's text with the picture of now in it."""
    before, _, rest = text.partition(BEGIN)
    return before + BEGIN + picture() + END + rest.partition(END)[2]


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        PAGE.write_text(page_with_picture(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        sys.stdout.write(picture())
