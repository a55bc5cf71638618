/* A periodic alarm whose signal waits: the kernel starts it again only when that has been taken. */
#include "state.h"
#include <sys/time.h>

static sigset_t set;

static void await_signal(void)
{
	sigset_t pending;
	struct timespec tick = { 0, 1000000 };
	for (int i = 0;; i++) {
		NEED_EQ(sigpending(&pending), 0);
		if (sigismember(&pending, SIGALRM))
			return;
		NEED(i < 20000);
		nanosleep(&tick, NULL);
	}
}

static void setup(void)
{
	struct itimerval often = { { 0, 2000 }, { 0, 1000 } };
	sigemptyset(&set);
	sigaddset(&set, SIGALRM);
	NEED_EQ(sigprocmask(SIG_BLOCK, &set, NULL), 0);
	NEED_EQ(setitimer(ITIMER_REAL, &often, NULL), 0);
	await_signal();
}

static void check(int generation)
{
	struct itimerval now;
	struct timespec none = { 0, 0 };
	(void)generation;
	NEED_EQ(getitimer(ITIMER_REAL, &now), 0);
	NEED(now.it_interval.tv_sec == 0 && now.it_interval.tv_usec == 2000);
	/* The one that waits, and those that follow. */
	for (int i = 0; i < 4; i++) {
		NEED_EQ(sigtimedwait(&set, NULL, i ? &(struct timespec){ 20, 0 } : &none), SIGALRM);
	}
	await_signal();
}
