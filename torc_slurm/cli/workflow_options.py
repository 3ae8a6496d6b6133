"""Options that several workflow commands share: which workflow, from which file, and how to submit it."""

from __future__ import annotations

import os
import pwd
from typing import TYPE_CHECKING, Annotated

import typer

from torc_slurm.common.errors import InputError
from torc_slurm.common.text import storable

if TYPE_CHECKING:
    from torc_slurm.spec.workflow import Workflow
    from torc_slurm.usecases.prepare_submit import Request

WorkflowIdArgument = Annotated[
    int | None, typer.Argument(metavar="ID", help="A workflow's id; default: the latest workflow.", min=1)
]
SourceArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="SPEC|ID",
        help="A workflow file (YAML, .json, .json5, .kdl), or a workflow's id; default: the latest workflow.",
    ),
]
SchedulerOption = Annotated[
    str | None,
    typer.Option(
        "--scheduler",
        metavar="NAME",
        help="Run all jobs in one allocation of this scheduler. Default: jobs that name a scheduler run in its "
        "allocation, all others in that of the first.",
    ),
]
TemplateOption = Annotated[
    str | None,
    typer.Option(
        "--template", metavar="NAME|PATH", help="Render the script from this jinja2 template instead of torc's own."
    ),
]
AccountOption = Annotated[str | None, typer.Option("-A", "--account", metavar="NAME", help="Account, as for sbatch.")]
PartitionOption = Annotated[
    str | None, typer.Option("-p", "--partition", metavar="NAME", help="Partition, as for sbatch.")
]
QosOption = Annotated[
    str | None, typer.Option("-q", "--qos", metavar="NAME", help="Quality of service (QOS), as for sbatch.")
]
NodesOption = Annotated[int | None, typer.Option("-N", "--nodes", metavar="N", help="Number of nodes, as for sbatch.")]
UpdateOption = Annotated[
    bool,
    typer.Option("--update", help="Apply edits of the workflow file to unfinished jobs."),
]
RerunChangedOption = Annotated[
    bool,
    typer.Option("--rerun-changed", help="With --update: also rerun completed jobs whose command was edited."),
]
TimeOption = Annotated[
    str | None, typer.Option("-t", "--time", metavar="TIME", help="Time limit of the allocation, as for sbatch.")
]


def load(path: str) -> Workflow:
    """The checked workflow in a file; prints its warnings on stderr.

    Raises:
        SpecError, InputError: as `load_workflow`.
    """
    from torc_slurm.cli.options import say
    from torc_slurm.spec.load import load_workflow

    workflow = load_workflow(path, os.environ)
    for warning in workflow.warnings:
        say(f"warning: {warning}")
    return workflow


def request_for(
    source: str | None,
    *,
    scheduler: str | None = None,
    template: str | None = None,
    account: str | None = None,
    partition: str | None = None,
    qos: str | None = None,
    nodes: int | None = None,
    time: str | None = None,
    sbatch_arguments: list[str] | None = None,
    update: bool = False,
    rerun_changed: bool = False,
) -> Request:
    """What to launch, from a command's arguments.

    Raises:
        InputError: not an id, or a file that cannot be read or is wrong.
    """
    from torc_slurm.slurm.sbatch_options import Overrides, split_arguments
    from torc_slurm.usecases.prepare_submit import Request

    if rerun_changed and not update:
        raise InputError("--rerun-changed needs --update: it says which of the edits to apply")
    said, rest = split_arguments(_after_the_dashes(sbatch_arguments or []))
    given = Overrides(account, partition, qos, nodes, time)._asdict()
    overrides = said._replace(**{name: value for name, value in given.items() if value is not None})
    is_file = source is not None and not source.isdecimal()
    return Request(
        workflow=load(source) if source is not None and is_file else None if source is None else int(source),
        working_dir=working_dir(),
        environ=dict(os.environ),
        spec_file=os.path.abspath(source) if source is not None and is_file else None,
        user_name=user_name(),
        scheduler=scheduler,
        overrides=overrides,
        template=template,
        sbatch_arguments=tuple(rest),
        update=update,
        rerun_changed=rerun_changed,
    )


def _after_the_dashes(arguments: list[str]) -> list[str]:
    if arguments and not arguments[0].startswith("-"):
        raise InputError(f"{arguments[0]!r} is one argument too many; write options for sbatch after --")
    return arguments


def working_dir() -> str:
    """The directory in which torc was called.

    Raises:
        InputError: the directory has been removed, or its name cannot be stored.
    """
    try:
        directory = os.getcwd()
        directory.encode()
    except FileNotFoundError:
        raise InputError("the current directory no longer exists; change to another one") from None
    except UnicodeEncodeError:
        raise InputError("the name of the current directory is not UTF-8; start torc elsewhere") from None
    return directory


def user_name() -> str | None:
    """The calling user; None for an account without a passwd entry, as in a container."""
    try:
        return str(storable(pwd.getpwuid(os.getuid()).pw_name))
    except KeyError:
        return None
