"""Right-sizing: what broke its request, what to ask for instead, what it saves. Values in, dataclasses out; no I/O."""
