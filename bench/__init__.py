"""What torc-step costs and how right its figures are, beside its peers, in one run. Start it by ``bench/run``.

Words: a *tool* is torc-step or a peer. Each runs a *workload* (``workloads.py``), which knows the truth about itself
from the kernel and writes it down. A *case* is one question; it gives *rows*, one figure of each tool in each.

run -> __main__ (command line) -> cases (measure) -> rows -> table (text, Markdown, JSON)
                                    |-- tools: how each is started, what it reported
                                    |-- processes: starting, the kernel's counters, leaving nothing behind
                                    |-- figures: parsing and ratios, pure

Standard library only. Peers are run with an interval of 1 s, as torc-step is, and as lean as they go: con-duct without
copying the job's output.
"""
