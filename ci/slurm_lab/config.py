"""The text of the lab's configuration files: pure functions of a `Settings`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

CPUS_PER_NODE = 4
MEMORY_PER_NODE_MIB = 16384
CLUSTER = "torclab"
ADDRESS = "127.0.0.1"

# Settings of every Slurm of the tests, in this lab and on the machines of ci/cluster.
COMMON = f"""\
MpiDefault=none
MailProg=/bin/true
# The shortest interval there is: accounting's own peaks are worth comparing with.
JobAcctGatherFrequency=task=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
# The machine may have fewer cores and less memory than the nodes declare.
SlurmdParameters=config_overrides
# A job that names no memory gets its CPUs' share, so that four of them fit on a node.
DefMemPerCPU={MEMORY_PER_NODE_MIB // CPUS_PER_NODE}
# Look at what is pending every second and not every 60: a requeued or dependent job waits for no other event.
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,sched_interval=1,bf_interval=1
ReturnToService=2
MinJobAge=300
OverTimeLimit=0
# Seconds between SIGTERM and SIGKILL; Slurm's default is 30. Tests of what survives a kill wait for this.
KillWait=5
UnkillableStepTimeout=60
AccountingStorageType=accounting_storage/slurmdbd
AccountingStoreFlags=job_comment
"""

# NodeHostname and NodeAddr are all on loopback: several slurmd run on one host, identified by name and port.
SLURM_CONF = """\
ClusterName={cluster}
SlurmctldHost=localhost({address})
SlurmctldPort={port_slurmctld}
SlurmUser=root
AuthType=auth/munge
# A requeued job starts again after cred_expire seconds; Slurm's default is 120 (slurm.conf(5), AuthInfo).
AuthInfo=socket={run}/munge.sock,cred_expire=10
{common}
{binding_to_loopback}
SrunPortRange={srun_ports}

StateSaveLocation={dir}/state
SlurmdSpoolDir={dir}/spool/%n
SlurmctldPidFile={run}/slurmctld-own.pid
SlurmdPidFile={run}/slurmd-%n-own.pid
SlurmctldLogFile={log}/slurmctld.log
SlurmdLogFile={log}/slurmd-%n.log

ProctrackType={proctrack}
TaskPlugin={task_plugin}
{binding}
JobAcctGatherType=jobacct_gather/{gather}

AccountingStorageHost={address}
AccountingStoragePort={port_slurmdbd}
# The socket again: connections to slurmdbd take it from here and not from AuthInfo (seen on 22.05).
AccountingStoragePass={run}/munge.sock

{nodes}
PartitionName=debug Nodes=ALL Default=YES DefaultTime=10 MaxTime=1-00:00:00 State=UP
{extra}
"""

# Without these the daemons and every srun listen on 0.0.0.0. With them they listen where the host's own name
# points to (seen on 22.05), so they are given only when that is 127.0.0.1.
# slurmdbd.conf(5) does not name the option, but slurmdbd follows it, and not slurm.conf's.
LOOPBACK_ONLY = "CommunicationParameters=NoInAddrAny,NoCtldInAddrAny"
LOOPBACK_ONLY_SLURMDBD = "CommunicationParameters=NoInAddrAny"

NODE = "NodeName={name} NodeHostname=localhost NodeAddr={address} Port={port} CPUs={cpus} RealMemory={memory}"

# Where the machine has fewer cores than a node declares, task/affinity cannot lay out a step of all CPUs
# ("failed to distribute tasks"), unless steps are not bound by default. ConstrainCores works all the same:
# declared cores become real ones modulo their number (seen on two: four 1-CPU steps on 0, 1, 0, 1, a 4-CPU
# step on 0-1).
NO_BINDING = "TaskPluginParam=none"

CGROUP_ON = """\
CgroupPlugin=cgroup/v1
CgroupMountpoint=/sys/fs/cgroup
ConstrainCores=yes
ConstrainRAMSpace=yes
ConstrainSwapSpace=yes
"""

# 22.05 does not know "disabled", and its slurmd does not start without a plugin. This one does nothing by default.
CGROUP_OFF = "CgroupPlugin=cgroup/v1\n"

# With StorageHost=localhost the client library uses the Unix socket in MYSQL_UNIX_PORT (see daemons). Root needs no
# password there (unix_socket authentication), so no password has to be kept secret.
SLURMDBD_CONF = """\
AuthType=auth/munge
AuthInfo=socket={run}/munge.sock
DbdHost=localhost
DbdAddr={address}
DbdPort={port_slurmdbd}
{binding_to_loopback}
SlurmUser=root
PidFile={run}/slurmdbd-own.pid
LogFile={log}/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm_acct_db
"""


@dataclass(frozen=True)
class Settings:
    """Everything that a lab was asked for or chose at its start."""

    dir: Path
    id: str
    first_port: int
    port_count: int
    cgroups: bool
    gather: str
    user: str
    extra_lines: tuple[str, ...]
    # Later fields have a default: a lab that is up while the checkout changes can still be removed.
    few_cores: bool = False
    loopback_only: bool = False

    @property
    def nodes(self) -> tuple[str, ...]:
        """Unique on the machine, because Slurm names its cgroup directories after the nodes."""
        return (f"lab{self.id}-n1", f"lab{self.id}-n2")

    @property
    def ports(self) -> dict[str, int]:
        names = ("slurmctld", "slurmdbd", *(f"slurmd-{node}" for node in self.nodes))
        return {name: self.first_port + number for number, name in enumerate(names)}

    @property
    def srun_ports(self) -> str:
        return f"{self.first_port + len(self.ports)}-{self.first_port + self.port_count - 1}"


def slurm_conf(settings: Settings) -> str:
    on = settings.cgroups
    return SLURM_CONF.format(
        cluster=CLUSTER,
        address=ADDRESS,
        binding_to_loopback=LOOPBACK_ONLY if settings.loopback_only else "",
        dir=settings.dir,
        run=settings.dir / "run",
        log=settings.dir / "log",
        port_slurmctld=settings.ports["slurmctld"],
        port_slurmdbd=settings.ports["slurmdbd"],
        srun_ports=settings.srun_ports,
        proctrack="proctrack/cgroup" if on else "proctrack/linuxproc",
        task_plugin="task/cgroup,task/affinity" if on else "task/affinity",
        gather=settings.gather,
        binding=NO_BINDING if settings.few_cores else "",
        common=COMMON,
        nodes="\n".join(_node(name, settings) for name in settings.nodes),
        extra="\n".join(settings.extra_lines),
    )


def _node(name: str, settings: Settings) -> str:
    return NODE.format(
        name=name,
        address=ADDRESS,
        port=settings.ports[f"slurmd-{name}"],
        cpus=CPUS_PER_NODE,
        memory=MEMORY_PER_NODE_MIB,
    )


def cgroup_conf(settings: Settings) -> str:
    return CGROUP_ON if settings.cgroups else CGROUP_OFF


def slurmdbd_conf(settings: Settings) -> str:
    return SLURMDBD_CONF.format(
        address=ADDRESS,
        run=settings.dir / "run",
        log=settings.dir / "log",
        port_slurmdbd=settings.ports["slurmdbd"],
        binding_to_loopback=LOOPBACK_ONLY_SLURMDBD if settings.loopback_only else "",
    )
