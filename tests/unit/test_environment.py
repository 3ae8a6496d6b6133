"""Which inherited variables reach Slurm's commands, compared with the lists in Slurm's own manuals."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torc_slurm.slurm.environment import (
    given_options,
    query_environment,
    sbatch_environment,
    step_environment,
    value_of,
)

SCRIPT = """#!/bin/bash
#SBATCH --job-name=wf
#SBATCH --nodes=1
#SBATCH --time=00:07:00
#SBATCH --mem="600"
#SBATCH -p debug
# SBATCH --qos=not_said
echo "#SBATCH --account=not_said"
"""


def manual(command: str) -> str:
    path = Path(f"/usr/share/man/man1/{command}.1.gz")
    return gzip.decompress(path.read_bytes()).decode("utf-8", "replace").replace("\\-", "-").replace("\\_", "_")


def variables_of(command: str, prefix: str) -> set[str]:
    text = manual(command)
    begin = text.index("ENVIRONMENT VARIABLES")
    end = text.find("OUTPUT ENVIRONMENT VARIABLES", begin)
    return set(re.findall(rf"^\\fB({prefix}_[A-Z0-9_]+)", text[begin : end if end > 0 else None], re.MULTILINE))


def test_what_a_script_says() -> None:
    said = given_options(SCRIPT, ["-t", "9", "--account=a", "-J", "x"])
    assert said == {"job-name", "nodes", "time", "mem", "partition", "account"}


def test_the_manual_is_read() -> None:
    assert {"SBATCH_TIMELIMIT", "SBATCH_PARTITION", "SBATCH_WAIT"} <= variables_of("sbatch", "SBATCH")
    assert "SLURM_TIMELIMIT" in variables_of("srun", "SLURM")


def test_every_variable_of_sbatch_is_dropped_if_its_option_is_set_and_else_passes() -> None:
    """The manual itself names the option of each variable: "Same as --NAME"."""
    text = manual("sbatch")
    begin = text.index("ENVIRONMENT VARIABLES")
    pairs = re.findall(
        r"^\\fB(SBATCH_[A-Z0-9_]+)(?:\\fR)?(?: or \S+)?\n(?:Same as|\S.*?same as) \\fB(?:-\w\\fR, \\fB)?--([a-z-]+)",
        text[begin:],
        re.MULTILINE,
    )
    assert len(pairs) >= 40
    owned = {
        "SBATCH_ARRAY_INX",
        "SBATCH_DEBUG",
        "SBATCH_ERROR",
        "SBATCH_INPUT",
        "SBATCH_NO_REQUEUE",
        "SBATCH_REQUEUE",
        "SBATCH_WAIT",
    }
    for variable, option in pairs:
        inherited = {variable: "x", "HOME": "/h"}
        assert sbatch_environment(inherited, {option}) == {"HOME": "/h"}, (variable, option)
        if variable not in owned:
            assert sbatch_environment(inherited, {"comment"}) == inherited, variable


def test_options_that_exclude_one_another_go_together() -> None:
    inherited = {
        "SBATCH_MEM_PER_CPU": "1G",
        "SBATCH_MEM_PER_NODE": "2G",
        "SBATCH_GPUS_PER_NODE": "1",
        "SBATCH_QOS": "low",
    }
    assert sbatch_environment(inherited, {"mem"}) == {"SBATCH_GPUS_PER_NODE": "1", "SBATCH_QOS": "low"}
    assert sbatch_environment(inherited, {"gres"}).keys() == {"SBATCH_MEM_PER_CPU", "SBATCH_MEM_PER_NODE", "SBATCH_QOS"}


def test_from_inside_a_job_only_settings_go_on() -> None:
    outer = {
        "SLURM_JOB_ID": "7",
        "SLURM_MEM_PER_CPU": "100",
        "SLURM_NTASKS": "2",
        "SLURMD_NODENAME": "n1",
        "SLURM_STEP_ID": "0",
    }
    settings = {"SLURM_CONF": "/etc/slurm.conf", "SLURM_CLUSTERS": "east", "PATH": "/bin"}
    assert sbatch_environment(outer | settings, set()) == settings
    assert sbatch_environment({"SLURM_TIMELIMIT": "5"}, set()) == {
        "SLURM_TIMELIMIT": "5"
    }  # a login node: not set by Slurm


@pytest.mark.parametrize(
    "name",
    [
        "SLURM_TIMELIMIT", "SLURM_IMMEDIATE", "SLURM_STDOUTMODE", "SLURM_WORKING_DIR", "SLURM_MEM_PER_CPU",
        "SRUN_CPUS_PER_TASK", "SLURM_NTASKS_PER_NODE", "SLURM_BCAST", "SLURM_DEBUG", "SLURM_CLUSTERS",
        "SLURM_EXCLUSIVE", "SLURM_OVERLAP",
    ],
)  # fmt: skip
def test_a_step_does_not_inherit_its_size_time_or_streams(name: str) -> None:
    assert step_environment({name: "1", "SLURM_JOB_ID": "7"}) == {"SLURM_JOB_ID": "7"}


def test_every_variable_of_srun_is_either_torcs_or_passes() -> None:
    """Read this again when the manual changes: what passes is a user's setting that no option of torc's replaces."""
    passes = {name for name in variables_of("srun", "SLURM") if step_environment({name: "1"})}
    newer = {"SLURM_OOMKILLSTEP", "SLURM_TRES_BIND"}  # of 24.11, not of 22.05
    assert passes - newer == {
        "SLURM_ACCOUNT", "SLURM_ACCTG_FREQ", "SLURM_BURST_BUFFER", "SLURM_COMPRESS", "SLURM_CONF",
        "SLURM_CONSTRAINT", "SLURM_CORE_SPEC", "SLURM_CPU_BIND", "SLURM_CPU_FREQ_REQ", "SLURM_DEBUG_FLAGS",
        "SLURM_DELAY_BOOT", "SLURM_DEPENDENCY", "SLURM_DISABLE_STATUS", "SLURM_EPILOG", "SLURM_EXIT_ERROR",
        "SLURM_GPU_BIND", "SLURM_GPU_FREQ", "SLURM_GRES_FLAGS", "SLURM_JOB_ID", "SLURM_JOB_NAME",
        "SLURM_JOB_NUM_NODES", "SLURM_KILL_BAD_EXIT", "SLURM_LABELIO", "SLURM_MEM_BIND", "SLURM_MPI_TYPE",
        "SLURM_NETWORK", "SLURM_NNODES", "SLURM_NO_KILL", "SLURM_OPEN_MODE", "SLURM_OVERCOMMIT",
        "SLURM_PARTITION", "SLURM_PMI_KVS_NO_DUP_KEYS", "SLURM_POWER", "SLURM_PROFILE", "SLURM_PROLOG",
        "SLURM_QOS", "SLURM_REQ_SWITCH", "SLURM_RESERVATION", "SLURM_RESV_PORTS", "SLURM_SIGNAL",
        "SLURM_SPREAD_JOB", "SLURM_SRUN_REDUCE_TASK_EXIT_MSG", "SLURM_STEP_KILLED_MSG_NODE_ID",
        "SLURM_TASK_EPILOG", "SLURM_TASK_PROLOG", "SLURM_TEST_EXEC", "SLURM_THREADS", "SLURM_THREAD_SPEC",
        "SLURM_UMASK", "SLURM_UNBUFFEREDIO", "SLURM_USE_MIN_NODES", "SLURM_WAIT", "SLURM_WAIT4SWITCH",
        "SLURM_WCKEY",
    }  # fmt: skip


@pytest.mark.parametrize("command", ["squeue", "sinfo", "sacct", "scontrol", "scancel"])
def test_no_variable_of_a_query_reaches_it(command: str) -> None:
    own = variables_of(command, command.upper()) | {"SLURM_CLUSTERS"}
    assert not own & query_environment(dict.fromkeys(own, "x")).keys()


@given(st.dictionaries(st.text(min_size=1), st.text()))
def test_what_is_no_variable_of_slurms_passes(inherited: dict[str, str]) -> None:
    others = {name: value for name, value in inherited.items() if not name.startswith(("S", "TZ", "LC_ALL"))}
    assert sbatch_environment(others, {"time"}) == others
    assert step_environment(others) == others
    assert others.items() <= query_environment(others).items()


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        (["-Meast"], "east"),
        (["-M", "east"], "east"),
        (["--clusters=a", "--clusters", "b"], "b"),
        (["--mem=1"], None),
        ([], None),
    ],
)
def test_the_value_of_an_option(arguments: list[str], value: str | None) -> None:
    assert value_of("clusters", arguments) == value
