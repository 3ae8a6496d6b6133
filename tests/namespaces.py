"""Mount namespaces with a /tmp of their own, and an ordinary user in them: one who has no processes and no files."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from measured import WAIT_LIMIT_SECONDS, environment, program

USER = 64_321  # nobody's number on any machine that we know of


class Namespace:
    """A mount namespace in which root's places for spools are its own and empty: /tmp, /dev/shm, /var/tmp/torc-0.

    One directory, `place`, is the same inside and outside.
    """

    def __init__(self, place: Path) -> None:
        self.place = place
        script = "mount -t tmpfs none /tmp; chmod 1777 /tmp; mount -t tmpfs none /dev/shm; chmod 1777 /dev/shm; "
        script += "mkdir -p -m 700 /var/tmp/torc-0; mount -t tmpfs -o mode=700 none /var/tmp/torc-0; "
        self._holder = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-ec", script + "echo up; exec sleep 1000"],
            stdout=subprocess.PIPE,
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == b"up\n"

    def start(
        self, command: Sequence[str | bytes], user: int = 0, limit: tuple[int, int] | None = None, umask: int = 0o022
    ) -> subprocess.Popen[bytes]:
        """Start a command inside; ``limit`` is a resource and its value."""
        enter = ["nsenter", "--mount", f"--target={self._holder.pid}"]
        become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"] if user else []

        def prepare() -> None:
            os.umask(umask)
            if limit is not None:
                resource.setrlimit(limit[0], (limit[1], limit[1]))

        return subprocess.Popen(
            [*enter, *become, *command],
            env=environment(),
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            preexec_fn=prepare,
        )

    def run(
        self, command: Sequence[str | bytes], user: int = 0, limit: tuple[int, int] | None = None, umask: int = 0o022
    ) -> tuple[int, str, str]:
        """Exit status and both outputs."""
        process = self.start(command, user, limit, umask)
        stdout, stderr = process.communicate(timeout=WAIT_LIMIT_SECONDS)
        return process.returncode, stdout.decode(), stderr.decode()

    def do(self, *command: str, user: int = 0) -> str:
        status, stdout, stderr = self.run(command, user)
        assert status == 0, stderr
        return stdout

    def bring_over(self, user: int = 0) -> list[str]:
        """What ``torc slurm collect`` does with the node's spools."""
        code = "from torc_slurm.database.spool import bring_over; print(*bring_over(), sep='\\n')"
        return self.do(sys.executable, "-c", code, user=user).split()

    def inside(self, path: Path) -> Path:
        """How the test reads a file that lies on one of the namespace's mounts."""
        return Path(f"/proc/{self._holder.pid}/root{path}")

    def program(self, name: str, *arguments: object) -> list[str]:
        """As ``program``, from a copy that is seen inside also where the checkout lies under /tmp."""
        interpreter, flags, path, *words = program(name, *arguments)
        shutil.copy(path, self.place)
        return [interpreter, flags, str(self.place / os.path.basename(path)), *words]

    def close(self) -> None:
        self._holder.kill()
        self._holder.wait()
        assert self._holder.stdout is not None
        self._holder.stdout.close()


@contextmanager
def own_namespace() -> Iterator[Namespace]:
    """A namespace that ends with the block, and all that is in its `place`."""
    place = Path(tempfile.mkdtemp(prefix="torc-test-", dir="/var/tmp"))  # not /tmp, of which the namespace has its own
    place.chmod(0o755)
    namespace = Namespace(place)
    try:
        yield namespace
    finally:
        namespace.close()
        shutil.rmtree(place)
