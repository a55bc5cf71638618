/* Threads: their ids and names, masks, alternate stacks, robust lists, restartable sequences, thread-local data. */
#include "state.h"
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <ucontext.h>

#define THREADS 20

static pthread_t threads[THREADS];
static pid_t tids[THREADS];
static pthread_barrier_t start, looked;
static pthread_mutex_t robust;
static __thread int local;
static __thread char altstack[32768];
static __thread volatile sig_atomic_t on_altstack;
static int owner_dies;

static void handler(int number)
{
	char here;
	(void)number;
	on_altstack = &here > altstack && &here < altstack + sizeof altstack;
}

static void look(int me)
{
	char name[16], wanted[16];
	sigset_t mask;
	stack_t alt;
	void *list;
	size_t length;
	NEED_EQ(local, me);
	NEED_EQ(syscall(SYS_gettid), tids[me]);
	snprintf(wanted, sizeof wanted, "thread %d", me);
	NEED_EQ(prctl(PR_GET_NAME, name), 0);
	NEED(!strcmp(name, wanted));
	NEED_EQ(pthread_sigmask(SIG_SETMASK, NULL, &mask), 0);
	NEED_EQ(sigismember(&mask, SIGRTMIN + me), 1);
	NEED_EQ(sigismember(&mask, SIGRTMIN + (me + 1) % THREADS), 0);
	NEED_EQ(sigaltstack(NULL, &alt), 0);
	NEED(alt.ss_sp == altstack && alt.ss_flags == 0);
	on_altstack = 0;
	NEED_EQ(pthread_kill(pthread_self(), SIGUSR1), 0);
	NEED(on_altstack);
	/* Where the C library has them it has told the kernel so: sched_getcpu() then reads that memory. */
	int cpu = sched_getcpu();
	NEED(cpu >= 0 && cpu < sysconf(_SC_NPROCESSORS_CONF));
	NEED_EQ(syscall(SYS_get_robust_list, 0, &list, &length), 0);
	NEED(list != NULL && length == 24);
}

static void *thread(void *arg)
{
	int me = (int)(intptr_t)arg;
	char name[16];
	sigset_t mask;
	stack_t alt = { .ss_sp = altstack, .ss_size = sizeof altstack };
	local = me;
	tids[me] = (pid_t)syscall(SYS_gettid);
	snprintf(name, sizeof name, "thread %d", me);
	NEED_EQ(prctl(PR_SET_NAME, name), 0);
	sigemptyset(&mask);
	sigaddset(&mask, SIGRTMIN + me);
	NEED_EQ(pthread_sigmask(SIG_SETMASK, &mask, NULL), 0);
	NEED_EQ(sigaltstack(&alt, NULL), 0);
	if (me == 0)
		NEED_EQ(pthread_mutex_lock(&robust), 0);
	pthread_barrier_wait(&looked);
	for (;;) {
		pthread_barrier_wait(&start);
		/* Its end, with the mutex held, is what the robust list is for. */
		if (me == 0 && owner_dies)
			return NULL;
		look(me);
		pthread_barrier_wait(&looked);
	}
}

static void setup(void)
{
	pthread_mutexattr_t attributes;
	struct sigaction action = { .sa_handler = handler, .sa_flags = SA_ONSTACK };
	NEED_EQ(sigaction(SIGUSR1, &action, NULL), 0);
	NEED_EQ(pthread_mutexattr_init(&attributes), 0);
	NEED_EQ(pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST), 0);
	NEED_EQ(pthread_mutex_init(&robust, &attributes), 0);
	pthread_barrier_init(&start, NULL, THREADS + 1);
	pthread_barrier_init(&looked, NULL, THREADS + 1);
	for (int i = 0; i < THREADS; i++)
		NEED_EQ(pthread_create(&threads[i], NULL, thread, (void *)(intptr_t)i), 0);
	pthread_barrier_wait(&looked);
}

static void check(int generation)
{
	NEED_EQ(syscall(SYS_gettid), getpid());
	if (generation == 2) {
		owner_dies = 1;
		pthread_barrier_wait(&start);
		NEED_EQ(pthread_join(threads[0], NULL), 0);
		NEED_EQ(pthread_mutex_lock(&robust), EOWNERDEAD);
		return;
	}
	NEED_EQ(pthread_mutex_trylock(&robust), EBUSY);
	pthread_barrier_wait(&start);
	pthread_barrier_wait(&looked);
}
