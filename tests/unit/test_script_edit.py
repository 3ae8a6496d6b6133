"""Editing the #SBATCH lines of a user's script: values change, everything else stays."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torc_slurm.common.errors import InputError
from torc_slurm.slurm.script_edit import edited, read_script

SCRIPT = """#!/bin/bash -l
#SBATCH --job-name="my job"   # a name
#SBATCH -t 1:00:00 --mem=4G
#SBATCH -c8
  #SBATCH --mem=1G is a comment here
##SBATCH --mem=9G
#SBATCH --time=2:00:00

# more
#SBATCH --mem 8G
module load x
#SBATCH --mem=77G
srun --mem=5G ./a.out
"""


def change(text: str, **wanted: str) -> str:
    return edited(read_script(text, "job.sbatch"), {name.replace("_", "-"): value for name, value in wanted.items()})


def test_options_in_every_form_are_read() -> None:
    script = read_script(SCRIPT, "job.sbatch")
    assert [(option.name, option.value) for option in script.options] == [
        ("job-name", "my job"),
        ("time", "1:00:00"),
        ("mem", "4G"),
        ("cpus-per-task", "8"),
        ("time", "2:00:00"),
        ("mem", "8G"),
    ]
    assert script.value("time") == "2:00:00"
    assert script.value("ntasks") is None


def test_only_values_change() -> None:
    after = change(SCRIPT, mem="600M", time="00:20:00", cpus_per_task="2")
    assert after == (
        SCRIPT.replace("#SBATCH -t 1:00:00 --mem=4G", "#SBATCH -t 00:20:00 --mem=600M")
        .replace("-c8", "-c2")
        .replace("--time=2:00:00", "--time=00:20:00")
        .replace("--mem 8G", "--mem 600M")
    )


def test_a_missing_option_is_added_after_the_last_line_of_its_kind() -> None:
    assert change("#!/bin/sh\n#SBATCH -n1\n\necho\n", mem="1G") == "#!/bin/sh\n#SBATCH -n1\n#SBATCH --mem=1G\n\necho\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [("#!/bin/sh\necho\n", "#!/bin/sh\n#SBATCH --mem=1G\necho\n"), ("#!/bin/sh", "#!/bin/sh\n#SBATCH --mem=1G\n")],
)
def test_a_script_without_any_gets_one_after_its_first_line(before: str, after: str) -> None:
    assert change(before, mem="1G") == after


def test_line_ends_of_windows_stay() -> None:
    assert change("#!/bin/sh\r\n#SBATCH --mem=4G\r\necho\r\n", mem="1G") == "#!/bin/sh\r\n#SBATCH --mem=1G\r\necho\r\n"


@pytest.mark.parametrize("text", ["", "echo\n", "#SBATCH --mem=1G\n"])
def test_what_is_no_script_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"job\.sbatch is not a batch script"):
        read_script(text, "job.sbatch")


def test_a_heterogeneous_job_is_not_edited() -> None:
    with pytest.raises(InputError, match="heterogeneous"):
        read_script("#!/bin/sh\n#SBATCH -n1\n#SBATCH hetjob\n#SBATCH -n2\n", "job.sbatch")


@given(st.text())
def test_any_text_keeps_everything_except_the_changes(text: str) -> None:
    script = "#!/bin/sh\n" + text
    assert edited(read_script(script, "s"), {}) == script
    once = edited(read_script(script, "s"), {"mem": "1G"})
    assert read_script(once, "s").value("mem") == "1G"
    assert edited(read_script(once, "s"), {"mem": "1G"}) == once
