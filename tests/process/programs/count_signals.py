"""Print the signals that arrive, one per line, until SIGRTMAX comes; ``ready`` first, with the pid.

All are blocked and taken one by one, so that none is lost, merged after its arrival, or acted upon.
"""

import os
import signal

EVERYTHING = signal.valid_signals() - {signal.SIGCHLD}

signal.pthread_sigmask(signal.SIG_BLOCK, EVERYTHING)
print("ready", os.getpid(), flush=True)
number = 0
while number != signal.SIGRTMAX:
    number = signal.sigwaitinfo(EVERYTHING).si_signo
    print(int(number), flush=True)
