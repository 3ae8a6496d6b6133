/* crowd hold N: start N children (fewer where there can be no more), say how many, and end with them at stdin's end.
 * crowd leave N: the same, but end at once; the children stay until stdin's end.
 * crowd storm N: start N children one after the other, each of which ends at once.
 * crowd orphans N: the same, of grandchildren that their parent leaves behind.
 * crowd paced N RATE: as storm, RATE children a second; says how many, its seconds, and its CPU seconds with theirs.
 * Ends with 7.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec * 1e-9;
}

static void wait_until(double due) {
    struct timespec time = {(time_t)due, (long)((due - (time_t)due) * 1e9)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL) == EINTR) {}
}

static double cpu_seconds(int who) {
    struct rusage use;
    getrusage(who, &use);
    return use.ru_utime.tv_sec + use.ru_stime.tv_sec + (use.ru_utime.tv_usec + use.ru_stime.tv_usec) * 1e-6;
}

int main(int argc, char **argv) {
    const char *how = argc > 2 ? argv[1] : "";
    int most = argc > 2 ? atoi(argv[2]) : 0, count = 0, are_orphans = !strcmp(how, "orphans"), is_paced = !strcmp(how, "paced");
    int is_storm = !strcmp(how, "storm") || is_paced;
    double rate = is_paced && argc > 3 ? atof(argv[3]) : 0, begin = now();
    char byte;
    for (; count < most; count++) {
        if (rate) wait_until(begin + count / rate);
        pid_t child = fork();
        if (child < 0) break;
        if (child == 0) {
            if (are_orphans) fork();
            if (!is_storm && !are_orphans) while (read(0, &byte, 1) > 0);
            _exit(0);
        }
        if (is_storm || are_orphans) waitpid(child, NULL, 0);
    }
    if (is_paced) printf("%d %.3f %.6f\n", count, now() - begin, cpu_seconds(RUSAGE_SELF) + cpu_seconds(RUSAGE_CHILDREN));
    else printf("%d\n", count);
    fflush(stdout);
    if (!strcmp(how, "hold")) {
        while (read(0, &byte, 1) > 0);
        while (wait(NULL) > 0);
    }
    return 7;
}
