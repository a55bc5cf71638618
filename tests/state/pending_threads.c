/* Signals that wait for a process with threads: also those that a restart uses itself. */
#include "state.h"
#include <pthread.h>

static const int waiting[] = { SIGUSR1, SIGUSR2, SIGSEGV, SIGCHLD };
static pthread_t threads[3];

static void *idle(void *unused)
{
	for (;;)
		pause();
	return unused;
}

static void raise_all(void)
{
	for (size_t i = 0; i < sizeof waiting / sizeof *waiting; i++)
		NEED(!kill(getpid(), waiting[i]));
}

static void setup(void)
{
	sigset_t all;
	sigfillset(&all);
	NEED(!pthread_sigmask(SIG_SETMASK, &all, NULL));
	for (int i = 0; i < 3; i++)
		NEED(!pthread_create(&threads[i], NULL, idle, NULL));
	raise_all();
}

static void check(int generation)
{
	sigset_t set;
	(void)generation;
	NEED(!sigpending(&set));
	for (size_t i = 0; i < sizeof waiting / sizeof *waiting; i++) {
		sigset_t one;
		siginfo_t info;
		struct timespec now = { 0, 0 };
		NEED(sigismember(&set, waiting[i]));
		sigemptyset(&one);
		sigaddset(&one, waiting[i]);
		NEED_EQ(sigtimedwait(&one, &info, &now), waiting[i]);
		NEED_EQ(info.si_code, SI_USER);
	}
	raise_all();
}
