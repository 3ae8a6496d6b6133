/* torc-step: starts the wrapper's Python without the variables that are meant for the job.
 *
 * The job's environment can break a Python before its first line (PYTHONHOME, another library in LD_LIBRARY_PATH, a
 * library in LD_PRELOAD that starts a thread). So this program renames the variables that a dynamic linker, the C library
 * or Python would obey (ASIDE), and the wrapper restores them for the job. If no Python can start, the command runs as it
 * would alone. Linked statically if the system has a static C library.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define ASIDE "TORC_ASIDE_"
#define LEAST_DESCRIPTORS 4
#define LEAST_MEMORY_BYTES (16 << 20) /* of a control group: with 8 MB the kernel kills the wrapper, with 10 not */
#define CAN_START_JOBS 77 /* the same as in step/spawned_job.py */
#define SPARE_BYTES (8 << 20) /* of a limited address space, for the wrapper after its start and for its forks */

extern char **environ;

/* Runs in Python, isolated and without site packages (4 ms). If the package is not next to this program (an editable
 * or a user's installation), Python's own search finds it. What is rarely needed is a text for exec: Python would compile
 * it at each start (0.6 ms). */
static const char *const BOOT =
    "import sys\n"
    "sys.path.append('%s/../lib/python%d.%d/site-packages' % (sys.argv.pop(1), *sys.version_info[:2]))\n"
    "try:\n"
    "    try:\n"
    "        from torc_slurm.step.main import load, main\n"
    "    except ModuleNotFoundError:\n"
    "        exec(r'''\n"
    "import os, site\n"
    "sys.modules.pop('torc_slurm', None)\n"
    "sys.path.pop()\n"
    "site.main()\n"
    "if sys.prefix == sys.base_prefix: site.addsitedir(site.getusersitepackages())\n"
    "given = os.environ.get('" ASIDE "PYTHONPATH', '').split(os.pathsep)\n"
    "sys.path += [place for place in given if os.path.isdir(place + '/torc_slurm')]\n"
    "''')\n"
    "        from torc_slurm.step.main import load, main\n"
    "    load()\n"
    "except BaseException as error:\n"
    "    exec(r'''\n"
    "import os\n"
    "words = sys.argv[1:]\n"
    "while words and words[0][:1] == '-' and words[0] not in ('-', '--'):\n"
    "    del words[: 1 if '=' in words[0] or words[0] in ('--no-sampling', '--best-effort') else 2]\n"
    "words = words[words[:1] == ['--'] :]\n"
    "text = f'torc-step: torc-slurm cannot be loaded ({error}); the command runs unmeasured\\n'\n"
    "os.write(2, text.encode('utf-8', 'backslashreplace'))\n"
    "if not words: sys.exit(1)\n"
    "given = {n[n.startswith(b'" ASIDE "') and 11 :]: v for n, v in os.environb.items()}\n"
    "import signal\n"
    "for number in (signal.SIGPIPE, signal.SIGXFSZ): signal.signal(number, signal.SIG_DFL)\n"
    "try:\n"
    "    os.execvpe(words[0], words, given)\n"
    "except Exception as error:\n"
    "    os.write(2, f'torc-step: {error}\\n'.encode('utf-8', 'backslashreplace'))\n"
    "    places = [] if '/' in words[0] else os.fsdecode(given.get(b'PATH', b'')).split(os.pathsep)\n"
    "    lacks = places and not any(os.path.isfile(os.path.join(place, words[0])) for place in places)\n"
    "    os._exit(127 if lacks or isinstance(error, FileNotFoundError) else 126)\n"
    "''')\n"
    "sys.exit(main())\n";

/* `torc-step --run-torc ARG...` runs torc itself in the same way: srun and the jobs get all variables back. */
static const char *const RUN_TORC =
    "import os, sys\n"
    "del sys.argv[1:3]\n"
    "for name in list(os.environb):\n"
    "    if name.startswith(b'" ASIDE "'): os.environb[name[11:]] = os.environb.pop(name)\n"
    "from torc_slurm.cli.start import main\n"
    "sys.exit(main())\n";

static int is_for_the_job_only(const char *entry) {
    return !strncmp(entry, "LD_", 3) || !strncmp(entry, "PYTHON", 6) || !strncmp(entry, "MALLOC_", 7) ||
           !strncmp(entry, "GLIBC_TUNABLES=", 15) || !strncmp(entry, "GCONV_PATH=", 11) ||
           !strncmp(entry, "LOCPATH=", 8);
}

/* The environment with these variables renamed; NULL without memory. */
static char **set_aside(const char *kept) {
    size_t count = 0, kept_length = strlen(kept);
    while (environ[count]) count++;
    char **aside = calloc(count + 1, sizeof *aside);
    for (size_t i = 0; aside && i < count; i++) {
        aside[i] = environ[i];
        if (!is_for_the_job_only(environ[i]) || (kept_length && !strncmp(environ[i], kept, kept_length))) continue;
        size_t size = strlen(environ[i]) + sizeof ASIDE;
        aside[i] = malloc(size);
        if (!aside[i]) return NULL;
        strcpy(aside[i], ASIDE);
        strcat(aside[i], environ[i]);
    }
    return aside;
}

/* torc-step's own options end at "--" or at the first word that is not an option. */
static char **command_of(char **words) {
    for (words++; *words; words++) {
        if (!strcmp(*words, "--")) return words + 1;
        if (**words != '-' || !strcmp(*words, "-")) return words;
        if (!strchr(*words, '=') && strcmp(*words, "--no-sampling") && strcmp(*words, "--best-effort") && words[1])
            words++;
    }
    return words;
}

/* Whether a directory of PATH has it. A directory that may not be searched is skipped, as in a shell. */
static int stands_on_path(const char *name) {
    const char *place = getenv("PATH");
    while (place) {
        char path[PATH_MAX];
        struct stat status;
        int length = (int)(strchrnul(place, ':') - place);
        int written = snprintf(path, sizeof path, "%.*s/%s", length ? length : 1, length ? place : ".", name);
        if (written < (int)sizeof path && !stat(path, &status) && S_ISREG(status.st_mode)) return 1;
        place = place[length] ? place + length + 1 : NULL;
    }
    return 0;
}

static int is_torc_itself(char **argv) { return argv[1] && !strcmp(argv[1], "--run-torc"); }

/* Returns only if the command cannot run: a shell's exit status for that. */
static int become(char **command) {
    execvpe(*command, command, environ);
    int error = errno;
    int is_name = !strchr(*command, '/');
    if (is_name && !stands_on_path(*command)) error = ENOENT;
    dprintf(2, "torc-step: %s: %s\n", *command, is_name && error == ENOENT ? "not found on PATH" : strerror(error));
    return error == ENOENT ? 127 : 126;
}

static int run_alone(char **argv, const char *why, const char *what) {
    if (is_torc_itself(argv)) {
        dprintf(2, "torc: its Python cannot be started: %s%s%s\n", why, *what ? ": " : "", what);
        return 1;
    }
    char **command = command_of(argv);
    dprintf(2, "torc-step: %s%s%s; the command runs unmeasured\n", why, *what ? ": " : "", what);
    return *command ? become(command) : 2;
}

static void raise_oom_score(int by) {
    char text[16] = "";
    int file = open("/proc/self/oom_score_adj", O_RDWR | O_CLOEXEC), score;
    if (file < 0) return;
    if (read(file, text, sizeof text - 1) > 0)
        dprintf(file, "%d", (score = atoi(text) + by) < 1000 ? score : 1000);
    close(file);
}

/* `torc-step --start-job=PARENT,RAISE COMMAND...` becomes a job of a group: it dies with the wrapper, and the kernel
 * kills it first. The wrapper starts it with posix_spawn: 2 ms less than a fork of Python. Without COMMAND: a question. */
static int start_job(char **argv) {
    static const char by_default[64]; /* the kernel's struct sigaction with SIG_DFL */
    int parent, by;
    if (sscanf(argv[1], "--start-job=%d,%d", &parent, &by) != 2) return 2;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) return 126;
    if (!argv[2]) return CAN_START_JOBS;
    raise_oom_score(by);
    for (int number = 32; number <= 33; number++) /* posix_spawn leaves glibc's own signals ignored */
        syscall(SYS_rt_sigaction, number, by_default, NULL, 8);
    for (char **entry = environ; *entry; entry++)
        if (!strncmp(*entry, ASIDE, sizeof ASIDE - 1)) *entry += sizeof ASIDE - 1;
    return become(argv + 2);
}

static void leave_to_spare(int resource) {
    struct rlimit limit;
    if (getrlimit(resource, &limit) || limit.rlim_cur == RLIM_INFINITY) return;
    limit.rlim_cur = limit.rlim_cur > SPARE_BYTES ? limit.rlim_cur - SPARE_BYTES : 0;
    setrlimit(resource, &limit);
}

/* Runs a child with SPARE_BYTES less memory than allowed, and reads its stdout; its exit status, -1 if it did not start. */
static int ask(const char *path, char **words, char **environment, char *answer, size_t size) {
    int pipe_ends[2], status = -1;
    if (pipe2(pipe_ends, O_CLOEXEC)) return -1;
    pid_t child = fork();
    if (child == 0) {
        int null = open("/dev/null", O_RDWR);
        dup2(null, 0), dup2(pipe_ends[1], 1), dup2(null, 2);
        leave_to_spare(RLIMIT_AS), leave_to_spare(RLIMIT_DATA);
        execve(path, words, environment);
        _exit(127);
    }
    close(pipe_ends[1]);
    size_t length = 0;
    ssize_t got;
    while (child > 0 && (got = read(pipe_ends[0], answer + length, size - 1 - length)) > 0) length += got;
    answer[length] = 0;
    close(pipe_ends[0]);
    if (child > 0 && waitpid(child, &status, 0) == child) return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
    return -1;
}

/* Whether the dynamic linker finds all libraries of the interpreter in this environment. */
static int finds_its_libraries(const char *python, char **environment) {
    static char answer[65536];
    size_t count = 0;
    while (environment[count]) count++;
    char **traced = calloc(count + 2, sizeof *traced), *words[] = {(char *)python, "-I", "-S", "-c", "", NULL};
    if (!traced) return 1;
    memcpy(traced, environment, count * sizeof *traced);
    traced[count] = "LD_TRACE_LOADED_OBJECTS=1";
    int status = ask(python, words, traced, answer, sizeof answer);
    return status < 0 || (status == 0 && !strstr(answer, "not found"));
}

static int starts(const char *python, char **environment, char *directory) {
    static char answer[64];
    char *words[] = {(char *)python, "-I", "-S", "-c", (char *)BOOT, directory, "--version", NULL};
    int status = ask(python, words, environment, answer, sizeof answer);
    return status < 0 || (status == 0 && strstr(answer, "torc-step "));
}

/* Python and the wrapper open files before the job starts; if they cannot, the job alone may still run. */
static int has_descriptors(void) {
    int opened[LEAST_DESCRIPTORS], count = 0;
    while (count < LEAST_DESCRIPTORS && (opened[count] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0) count++;
    for (int i = 0; i < count; i++) close(opened[i]);
    return count == LEAST_DESCRIPTORS;
}

/* The modules that Python reads before its first line: without them it exits before torc can report it. If one has
 * changed since this program was installed, or if Python keeps them elsewhere, this tries to start Python. */
static int has_its_first_modules(const char *python) {
    static const char *const PLACES[] = {"lib", "lib64"}, *const NAMES[] = {"__init__", "aliases", "utf_8"};
    char real[PATH_MAX], path[PATH_MAX + 64];
    struct stat own, module;
    if (!realpath(python, real) || stat("/proc/self/exe", &own)) return 0;
    char *name = strrchr(real, '/'), *directory;
    *name++ = 0;
    if (!(directory = strrchr(real, '/'))) return 0;
    *directory = 0;
    for (size_t place = 0; place < 2; place++) {
        size_t sound = 0;
        while (sound < 3) {
            snprintf(path, sizeof path, "%s/%s/%s/encodings/%s.py", real, PLACES[place], name, NAMES[sound]);
            if (access(path, R_OK) || stat(path, &module) || module.st_mtime >= own.st_ctime) break;
            sound++;
        }
        if (sound == 3) return 1;
    }
    return 0;
}

/* The number in a file of a control group, ULLONG_MAX where there is none ("max", no such file). */
static unsigned long long limit_in(const char *directory, const char *name) {
    char path[2 * PATH_MAX], text[32] = "", *end;
    snprintf(path, sizeof path, "%s/%s", directory, name);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = file < 0 ? 0 : read(file, text, sizeof text - 1);
    if (file >= 0) close(file);
    unsigned long long limit = strtoull(text, &end, 10);
    return length > 0 && end > text ? limit : ULLONG_MAX;
}

/* Whether the wrapper and the monitor fit into the memory of this control group and of those above it: of too little
 * the kernel kills them, and the job with them. */
static int has_memory(void) {
    static const char *const KINDS[][3] = {{":memory:", "/sys/fs/cgroup/memory", "memory.limit_in_bytes"},
                                           {"0::", "/sys/fs/cgroup", "memory.max"}};
    char text[8192], directory[PATH_MAX];
    int file = open("/proc/self/cgroup", O_RDONLY | O_CLOEXEC);
    ssize_t length = file < 0 ? 0 : read(file, text, sizeof text - 1);
    if (file >= 0) close(file);
    text[length > 0 ? length : 0] = 0;
    for (size_t kind = 0; kind < 2; kind++) {
        const char *line = strstr(text, KINDS[kind][0]), *mount = KINDS[kind][1];
        if (!line) continue;
        line += strlen(KINDS[kind][0]);
        snprintf(directory, sizeof directory, "%s%.*s", mount, (int)strcspn(line, "\n"), line);
        for (; strlen(directory) >= strlen(mount); *strrchr(directory, '/') = 0)
            if (limit_in(directory, KINDS[kind][2]) < LEAST_MEMORY_BYTES) return 0;
    }
    return 1;
}

static int is_limited(void) {
    struct rlimit limit;
    return (!getrlimit(RLIMIT_AS, &limit) && limit.rlim_cur != RLIM_INFINITY) ||
           (!getrlimit(RLIMIT_DATA, &limit) && limit.rlim_cur != RLIM_INFINITY);
}

/* The interpreter in the first line of the command "torc", which is installed next to this program. */
static int read_interpreter(const char *directory, char *python) {
    char path[PATH_MAX], text[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/torc", directory) >= (int)sizeof path) return 0;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = file < 0 ? -1 : read(file, text, sizeof text - 1);
    if (file >= 0) close(file);
    if (length < 3 || strncmp(text, "#!", 2)) return 0;
    text[length] = 0;
    char *begin = text + 2, *end;
    if (!strncmp(text, "#!/bin/sh\n'''exec' ", 19)) { /* a path with a space or too long for the kernel */
        begin = text + 19;
        end = *begin == '"' ? strchr(++begin, '"') : strpbrk(begin, " \n");
    } else {
        while (*begin == ' ') begin++;
        end = strpbrk(begin, "\n");
        char *option = strstr(begin, " -");
        if (option && end && option < end) end = option;
    }
    if (!end || *begin != '/') return 0;
    *end = 0;
    strcpy(python, begin);
    return 1;
}

static int find_python(char *directory, char *python) {
    ssize_t length = readlink("/proc/self/exe", directory, PATH_MAX - 1);
    if (length <= 0) return 0;
    directory[length] = 0;
    *strrchr(directory, '/') = 0;
    char mark[PATH_MAX + 32];
    snprintf(mark, sizeof mark, "%s/../pyvenv.cfg", directory);
    if ((access(mark, F_OK) || access(strcat(strcpy(python, directory), "/python"), X_OK)) &&
        !read_interpreter(directory, python))
        strcat(strcpy(python, directory), "/python3");
    return 1;
}

int main(int argc, char **argv) {
    static char directory[PATH_MAX], python[2 * PATH_MAX];
    if (argv[1] && !strncmp(argv[1], "--start-job=", 12)) return start_job(argv);
    if (!find_python(directory, python)) return run_alone(argv, "/proc does not tell where torc-step is installed", "");
    if (access(python, X_OK)) return run_alone(argv, strerror(errno), python);
    if (!has_memory()) return run_alone(argv, "its control group has too little memory for its Python", "");
    if (!has_descriptors()) return run_alone(argv, "no free file descriptors for its Python", "");
    char **environment = set_aside(""), **words = calloc(argc + 7, sizeof *words);
    if (!environment || !words) return run_alone(argv, strerror(ENOMEM), "");
    if (getenv("LD_LIBRARY_PATH") && !finds_its_libraries(python, environment)) {
        environment = set_aside("LD_LIBRARY_PATH="); /* this Python needs it for its own libraries */
        if (!environment || !finds_its_libraries(python, environment))
            return run_alone(argv, "libraries of its Python are not found", python);
    }
    if ((is_limited() || !has_its_first_modules(python)) && !starts(python, environment, directory))
        return run_alone(argv, "its Python cannot start", python);
    char *begin[] = {python, "-I", "-S", "-c", (char *)BOOT, directory};
    if (is_torc_itself(argv)) begin[2] = "-I", begin[4] = (char *)RUN_TORC;
    memcpy(words, begin, sizeof begin);
    memcpy(words + 6, argv + 1, argc * sizeof *words);
    execve(python, words, environment);
    return run_alone(argv, strerror(errno), python);
}
