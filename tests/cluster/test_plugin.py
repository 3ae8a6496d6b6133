"""The Slurm plugin on several machines, compiled there: steps are measured without a prefix as with it."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from example_steps import WITH_PREFIX, WITHOUT_PREFIX, StepFigures, check_alike
from machines import Machines

pytestmark = pytest.mark.cluster

PLACE = "/cluster/plugin"  # all machines see this directory
PROBE = ["sh", "-c", "echo ${TORC_STEP_ACTIVE:-alone}"]


@pytest.fixture(scope="module")
def library(session_machines: Machines) -> str:
    session_machines.run(["torc", "slurm", "plugin", "build", "--prefix", PLACE])
    return f"{PLACE}/lib/torc-slurm/spank_torc.so"


@pytest.fixture
def site(machines: Machines, library: str) -> Iterator[Machines]:
    """A cluster that loads the plugin, switched off until the test calls `configure`."""
    configure(machines, f"optional {library} default=off")
    yield machines
    configure(machines, "")


def configure(machines: Machines, line: str) -> None:
    for machine in machines.cluster.settings.machines:
        machines.shell(f"echo '{line}' > /etc/slurm/plugstack.conf", machine=machine)


def is_measured(machines: Machines, *options: str) -> bool:
    """Whether each task of such a step, on both nodes, runs under torc-step."""
    words = ["srun", "-N2", "-n4", "--mem=100M", *options, *PROBE]
    said = machines.run_as_user(words).stdout.splitlines()
    assert len(said) == 4
    first_words = {line.split()[0] for line in said}
    assert first_words in ({"slurm"}, {"alone"}), said
    return first_words == {"slurm"}


def run_steps(machines: Machines, text: str, *options: str) -> StepFigures:
    text = re.sub(r"time\.time\(\) \+ [23]\b", "time.time() + 10", text)  # with one CPU, tasks start seconds apart
    # /tmp is in memory here, and its contents count for the step
    job = machines.run_job(text, f"--export=ALL,TMPDIR={machines.directory},TORC_SAMPLE_INTERVAL_SECONDS=0.5", *options)
    return {item["job_name"]: item for item in machines.stats(job).values()}


@pytest.mark.cluster_in_ci
def test_default_off_and_on(site: Machines, library: str) -> None:
    assert [is_measured(site), is_measured(site, "--torc"), is_measured(site, "--torc=off")] == [False, True, False]
    configure(site, f"optional {library} default=on")
    assert [is_measured(site), is_measured(site, "--torc=off")] == [True, False]


def test_the_examples_steps_have_the_same_figures_without_a_prefix(site: Machines, library: str) -> None:
    expected = run_steps(site, WITH_PREFIX)
    asked = run_steps(site, WITHOUT_PREFIX, "--torc")
    configure(site, f"optional {library} default=on")
    by_default = run_steps(site, WITHOUT_PREFIX)
    check_alike(expected, asked)
    check_alike(expected, by_default)


def test_steps_of_a_node_where_the_plugin_is_missing_run_alone(site: Machines, library: str) -> None:
    """An upgrade that has not reached every node yet."""
    configure(site, f"optional {library} default=on")
    site.shell("> /etc/slurm/plugstack.conf", machine="c2")
    said = site.run_as_user(["srun", "-N2", "-n2", "-l", "--mem=100M", *PROBE]).stdout.splitlines()
    assert [line.split()[1] for line in sorted(said)] == ["slurm", "alone"]
