/*
 * Runs a task's command under torc-step or, if that cannot be executed, alone: spank_torc.c puts this program in front
 * of the command.
 *
 * TORC_SPANK_STEP has the path of torc-step and its options, one per line. The command is in the arguments; before
 * Slurm 23.11, TORC_SPANK_COMMAND has its argv[0]. This program removes both variables.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void say(const char *what, const char *path)
{
	fprintf(stderr, "torc: %s: %s%s\n", path, strerror(errno), what);
}

static int is_path(char *path, size_t size, const char *directory, int length, const char *name)
{
	const int written = snprintf(path, size, "%.*s/%s", length, directory, name);

	return written > 0 && (size_t)written < size;
}

/* Like slurmstepd finds a command: on PATH, the first that is not a directory; ./a from the working directory. */
static char *find_command(char *name)
{
	static char found[2 * PATH_MAX];
	char directory[PATH_MAX];
	struct stat status;
	const char *path = getenv("PATH");

	if (*name == '/' || path == NULL)
		return name;
	if (*name == '.') {
		if (getcwd(directory, sizeof(directory)) == NULL)
			return name;
		return is_path(found, sizeof(found), directory, (int)strlen(directory), name) ? found : name;
	}
	while (*path != '\0') {
		const size_t length = strcspn(path, ":");

		if (length > 0 && is_path(found, sizeof(found), path, (int)length, name) &&
		    stat(found, &status) == 0 && !S_ISDIR(status.st_mode))
			return found;
		path += length + (path[length] == ':');
	}
	return name;
}

/* Executes torc-step with its options, -- and the command; returns only if that failed. */
static void execute_torc_step(char *words, char **command)
{
	size_t count = 2, place = 0;
	char **argv;

	for (const char *at = words; (at = strchr(at, '\n')) != NULL; at++)
		count++;
	for (char **word = command; *word != NULL; word++)
		count++;
	argv = calloc(count + 1, sizeof(*argv));
	if (argv == NULL)
		return;
	for (char *word = strsep(&words, "\n"); word != NULL; word = strsep(&words, "\n"))
		argv[place++] = word;
	argv[place++] = "--";
	while (*command != NULL)
		argv[place++] = *command++;
	execv(argv[0], argv);
	const char *task = getenv("SLURM_LOCALID");

	if (task == NULL || strcmp(task, "0") == 0)
		say(": the command runs unmeasured", argv[0]);
	free(argv);
}

int main(int argc, char *argv[])
{
	char *words = getenv("TORC_SPANK_STEP"), *first = getenv("TORC_SPANK_COMMAND");
	char **command = first ? argv : argv + 1;

	if (argc < (first ? 1 : 2)) {
		fputs("torc: torc-step-exec is called by the Slurm plugin of torc-slurm\n", stderr);
		return 2;
	}
	command[0] = find_command(first ? first : argv[1]);
	unsetenv("TORC_SPANK_STEP"); /* the strings stay valid */
	unsetenv("TORC_SPANK_COMMAND");
	if (words != NULL && access(command[0], X_OK) == 0)
		execute_torc_step(words, command);
	execv(command[0], command);
	say("", command[0]);
	return errno; /* as slurmstepd's own exit status */
}
