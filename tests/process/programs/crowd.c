/* crowd hold N: start N children (fewer where there can be no more), say how many, and end with them at stdin's end.
 * crowd leave N: the same, but end at once; the children stay until stdin's end.
 * crowd storm N: start N children one after the other, each of which ends at once.
 * crowd orphans N: the same, of grandchildren that their parent leaves behind.
 * Ends with 7.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv) {
    const char *how = argc > 2 ? argv[1] : "";
    int most = argc > 2 ? atoi(argv[2]) : 0, count = 0, is_storm = !strcmp(how, "storm"), are_orphans = !strcmp(how, "orphans");
    char byte;
    for (; count < most; count++) {
        pid_t child = fork();
        if (child < 0) break;
        if (child == 0) {
            if (are_orphans) fork();
            if (!is_storm && !are_orphans) while (read(0, &byte, 1) > 0);
            _exit(0);
        }
        if (is_storm || are_orphans) waitpid(child, NULL, 0);
    }
    printf("%d\n", count);
    fflush(stdout);
    if (!strcmp(how, "hold")) {
        while (read(0, &byte, 1) > 0);
        while (wait(NULL) > 0);
    }
    return 7;
}
