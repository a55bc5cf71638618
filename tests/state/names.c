/* Names of private mappings (PR_SET_VMA_ANON_NAME), of parts of them and of a child's. */
#include "state.h"
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define PAGE 4096ul
#define LONG "name of 79 characters: (0123456789 ABCDEFGHIJ abcdefghij) <.,;:!?> {+-*/=&|^~%}"

#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif

static char *parts, *untouched, *locked;
static int has_names, child;

static char *map(size_t pages, int prot)
{
	char *got = mmap(NULL, pages * PAGE, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	NEED(got != MAP_FAILED);
	return got;
}

static int name(char *at, size_t pages, const char *name)
{
	return prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, at, pages * PAGE, name);
}

/* A mapping that begins here, with as many pages, and this name, or without one. */
static void is(char *at, size_t pages, const char *name)
{
	char range[64], shown[128], line[512];
	FILE *file = fopen("/proc/self/maps", "re");
	int found = 0;
	NEED(file);
	snprintf(range, sizeof range, "%lx-%lx ", (unsigned long)at, (unsigned long)at + pages * PAGE);
	snprintf(shown, sizeof shown, "[anon:%s]\n", name ? name : "");
	while (!found && fgets(line, sizeof line, file))
		found = !strncmp(line, range, strlen(range));
	fclose(file);
	NEED(found);
	char *bracket = strchr(line, '[');
	NEED(name ? bracket && !strcmp(bracket, shown) : !bracket);
}

static void all(int generation)
{
	(void)generation;
	NEED(!strcmp(parts, "parts") && !strcmp(parts + 3 * PAGE, "more") && !strcmp(locked, "locked"));
	if (!has_names)
		return;
	is(parts, 1, child ? "first" : "of the child");
	is(parts + PAGE, 1, NULL);
	is(parts + 2 * PAGE, 2, "last  two ");
	is(untouched, 2, LONG);
	is(locked, 2, "locked");
}

static void setup(void)
{
	_Static_assert(sizeof LONG == 80, "the longest name");
	/* Something between them: mappings that touch may be shown as one. */
	map(1, PROT_READ);
	parts = map(4, PROT_READ | PROT_WRITE);
	map(1, PROT_NONE);
	untouched = map(2, PROT_NONE);
	map(1, PROT_READ);
	locked = map(2, PROT_READ | PROT_WRITE);
	map(1, PROT_READ);
	strcpy(parts, "parts");
	strcpy(parts + 3 * PAGE, "more");
	strcpy(locked, "locked");
	NEED(!mlock(locked, 2 * PAGE));
	has_names = !name(parts, 1, "first");
	if (!has_names) {
		NEED_EQ(errno, EINVAL);
		state_put("skipped", "this kernel has no names of mappings (CONFIG_ANON_VMA_NAME)");
	} else {
		NEED(!name(parts + 2 * PAGE, 2, "last  two "));
		NEED(!name(untouched, 2, LONG));
		NEED(!name(locked, 2, "locked"));
	}
	child = fork();
	NEED(child >= 0);
	if (child)
		return;
	NEED(!has_names || !name(parts, 1, "of the child"));
	for (int generation = 1; generation <= 2; generation++) {
		char go[32];
		snprintf(go, sizeof go, "go.%d", generation);
		state_await(go);
		all(generation);
	}
	_exit(42);
}

static void check(int generation)
{
	int status;
	all(generation);
	if (generation == 2)
		NEED(waitpid(child, &status, 0) == child && status == 42 << 8);
}
