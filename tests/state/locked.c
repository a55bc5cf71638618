/* Memory that is locked, at once or when it is touched; what mlockall(2) has said of mappings to come. */
#include "state.h"
#include <sys/mman.h>
#include <sys/resource.h>

#define PAGE 4096ul
#define RW (PROT_READ | PROT_WRITE)

static char *locked, *on_fault, *nothing, *before;
static struct rlimit limit;
static int fault_child;

static char *map(int prot)
{
	char *got = mmap(NULL, 4 * PAGE, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	NEED(got != MAP_FAILED);
	return got;
}

/* The flags of the mapping that begins at `at`; " lo" and " lf" are of interest. */
static void is(char *at, int lock, int fault)
{
	char start[32], line[512];
	FILE *file = fopen("/proc/self/smaps", "re");
	int found = 0;
	NEED(file);
	snprintf(start, sizeof start, "%lx-", (unsigned long)at);
	while (fgets(line, sizeof line, file) && !(found && !strncmp(line, "VmFlags:", 8)))
		found |= !strncmp(line, start, strlen(start));
	fclose(file);
	NEED_EQ(strstr(line, " lo") != NULL, lock);
	NEED_EQ(strstr(line, " lf") != NULL, fault);
}

/* Pages of a new mapping that are there before anybody has touched them. */
static int present(char *at)
{
	unsigned char there[4];
	NEED(!mincore(at, 4 * PAGE, there));
	return (there[0] & 1) + (there[1] & 1) + (there[2] & 1) + (there[3] & 1);
}

static void fresh(int lock, int fault)
{
	char *at = map(RW);
	NEED_EQ(present(at), lock && !fault ? 4 : 0);
	at[PAGE] = 1;
	NEED(!munmap(at + 2 * PAGE, PAGE));
	is(at, lock, fault);
	NEED(!munmap(at, 4 * PAGE));
}

static void setup(void)
{
	before = map(RW);
	locked = map(RW);
	NEED(!mlock(locked, 4 * PAGE));
	strcpy(locked, "locked");
	on_fault = map(RW);
	NEED(!mprotect(on_fault + 2 * PAGE, 2 * PAGE, PROT_READ));
	NEED(!mlock2(on_fault, 2 * PAGE, MLOCK_ONFAULT));
	on_fault[PAGE] = 'f';
	/* Nobody can fill it, but it is locked. */
	nothing = map(PROT_NONE);
	NEED(mlock(nothing, 4 * PAGE) && errno == ENOMEM);
	fault_child = fork();
	NEED(fault_child >= 0);
	NEED(!mlockall(fault_child ? MCL_FUTURE : MCL_FUTURE | MCL_ONFAULT));
	NEED(!getrlimit(RLIMIT_MEMLOCK, &limit));
	limit.rlim_cur = 2 * PAGE;
	NEED(!setrlimit(RLIMIT_MEMLOCK, &limit));
	if (fault_child)
		return;
	/* A child of fork has no locks of its parent; this one, only those that it asks for. */
	char name[32];
	for (int i = 1; i <= 2; i++) {
		snprintf(name, sizeof name, "go.%d", i);
		state_await(name);
		is(locked, 0, 0);
		fresh(1, 1);
		snprintf(name, sizeof name, "child.%d", i);
		state_put(name, "");
	}
	for (;;)
		pause();
}

static void check(int generation)
{
	char name[32];
	is(before, 0, 0);
	is(locked, 1, 0);
	is(on_fault, 1, 1);
	is(on_fault + 2 * PAGE, 0, 0);
	is(nothing, 1, 0);
	NEED(!strcmp(locked, "locked") && on_fault[PAGE] == 'f');
	fresh(1, 0);
	struct rlimit now;
	NEED(!getrlimit(RLIMIT_MEMLOCK, &now));
	NEED(now.rlim_cur == limit.rlim_cur && now.rlim_max == limit.rlim_max);
	snprintf(name, sizeof name, "child.%d", generation);
	state_await(name);
}
