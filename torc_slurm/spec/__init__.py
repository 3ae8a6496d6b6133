"""What a user may write in a workflow file: from text to a checked workflow, each problem with its line."""
