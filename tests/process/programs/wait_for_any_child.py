"""Wait for any child, having started none."""

import os

try:
    print("child", os.waitpid(-1, 0))
except ChildProcessError:
    print("no child")
