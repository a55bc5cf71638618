/* Job control: who is stopped, by which signal, who knows of it, and what SIGCONT does. */
#include "state.h"
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>

enum { PAUSER, READER, COUNTER, SLEEPER, HOLDER, CHILDREN };

/* What the children tell. */
static struct {
	/* How often something that waited came back, and with which errno. */
	atomic_int back[CHILDREN], reason[CHILDREN];
	atomic_int continued[CHILDREN];
	atomic_ulong count[3];
	/* Says whether the HOLDER is to let go of what it blocks. */
	atomic_int release;
} *told;

static pid_t children[CHILDREN];
static int to_reader[2];
static atomic_int chld, traps;
static int self;

static void tick(void)
{
	struct timespec ms = { 0, 1000000 };
	nanosleep(&ms, NULL);
}

static void on_cont(int signal)
{
	(void)signal;
	atomic_fetch_add(&told->continued[self], 1);
}

static void on_chld(int signal)
{
	(void)signal;
	atomic_fetch_add(&chld, 1);
}

static void on_trap(int signal)
{
	(void)signal;
	atomic_fetch_add(&traps, 1);
}

static void handle(int signal, void (*handler)(int), int flags)
{
	struct sigaction action = { .sa_handler = handler, .sa_flags = flags };
	sigaction(signal, &action, NULL);
}

static void came_back(int result)
{
	atomic_store(&told->reason[self], result < 0 ? errno : 0);
	atomic_fetch_add(&told->back[self], 1);
}

/* A call that a handler ends, whatever SA_RESTART says. */
static void pauser(void)
{
	handle(SIGCONT, on_cont, SA_RESTART);
	for (;;)
		came_back(pause());
}

/* A call that goes on behind a handler. */
static void reader(void)
{
	char byte;
	handle(SIGCONT, on_cont, SA_RESTART);
	for (;;)
		came_back(read(to_reader[0], &byte, 1) == 1 ? 0 : -1);
}

static void *count(void *of)
{
	for (;;)
		atomic_fetch_add((atomic_ulong *)of, 1);
	return NULL;
}

static void counter(void)
{
	pthread_t thread;
	for (int i = 0; i < 2; i++)
		if (pthread_create(&thread, NULL, count, &told->count[i]))
			_exit(91);
	count(&told->count[2]);
}

/* A long sleep that tells how much of it is left: it must not end early. */
static void sleeper(void)
{
	struct timespec left = { 3600, 0 };
	while (nanosleep(&left, &left))
		came_back(-1);
	came_back(0);
}

/* Keeps one SIGCONT, and one signal that stops, from being delivered. */
static void holder(void)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGCONT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	handle(SIGCONT, on_cont, 0);
	raise(SIGCONT);
	atomic_store(&told->back[self], 1);
	while (!atomic_load(&told->release))
		tick();
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	for (;;)
		pause();
}

static void (*const jobs[CHILDREN])(void) = { pauser, reader, counter, sleeper, holder };
static const int stops[CHILDREN] = { SIGTSTP, SIGTTIN, SIGSTOP, SIGTTOU, 0 };

/* State of a process or thread, and the number of its system call. */
static char state(pid_t pid)
{
	char path[64], text[512];
	snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	int fd = open(path, O_RDONLY);
	NEED(fd >= 0);
	ssize_t len = read(fd, text, sizeof text - 1);
	close(fd);
	NEED(len > 0);
	text[len] = 0;
	return strrchr(text, ')')[2];
}

static long in_call(pid_t pid)
{
	char path[64], text[256];
	snprintf(path, sizeof path, "/proc/%d/syscall", (int)pid);
	int fd = open(path, O_RDONLY);
	NEED(fd >= 0);
	ssize_t len = read(fd, text, sizeof text - 1);
	close(fd);
	text[len > 0 ? len : 0] = 0;
	return text[0] >= '0' && text[0] <= '9' ? atol(text) : -1;
}

static void await_state(pid_t pid, char wanted)
{
	for (int i = 0; state(pid) != wanted; i++) {
		NEED(i < 20000);
		tick();
	}
}

static void stop(int i)
{
	NEED(kill(children[i], stops[i]) == 0);
	await_state(children[i], 'T');
}

/* Odd children are stopped without the parent looking. */
static void look_at_stop(int i)
{
	int status;
	NEED_EQ(waitpid(children[i], &status, WUNTRACED), children[i]);
	NEED(WIFSTOPPED(status));
	NEED_EQ(WSTOPSIG(status), stops[i]);
}

static void stop_all(void)
{
	for (int i = 0; i < CHILDREN; i++) {
		if (!stops[i])
			continue;
		stop(i);
		if (i % 2 == 0)
			look_at_stop(i);
	}
}

static void setup(void)
{
	told = mmap(NULL, sizeof *told, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	NEED(told != MAP_FAILED && pipe(to_reader) == 0);
	handle(SIGCHLD, on_chld, SA_RESTART);
	handle(SIGTRAP, on_trap, 0);
	for (self = 0; self < CHILDREN; self++) {
		children[self] = fork();
		if (children[self] == 0) {
			/* Not an orphaned group: its parent is in another one of the session. */
			setpgid(0, 0);
			jobs[self]();
		}
		NEED(children[self] > 0);
		setpgid(children[self], children[self]);
	}
	while (in_call(children[PAUSER]) != 34 || in_call(children[READER]) != 0 ||
	       (in_call(children[SLEEPER]) != 35 && in_call(children[SLEEPER]) != 230) ||
	       !atomic_load(&told->back[HOLDER]))
		tick();
	for (int i = 0; i < 3; i++)
		while (!atomic_load(&told->count[i]))
			tick();
	stop_all();
	NEED(atomic_load(&chld) > 0);
	atomic_store(&chld, 0);
}

static void check(int generation)
{
	int status;
	for (int i = 0; i < CHILDREN; i++) {
		if (!stops[i])
			continue;
		/* All are let go one after the other. */
		await_state(children[i], 'T');
		if (i % 2 == 0)
			NEED_EQ(waitpid(children[i], &status, WUNTRACED | WNOHANG), 0);
		else
			look_at_stop(i);
	}
	/* Nobody has told us anything. */
	NEED_EQ(atomic_load(&chld), 0);
	unsigned long before = atomic_load(&told->count[0]);
	tick();
	NEED_EQ(atomic_load(&told->count[0]), before);
	NEED_EQ(atomic_load(&told->back[PAUSER]), generation - 1);
	NEED_EQ(atomic_load(&told->continued[READER]), generation - 1);

	for (int i = 0; i < CHILDREN; i++)
		if (stops[i])
			NEED(kill(children[i], SIGCONT) == 0);
	while (atomic_load(&told->back[PAUSER]) != generation || atomic_load(&told->continued[READER]) != generation)
		tick();
	NEED_EQ(atomic_load(&told->reason[PAUSER]), EINTR);
	NEED_EQ(atomic_load(&told->continued[PAUSER]), generation);
	NEED_EQ(atomic_load(&told->back[READER]), generation - 1);
	NEED(write(to_reader[1], "x", 1) == 1);
	while (atomic_load(&told->back[READER]) != generation)
		tick();
	NEED_EQ(atomic_load(&told->reason[READER]), 0);
	for (int i = 0; i < 3; i++) {
		before = atomic_load(&told->count[i]);
		while (atomic_load(&told->count[i]) == before)
			tick();
	}
	/* Still asleep, and nothing has woken it. */
	await_state(children[SLEEPER], 'S');
	NEED_EQ(atomic_load(&told->back[SLEEPER]), 0);

	/* What is blocked is still to come. */
	NEED_EQ(atomic_load(&told->continued[HOLDER]), generation == 1 ? 0 : 1);
	atomic_store(&told->release, 1);
	while (!atomic_load(&told->continued[HOLDER]))
		tick();

	/* Our own handlers are what they were. */
	atomic_store(&traps, 0);
	raise(SIGTRAP);
	NEED_EQ(atomic_load(&traps), 1);

	while (in_call(children[PAUSER]) != 34 || in_call(children[READER]) != 0)
		tick();
	stop_all();
	atomic_store(&chld, 0);
	if (generation == 2)
		for (int i = 0; i < CHILDREN; i++)
			kill(children[i], SIGKILL);
}
