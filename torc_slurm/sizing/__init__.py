"""Right-sizing: which jobs exceeded their request, what to request instead, what that saves. Pure: no I/O."""
