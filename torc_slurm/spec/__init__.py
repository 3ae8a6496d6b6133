"""Workflow files: from text to a checked workflow, each problem with its line; and the plan of a run."""
