"""The request for a cluster, and the text of its configuration files: pure functions of a `Settings`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from slurm_lab import config as lab_config

CLUSTER = "torccluster"
HEAD = "head"
NETWORK = "10.77.0"
USER = "tester"
OTHER_USER = "other"
# A machine takes memory from this one when it first uses it, and then keeps it.
HEAD_MEMORY_MIB = 1600
NODE_MEMORY_MIB = 1200
MOST_NODES = 16
SUITES = ("bookworm", "trixie", "forky")

SLURM_CONF = """\
ClusterName={cluster}
SlurmctldHost={head}({head_address})
SlurmUser=root
AuthType=auth/munge
{common}
StateSaveLocation=/var/spool/slurmctld
SlurmdSpoolDir=/var/spool/slurmd
SlurmctldLogFile=/cluster/log/{head}/slurmctld.log
SlurmdLogFile=/cluster/log/%n/slurmd.log
SlurmctldTimeout=30
SlurmdTimeout={slurmd_timeout}

ProctrackType=proctrack/{proctrack}
TaskPlugin=task/{task_plugin}
JobAcctGatherType=jobacct_gather/{gather}
AccountingStorageHost={head_address}

{nodes}
PartitionName=debug Nodes=ALL Default=YES DefaultTime=10 MaxTime=1-00:00:00 State=UP
{extra}
"""

# Slurm would ask systemd for its steps' cgroup; there is no systemd here, so init makes it.
CGROUP_V2 = """\
CgroupPlugin=cgroup/v2
IgnoreSystemd=yes
ConstrainRAMSpace=yes
ConstrainSwapSpace=yes
"""
# No cgroup file system is mounted: the plugin has nothing to do, and 22.05 does not know "disabled".
CGROUP_NONE = {"bookworm": "CgroupPlugin=cgroup/v1\n"}
CGROUP_DISABLED = "CgroupPlugin=disabled\n"

SLURMDBD_CONF = """\
AuthType=auth/munge
DbdHost={head}
DbdAddr={head_address}
SlurmUser=root
LogFile=/cluster/log/{head}/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm_acct_db
"""

JOB_CONTAINER_CONF = "AutoBasePath=true\nBasePath=/var/spool/job-containers\n"


@dataclass(frozen=True)
class Settings:
    """The request for a cluster."""

    dir: Path
    suite: str = "trixie"
    node_count: int = 2
    cgroup: str = "v2"
    gather: str = "cgroup"
    proc: str = ""
    actimeo: int = 30
    private_tmp: bool = False
    root_squash: bool = True
    user: str = USER
    extra_lines: tuple[str, ...] = ()

    @property
    def nodes(self) -> tuple[str, ...]:
        return tuple(f"c{number}" for number in range(1, self.node_count + 1))

    @property
    def machines(self) -> tuple[str, ...]:
        return (HEAD, *self.nodes)

    @property
    def memory_mib(self) -> int:
        """The most memory that the machines can take together."""
        return HEAD_MEMORY_MIB + NODE_MEMORY_MIB * self.node_count


def address(settings: Settings, machine: str) -> str:
    return f"{NETWORK}.{settings.machines.index(machine) + 1}"


def slurm_conf(settings: Settings) -> str:
    on = settings.cgroup == "v2"
    extra = [*settings.extra_lines]
    if settings.private_tmp:
        extra += ["JobContainerType=job_container/tmpfs", "PrologFlags=Contain"]
    return SLURM_CONF.format(
        cluster=CLUSTER,
        head=HEAD,
        head_address=address(settings, HEAD),
        common=lab_config.COMMON,
        slurmd_timeout=20,
        proctrack="cgroup" if on else "linuxproc",
        task_plugin="cgroup" if on else "none",
        gather=settings.gather,
        nodes="\n".join(_node(settings, node) for node in settings.nodes),
        extra="\n".join(extra),
    )


def _node(settings: Settings, node: str) -> str:
    # More CPUs and memory than a machine has, so that jobs for a node of ci/slurm-lab fit here.
    size = f"CPUs={lab_config.CPUS_PER_NODE} RealMemory={lab_config.MEMORY_PER_NODE_MIB}"
    return f"NodeName={node} NodeAddr={address(settings, node)} {size}"


def cgroup_conf(settings: Settings) -> str:
    return CGROUP_V2 if settings.cgroup == "v2" else CGROUP_NONE.get(settings.suite, CGROUP_DISABLED)


def slurmdbd_conf(settings: Settings) -> str:
    return SLURMDBD_CONF.format(head=HEAD, head_address=address(settings, HEAD))


def hosts(settings: Settings) -> str:
    lines = [f"{address(settings, machine)} {machine}" for machine in settings.machines]
    return "\n".join(["127.0.0.1 localhost", *lines, ""])


def machine_environment(settings: Settings) -> str:
    """The environment of the scripts in the machines: shell assignments of plain words."""
    values = {
        "HEAD": HEAD,
        "HEAD_ADDRESS": address(settings, HEAD),
        "NETWORK": NETWORK,
        "CLUSTER": CLUSTER,
        "HEAD_MEMORY_MIB": HEAD_MEMORY_MIB,
        "NODE_MEMORY_MIB": NODE_MEMORY_MIB,
        "NODE_COUNT": settings.node_count,
        "SUITE": settings.suite,
        "CGROUP": settings.cgroup,
        "PROC_OPTIONS": settings.proc,
        "ACTIMEO": settings.actimeo,
        "ROOT_SQUASH": "root_squash" if settings.root_squash else "no_root_squash",
        "USER_NAME": settings.user,
        "OTHER_USER": OTHER_USER,
    }
    addresses = " ".join(f"[{machine}]={address(settings, machine)}" for machine in settings.machines)
    return "".join(f"{name}='{value}'\n" for name, value in values.items()) + f"declare -A ADDRESS=({addresses})\n"
