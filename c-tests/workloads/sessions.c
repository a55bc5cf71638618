/* sessions MODE: 64 processes in three sessions and several process groups, three generations deep. Each checks its pid, parent,
 * session and group. MODE is "same" (every number must be as before) or "moved" (the numbers may be others, but the same
 * for the same process wherever it is named). */
#include "workload.h"

enum { TASKS = 64 };

struct ids {
	int index;
	pid_t pid, parent, session, group;
};

static struct ids before[TASKS], after[TASKS];
static int report[2], start[2]; /* all write to one, all wait for the end of the other */

static struct ids ids(int index)
{
	struct ids i = { index, getpid(), getppid(), getsid(0), getpgrp() };
	return i;
}

static void tell(int index)
{
	struct ids i = ids(index);
	CHECK(write(report[1], &i, sizeof i) == sizeof i);
}

/* A process other than the root: tells its ids, waits, tells them again, and ends after its children. */
static void __attribute__((noreturn)) member(int index, int kids)
{
	char c;
	int status;
	tell(index);
	CHECK(read(start[0], &c, 1) == 0);
	tell(index);
	for (; kids; kids--)
		CHECK(wait(&status) > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0);
	_exit(0);
}

/* Forks process number *next, which is the only one to return 0. Its group is that of its leader, its own if 0, or
 * that of its parent if -1. */
static pid_t spawn(int *next, pid_t group)
{
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (!pid) {
		if (wl_ready_fd >= 0)
			close(wl_ready_fd);
		wl_ready_fd = -1;
		close(start[1]);
		CHECK(group < 0 || setpgid(0, group) == 0);
		return 0;
	}
	/* Both sides do it, so that the group is there for the next one. */
	if (group >= 0)
		setpgid(pid, group);
	++*next;
	return pid;
}

/* A process with `kids` children, of which the odd ones form a group of their own. Takes kids + 1 numbers. */
static void family(int *next, int kids)
{
	int mine = *next, inner = mine + 1;
	pid_t group = 0;
	if (spawn(next, -1)) {
		*next = mine + 1 + kids;
		return;
	}
	for (int i = 0; i < kids; i++) {
		int index = inner;
		pid_t pid = spawn(&inner, i % 2 ? group : -1);
		if (!pid)
			member(index, 0);
		if (i % 2 && !group)
			group = pid;
	}
	member(mine, kids);
}

/* A process that leads a session of its own, with two families of `kids` + 1 in it. */
static void session(int *next, int kids)
{
	int mine = *next, inner = mine + 1;
	if (spawn(next, -1)) {
		*next = mine + 1 + 2 * (kids + 1);
		return;
	}
	CHECK(setsid() == getpid());
	family(&inner, kids);
	family(&inner, kids);
	member(mine, 2);
}

static void collect(struct ids *all, int from)
{
	all[0] = ids(0);
	for (int n = from; n < TASKS; n++) {
		struct ids i;
		CHECK(read(report[0], &i, sizeof i) == sizeof i);
		CHECK(i.index > 0 && i.index < TASKS && all[i.index].pid == 0);
		all[i.index] = i;
	}
}

/* The new number of what was `old`. The root's parent and what is outside of the tree are not looked up. */
static pid_t moved(pid_t old)
{
	for (int i = 0; i < TASKS; i++)
		if (before[i].pid == old)
			return after[i].pid;
	wl_fail("%d is in no table", (int)old);
}

int main(int argc, char **argv)
{
	int status, next = 1, same = argc > 3 && !strcmp(argv[1], "same");
	wl_start(argc, argv);
	CHECK(pipe(report) == 0 && pipe(start) == 0);
	session(&next, 9); /* 1 + 2 * 10 = 21 */
	session(&next, 9); /* 21 */
	family(&next, 9);  /* 10 */
	family(&next, 10); /* 11 */
	CHECK(next == TASKS);
	collect(before, 1);
	wl_ready();
	wl_wait();
	wl_root = getpid(); /* for wl_fail, where the numbers moved */
	close(start[1]);
	collect(after, 1);
	int sessions = 0, groups = 0;
	for (int i = 0; i < TASKS; i++) {
		struct ids *b = &before[i], *a = &after[i];
		sessions += b->session == b->pid;
		groups += b->group == b->pid;
		if (same)
			CHECK(a->pid == b->pid && a->session == b->session && a->group == b->group);
		CHECK(i == 0 || a->parent == moved(b->parent));
		CHECK(a->session == moved(b->session) && a->group == moved(b->group));
		for (int j = 0; j < i; j++)
			CHECK(after[j].pid != a->pid);
	}
	CHECK(sessions == 3 && groups == 3 + 6);
	for (int kids = 4; kids; kids--)
		CHECK(wait(&status) > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0);
	CHECK(wait(&status) == -1 && errno == ECHILD);
	wl_ok();
}
