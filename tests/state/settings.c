/* Scheduling and the other settings of threads and processes. */
#include "state.h"
#include <linux/ioprio.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static pthread_barrier_t start, looked;
static int first_cpu;

/* A file of /proc/self with one number. */
static long number(const char *name, int base)
{
	char path[64], text[64] = "";
	snprintf(path, sizeof path, "/proc/self/%s", name);
	int fd = open(path, O_RDONLY);
	NEED(fd >= 0 && read(fd, text, sizeof text - 1) > 0 && close(fd) == 0);
	return strtol(text, NULL, base);
}

static void set_number(const char *name, const char *value)
{
	char path[64];
	snprintf(path, sizeof path, "/proc/self/%s", name);
	int fd = open(path, O_WRONLY);
	NEED(fd >= 0 && write(fd, value, strlen(value)) > 0 && close(fd) == 0);
}

static void look_at_thread(void)
{
	struct sched_param param;
	cpu_set_t set;
	NEED_EQ(sched_getscheduler(0), SCHED_BATCH);
	NEED_EQ(sched_getparam(0, &param), 0);
	NEED_EQ(getpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid)), 11);
	NEED_EQ(sched_getaffinity(0, sizeof set, &set), 0);
	NEED_EQ(CPU_COUNT(&set), 1);
	NEED(CPU_ISSET(first_cpu, &set));
	NEED_EQ(prctl(PR_GET_TIMERSLACK), 4711);
	NEED_EQ(syscall(SYS_ioprio_get, 1, 0), IOPRIO_PRIO_VALUE(IOPRIO_CLASS_BE, 6));
	NEED_EQ(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 1);
}

/* All of this is the thread's own: the first thread keeps what it has. */
static void *thread(void *arg)
{
	struct sched_param param = { 0 };
	cpu_set_t set;
	CPU_ZERO(&set);
	CPU_SET(first_cpu, &set);
	NEED_EQ(sched_setscheduler(0, SCHED_BATCH, &param), 0);
	NEED_EQ(setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), 11), 0);
	NEED_EQ(sched_setaffinity(0, sizeof set, &set), 0);
	NEED_EQ(prctl(PR_SET_TIMERSLACK, 4711), 0);
	NEED_EQ(syscall(SYS_ioprio_set, 1, 0, IOPRIO_PRIO_VALUE(IOPRIO_CLASS_BE, 6)), 0);
	NEED_EQ(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	for (;;) {
		pthread_barrier_wait(&start);
		look_at_thread();
		pthread_barrier_wait(&looked);
	}
	return arg;
}

static int subreapers_child(void)
{
	/* Its parent, a subreaper below the root task, becomes the parent of its child when it ends. */
	pid_t parent = getpid(), orphan = fork();
	if (orphan == 0) {
		struct timespec tick = { 0, 1000000 };
		while (getppid() == parent)
			nanosleep(&tick, NULL);
		_exit(7);
	}
	_exit(orphan < 0);
}

static int subreaper(int request)
{
	char word;
	int status;
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	while (read(request, &word, 1) == 1) {
		pid_t child = fork();
		if (child == 0)
			return subreapers_child();
		if (waitpid(child, &status, 0) != child || status != 0)
			return 1;
		if (wait(&status) < 0 || !WIFEXITED(status) || WEXITSTATUS(status) != 7)
			return 2;
		state_put("adopted", "");
	}
	return 0;
}

static int request[2];

/* Threads that the kernel schedules in other ways; what it refuses at first is not looked at. */
static struct policy {
	const char *name;
	struct attributes {
		uint32_t size, policy;
		uint64_t flags;
		int32_t nice;
		uint32_t priority;
		uint64_t runtime, deadline, period;
	} wanted;
	int taken;
} policies[] = {
	{ "idle", { .policy = SCHED_IDLE }, 0 },
	{ "batch", { .policy = SCHED_BATCH, .nice = -7, .runtime = 5000000 }, 0 },
	{ "fifo", { .policy = SCHED_FIFO, .priority = 17 }, 0 },
	{ "round", { .policy = SCHED_RR, .priority = 3, .flags = 1 }, 0 },
	{ "deadline", { .policy = 6, .runtime = 1000000, .deadline = 50000000, .period = 100000000 }, 0 },
};
enum { POLICIES = sizeof policies / sizeof *policies };
static pthread_barrier_t policies_start, policies_looked;

static void *scheduled(void *arg)
{
	struct policy *own = arg;
	struct attributes now;
	const int nice = 5 + (int)(own - policies);
	own->wanted.size = sizeof own->wanted;
	/* It has this again when it goes back to an ordinary policy. */
	NEED_EQ(setpriority(PRIO_PROCESS, 0, nice), 0);
	own->taken = syscall(SYS_sched_setattr, 0, &own->wanted, 0) == 0;
	if (!own->taken)
		NEED(errno == EPERM || errno == EBUSY);
	/* Newer kernels have a time slice here, also for those who asked for none. */
	NEED_EQ(syscall(SYS_sched_getattr, 0, &now, sizeof now, 0), 0);
	if (own->wanted.policy != 6)
		own->wanted.runtime = now.runtime;
	for (;;) {
		pthread_barrier_wait(&policies_looked);
		pthread_barrier_wait(&policies_start);
		NEED_EQ(syscall(SYS_sched_getattr, 0, &now, sizeof now, 0), 0);
		if (!own->taken)
			continue;
		NEED_EQ(now.policy, own->wanted.policy);
		NEED_EQ(now.flags, own->wanted.flags);
		NEED_EQ(getpriority(PRIO_PROCESS, 0), own->wanted.policy == SCHED_BATCH ? -7 : nice);
		NEED_EQ(now.priority, own->wanted.priority);
		NEED_EQ(now.runtime, own->wanted.runtime);
		NEED_EQ(now.deadline, own->wanted.deadline);
		NEED_EQ(now.period, own->wanted.period);
	}
	return arg;
}

static void policies_up(void)
{
	pthread_t thread;
	pthread_barrier_init(&policies_start, NULL, POLICIES + 1);
	pthread_barrier_init(&policies_looked, NULL, POLICIES + 1);
	for (int i = 0; i < POLICIES; i++)
		NEED_EQ(pthread_create(&thread, NULL, scheduled, &policies[i]), 0);
	pthread_barrier_wait(&policies_looked);
}

/* What is said of memory that can be written and executed, and of the time stamp counter, in child number i. */
#ifndef PR_SET_MDWE
#define PR_SET_MDWE 65
#define PR_GET_MDWE 66
#endif
enum { DENIED = 3 };
static struct {
	pid_t pid;
	int mdwe, tsc;
} denied[DENIED] = { { .mdwe = 1, .tsc = PR_TSC_ENABLE }, { .mdwe = 3, .tsc = PR_TSC_SIGSEGV }, { .tsc = PR_TSC_SIGSEGV } };

static int executable(void)
{
	void *at = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return at != MAP_FAILED && !munmap(at, 4096);
}

static void look_at_denied(int i, int taken)
{
	int tsc = 0;
	NEED_EQ(prctl(PR_GET_TSC, &tsc), 0);
	NEED_EQ(tsc, denied[i].tsc);
	if (!taken)
		return;
	NEED_EQ(prctl(PR_GET_MDWE, 0, 0, 0, 0), denied[i].mdwe);
	NEED_EQ(executable(), !denied[i].mdwe);
	/* A child has it too, or not. */
	pid_t child = fork();
	int status;
	if (child == 0)
		_exit(prctl(PR_GET_MDWE, 0, 0, 0, 0));
	NEED(child > 0 && waitpid(child, &status, 0) == child);
	NEED_EQ(status, (denied[i].mdwe == 1) << 8);
}

static void *look_from_thread(void *arg)
{
	int i = *(int *)arg, tsc = 0;
	char go[32];
	NEED_EQ(prctl(PR_SET_TSC, PR_TSC_ENABLE), 0);
	for (int generation = 1; generation <= 2; generation++) {
		snprintf(go, sizeof go, "go.%d", generation);
		state_await(go);
		NEED_EQ(prctl(PR_GET_TSC, &tsc), 0);
		NEED_EQ(tsc, PR_TSC_ENABLE);
		NEED_EQ(executable(), !denied[i].mdwe);
	}
	return NULL;
}

static void denied_up(void)
{
	for (int i = 0; i < DENIED; i++) {
		denied[i].pid = fork();
		NEED(denied[i].pid >= 0);
		if (denied[i].pid)
			continue;
		pthread_t other;
		int taken = !prctl(PR_SET_MDWE, denied[i].mdwe, 0, 0, 0);
		if (!taken)
			denied[i].mdwe = 0;
		NEED_EQ(pthread_create(&other, NULL, look_from_thread, &i), 0);
		NEED_EQ(prctl(PR_SET_TSC, denied[i].tsc), 0);
		for (int generation = 1; generation <= 2; generation++) {
			char go[32];
			snprintf(go, sizeof go, "go.%d", generation);
			state_await(go);
			look_at_denied(i, taken);
		}
		NEED(!pthread_join(other, NULL));
		_exit(42);
	}
}

static void denied_end(void)
{
	int status;
	for (int i = 0; i < DENIED; i++)
		NEED(waitpid(denied[i].pid, &status, 0) == denied[i].pid && status == 42 << 8);
}

static void setup(void)
{
	denied_up();
	cpu_set_t set;
	pthread_t second;
	NEED(pipe(request) == 0);
	pid_t child = fork();
	if (child == 0) {
		close(request[1]);
		_exit(subreaper(request[0]));
	}
	NEED(child > 0);
	NEED_EQ(sched_getaffinity(0, sizeof set, &set), 0);
	for (first_cpu = 0; !CPU_ISSET(first_cpu, &set);)
		first_cpu++;
	set_number("oom_score_adj", "321");
	set_number("coredump_filter", "0x11");
	NEED(personality(ADDR_NO_RANDOMIZE | STICKY_TIMEOUTS) >= 0);
	NEED_EQ(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0), 0);
	NEED_EQ(prctl(PR_SET_DUMPABLE, 0), 0);
	NEED_EQ(setpriority(PRIO_PROCESS, 0, 3), 0);
	pthread_barrier_init(&start, NULL, 2);
	pthread_barrier_init(&looked, NULL, 2);
	NEED_EQ(pthread_create(&second, NULL, thread, NULL), 0);
	policies_up();
}

static void check(int generation)
{
	cpu_set_t set;
	(void)generation;
	pthread_barrier_wait(&start);
	pthread_barrier_wait(&looked);
	NEED_EQ(sched_getscheduler(0), SCHED_OTHER);
	NEED_EQ(getpriority(PRIO_PROCESS, 0), 3);
	NEED_EQ(sched_getaffinity(0, sizeof set, &set), 0);
	NEED_EQ(CPU_COUNT(&set), sysconf(_SC_NPROCESSORS_ONLN));
	NEED(prctl(PR_GET_TIMERSLACK) != 4711);
	NEED_EQ(syscall(SYS_ioprio_get, 1, 0), 0);
	NEED_EQ(personality(0xffffffff), ADDR_NO_RANDOMIZE | STICKY_TIMEOUTS);
	NEED_EQ(prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0), 1);
	NEED_EQ(prctl(PR_GET_DUMPABLE), 0);
	/* Its own files of /proc are root's while it is undumpable. */
	NEED_EQ(prctl(PR_SET_DUMPABLE, 1), 0);
	NEED_EQ(number("oom_score_adj", 10), 321);
	NEED_EQ(number("coredump_filter", 16), 0x11);
	NEED_EQ(prctl(PR_SET_DUMPABLE, 0), 0);
	NEED_EQ(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), generation - 1);
	NEED_EQ(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	pthread_barrier_wait(&policies_start);
	pthread_barrier_wait(&policies_looked);
	unlink("adopted");
	NEED(write(request[1], "x", 1) == 1);
	state_await("adopted");
	if (generation == 2)
		denied_end();
}
