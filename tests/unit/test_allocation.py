"""An allocation's contents, from Slurm 22.05's output: tests/recorded/allocations, environment then scontrol."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import pytest

from torc_slurm.common.errors import ParseError
from torc_slurm.slurm.allocation import Allocation, NodeShare, parse_allocation
from torc_slurm.slurm.node_list import expand_node_list

RECORDED = Path(__file__).parent.parent / "recorded" / "allocations"


def recorded(name: str, nodes: str = "", config: str = "KillWait                = 5 sec\n") -> Allocation:
    environment, _, details = (RECORDED / f"{name}.txt").read_text(encoding="utf-8").partition("\n\n")
    environ = dict(line.split("=", 1) for line in environment.splitlines())
    return parse_allocation(environ, details, (RECORDED / f"{nodes}.txt").read_text() if nodes else "", config)


@pytest.mark.parametrize(
    ("name", "nodes"),
    [
        ("exclusive-mem0", (NodeShare("n1", 4, 16384), NodeShare("n2", 4, 16384))),
        ("mem", (NodeShare("n1", 1, 3072), NodeShare("n2", 1, 3072))),
        ("mem-per-cpu", (NodeShare("n1", 4, 4000), NodeShare("n2", 1, 1000))),
        ("default", (NodeShare("n1", 1, 4096),)),
        ("cpus-per-task", (NodeShare("n1", 4, 500), NodeShare("n2", 4, 500))),
    ],
)
def test_cpus_and_memory_of_each_node(name: str, nodes: tuple[NodeShare, ...]) -> None:
    found = recorded(name)
    assert found.nodes == nodes
    assert not found.has_gres


def test_gpus_and_threads() -> None:
    found = recorded("gpus", "nodes-smt")
    assert found.nodes == (NodeShare("n1", 8, 16384, 2, 2), NodeShare("n2", 8, 16384, 2, 2))
    assert found.has_gres
    assert recorded("gpu-one", "nodes-smt").nodes == (NodeShare("n1", 1, 2048, 1, 2),)
    assert recorded("smt", "nodes-smt").nodes == (NodeShare("n1", 3, 2048, 0, 2), NodeShare("n2", 3, 2048, 0, 2))


def test_when_it_ends_and_how_long_slurm_waits_before_it_kills() -> None:
    found = recorded("mem")
    assert found.end_time == datetime(2026, 11, 22, 15, 41, 48, tzinfo=timezone.utc).timestamp()
    assert (recorded("mem", config="").kill_wait_seconds, found.kill_wait_seconds) == (30, 5)
    environ = {"SLURM_JOB_ID": "1", "SLURM_JOB_NODELIST": "a", "SLURM_JOB_CPUS_PER_NODE": "2"}
    unlimited = " EndTime=Unknown Deadline=N/A\n Nodes=a CPU_IDs=0-1 Mem=0 GRES=\n"
    assert parse_allocation(environ, unlimited).end_time is None


@pytest.mark.parametrize(
    ("gres", "gpus"),
    [
        ("gpu:2(IDX:0-1)", 2),
        ("gpu:tesla:2(IDX:0,3),gpu:a100:1(IDX:2)", 3),
        ("shard:4(IDX:0-3),gpu:1(IDX:7)", 1),
        ("fpga:2(IDX:0-1)", 0),
    ],
)
def test_gpus_of_several_types(gres: str, gpus: int) -> None:
    environ = {"SLURM_JOB_ID": "1", "SLURM_JOB_NODELIST": "a", "SLURM_JOB_CPUS_PER_NODE": "2"}
    found = parse_allocation(environ, f"  Nodes=a CPU_IDs=0-1 Mem=0 GRES={gres}\n", "")
    assert found.nodes == (NodeShare("a", 2, None, gpus),)
    assert found.has_gres


@pytest.mark.parametrize(
    ("nodes", "cpus"), [("n[1-2]", "4"), ("n1", "4(x2)"), ("", ""), ("n1", "four"), ("n[1", "1"), ("n3", "1")]
)
def test_an_environment_that_does_not_fit_is_an_error(nodes: str, cpus: str) -> None:
    environ = {"SLURM_JOB_ID": "1", "SLURM_JOB_NODELIST": nodes, "SLURM_JOB_CPUS_PER_NODE": cpus}
    with pytest.raises(ParseError):
        parse_allocation(environ, "   Nodes=n[1-2] CPU_IDs=0-3 Mem=1 GRES=\n", "")


# The output of `scontrol show hostnames`.
NODE_LISTS = {
    "n[1-3]": "n1 n2 n3",
    "a,b": "a b",
    "x": "x",
    "rack[01-02]n[1-2]": "rack01n1 rack01n2 rack02n1 rack02n2",
    "n[1,3-4,08-10]": "n1 n3 n4 n08 n09 n10",
    "n[1-2][3-4]": "n13 n14 n23 n24",
    "gpu-[098-101],cpu7": "gpu-098 gpu-099 gpu-100 gpu-101 cpu7",
}


@pytest.mark.parametrize(("text", "names"), NODE_LISTS.items())
def test_node_lists(text: str, names: str) -> None:
    assert expand_node_list(text) == tuple(names.split())


@pytest.mark.parametrize("text", ["n[", "n[1-", "n[a]", "n[2-1]", "n1,", ",n1", "n1 n2", "n]1", "n[1-99999999999]"])
def test_what_is_no_node_list(text: str) -> None:
    with pytest.raises(ParseError):
        expand_node_list(text)
