/* Preloaded: at the n-th call on files of the processes that FAULT_PROCESS names, kills the process or fails the call.
 *
 * FAULT_PROCESS  comm of the process; with FAULT_FORKED only one whose parent has the same comm (a forked writer)
 * FAULT_AT       which call, counted from 1 in each process
 * FAULT_ERRNO    the call fails with that error; without it the process is killed by SIGKILL
 * FAULT_ONCE     a file: the fault happens only to the one that can create it
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

static pid_t counted;
static long calls;

static int is_meant(void) {
    char name[16] = "", parent[16] = "", path[32];
    const char *wanted = getenv("FAULT_PROCESS");
    prctl(PR_GET_NAME, name);
    if (!wanted || strcmp(name, wanted)) return 0;
    snprintf(path, sizeof path, "/proc/%d/comm", (int)getppid());
    long file = syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
    if (file >= 0) {
        long length = syscall(SYS_read, file, parent, sizeof parent - 1);
        if (length > 0) parent[length - 1] = 0;
        syscall(SYS_close, file);
    }
    return !strcmp(parent, wanted) == !!getenv("FAULT_FORKED");
}

/* Whether the call is to fail; does not return where the process is to be killed. */
static int fault(void) {
    const char *at = getenv("FAULT_AT"), *once = getenv("FAULT_ONCE"), *code = getenv("FAULT_ERRNO");
    if (!at || !is_meant()) return 0;
    if (counted != getpid()) counted = getpid(), calls = 0;
    calls++;
    if (code ? calls < atol(at) : calls != atol(at)) return 0;
    if (once) {
        long mark = syscall(SYS_openat, AT_FDCWD, once, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
        if (mark < 0) return 0;
        syscall(SYS_close, mark);
    }
    if (!code) kill(getpid(), SIGKILL);
    errno = atoi(code);
    return 1;
}

#define REAL(result, name, ...)                                   \
    static result (*real)(__VA_ARGS__);                           \
    if (!real) real = (result(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

#define OPEN(name)                                                \
    int name(const char *path, int flags, ...) {                  \
        va_list rest;                                             \
        va_start(rest, flags);                                    \
        mode_t mode = va_arg(rest, mode_t);                       \
        va_end(rest);                                             \
        REAL(int, #name, const char *, int, ...);                 \
        return (flags & O_ACCMODE) != O_RDONLY && fault() ? -1 : real(path, flags, mode); \
    }
OPEN(open)
OPEN(open64)

#define CALL(result, name, types, given)                          \
    result name types {                                           \
        static result(*real) types;                               \
        if (!real) real = (result(*) types)dlsym(RTLD_NEXT, #name); \
        return fault() ? -1 : real given;                         \
    }
CALL(ssize_t, write, (int file, const void *data, size_t size), (file, data, size))
CALL(ssize_t, pwrite, (int file, const void *data, size_t size, off_t place), (file, data, size, place))
CALL(ssize_t, pwrite64, (int file, const void *data, size_t size, off64_t place), (file, data, size, place))
CALL(int, ftruncate, (int file, off_t size), (file, size))
CALL(int, ftruncate64, (int file, off64_t size), (file, size))
CALL(int, fsync, (int file), (file))
CALL(int, fdatasync, (int file), (file))
CALL(int, unlink, (const char *path), (path))
CALL(int, rename, (const char *from, const char *to), (from, to))
CALL(int, mkdir, (const char *path, mode_t mode), (path, mode))
