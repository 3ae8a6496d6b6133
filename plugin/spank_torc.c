/*
 * SPANK plugin: puts torc-step in front of the tasks of a step, so that the step is measured.
 *
 * Adds --torc to srun, sbatch and salloc. On a node it acts only in slurm_spank_task_init: in the task's own process,
 * as the user, before the command is executed. It allocates no memory, opens no file, does not wait, and always returns
 * 0: after any error the task runs as it would without the plugin.
 *
 * The prefix is torc-step-exec (torc_step_exec.c), which runs torc-step or, if it cannot, the command alone. From Slurm
 * 23.11 on, spank_prepend_task_argv() adds it. Before, it replaces argv[0], and finds the old argv[0] in
 * TORC_SPANK_COMMAND.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <slurm/slurm.h>
#include <slurm/spank.h>

#ifndef TORC_STEP_EXEC
#error "define TORC_STEP_EXEC, the absolute path of the installed torc-step-exec; the Makefile does"
#endif
#ifndef TORC_STEP
#error "define TORC_STEP, the absolute path of torc-step; the Makefile does"
#endif

SPANK_PLUGIN(torc, 1);

#define GRAMMAR "off|summary|time_series|batch[,interval=SECONDS]"
#define WORDS_LEN 8192
#define NAME_LEN 256

/* The value of --torc, or of default= in plugstack.conf. */
struct request {
	int measure;
	int batch_step;
	const char *granularity; /* NULL: torc-step's default */
	char interval[16];	 /* empty: torc-step's default */
};

static struct {
	int usable; /* 0: plugstack.conf is wrong, and the plugin does nothing */
	struct request standard;
	unsigned long min_nodes;
	const char *only;	/* partitions, separated by commas; NULL: all */
	const char *excluded;
	const char *output_dir; /* NULL: the user's own */
	const char *torc_step;
} site;

static int is_installed; /* torc-step-exec, in the node's own root */

static int has_prefix(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

static int is_word(const char *text, size_t length, const char *word)
{
	return strlen(word) == length && strncmp(text, word, length) == 0;
}

/* A number of seconds of at least 0.1, as torc-step accepts it. */
static int take_interval(struct request *request, const char *text, size_t length)
{
	char *end = NULL;

	if (length == 0 || length >= sizeof(request->interval) || strspn(text, "0123456789.") < length)
		return 0;
	snprintf(request->interval, sizeof(request->interval), "%.*s", (int)length, text);
	return strtod(request->interval, &end) >= 0.1 && *end == '\0';
}

static int take_word(struct request *request, const char *text, size_t length)
{
	static const char interval[] = "interval=";
	const size_t skip = sizeof(interval) - 1;

	if (length > skip && has_prefix(text, interval))
		return take_interval(request, text + skip, length - skip);
	if (is_word(text, length, "off"))
		request->measure = 0;
	else if (is_word(text, length, "summary"))
		request->granularity = "summary";
	else if (is_word(text, length, "time_series"))
		request->granularity = "time_series";
	else if (is_word(text, length, "batch"))
		request->batch_step = 1;
	else
		return is_word(text, length, "on");
	return 1;
}

/* Reads "on", "time_series,interval=2", ...; --torc without a value is NULL, empty or, inherited from sbatch, "(null)". */
static int parse_request(const char *text, struct request *request)
{
	memset(request, 0, sizeof(*request));
	request->measure = 1;
	if (text == NULL || *text == '\0' || strcmp(text, "(null)") == 0)
		return 1;
	for (;;) {
		const size_t length = strcspn(text, ",");

		if (!take_word(request, text, length))
			return 0;
		if (text[length] == '\0')
			return 1;
		text += length + 1;
	}
}

/* Called by srun, sbatch and salloc, which refuse a wrong value at once. */
static int check_option(int val, const char *text, int remote)
{
	struct request request;

	(void)val;
	if (remote || parse_request(text, &request))
		return 0;
	slurm_error("--torc=%s: expected " GRAMMAR, text);
	return -1;
}

static struct spank_option torc_option = {
	.name = "torc",
	.arginfo = GRAMMAR,
	.usage = "measure each step's CPU, memory and I/O with torc-step (see: torc stats)",
	.has_arg = 2, /* the value may be left out */
	.val = 0,
	.cb = check_option,
};

/* One option of the plugin's line in plugstack.conf. */
static int take_site_option(const char *option)
{
	const char *value = strchr(option, '=');
	char *end = NULL;

	if (value++ == NULL)
		return 0;
	if (has_prefix(option, "default="))
		return *value != '\0' && parse_request(value, &site.standard);
	if (has_prefix(option, "min-nodes=")) {
		site.min_nodes = strtoul(value, &end, 10);
		return *value >= '0' && *value <= '9' && *end == '\0';
	}
	if (has_prefix(option, "only="))
		return *(site.only = value) != '\0';
	if (has_prefix(option, "exclude="))
		return *(site.excluded = value) != '\0';
	if (has_prefix(option, "output-dir="))
		return *(site.output_dir = value) == '/';
	if (has_prefix(option, "torc-step="))
		return *(site.torc_step = value) == '/';
	return 0;
}

int slurm_spank_init(spank_t spank, int ac, char *av[])
{
	site.usable = 1;
	site.torc_step = TORC_STEP;
	for (int i = 0; i < ac; i++) {
		if (take_site_option(av[i]))
			continue;
		slurm_error("torc: plugstack.conf: %s is wrong, so no step is measured; expected default=on|" GRAMMAR
			    ", only=PARTITION[,...], exclude=PARTITION[,...], min-nodes=N, output-dir=/PATTERN or "
			    "torc-step=/PATH",
			    av[i]);
		site.usable = 0;
	}
	spank_option_register(spank, &torc_option);
	return 0;
}

/* --- on the node, in the task's own process, as the user --------------------------------------------------------- */

static int is_in_list(const char *list, const char *name)
{
	size_t length = 0;

	for (; list != NULL && *list != '\0'; list += length + (list[length] == ',')) {
		length = strcspn(list, ",");
		if (is_word(list, length, name))
			return 1;
	}
	return 0;
}

static int is_excluded_by_site(spank_t spank)
{
	char text[NAME_LEN] = "";

	spank_getenv(spank, "SLURM_JOB_PARTITION", text, sizeof(text));
	if (is_in_list(site.excluded, text) || (site.only != NULL && !is_in_list(site.only, text)))
		return 1;
	if (spank_getenv(spank, "SLURM_JOB_NUM_NODES", text, sizeof(text)) != ESPANK_SUCCESS)
		return 0;
	return strtoul(text, NULL, 10) < site.min_nodes;
}

static int is_set(spank_t spank, const char *name)
{
	char text[2] = "";
	const spank_err_t error = spank_getenv(spank, name, text, sizeof(text));

	return error == ESPANK_NOSPACE || (error == ESPANK_SUCCESS && text[0] != '\0');
}

/* Whether the command is torc-step itself, or torc's runner calling it: then its own options apply. */
static int is_measured_by_itself(int argc, char **argv)
{
	const char *name = strrchr(argv[0], '/');

	if (strcmp(name ? name + 1 : argv[0], "torc-step") == 0)
		return 1;
	for (int i = 1; i < argc && i < 5; i++)
		if (strstr(argv[i], "torc_slurm.step") != NULL)
			return 1;
	return 0;
}

/* The batch step only on request; never an extern or interactive step, or an OCI container (another root). */
static int is_of_a_kind_to_measure(spank_t spank, const struct request *request)
{
	uint32_t step = 0;

	if (spank_get_item(spank, S_JOB_STEPID, &step) != ESPANK_SUCCESS)
		return 0;
	if (step == SLURM_BATCH_SCRIPT)
		return request->batch_step;
	if (step >= SLURM_MAX_NORMAL_STEP_ID)
		return 0;
	return !is_set(spank, "SLURM_CONTAINER") && !is_set(spank, "SLURM_CONTAINER_ID");
}

/* The user's option, else the site's. */
static int is_wanted(spank_t spank, struct request *request)
{
	char *text = NULL;

	if (spank_option_getopt(spank, &torc_option, &text) == ESPANK_SUCCESS)
		return parse_request(text, request) && request->measure;
	*request = site.standard;
	return request->measure && !is_excluded_by_site(spank);
}

/* The path of torc-step and its options, one per line, for torc-step-exec. Returns 0 if they do not fit. */
static int write_words(const struct request *request, char *words, size_t size)
{
	const char *granularity = request->granularity, *directory = site.output_dir;
	const int length = snprintf(words, size, "%s\n--best-effort%s%s%s%s%s%s", site.torc_step,
				    granularity ? "\n--granularity=" : "", granularity ? granularity : "",
				    *request->interval ? "\n--sample-interval-seconds=" : "", request->interval,
				    directory ? "\n--site-output-dir=" : "", directory ? directory : "");

	return length > 0 && (size_t)length < size;
}

static int is_executable(const char *path)
{
	return faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) == 0;
}

/* Puts a program in front of the task's command, with Slurm's functions. */
static void put_in_front(spank_t spank, char **argv, const char *words)
{
#if SLURM_VERSION_NUMBER < SLURM_VERSION_NUM(23, 11, 0)
	/* with --multi-prog this is the file that names the commands; the plugin cannot change these */
	if (*argv[0] == '/' && !is_executable(argv[0]))
		return;
#endif
	if (spank_setenv(spank, "TORC_SPANK_STEP", words, 1) != ESPANK_SUCCESS)
		return;
#if SLURM_VERSION_NUMBER >= SLURM_VERSION_NUM(23, 11, 0)
	const char *prefix[] = { TORC_STEP_EXEC };

	(void)argv;
	spank_prepend_task_argv(spank, 1, prefix);
#else
	static char step_exec[] = TORC_STEP_EXEC;

	if (spank_setenv(spank, "TORC_SPANK_COMMAND", argv[0], 1) == ESPANK_SUCCESS)
		argv[0] = step_exec;
#endif
}

/* The root of the node, which a container plugin may have left when the task is initialised. */
int slurm_spank_user_init(spank_t spank, int ac, char *av[])
{
	(void)spank, (void)ac, (void)av;
	is_installed = is_executable(TORC_STEP_EXEC);
	return 0;
}

int slurm_spank_task_init(spank_t spank, int ac, char *av[])
{
	struct request request;
	char words[WORDS_LEN];
	char **argv = NULL;
	int argc = 0, task = -1;

	(void)ac, (void)av;
	if (!site.usable || !is_wanted(spank, &request) || !is_of_a_kind_to_measure(spank, &request))
		return 0;
	if (spank_get_item(spank, S_JOB_ARGV, &argc, &argv) != ESPANK_SUCCESS || argc < 1)
		return 0;
	if (!is_executable(TORC_STEP_EXEC)) { /* it may be missing in a container */
		spank_get_item(spank, S_TASK_ID, &task);
		if (!is_installed && task == 0)
			slurm_error("torc: %s cannot be executed: the command runs unmeasured", TORC_STEP_EXEC);
		return 0;
	}
	if (is_measured_by_itself(argc, argv) || !write_words(&request, words, sizeof(words)))
		return 0;
	put_in_front(spank, argv, words);
	return 0;
}
