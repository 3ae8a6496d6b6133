"""Start children one after another, each using some CPU; print what the kernel charged this process and them.

usage: burn_in_children.py HOW_MANY SECONDS_EACH [unwaited | threads]

``unwaited``: SIGCHLD is ignored, so nobody waits for them; the printed figure is what they report themselves.
``threads``: each is forked by its own thread, and several of these live at once.
"""

import os
import resource
import signal
import sys
import threading
import time


def burn(seconds: float, begin: float = 0.0) -> None:
    while time.process_time() - begin < seconds:
        pass


def charged(who: int) -> float:
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


def child(seconds: float, report: int = -1) -> int:
    pid = os.fork()
    if pid == 0:
        burn(seconds, time.process_time())
        if report >= 0:
            os.write(report, b"%f\n" % charged(resource.RUSAGE_SELF))
        os._exit(0)
    return pid


count, seconds_each, how = int(sys.argv[1]), float(sys.argv[2]), [*sys.argv, ""][3]
if how == "unwaited":
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    reader, writer = os.pipe()
    for _ in range(count):
        child(seconds_each, writer)
    os.close(writer)
    with open(reader) as reports:
        children = sum(float(line) for line in reports)
    time.sleep(0.3)  # the last one has exited, and the monitor has seen that
elif how == "threads":
    threads = [threading.Thread(target=lambda: os.waitpid(child(seconds_each), 0)) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    children = charged(resource.RUSAGE_CHILDREN)
else:
    for _ in range(count):
        os.waitpid(child(seconds_each), 0)
    children = charged(resource.RUSAGE_CHILDREN)
print(charged(resource.RUSAGE_SELF) + children, flush=True)
os._exit(0)  # what Python does at its end is in no figure that it can print
