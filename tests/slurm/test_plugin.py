"""The Slurm plugin on a real Slurm, as an ordinary user: which steps are measured without a prefix, which are not, and
that nothing else changes for the job, even if something in the installation is missing or wrong.

Compared with the same step without the plugin, or with ``torc-step --``.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from example_steps import WITH_PREFIX, WITHOUT_PREFIX, StepFigures, check_alike
from plugin_lab import PROBE, PluginLab, plugin_lab

pytestmark = pytest.mark.slurm

IN_STEP = shlex.join(PROBE)
ON, OFF = "default=on", "default=off"


@pytest.fixture(scope="module")
def module_lab() -> Iterator[PluginLab]:
    # the extern step exists only with Contain, the interactive one only with use_interactive_step
    lines = ("PrologFlags=Alloc,Contain", "LaunchParameters=use_interactive_step", "MaxArraySize=10")
    partition = "PartitionName=spared Nodes=ALL MaxTime=1-00:00:00 State=UP"
    options = [word for line in (*lines, partition) for word in ("--slurm-conf-line", line)]
    with plugin_lab(*options) as lab:
        yield lab


@pytest.fixture
def site(module_lab: PluginLab) -> Iterator[PluginLab]:
    """Switched off and without records when the test begins."""
    module_lab.configure(OFF)
    shutil.rmtree(module_lab.lab.directory / "torc_output", ignore_errors=True)
    yield module_lab
    module_lab.lab.run(["scancel", "-u", module_lab.lab.user], check=False)


# --- which steps ---------------------------------------------------------------------------------------------------


def test_default_off_measures_what_asks_for_it(site: PluginLab) -> None:
    assert not site.is_measured()
    assert site.is_measured("--torc")
    assert site.is_measured("--torc=on", "-N2", "-n4")
    assert site.is_measured("--torc=time_series,interval=0.5")
    assert not site.is_measured("--torc=off")


def test_default_on_measures_all_but_what_the_site_spares(site: PluginLab) -> None:
    site.configure(ON)
    assert site.is_measured("-N2", "-n3")
    assert not site.is_measured("--torc=off")
    site.configure(ON, "exclude=other,spared")
    assert site.is_measured()
    assert not site.is_measured("-p", "spared")
    assert site.is_measured("-p", "spared", "--torc")  # the user's choice wins
    site.configure(ON, "only=spared")
    assert [site.is_measured(), site.is_measured("-p", "spared"), site.is_measured("--torc")] == [False, True, True]
    site.configure(ON, "min-nodes=2")
    assert [site.is_measured(), site.is_measured("-N2"), site.is_measured("--torc")] == [False, True, True]


def test_sbatch_hands_its_option_to_its_steps(site: PluginLab) -> None:
    body = f"srun {IN_STEP}\nsrun --torc=off {IN_STEP}\n{IN_STEP}\n"
    by_directive = site.batch(f"#SBATCH --torc\n{body}", "-n1", "--mem=100M").splitlines()
    by_option = site.batch(body, "-n1", "--mem=100M", "--torc=summary").splitlines()
    for said in (by_directive, by_option):
        assert [line.split()[0] for line in said] == ["slurm", "alone", "alone"]  # never the batch script itself
    without = site.batch(f"#SBATCH --torc\n{body}", "-n1", "--mem=100M", "--torc=off").splitlines()
    assert without == ["alone", "alone", "alone"]


def test_a_batch_script_is_measured_on_request(site: PluginLab) -> None:
    site.configure(ON)
    body = f"#SBATCH -J script\n{IN_STEP}\nsrun -J step {IN_STEP}\n"
    job = site.batch_job(body, "-n1", "--mem=100M", "--torc=batch")
    assert site.lab.output(job).splitlines() == [f"slurm {job}.batch", f"slurm {job}.0"]
    assert set(site.stats(job, "--no-accounting")) == {"script", "step"}


def test_salloc_hands_its_option_to_its_steps(site: PluginLab) -> None:
    command = ["salloc", "-n1", "--mem=100M", "--torc", "sh", "-c", f"srun {IN_STEP}; {IN_STEP}"]
    said = site.lab.run_as_user(command).stdout.splitlines()
    assert [line.split()[0] for line in said] == ["slurm", "alone"]


def test_the_extern_and_the_interactive_step_are_left_alone(site: PluginLab) -> None:
    site.configure(ON)
    typed = f"{IN_STEP}\nsrun --overlap {IN_STEP}\nexit\n"
    command = ["salloc", "-n1", "--mem=100M", "--torc"]
    said = site.lab.run_as_user(command, env={"SHELL": "/bin/sh"}, stdin=typed).stdout.splitlines()
    answers = [line for line in said if line.strip() == "alone" or line.startswith("slurm ")]
    assert [line.split()[0] for line in answers] == ["alone", "slurm"], said
    job = int(answers[1].split()[1].partition(".")[0])
    steps = site.lab.run(["sacct", "-nPj", str(job), "-o", "JobIDRaw"]).stdout.split()
    assert f"{job}.extern" in steps
    assert [item["step_id"] for item in site.stats(job, "--no-accounting").values()] == ["0"]


def test_a_step_under_torc_step_is_measured_once_by_its_own_options(site: PluginLab) -> None:
    site.configure("default=summary")
    own = "torc-step --granularity time_series --sample-interval-seconds 0.1 --job-name mine --"
    job = site.batch_job(f"srun {own} sh -c 'sleep 1; ps -o args= -p $PPID'\n", "-n1", "--mem=200M")
    assert "--best-effort" not in site.lab.output(job)
    assert set(site.stats(job, "--no-accounting")) == {"mine"}


def test_the_steps_of_a_workflow_are_the_runners(site: PluginLab) -> None:
    site.configure(ON)
    spec = {
        "name": "under_the_plugin",
        "jobs": [{"name": "one", "command": "sleep 0.3"}],
        "slurm_schedulers": [{"name": "main", "nodes": 1, "mem": "300M", "ntasks_per_node": 1, "cpus_per_task": 1}],
    }
    path = site.lab.directory / "workflow.json"
    path.write_text(json.dumps(spec))
    submitted = json.loads(site.lab.run_as_user(["torc", "submit", path, "-f", "json"]).stdout)
    site.lab.wait_ended(int(submitted["slurm_job_id"]), accounted=False)
    listed = ["torc", "results", "list", str(submitted["workflow_id"]), "-f", "json"]
    (result,) = json.loads(site.lab.run_as_user(listed).stdout)["items"]
    assert (result["job_name"], result["status"]) == ("one", "completed")
    assert result["peak_memory_bytes"] > 0
    (node_file,) = (site.lab.directory / "torc_output" / "resource_utilization").glob("*.db")
    assert node_file.name.endswith(f"_{submitted['workflow_id']}_1.db")  # no ad hoc record


OCI_RUNTIME = """\
import json, os, sys
process = json.load(open(sys.argv[1] + "/config.json"))["process"]
os.execvpe(process["args"][0], process["args"], dict(pair.split("=", 1) for pair in process["env"]))
"""
OCI_STATE = {"ociVersion": "1.0.0", "id": "x", "status": "stopped", "bundle": "x"}
OCI_CONFIG = {
    "ociVersion": "1.0.0",
    "process": {"user": {"uid": 0, "gid": 0}, "args": ["sh"], "env": ["PATH=/usr/bin:/bin"], "cwd": "/"},
    "root": {"path": "rootfs"},
    "mounts": [],
}


def test_a_step_in_a_container_is_left_alone(site: PluginLab) -> None:
    """Slurm's own --container; its runtime runs the bundle's command like OCI's, but in the node's root."""
    bundle, query = site.place / "bundle", site.place / "query"
    (bundle / "rootfs").mkdir(parents=True)
    (bundle / "config.json").write_text(json.dumps(OCI_CONFIG))
    (site.place / "runtime.py").write_text(OCI_RUNTIME)
    query.write_text(f"#!/bin/sh\necho '{json.dumps(OCI_STATE)}'\n")
    query.chmod(0o755)
    run = f"{sys.executable} {site.place}/runtime.py %b"
    lines = [f'RunTimeRun="{run}"', f'RunTimeQuery="{query}"', 'RunTimeKill="true"', 'RunTimeDelete="true"']
    oci_conf = Path(site.lab.env["SLURM_CONF"]).with_name("oci.conf")
    oci_conf.write_text("\n".join(lines) + "\n")
    try:
        site.configure(ON)
        assert not site.is_measured(f"--container={bundle}")
        assert not site.is_measured("--torc", f"--container={bundle}")
    finally:
        oci_conf.unlink()


# --- nothing else is different -------------------------------------------------------------------------------------

ENDS = {
    "exits 3": ["sh", "-c", "exit 3"],
    "of SIGTERM": ["sh", "-c", "kill -TERM $$"],
    "of SIGSEGV": ["sh", "-c", "ulimit -c 0; kill -SEGV $$"],
    "not found": ["no-such-command"],
    "not executable": ["./not-executable"],
    "a name with blanks": ["./a program", "with blanks", "", "and\nlines"],
    "by PATH": ["printenv", "SLURM_PROCID"],
    "its own name": ["sh", "-c", 'tr "\\0" "\\n" < /proc/$$/cmdline'],
    "standard input": ["cat"],
    "no descriptor more": ["ls", "/proc/self/fd"],
    "its limits": [
        "sh",
        "-c",
        "ulimit -a; umask; pwd; cat /proc/self/status | grep -E '^Sig(Blk|Ign)|^Cpus_allowed_l'",
    ],
}


@pytest.mark.parametrize("name", list(ENDS))
def test_it_runs_and_ends_as_without_the_plugin(site: PluginLab, name: str) -> None:
    (site.lab.directory / "not-executable").write_text("#!/bin/sh\n")
    program = site.lab.directory / "a program"
    # one line in a single write
    program.write_text('#!/bin/sh\nprintf "%s.\\n" "$(printf "<%s>" "$@" | tr "\\n" "|")"\n')
    program.chmod(0o755)
    bare = site.srun("--torc=off", "-n2", *ENDS[name], stdin="typed\n")
    wrapped = site.srun("--torc", "-n2", *ENDS[name], stdin="typed\n")
    assert (wrapped.returncode, sorted(wrapped.stdout.splitlines())) == (
        bare.returncode,
        sorted(bare.stdout.splitlines()),
    )
    if bare.returncode == 0:
        assert (bare.stdout != "", wrapped.stderr) == (True, bare.stderr)


def environment_of(site: PluginLab, *options: str) -> dict[str, str]:
    done = site.srun(*options, "-w", site.lab.nodes[0], "env", "-0", env={"ODD": "a\nb", "TORC_GRANULARITY": "summary"})
    changing = (
        *("SLURM_JOB_ID", "SLURM_JOBID", "SLURM_TASK_PID", "SLURM_JOB_START", "SLURM_JOB_END", "SLURM_JOB_SLUID"),
        *("SLURM_SRUN_COMM", "SLURM_STEP_LAUNCHER_PORT", "SRUN_"),
    )
    pairs = (entry.partition("=") for entry in done.stdout.split("\0") if entry)
    return {name: value for name, _, value in pairs if not name.startswith(changing)}


def test_the_environment_has_one_variable_more(site: PluginLab) -> None:
    bare, wrapped = environment_of(site, "--torc=off"), environment_of(site, "--torc")
    assert wrapped.pop("TORC_STEP_ACTIVE").startswith("slurm ")
    assert wrapped == bare


def test_an_environment_that_is_not_handed_on(site: PluginLab) -> None:
    """Then Slurm has no PATH on which to look for the command."""
    for option in ("--torc", "--torc=off"):
        done = site.srun(option, "--export=NONE", "/usr/bin/env")
        assert ("TORC_STEP_ACTIVE=" in done.stdout, "PATH=" in done.stdout) == (option == "--torc", False)
        assert site.srun(option, "--export=NONE", "env").returncode == 2


def test_multi_prog_runs_each_its_own(site: PluginLab) -> None:
    """Measured from Slurm 23.11 on; before that the plugin cannot change these commands."""
    programs = site.lab.directory / "programs"
    programs.write_text("0 sh -c 'exit 4'\n1 env\n2-3 echo %t %o\n")
    done = site.srun("--torc", "-n4", "--multi-prog", str(programs))
    assert done.returncode == 4
    assert {"2 0", "3 1"} <= set(done.stdout.splitlines())
    assert "TORC_SPANK" not in done.stdout
    major, minor = site.lab.run(["srun", "--version"]).stdout.split()[1].split(".")[:2]
    assert ("TORC_STEP_ACTIVE=slurm" in done.stdout) == ((int(major), int(minor)) >= (23, 11))


def test_het_jobs(site: PluginLab) -> None:
    done = site.srun("--torc", "-n1", *PROBE, ":", "-n2", "--mem=100M", "sh", "-c", "exit 6")
    assert done.returncode == 6
    assert done.stdout.startswith(("slurm ", "alone"))
    both = site.srun("--torc", "-n1", *PROBE, ":", "-n1", "--mem=100M", "--torc", *PROBE)
    assert [line.split()[0] for line in both.stdout.splitlines()] == ["slurm", "slurm"]


def test_a_terminal(site: PluginLab) -> None:
    inside = "test -t 0 && stty size && echo ${TORC_STEP_ACTIVE%%.*} && exit 5"
    srun = ["srun", "-n1", "--mem=100M", "--pty", "--torc", "sh", "-c", inside]
    done = site.lab.run_as_user(["script", "-qec", shlex.join(srun), "/dev/null"], check=False)
    assert done.returncode == 5, done.stdout
    assert "\nslurm " in done.stdout.replace("\r", "")


def test_arrays_and_requeue(site: PluginLab) -> None:
    job = site.batch_job("#SBATCH --torc\nsrun -J mine sleep 0.1\n", "-n1", "--mem=100M", "--array=1-2")
    names = [list(site.stats(f"{job}_{task}", "--no-accounting")) for task in (1, 2)]
    assert names == [["mine"], ["mine"]]
    body = '#SBATCH --torc\nsrun sleep 0.1\n[ -n "$SLURM_RESTART_COUNT" ] || scontrol requeue $SLURM_JOB_ID\nwait\n'
    again = site.batch_job(f"{body}sleep 2\n", "-n1", "--mem=100M", "--requeue")
    runs = [path.name.rpartition("_")[2] for path in node_files(site.lab.directory / "torc_output", again)]
    assert runs == ["1.db", "2.db"]


def test_pmi(site: PluginLab) -> None:
    """PMI2 passes the socket's descriptor number to the command."""
    inside = 'test -S /proc/self/fd/$PMI_FD && echo "$PMI_RANK of $PMI_SIZE ${TORC_STEP_ACTIVE%% *}"'
    done = site.srun("--torc", "--mpi=pmi2", "-n2", "sh", "-c", inside)
    assert sorted(done.stdout.splitlines()) == ["0 of 2 slurm", "1 of 2 slurm"], done.stderr


def test_pmix(site: PluginLab) -> None:
    """If it is built and its library is installed; else both are refused in the same way."""
    ranks = ["sh", "-c", 'echo "$PMIX_RANK of $SLURM_NTASKS"; env | grep -c ^PMIX_']
    bare, wrapped = (site.srun(option, "--mpi=pmix", "-n2", *ranks) for option in ("--torc=off", "--torc"))
    assert (wrapped.returncode, sorted(wrapped.stdout.splitlines())) == (
        bare.returncode,
        sorted(bare.stdout.splitlines()),
    )
    assert bare.returncode or "1 of 2" in bare.stdout


# --- the figures ---------------------------------------------------------------------------------------------------


def run_steps(site: PluginLab, text: str, *options: str) -> StepFigures:
    job = site.batch_job(text, *options, env={"PYTHON": sys.executable}, accounted=True)
    shutil.rmtree(site.lab.directory / "torc_output" / "none", ignore_errors=True)
    return site.stats(job)


def test_the_examples_steps_have_the_same_figures_without_a_prefix(site: PluginLab) -> None:
    expected = run_steps(site, WITH_PREFIX)
    asked = run_steps(site, WITHOUT_PREFIX, "--torc")
    site.configure(ON)
    by_default = run_steps(site, WITHOUT_PREFIX)
    check_alike(expected, asked)
    check_alike(expected, by_default)


# --- without the plugin --------------------------------------------------------------------------------------------


def test_two_recipes_for_users_without_root(site: PluginLab) -> None:
    own = site.lab.directory / "own_bin"
    own.mkdir(exist_ok=True)
    shutil.copy(Path(__file__).resolve().parents[2] / "plugin" / "srun", own)
    with_own = {"PATH": f"{own}:{site.lab.path}"}
    assert not site.is_measured(env=with_own)
    assert site.is_measured("--", env=with_own)
    assert not site.is_measured("--", env=with_own | {"TORC_STEP": "/no/such/torc-step"})
    said = site.batch(f"srun $TORC {IN_STEP}\n", "-n1", "--mem=100M", env={"TORC": "torc-step --"})
    assert said.startswith("slurm ")
    assert site.batch(f"srun $TORC {IN_STEP}\n", "-n1", "--mem=100M") == "alone\n"


# --- what can be wrong ---------------------------------------------------------------------------------------------


def ran_alone(site: PluginLab, *options: str, env: dict[str, str] | None = None) -> list[str]:
    """Four tasks ran, unmeasured; returns the messages without srun's own."""
    done = site.srun("-n4", *options, *PROBE, env=env)
    assert (done.returncode, done.stdout) == (0, "alone\n" * 4), done.stderr
    return [line for line in done.stderr.splitlines() if not line.startswith("srun: job ")]  # queued, allocated


def test_a_plugin_that_is_not_there_changes_nothing(site: PluginLab) -> None:
    site.configure(ON, library=site.place / "gone.so")
    said = ran_alone(site)
    assert not [line for line in said if "rror" in line and "gone.so" not in line]


def test_torc_step_was_removed(site: PluginLab) -> None:
    site.configure(ON, f"torc-step={site.place}/gone")
    assert ran_alone(site) == [f"torc: {site.place}/gone: No such file or directory: the command runs unmeasured"]


@pytest.mark.parametrize("kind", ["its interpreter is gone", "not executable", "a directory"])
def test_torc_step_cannot_run(site: PluginLab, kind: str) -> None:
    path = site.place / "torc-step-broken"
    if kind == "a directory":
        path.mkdir()
    else:
        path.write_text("#!/no/such/python\n")
        path.chmod(0o755 if "interpreter" in kind else 0o644)
    site.configure(ON, f"torc-step={path}")
    (line,) = ran_alone(site)
    path.rmdir() if path.is_dir() else path.unlink()
    assert line.startswith(f"torc: {path}: ")
    assert line.endswith("the command runs unmeasured")


def test_torc_step_refuses(site: PluginLab) -> None:
    site.configure(ON, "output-dir=/srv/%x")
    (line,) = ran_alone(site)
    assert "'/srv/%x' is not an absolute path with %u or %U: the command runs unmeasured" in line


def test_torc_step_exec_was_removed(site: PluginLab) -> None:
    site.configure(ON)
    hidden = site.step_exec.rename(site.place / "hidden")
    try:
        said = ran_alone(site)
    finally:
        hidden.rename(site.step_exec)
    (line,) = said
    assert f"torc: {site.step_exec} cannot be executed: the command runs unmeasured" in line


@pytest.mark.parametrize(
    "option",
    [
        "defualt=on",
        "default=",
        "default=maybe",
        "on",
        "min-nodes=many",
        "only=",
        "exclude=",
        "output-dir=here",
        "torc-step=x",
    ],
)
def test_a_wrong_option_of_the_site_is_named_and_jobs_run(site: PluginLab, option: str) -> None:
    site.configure(ON, option)
    done = site.srun("--torc", *PROBE)
    assert (done.returncode, done.stdout) == (0, "alone\n")
    assert f"plugstack.conf: {option} is wrong, so no step is measured" in done.stderr


@pytest.mark.parametrize("value", ["bogus", "summary,interval=0.01", "interval=", "interval=1s", "off,,on", "batch;"])
def test_a_wrong_option_of_the_user_is_refused(site: PluginLab, value: str) -> None:
    done = site.srun(f"--torc={value}", "true")
    assert done.returncode != 0
    assert f"--torc={value}: expected off|summary|time_series|batch[,interval=SECONDS]" in done.stderr
    refused = site.lab.run_as_user(["sbatch", f"--torc={value}", "--wrap=true"], check=False)
    assert refused.returncode != 0


def test_a_plugin_for_another_slurm_is_not_loaded(site: PluginLab) -> None:
    include, sources = site.place / "include", Path(__file__).resolve().parents[2] / "plugin"
    shutil.copytree("/usr/include/slurm", include / "slurm")
    header = include / "slurm" / "slurm_version.h"
    header.write_text(header.read_text() + "#undef SLURM_VERSION_NUMBER\n#define SLURM_VERSION_NUMBER 0x130b03\n")
    other = site.place / "other"
    environment = os.environ | {"LIBDIR": str(other), "TORC_STEP": "/bin/false", "SLURM_INCLUDE": str(include)}
    subprocess.run(["sh", sources / "build.sh"], env=environment, check=True)
    site.configure(ON, library=other / "spank_torc.so")
    assert any("spank_torc.so" in line and "version" in line for line in ran_alone(site))
    unknown = site.srun("--torc", "true")
    assert unknown.returncode != 0
    assert "unrecognized option '--torc'" in unknown.stderr


# --- where it is recorded ------------------------------------------------------------------------------------------


def node_files(output_dir: Path, job: int) -> list[Path]:
    return sorted((output_dir / "resource_utilization").glob(f"resource_metrics_*_slurm{job}_*.db"))


@pytest.fixture
def shared(site: PluginLab) -> Iterator[Path]:
    """The site's directory, in which each user makes a subdirectory."""
    directory = site.place / "site"
    directory.mkdir()
    directory.chmod(0o1777)
    site.configure(ON, f"output-dir={directory}/%u")
    yield directory
    shutil.rmtree(directory)


def test_records_go_to_the_users_own_directory_of_the_site(site: PluginLab, shared: Path) -> None:
    job = site.batch_job("srun -n2 true\n", "-n2", "--mem=100M")
    mine = shared / site.lab.user
    assert (mine.owner(), stat.S_IMODE(mine.stat().st_mode)) == (site.lab.user, 0o700)
    assert len(node_files(mine, job)) == 1
    elsewhere = site.batch_job("srun true\n", "-n1", "--mem=100M", env={"TORC_OUTPUT_DIR": "my_own"})
    assert node_files(mine, elsewhere) == []
    assert len(node_files(site.lab.directory / "my_own", elsewhere)) == 1


@pytest.mark.parametrize("trap", ["a link", "a stranger's directory"])
def test_a_trap_in_the_sites_directory_is_not_used(site: PluginLab, shared: Path, trap: str) -> None:
    victim = site.lab.directory / "victim"
    victim.mkdir(exist_ok=True)
    shutil.chown(victim, site.lab.user)
    mine = shared / site.lab.user
    if trap == "a link":
        mine.symlink_to(victim)
    else:
        mine.mkdir()
        mine.chmod(0o777)
    done = site.srun("sh", "-c", "exit 7")
    assert done.returncode == 7
    assert "not a directory of this user that nobody else can write to; the record is kept in" in done.stderr
    assert list(mine.iterdir()) == []
