"""Every command in the tree has help with an example and a section in docs/commands.md."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import typer

import torc_slurm
from torc_slurm.cli.main import command_tree

DOCUMENT = Path(__file__).parents[2] / "docs" / "commands.md"


def walk(command: object, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], object]]:
    """Every command and group below ``command``, with the words that a user types."""
    yield words, command
    for name, below in getattr(command, "commands", {}).items():
        yield from walk(below, (*words, name))


COMMANDS = dict(walk(typer.main.get_command(command_tree()), ("torc",)))
LEAVES = [words for words, command in COMMANDS.items() if not hasattr(command, "commands")]


def help_of(words: tuple[str, ...]) -> str:
    command = [sys.executable, "-m", "torc_slurm.cli.main", *words[1:], "--help"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("words", LEAVES, ids=" ".join)
def test_help_says_what_it_is_for_and_has_an_example(words: tuple[str, ...]) -> None:
    text = help_of(words)
    examples = text.partition("Example")[2]
    assert any(line.strip().startswith(" ".join(words)) for line in examples.splitlines()), text
    assert getattr(COMMANDS[words], "help", None)


@pytest.mark.parametrize("words", LEAVES, ids=" ".join)
def test_every_option_says_what_it_does(words: tuple[str, ...]) -> None:
    silent = [
        parameter.name
        for parameter in COMMANDS[words].params  # type: ignore[attr-defined]  # a click command, whoever vendors it
        if parameter.param_type_name == "option" and not getattr(parameter, "help", None)
    ]
    assert not silent


@pytest.mark.parametrize("words", LEAVES, ids=" ".join)
def test_format_and_output_dir_are_everywhere(words: tuple[str, ...]) -> None:
    options = {
        name
        for parameter in COMMANDS[words].params  # type: ignore[attr-defined]  # a click command, whoever vendors it
        for name in parameter.opts
    }
    assert {"--format", "-f", "--output-dir"} <= options


@pytest.mark.parametrize("words", LEAVES, ids=" ".join)
def test_it_stands_in_the_document_with_all_its_options(words: tuple[str, ...]) -> None:
    document = DOCUMENT.read_text(encoding="utf-8")
    assert f"`{' '.join(words)}" in document
    for parameter in COMMANDS[words].params:  # type: ignore[attr-defined]  # a click command, whoever vendors it
        if parameter.param_type_name == "option" and parameter.name != "help":
            assert parameter.opts[0] in document, parameter.opts[0]


LONG_FORMS = re.compile(
    r"torc (slurm stats|workflows (create|status|cancel|delete|correct-resources|check-resources|get)"
    r"|reports check-resource-utilization)\b"
)


def _texts(path: Path) -> Iterator[str]:
    """The texts of a module that a user may read, without docstrings and the first words of a command's own help."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    left_out: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):
            left_out.add(node.value)
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("_example"):
            left_out.update(node.args)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in left_out:
            yield node.value


def test_messages_name_a_command_by_its_short_form() -> None:
    root = Path(torc_slurm.__file__).parent
    found = [text for path in root.rglob("*.py") for text in _texts(path) if LONG_FORMS.search(text)]
    assert not found


def test_groups_show_their_commands_and_whole_sentences() -> None:
    for words, command in COMMANDS.items():
        if hasattr(command, "commands"):
            text = help_of(words)
            assert all(name in text for name in command.commands)
            assert "..." not in text.partition("Commands:")[2].partition("Example")[0], text


def test_the_help_is_not_held_up_by_what_only_commands_need() -> None:
    code = "import sys; import torc_slurm.cli.main; print(*sys.modules)"
    loaded = set(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    )
    heavy = {"sqlite3", "rich.table", "jinja2", "psutil", "torc_slurm.database.main", "torc_slurm.slurm.sacct"}
    assert not loaded & heavy


def loaded_by(words: Sequence[str], directory: Path) -> set[str]:
    """The modules that a command has loaded at its end."""
    code = (
        f"import sys; from torc_slurm.cli.main import main; main({list(words)!r}); print(*sys.modules, file=sys.stderr)"
    )
    environ = {name: value for name, value in os.environ.items() if not name.startswith("TORC_")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=directory,
        env=environ | {"TORC_CONFIG_DIR": str(directory)},
    )
    return set(done.stderr.split())


def test_a_command_that_shows_jobs_loads_nothing_for_advice_or_configuration(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text("name: a\njobs: [{name: b, command: 'true'}]\n")
    assert "pydantic" in loaded_by(["create", "w.yaml"], tmp_path)
    for words in (["--help"], ["jobs", "list"], ["status"]):
        loaded = loaded_by(words, tmp_path)
        assert "typer" in loaded
        assert not loaded & {"tomli", "torc_slurm.sizing.thresholds", "pydantic", "yaml"}, words
    assert "torc_slurm.cli.jobs" not in loaded_by(["--version"], tmp_path)
