/* Resource limits, of two processes that have other ones. */
#include "state.h"
#include <sys/mman.h>
#include <sys/resource.h>

static volatile int *wanted;

static void lower(int by)
{
	for (int which = 0; which < RLIM_NLIMITS; which++) {
		struct rlimit limit = { 1 << 20 | (rlim_t)(by + which), 1 << 21 | (rlim_t)(by + which) }, old;
		NEED_EQ(getrlimit((__rlimit_resource_t)which, &old), 0);
		/* Too few of these and nothing works any more. */
		if (which == RLIMIT_AS || which == RLIMIT_DATA || which == RLIMIT_STACK || which == RLIMIT_CPU) {
			limit.rlim_cur <<= 15;
			limit.rlim_max <<= 15;
		}
		if (setrlimit((__rlimit_resource_t)which, &limit) == 0)
			continue;
		/* What only the privileged may raise. */
		NEED_EQ(errno, EPERM);
		if (limit.rlim_max > old.rlim_max)
			limit.rlim_max = old.rlim_max - (old.rlim_max > 0);
		if (limit.rlim_cur >= limit.rlim_max)
			limit.rlim_cur = limit.rlim_max - (limit.rlim_max > 0);
		NEED_EQ(setrlimit((__rlimit_resource_t)which, &limit), 0);
	}
}

static struct rlimit mine[RLIM_NLIMITS];

static void remember(void)
{
	for (int which = 0; which < RLIM_NLIMITS; which++)
		NEED_EQ(getrlimit((__rlimit_resource_t)which, &mine[which]), 0);
}

static void compare(void)
{
	for (int which = 0; which < RLIM_NLIMITS; which++) {
		struct rlimit now;
		NEED_EQ(getrlimit((__rlimit_resource_t)which, &now), 0);
		NEED_EQ(now.rlim_cur, mine[which].rlim_cur);
		NEED_EQ(now.rlim_max, mine[which].rlim_max);
	}
}

static void setup(void)
{
	struct timespec tick = { 0, 1000000 };
	wanted = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	NEED(wanted != MAP_FAILED);
	remember();
	if (fork() == 0) {
		lower(100);
		remember();
		wanted[1] = -1;
		for (int seen = 0;; seen = *wanted) {
			while (*wanted == seen)
				nanosleep(&tick, NULL);
			state_generation = *wanted;
			compare();
			wanted[1] = *wanted;
		}
	}
	while (wanted[1] != -1)
		nanosleep(&tick, NULL);
}

static void check(int generation)
{
	struct timespec tick = { 0, 1000000 };
	compare();
	*wanted = generation;
	while (wanted[1] != generation)
		nanosleep(&tick, NULL);
}
