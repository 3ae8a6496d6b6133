"""The group ``torc slurm plugin``: with the plugin, an administrator has the steps of all users measured."""

from __future__ import annotations

from typing import Annotated

import typer

from torc_slurm.cli.options import FormatOption, OutputDirOption, command_group, resolve, say

app = command_group("For administrators: measure steps with a Slurm plugin.")

_BUILD_EXAMPLE = """\b
Examples:
  torc slurm plugin build --prefix /opt/torc-slurm
  torc slurm plugin build --prefix /opt/torc-slurm --slurm-include /opt/slurm/include
"""
_COLUMNS = ("plugin", "torc_step_exec", "torc_step", "slurm_version", "plugstack_line")


@app.command(epilog=_BUILD_EXAMPLE)
def build(
    context: typer.Context,
    prefix: Annotated[
        str, typer.Option(metavar="DIR", help="Install into DIR/lib/torc-slurm; the path is compiled in.")
    ],
    torc_step: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="The torc-step that the plugin calls; default: this installation's."),
    ] = None,
    slurm_include: Annotated[
        str | None, typer.Option(metavar="DIR", help="The directory that contains slurm/spank.h.")
    ] = None,
    format_: FormatOption = None,
    output_dir: OutputDirOption = None,
) -> None:
    """Compile the Slurm plugin for this site's Slurm.

    torc prints the line for plugstack.conf. It needs a C compiler, and slurm/spank.h of the Slurm that will load the
    plugin. Build it again after an upgrade to another major version of Slurm.
    """
    from torc_slurm.cli.answer import one, write
    from torc_slurm.usecases.slurm_plugin import build_plugin

    chosen_format, _ = resolve(context, format_, output_dir)
    built = build_plugin(prefix, torc_step, slurm_include)
    for warning in built.warnings:
        say(warning)
    answer = one(
        {name: str(getattr(built, name)) for name in _COLUMNS},
        f"built for Slurm {built.slurm_version}: {built.plugin}",
        f"it calls {built.torc_step}",
        "",
        "Copy both to the same paths on all nodes, and add this line to plugstack.conf on all of them:",
        "",
        f"  {built.plugstack_line}",
        "",
        "Users then write srun --torc or #SBATCH --torc; default=on measures every step. See docs/admin.md.",
    )
    write(answer, chosen_format)
