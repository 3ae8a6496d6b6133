/* LD_PRELOAD: ends its process with SIGKILL at the KILL_AT-th file call that changes something.
   KILL_LOG=FILE writes "number call path" of each such call instead. Children are left alone. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int calls;
static pid_t owner;

static void point(const char *call, const char *path) {
    const char *at = getenv("KILL_AT"), *log = getenv("KILL_LOG");
    if ((!at && !log) || strstr(path, "__pycache__") || !strncmp(path, "/dev/", 5)) return;
    if (!owner) owner = getpid();
    if (owner != getpid()) return;
    calls++;
    if (log) {
        char line[600];
        int length = snprintf(line, sizeof line, "%d %s %s\n", calls, call, path);
        int fd = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_APPEND | O_CREAT, 0644);
        syscall(SYS_write, fd, line, (size_t)length);
        syscall(SYS_close, fd);
    }
    if (at && atoi(at) == calls) {
        kill(getpid(), SIGKILL);
        for (;;) pause();
    }
}

static const char *name_of(int fd) {
    static char name[500];
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, name, sizeof name - 1);
    name[length < 0 ? 0 : length] = 0;
    return name;
}

#define REAL(name) __typeof__(&name) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
static int changes(int flags) { return flags & (O_CREAT | O_WRONLY | O_RDWR | O_TRUNC); }

int open(const char *path, int flags, ...) {
    va_list rest; va_start(rest, flags); int mode = va_arg(rest, int); va_end(rest);
    REAL(open); if (changes(flags)) point("open", path); return real(path, flags, mode);
}
int open64(const char *path, int flags, ...) {
    va_list rest; va_start(rest, flags); int mode = va_arg(rest, int); va_end(rest);
    REAL(open64); if (changes(flags)) point("open", path); return real(path, flags, mode);
}
ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at) {
    REAL(pwrite64); point("pwrite", name_of(fd)); return real(fd, bytes, count, at);
}
ssize_t write(int fd, const void *bytes, size_t count) {
    struct stat status;
    REAL(write); if (!fstat(fd, &status) && S_ISREG(status.st_mode)) point("write", name_of(fd));
    return real(fd, bytes, count);
}
int unlink(const char *path) { REAL(unlink); point("unlink", path); return real(path); }
int link(const char *from, const char *to) { REAL(link); point("link", to); return real(from, to); }
int linkat(int a, const char *from, int b, const char *to, int flags) {
    REAL(linkat); point("link", to); return real(a, from, b, to, flags);
}
int rename(const char *from, const char *to) { REAL(rename); point("rename", to); return real(from, to); }
int ftruncate64(int fd, off64_t size) { REAL(ftruncate64); point("ftruncate", name_of(fd)); return real(fd, size); }
int fsync(int fd) { REAL(fsync); point("fsync", name_of(fd)); return real(fd); }
int fdatasync(int fd) { REAL(fdatasync); point("fdatasync", name_of(fd)); return real(fd); }
int mkdir(const char *path, mode_t mode) { REAL(mkdir); point("mkdir", path); return real(path, mode); }
