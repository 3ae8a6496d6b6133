/* Preloaded: at the n-th file call of the chosen processes, kills the process or fails the call.
 *
 * FAULT_PROCESS  comm of the processes; without it the first process that makes such a call, without its children
 * FAULT_FORKED   only one whose parent has the same comm (a forked writer)
 * FAULT_AT       which call, counted from 1 in each process
 * FAULT_ERRNO    the call fails with that error; without it the process is killed by SIGKILL
 * FAULT_ONCE     a file: the fault happens only to the one that can create it
 * FAULT_LOG      a file that gets a line "number call path" for each such call
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

static pid_t counted, first;
static long calls;

static int is_meant(void) {
    char name[16] = "", parent[16] = "", path[32];
    const char *wanted = getenv("FAULT_PROCESS");
    if (!wanted) {
        if (!first) first = getpid();
        return first == getpid();
    }
    prctl(PR_GET_NAME, name);
    if (strcmp(name, wanted)) return 0;
    snprintf(path, sizeof path, "/proc/%d/comm", (int)getppid());
    long file = syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
    if (file >= 0) {
        long length = syscall(SYS_read, file, parent, sizeof parent - 1);
        if (length > 0) parent[length - 1] = 0;
        syscall(SYS_close, file);
    }
    return !strcmp(parent, wanted) == !!getenv("FAULT_FORKED");
}

static void note(const char *log, const char *call, const char *path) {
    char line[700];
    int length = snprintf(line, sizeof line, "%ld %s %s\n", calls, call, path);
    long file = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    syscall(SYS_write, file, line, (size_t)(length < (int)sizeof line ? length : (int)sizeof line - 1));
    syscall(SYS_close, file);
}

/* Whether the call must fail; does not return if the process must be killed. */
static int fault(const char *call, const char *path) {
    const char *at = getenv("FAULT_AT"), *log = getenv("FAULT_LOG");
    const char *once = getenv("FAULT_ONCE"), *code = getenv("FAULT_ERRNO");
    if ((!at && !log) || strstr(path, "__pycache__") || !strncmp(path, "/dev/", 5) || !is_meant()) return 0;
    if (counted != getpid()) counted = getpid(), calls = 0;
    calls++;
    if (log) note(log, call, path);
    if (!at || (code ? calls < atol(at) : calls != atol(at))) return 0;
    if (once) {
        long mark = syscall(SYS_openat, AT_FDCWD, once, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
        if (mark < 0) return 0;
        syscall(SYS_close, mark);
    }
    if (!code)
        for (kill(getpid(), SIGKILL);;) pause();
    errno = atoi(code);
    return 1;
}

static int fault_of(const char *call, int file) {
    char name[500] = "", link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    if (readlink(link, name, sizeof name - 1) < 0) return 0;
    return name[0] == '/' && fault(call, name); /* not a pipe or socket */
}

#define REAL(result, name, types)                                 \
    static result(*real) types;                                   \
    if (!real) real = (result(*) types)dlsym(RTLD_NEXT, #name)

#define OPEN(name)                                                \
    int name(const char *path, int flags, ...) {                  \
        va_list rest;                                             \
        va_start(rest, flags);                                    \
        mode_t mode = va_arg(rest, mode_t);                       \
        va_end(rest);                                             \
        REAL(int, name, (const char *, int, ...));                \
        int changes = flags & (O_CREAT | O_WRONLY | O_RDWR | O_TRUNC); \
        return changes && fault("open", path) ? -1 : real(path, flags, mode); \
    }
OPEN(open)
OPEN(open64)

#define ON_FILE(result, name, call, types, given)                 \
    result name types {                                           \
        REAL(result, name, types);                                \
        return fault_of(call, file) ? -1 : real given;            \
    }
ON_FILE(ssize_t, write, "write", (int file, const void *data, size_t size), (file, data, size))
ON_FILE(ssize_t, pwrite, "pwrite", (int file, const void *data, size_t size, off_t place), (file, data, size, place))
ON_FILE(ssize_t, pwrite64, "pwrite", (int file, const void *data, size_t size, off64_t place), (file, data, size, place))
ON_FILE(int, ftruncate, "ftruncate", (int file, off_t size), (file, size))
ON_FILE(int, ftruncate64, "ftruncate", (int file, off64_t size), (file, size))
ON_FILE(int, fsync, "fsync", (int file), (file))
ON_FILE(int, fdatasync, "fdatasync", (int file), (file))

#define ON_PATH(name, path, types, given)                         \
    int name types {                                              \
        REAL(int, name, types);                                   \
        return fault(#name, path) ? -1 : real given;              \
    }
ON_PATH(unlink, path, (const char *path), (path))
ON_PATH(rename, to, (const char *from, const char *to), (from, to))
ON_PATH(link, to, (const char *from, const char *to), (from, to))
ON_PATH(mkdir, path, (const char *path, mode_t mode), (path, mode))
int linkat(int a, const char *from, int b, const char *to, int flags) {
    REAL(int, linkat, (int, const char *, int, const char *, int));
    return fault("link", to) ? -1 : real(a, from, b, to, flags);
}
