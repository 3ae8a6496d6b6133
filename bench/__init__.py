"""The cost and the accuracy of torc-step, compared with similar tools (peers), in one run. Start it with ``bench/run``.

Words: a *tool* is torc-step or a peer. Each runs a *workload* (``workloads.py``), which reads the truth about itself
from the kernel and writes it down. A *case* is one question; it gives *rows*, each with one figure of each tool.

run -> __main__ (command line) -> cases (measure) -> rows -> table (text, Markdown, JSON)
                                    |-- tools: how each is started, what it reported
                                    |-- processes: starting, the kernel's counters, ending everything
                                    |-- figures: parsing and ratios, pure

Standard library only. Peers run with an interval of 1 s, like torc-step, and with as few extras as possible: con-duct
without copying the job's output.
"""
