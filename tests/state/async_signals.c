/* Signals that tell of files (O_ASYNC): which, to whom, and with what. */
#include "state.h"
#include <pthread.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static int to_process[2], to_thread[2], to_child[2], to_group[2], plain[2], silent[2], answer;
static volatile pid_t thread_id;
static pid_t child;
static volatile int go;

static void owner(int fd, int kind, pid_t pid, int signal)
{
	struct f_owner_ex who = { kind, pid };
	NEED_EQ(fcntl(fd, F_SETOWN_EX, &who), 0);
	NEED_EQ(fcntl(fd, F_SETSIG, signal), 0);
	NEED_EQ(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_ASYNC), 0);
}

static void is_owner(int fd, int kind, pid_t pid, int signal)
{
	struct f_owner_ex who;
	NEED_EQ(fcntl(fd, F_GETOWN_EX, &who), 0);
	NEED_EQ(who.type, kind);
	NEED_EQ(who.pid, pid);
	NEED_EQ(fcntl(fd, F_GETSIG), signal);
}

static siginfo_t await(int signal)
{
	siginfo_t info;
	struct timespec limit = { 20, 0 };
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, signal);
	NEED_EQ(sigtimedwait(&set, &info, &limit), signal);
	return info;
}

static void say(uint64_t value)
{
	NEED_EQ(write(answer, &value, sizeof value), sizeof value);
}

static uint64_t hear(void)
{
	uint64_t value;
	NEED_EQ(read(answer, &value, sizeof value), sizeof value);
	return value;
}

static void put(int pipe[2])
{
	char byte = 'x';
	NEED_EQ(write(pipe[1], &byte, 1), 1);
	NEED_EQ(read(pipe[0], &byte, 1), 1);
}

static void *other(void *arg)
{
	thread_id = syscall(SYS_gettid);
	for (;;) {
		NEED_EQ(await(SIGRTMIN + 3).si_fd, to_thread[0]);
		say(3);
	}
	return arg;
}

static void setup(void)
{
	pthread_t thread;
	sigset_t set;
	int *pipes[] = { to_process, to_thread, to_child, to_group, plain, silent };
	for (unsigned i = 0; i < sizeof pipes / sizeof *pipes; i++)
		NEED_EQ(pipe(pipes[i]), 0);
	answer = eventfd(0, 0);
	NEED(answer >= 0);
	sigfillset(&set);
	sigdelset(&set, SIGTERM);
	NEED_EQ(pthread_sigmask(SIG_SETMASK, &set, NULL), 0);
	child = fork();
	if (child == 0) {
		for (;;) {
			NEED_EQ(await(SIGRTMIN + 4).si_code, POLL_IN);
			say(4);
		}
	}
	NEED_EQ(pthread_create(&thread, NULL, other, NULL), 0);
	while (thread_id == 0)
		usleep(1000);
	owner(to_process[0], F_OWNER_PID, getpid(), SIGRTMIN + 2);
	owner(to_thread[0], F_OWNER_TID, thread_id, SIGRTMIN + 3);
	owner(to_child[0], F_OWNER_PID, child, SIGRTMIN + 4);
	owner(to_group[0], F_OWNER_PGRP, getpgrp(), SIGRTMIN + 5);
	owner(plain[0], F_OWNER_PID, getpid(), 0);
	/* An owner, but it is not told. */
	struct f_owner_ex who = { F_OWNER_PID, child };
	NEED_EQ(fcntl(silent[0], F_SETOWN_EX, &who), 0);
	go = 1;
}

static void check(int generation)
{
	siginfo_t info;
	(void)generation;
	is_owner(to_process[0], F_OWNER_PID, getpid(), SIGRTMIN + 2);
	is_owner(to_thread[0], F_OWNER_TID, thread_id, SIGRTMIN + 3);
	is_owner(to_child[0], F_OWNER_PID, child, SIGRTMIN + 4);
	is_owner(to_group[0], F_OWNER_PGRP, getpgrp(), SIGRTMIN + 5);
	is_owner(plain[0], F_OWNER_PID, getpid(), 0);
	is_owner(silent[0], F_OWNER_PID, child, 0);
	NEED_EQ(fcntl(silent[0], F_GETFL) & O_ASYNC, 0);
	NEED(fcntl(plain[0], F_GETFL) & O_ASYNC);
	put(to_process);
	info = await(SIGRTMIN + 2);
	NEED_EQ(info.si_code, POLL_IN);
	NEED_EQ(info.si_fd, to_process[0]);
	put(to_thread);
	NEED_EQ(hear(), 3);
	put(to_child);
	NEED_EQ(hear(), 4);
	put(to_group);
	await(SIGRTMIN + 5);
	put(plain);
	await(SIGIO);
	put(silent);
	sigset_t pending;
	NEED_EQ(sigpending(&pending), 0);
	NEED(!sigismember(&pending, SIGIO));
	/* What one has not taken must not be there in the next generation. */
	struct timespec now = { 0, 0 };
	sigset_t all;
	sigfillset(&all);
	while (sigtimedwait(&all, NULL, &now) > 0)
		;
}
