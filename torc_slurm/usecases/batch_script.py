"""Renders the sbatch script of a run from a jinja2 template: the user's own, or the shipped one.

A template can use only the names of `ScriptValues`; an unknown name is an error, never an empty text. User text
enters a script through these filters: ``shell`` quotes a word, or a list of words, for bash; ``comment`` makes a text
safe in a comment.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jinja2

from torc_slurm.common.errors import InputError
from torc_slurm.common.text import printable
from torc_slurm.usecases import templates

DEFAULT_TEMPLATE = "workflow.sbatch.j2"
_SUFFIX = ".sbatch.j2"


@dataclass(frozen=True)
class ScriptValues:
    """What a template can use.

    ``directives`` are whole #SBATCH lines; ``setup`` is the scheduler's text as in the workflow file; ``torc`` is the
    command of this installation's ``torc``; ``plan`` and ``output_dir`` are absolute paths.
    """

    version: str
    workflow_id: int
    workflow_name: str
    run_id: int
    job_count: int
    directives: Sequence[str]
    setup: str
    torc: Sequence[str]
    plan: str
    output_dir: str


def render_script(template: str | None, values: ScriptValues, environ: Mapping[str, str]) -> str:
    """The text of the script.

    Args:
        template: a name or a path; None: the user's ``workflow.sbatch.j2`` if it exists, else the shipped one.

    Raises:
        InputError: there is no such template, or it is wrong.
    """
    path = find_template(template, environ)
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # noqa: S701 - a shell script, not HTML: the filters quote for the shell
    )
    environment.filters |= {"shell": shell, "comment": printable}
    text = _read(path)
    try:
        return environment.from_string(text).render(vars(values))
    except jinja2.TemplateSyntaxError as error:
        raise InputError(f"{path}:{error.lineno}: {error.message}") from error
    except Exception as error:  # a template is a program: it can fail in any way
        raise InputError(f"{path} cannot be rendered: {error}") from error


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8: {error.reason}") from error


def find_template(given: str | None, environ: Mapping[str, str]) -> str:
    """The path of a template: as a path, then in the user's configuration directory, then among the shipped ones.

    Raises:
        InputError: there is none; the message names the places.
    """
    name = DEFAULT_TEMPLATE if given is None else given
    if given is not None and (os.sep in given or os.path.isfile(given)):
        if not os.path.isfile(given):
            raise InputError(f"there is no template file {given}")
        return given
    for directory in (user_templates(environ), templates.templates_directory()):
        for candidate in (name, f"{name}{_SUFFIX}"):
            if os.path.isfile(os.path.join(directory, candidate)):
                return os.path.join(directory, candidate)
    known = ", ".join(each for each in templates.names() if each.endswith(_SUFFIX))
    raise InputError(f"there is no template {name!r} here or in {user_templates(environ)}; shipped are {known}")


def user_templates(environ: Mapping[str, str]) -> str:
    """``$XDG_CONFIG_HOME/torc-slurm/templates``, else ``~/.config/torc-slurm/templates``."""
    base = environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    return os.path.join(base, "torc-slurm", "templates")


def shell(value: str | Sequence[str]) -> str:
    """A word, or several, quoted so that bash reads them unchanged."""
    return shlex.quote(value) if isinstance(value, str) else shlex.join(value)
