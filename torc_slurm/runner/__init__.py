"""Runs a plan's jobs: which is ready (queue), where it fits (placement), how it is started (launchers), what became
of it (outcome), and the loop and the journal around them.
"""
