"""Whether a failed job runs again, by the rules of its failure handler; pure."""

from __future__ import annotations

from collections.abc import Sequence

from torc_slurm.records.statuses import OOM, RETRIABLE, TIMEOUT
from torc_slurm.runner.attempts import Outcome
from torc_slurm.spec.workflow import Rule


def exit_code_of(outcome: Outcome, *, timeout_exit_code: int, oom_exit_code: int) -> int | None:
    """The exit code that rules compare: a timeout and an OOM kill have codes of their own."""
    return {TIMEOUT: timeout_exit_code, OOM: oom_exit_code}.get(outcome.state, outcome.return_code)


def rule_for(rules: Sequence[Rule], outcome: Outcome, code: int | None) -> Rule | None:
    """The first rule for this end; None if there is none, or if the job itself was not at fault."""
    if outcome.state not in RETRIABLE or outcome.return_code == 0:
        return None
    return next(
        (
            rule
            for rule in rules
            if rule.exit_codes is None or code in rule.exit_codes or outcome.return_code in rule.exit_codes
        ),
        None,
    )
