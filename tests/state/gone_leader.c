/* A process whose first thread has ended while others go on. */
#include "state.h"
#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static volatile int *wanted, *looked;
static pid_t child;


/* The state of a thread, as /proc shows it. */
static char state_of(pid_t pid, pid_t tid)
{
	char path[64], text[512], *end;
	snprintf(path, sizeof path, "/proc/%d/task/%d/stat", (int)pid, (int)tid);
	int fd = open(path, O_RDONLY);
	ssize_t length = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
	NEED(length > 0 && close(fd) == 0);
	text[length] = 0;
	end = strrchr(text, ')');
	NEED(end != NULL);
	return end[2];
}

static void *survivor(void *arg)
{
	struct timespec tick = { 0, 1000000 };
	sigset_t set;
	siginfo_t info;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	while (state_of(getpid(), getpid()) != 'Z')
		nanosleep(&tick, NULL);
	*looked = 0;
	for (;;) {
		while (*looked == *wanted)
			nanosleep(&tick, NULL);
		state_generation = *wanted;
		NEED_EQ(state_of(getpid(), getpid()), 'Z');
		NEED(syscall(SYS_gettid) != getpid());
		/* A signal for the process does not get stuck in the thread that is gone. */
		NEED_EQ(kill(getpid(), SIGUSR1), 0);
		NEED_EQ(sigtimedwait(&set, &info, &(struct timespec){ 10, 0 }), SIGUSR1);
		if (*wanted == 2)
			syscall(SYS_exit_group, 9);
		*looked = *wanted;
	}
	return arg;
}

static void setup(void)
{
	struct timespec tick = { 0, 1000000 };
	wanted = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	NEED(wanted != MAP_FAILED);
	looked = wanted + 1;
	*looked = -1;
	child = fork();
	if (child == 0) {
		pthread_t thread;
		sigset_t set;
		sigemptyset(&set);
		sigaddset(&set, SIGUSR1);
		NEED_EQ(pthread_sigmask(SIG_BLOCK, &set, NULL), 0);
		NEED_EQ(pthread_create(&thread, NULL, survivor, NULL), 0);
		syscall(SYS_exit, 5);
	}
	while (*looked != 0)
		nanosleep(&tick, NULL);
}

static void check(int generation)
{
	struct timespec tick = { 0, 1000000 };
	int status;
	*wanted = generation;
	if (generation == 1) {
		while (*looked != generation)
			nanosleep(&tick, NULL);
		NEED_EQ(state_of(child, child), 'Z');
		NEED_EQ(waitpid(child, &status, WNOHANG), 0);
		return;
	}
	NEED_EQ(waitpid(child, &status, 0), child);
	NEED(WIFEXITED(status));
	NEED_EQ(WEXITSTATUS(status), 9);
}
