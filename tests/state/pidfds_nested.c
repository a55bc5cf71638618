/* Descriptors of processes that another pid namespace has no number for. */
#include "pidfd.h"
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>

static int of_inner, ask, answer;
static pid_t outside, inner;

static int open_pidfd(pid_t pid)
{
	return syscall(SYS_pidfd_open, pid, 0);
}

static int ready(int fd)
{
	struct pollfd poll_fd = { fd, POLLIN, 0 };
	return poll(&poll_fd, 1, 0);
}

/* Pid 1 of its namespace, with a pidfd of a process outside of it that nobody else has. */
static void answers(int of_outside)
{
	uint64_t what, value;
	for (;;) {
		if (read(ask, &what, sizeof what) != sizeof what)
			_exit(1);
		value = 1 + (whose(of_outside) == outside && !ready(of_outside) && getpid() == 1);
		if (write(answer, &value, sizeof value) != sizeof value)
			_exit(1);
	}
}

static void setup(void)
{
	ask = eventfd(0, 0);
	answer = eventfd(0, 0);
	NEED(ask >= 0 && answer >= 0);
	outside = fork();
	if (outside == 0)
		for (;;)
			pause();
	int of_outside = open_pidfd(outside);
	NEED(of_outside >= 0);
	inner = syscall(SYS_clone, CLONE_NEWPID | SIGCHLD, 0, 0, 0, 0);
	if (inner == 0)
		answers(of_outside);
	/* Who may not make a namespace has nothing to show here. */
	NEED(inner > 0 || errno == EPERM);
	NEED_EQ(close(of_outside), 0);
	of_inner = inner > 0 ? open_pidfd(inner) : -1;
	NEED(inner < 0 || of_inner >= 0);
}

static void check(int generation)
{
	if (inner < 0)
		return;
	uint64_t value = 1;
	struct pollfd poll_fd = { answer, POLLIN, 0 };
	NEED_EQ(whose(of_inner), inner);
	NEED_EQ(ready(of_inner), 0);
	NEED_EQ(write(ask, &value, sizeof value), sizeof value);
	NEED_EQ(poll(&poll_fd, 1, 20000), 1);
	NEED_EQ(read(answer, &value, sizeof value), sizeof value);
	NEED_EQ(value, 2);
	/* To the first of its namespace SIGTERM is nothing. */
	if (generation == 2)
		NEED_EQ(syscall(SYS_pidfd_send_signal, of_inner, SIGKILL, NULL, 0), 0);
}
