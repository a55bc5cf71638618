/* Descriptors of processes: whose, with which flags, who shares them, and what can be done with them. */
#include "pidfd.h"
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#ifndef PIDFD_THREAD
#define PIDFD_THREAD O_EXCL
#endif
#define PIDFD 3 /* P_PIDFD */

enum { ASK_PARENT = 1, ASK_FLAGS, ASK_SIBLING, ASK_PID };

static int self, of_child, of_zombie, of_thread, shared, watch, ask, answer;
static volatile pid_t thread_id;

static int open_pidfd(pid_t pid, int flags)
{
	return syscall(SYS_pidfd_open, pid, flags);
}

static void is(int fd, pid_t pid, int flags, int cloexec)
{
	NEED_EQ(whose(fd), pid);
	NEED_EQ(fcntl(fd, F_GETFL) & (O_ACCMODE | O_NONBLOCK | O_EXCL), O_RDWR | flags);
	NEED_EQ(fcntl(fd, F_GETFD), cloexec);
}

static int ready(int fd)
{
	struct pollfd poll_fd = { fd, POLLIN, 0 };
	return poll(&poll_fd, 1, 0);
}

static uint64_t hear(void)
{
	uint64_t value;
	struct pollfd poll_fd = { answer, POLLIN, 0 };
	NEED_EQ(poll(&poll_fd, 1, 20000), 1);
	NEED_EQ(read(answer, &value, sizeof value), sizeof value);
	return value - 1;
}

static uint64_t question(uint64_t what)
{
	NEED_EQ(write(ask, &what, sizeof what), sizeof what);
	return hear();
}

/* The child: has the shared ones of its parent, and two that the parent has not. */
static void answers(pid_t zombie)
{
	int of_parent = open_pidfd(getppid(), 0), of_sibling = open_pidfd(zombie, 0);
	uint64_t what, value = 0;
	/* The parent has none of that. */
	struct epoll_event event = { EPOLLIN, { .u64 = 7 } };
	if (epoll_ctl(watch, EPOLL_CTL_ADD, of_sibling, &event))
		_exit(1);
	for (;;) {
		if (read(ask, &what, sizeof what) != sizeof what)
			_exit(1);
		switch (what) {
		case ASK_PARENT:
			value = whose(of_parent) == getppid() && !ready(of_parent);
			break;
		case ASK_FLAGS:
			value = fcntl(shared, F_GETFL);
			break;
		case ASK_SIBLING:
			value = ready(of_sibling) ? whose(of_sibling) : 0;
			break;
		case ASK_PID:
			value = getpid();
			break;
		}
		value++;
		if (write(answer, &value, sizeof value) != sizeof value)
			_exit(1);
	}
}

static void *other(void *arg)
{
	for (;;) {
		thread_id = syscall(SYS_gettid);
		usleep(1000);
	}
	return arg;
}

static pid_t the_zombie(void)
{
	siginfo_t info;
	NEED_EQ(waitid(P_ALL, 0, &info, WEXITED | WNOWAIT), 0);
	return info.si_pid;
}

static void setup(void)
{
	pthread_t thread;
	ask = eventfd(0, 0);
	answer = eventfd(0, 0);
	watch = epoll_create1(0);
	NEED(ask >= 0 && answer >= 0 && watch >= 0);
	pid_t child, zombie = fork();
	if (zombie == 0)
		_exit(7);
	NEED_EQ(the_zombie(), zombie);
	self = open_pidfd(getpid(), 0);
	of_zombie = open_pidfd(zombie, O_NONBLOCK);
	shared = open_pidfd(getpid(), 0);
	NEED(self >= 0 && of_zombie >= 0 && shared >= 0);
	child = fork();
	if (child == 0)
		answers(zombie);
	of_child = open_pidfd(child, 0);
	NEED(of_child >= 0);
	NEED_EQ(fcntl(of_child, F_SETFD, 0), 0);
	NEED_EQ(pthread_create(&thread, NULL, other, NULL), 0);
	while (thread_id == 0)
		usleep(1000);
	/* Linux 6.9. */
	of_thread = open_pidfd(thread_id, PIDFD_THREAD);
	NEED(of_thread >= 0 || errno == EINVAL);
	struct epoll_event event = { EPOLLIN, { .u64 = 5 } };
	NEED_EQ(epoll_ctl(watch, EPOLL_CTL_ADD, of_child, &event), 0);
	event.data.u64 = 6;
	NEED_EQ(epoll_ctl(watch, EPOLL_CTL_ADD, of_zombie, &event), 0);
	/* The child is where it answers. */
	NEED_EQ(question(ASK_PARENT), 1);
}

static void check(int generation)
{
	siginfo_t info = { 0 };
	/* Nobody has to have the pid that he had. */
	pid_t child = question(ASK_PID), zombie = the_zombie();
	thread_id = 0;
	while (thread_id == 0)
		usleep(1000);
	is(self, getpid(), 0, FD_CLOEXEC);
	is(of_child, child, 0, 0);
	is(of_zombie, zombie, O_NONBLOCK, FD_CLOEXEC);
	is(shared, getpid(), generation == 1 ? 0 : O_NONBLOCK, FD_CLOEXEC);
	if (of_thread >= 0) {
		is(of_thread, thread_id, O_EXCL, FD_CLOEXEC);
		NEED_EQ(ready(of_thread), 0);
	}
	NEED_EQ(ready(self), 0);
	NEED_EQ(ready(of_child), 0);
	NEED_EQ(ready(of_zombie), 1);
	/* They do what they are for. */
	NEED_EQ(syscall(SYS_pidfd_send_signal, of_child, 0, NULL, 0), 0);
	NEED_EQ(waitid(PIDFD, of_zombie, &info, WEXITED | WNOWAIT), 0);
	NEED_EQ(info.si_pid, zombie);
	NEED_EQ(info.si_status, 7);
	/* Those of the child, and the one that is the same file here and there. */
	NEED_EQ(question(ASK_PARENT), 1);
	NEED_EQ(question(ASK_SIBLING), zombie);
	int flags = fcntl(shared, F_GETFL) ^ O_NONBLOCK;
	NEED_EQ(fcntl(shared, F_SETFL, flags), 0);
	NEED_EQ(question(ASK_FLAGS), flags);
	struct epoll_event events[4];
	NEED_EQ(epoll_wait(watch, events, 4, 0), 2);
	NEED_EQ(events[0].data.u64 + events[1].data.u64, 6 + 7);
	if (generation < 2)
		return;
	/* In the end the child goes. */
	NEED_EQ(syscall(SYS_pidfd_send_signal, of_child, SIGKILL, NULL, 0), 0);
	NEED_EQ(waitid(PIDFD, of_child, &info, WEXITED), 0);
	NEED_EQ(info.si_pid, child);
	/* What it has added goes with it. */
	NEED_EQ(epoll_wait(watch, events, 4, 0), 2);
	NEED_EQ(events[0].data.u64 + events[1].data.u64, 5 + 6);
}
