"""srun's command line, its environment, and its messages with --verbose, recorded from Slurm 22.05."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torc_slurm.slurm.environment import step_environment
from torc_slurm.slurm.srun import SrunWords, StepRequest, srun_command

STEP = StepRequest("wf1_j2_r3_a1", ("n1", "n2"), tasks_per_node=2, cpus_per_task=3, memory_mib=528)

VERBOSE = """\
srun: defined options
srun: -------------------- --------------------
srun: (null)              : n[1-2]
srun: job-name            : error: launching StepId=9.9 on host x
srun: verbose             : 1
srun: -------------------- --------------------
srun: end of defined options
srun: jobid 12: nodes(2):`n[1-2]', cpu counts: 4(x2)
srun: launch/slurm: launch_p_step_launch: CpuBindType=none
srun: launching StepId=12.34 on host n1, 1 tasks: 0
srun: route/default: init: route default plugin loaded
srun: launch/slurm: _task_start: Node n1, 1 tasks started
srun: CpuBindType=(null type)
srun: Node n1, 1 tasks started
srun: launch/slurm: _task_finish: Received task exit notification for 1 task of StepId=12.34 (status=0x000f).
srun: error: n1: task 0: Terminated
srun: Force Terminated StepId=12.34
"""


def test_the_command_line_of_a_step() -> None:
    assert srun_command("/bin/srun", STEP, "/dev/fd/7") == [
        "/bin/srun",
        "--verbose",
        "--nodes=2",
        "--ntasks=4",
        "--ntasks-per-node=2",
        "--cpus-per-task=3",
        "--nodelist=n1,n2",
        "--input=none",
        "--error=/dev/fd/7",
        "--job-name=wf1_j2_r3_a1",
        "--exact",
        "--mem=528M",
    ]


@pytest.mark.parametrize(
    ("changes", "there", "not_there"),
    [
        ({"gpus": 2}, ["--gpus-per-node=2"], ["--gres=none"]),
        ({"no_gres": True}, ["--gres=none"], ["--gpus-per-node=0"]),
        ({"memory_mib": None}, ["--exact"], ["--mem=NoneM"]),
        ({"overlap": True}, ["--overlap", "--mem=0"], ["--exact", "--mem=528M"]),
        ({"time_limit_seconds": 61}, ["--time=00:02:00"], []),
        ({}, [], ["--gres=none", "--overlap"]),
    ],
)
def test_what_only_some_steps_ask_for(changes: dict[str, object], there: list[str], not_there: list[str]) -> None:
    words = srun_command("srun", StepRequest(**{**STEP.__dict__, **changes}), "e")
    assert set(there) <= set(words)
    assert not set(not_there) & set(words)


def test_the_users_options_stand_last_and_so_win() -> None:
    words = srun_command("srun", StepRequest(**{**STEP.__dict__, "options": ("--mem=1G", "--mpi=pmix")}), "e")
    assert words[-2:] == ["--mem=1G", "--mpi=pmix"]


def test_options_of_the_allocation_are_not_those_of_the_step() -> None:
    inherited = {
        "SLURM_JOB_ID": "1",
        "SLURM_JOB_NODELIST": "n1",
        "SLURM_CPUS_PER_TASK": "4",
        "SLURM_MEM_PER_CPU": "100",
        "SLURM_MEM_PER_NODE": "100",
        "SLURM_NTASKS": "4",
        "SLURM_NPROCS": "4",
        "SLURM_NTASKS_PER_NODE": "4",
        "SLURM_TRES_PER_TASK": "cpu=4",
        "SLURM_GPUS_PER_NODE": "1",
        "SLURM_EXPORT_ENV": "NONE",
        "SLURM_CONF": "/etc/slurm.conf",
        "PATH": "/bin",
    }
    assert sorted(step_environment(inherited)) == ["PATH", "SLURM_CONF", "SLURM_JOB_ID", "SLURM_JOB_NODELIST"]


def test_a_binding_that_slurm_left_there_goes_and_one_that_the_user_set_stays() -> None:
    assert step_environment({"SLURM_CPU_BIND": "cores"}) == {"SLURM_CPU_BIND": "cores"}
    left = {"SLURM_CPU_BIND": "quiet,mask_cpu:0x1", "SLURM_CPU_BIND_TYPE": "mask_cpu:", "SLURM_CPU_BIND_LIST": "0x1"}
    assert step_environment(left) == {}


@given(st.lists(st.integers(0, len(VERBOSE)), max_size=8))
def test_sruns_words_in_any_pieces(cuts: list[int]) -> None:
    words = SrunWords()
    edges = [0, *sorted(cuts), len(VERBOSE)]
    for begin, end in itertools.pairwise(edges):
        words.take(VERBOSE[begin:end].encode())
    assert words.step_id == "34"
    assert words.ran
    assert not words.waited_for_room
    assert words.text() == "srun: error: n1: task 0: Terminated\nsrun: Force Terminated StepId=12.34"


@pytest.mark.parametrize(
    "text",
    [
        "srun: error: Unable to create step for job 8: More processors requested than permitted\n",
        "srun: unrecognized option '--nosuchoption'\nTry \"srun --help\" for more information\n",
        "srun: error: Invalid MPI type 'nope', --mpi=list for acceptable types",
    ],
)
def test_a_step_that_never_was(text: str) -> None:
    words = SrunWords()
    words.take(text.encode())
    assert (words.step_id, words.ran, words.text()) == (None, False, text.rstrip("\n"))


def test_waiting_for_room_is_counted_and_not_repeated() -> None:
    words = SrunWords()
    words.take(b"srun: Job 10 step creation temporarily disabled, retrying (Requested nodes are busy)\n")
    words.take(b"srun: Step created for job 10\n")
    assert words.waited_for_room
    assert words.text() == ""


def test_only_the_end_of_many_words_is_kept() -> None:
    words = SrunWords()
    for number in range(5000):
        words.take(f"srun: error: line {number}\n".encode())
    words.take(b"x" * 100_000)
    assert len(words.text()) <= 3 * SrunWords.MOST_CHARACTERS
    assert "line 4999" in words.text()
