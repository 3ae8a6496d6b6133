"""Wait for any child without having started one."""

import os

try:
    print("child", os.waitpid(-1, 0))
except ChildProcessError:
    print("no child")
