/* Threads: their ids and names, masks, CPUs, alternate stacks, robust lists, restartable sequences, thread-local data. */
#include "state.h"
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <ucontext.h>
#if defined __has_include && __has_include(<sys/rseq.h>)
#include <sys/rseq.h>
#endif

#define THREADS 20

static pthread_t threads[THREADS];
static pid_t tids[THREADS];
static pthread_barrier_t start, looked;
static pthread_mutex_t robust;
static __thread int local;
static __thread char altstack[32768];
static __thread volatile sig_atomic_t on_altstack;
static int owner_dies;
/* Those that the program may use at all. */
static cpu_set_t cpus;

/* The CPU of a thread: every third may use all of them, and -1 is told. */
static int cpu_of(int me)
{
	int nth = me / 3 % CPU_COUNT(&cpus);
	if (me % 3 == 2)
		return -1;
	for (int cpu = 0;; cpu++)
		if (CPU_ISSET(cpu, &cpus) && nth-- == 0)
			return cpu;
}

static void look_at_cpu(int me)
{
	cpu_set_t set, wanted = cpus;
	int cpu = cpu_of(me), now = sched_getcpu();
	if (cpu >= 0) {
		CPU_ZERO(&wanted);
		CPU_SET(cpu, &wanted);
	}
	NEED_EQ(sched_getaffinity(0, sizeof set, &set), 0);
	NEED(CPU_EQUAL(&set, &wanted));
	/* Where the C library has restartable sequences it reads this from the memory that it has told the kernel of. */
	NEED(now >= 0 && CPU_ISSET(now, &wanted));
#ifdef RSEQ_SIG
	if (__rseq_size == 0)
		return;
	/* The same memory again is refused so; what the kernel does not know of would be taken. */
	struct rseq *area = (struct rseq *)((char *)__builtin_thread_pointer() + __rseq_offset);
	NEED(syscall(SYS_rseq, area, 32, 0, RSEQ_SIG) < 0);
	NEED_EQ(errno, EBUSY);
	NEED_EQ(area->rseq_cs, 0);
#endif
}

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
	look_at_cpu(me);
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
	if (cpu_of(me) >= 0) {
		cpu_set_t set;
		CPU_ZERO(&set);
		CPU_SET(cpu_of(me), &set);
		NEED_EQ(sched_setaffinity(0, sizeof set, &set), 0);
	}
	look_at_cpu(me);
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
	NEED_EQ(sched_getaffinity(0, sizeof cpus, &cpus), 0);
	NEED_EQ(prctl(PR_SET_NAME, "a first (one)) "), 0);
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
	char name[16];
	NEED_EQ(syscall(SYS_gettid), getpid());
	NEED_EQ(prctl(PR_GET_NAME, name), 0);
	NEED(!strcmp(name, "a first (one)) "));
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
