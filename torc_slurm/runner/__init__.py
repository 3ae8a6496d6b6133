"""Runs a plan's jobs: which is ready (queue), where it fits (placement), how it starts (launchers), how it ended
(outcome), and the loop and the journal around them.
"""
