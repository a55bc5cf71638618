/*
 * A root task that is a child subreaper has adopted the orphans of relatives that have ended: who is whose parent,
 * who is in which session and group of a leader that is gone; and it adopts again. Nobody here remembers a
 * pid, so that this holds where the pids are new ones.
 */
#include "state.h"
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

/* FIRST, SECOND: in the session of a dead one. GROUPED: in the group of a dead one. LEADER: of a session of its own, with
 * a CHILD in it. OUTER, INNER: in sessions of two dead ones, of whom one was the other's child. LATER: to be adopted in a
 * check. PARENT: of LATER. */
enum { FIRST, SECOND, GROUPED, LEADER, CHILD, OUTER, INNER, PARENT, LATER, WHO };

static struct told {
	atomic_int asked, pid, parent, group, session;
} *told;
static int parent_ends[2];

static void tick(void)
{
	struct timespec ms = { 0, 1000000 };
	nanosleep(&ms, NULL);
}

static _Noreturn void serve(int me)
{
	for (;; tick()) {
		if (!told[me].asked)
			continue;
		told[me].pid = getpid();
		told[me].parent = getppid();
		told[me].group = getpgrp();
		told[me].session = getsid(0);
		told[me].asked = 0;
	}
}

static void ask(int who)
{
	told[who].asked = 1;
	for (int i = 0; told[who].asked; i++, tick())
		NEED(i < 20000);
}

static pid_t forked(void)
{
	pid_t pid = fork();
	NEED(pid >= 0);
	return pid;
}

static void spawn(int who)
{
	if (forked() == 0)
		serve(who);
	ask(who);
}

/* A child that does this and ends, and is waited for. */
static void passing(void (*run)(void))
{
	int status;
	pid_t pid = forked();
	if (pid == 0) {
		run();
		_exit(0);
	}
	NEED_EQ(waitpid(pid, &status, 0), pid);
	NEED_EQ(status, 0);
}

static void has_session(void)
{
	NEED(setsid() == getpid());
	spawn(FIRST);
	spawn(SECOND);
	/* An orphan that has ended too, and that nobody has waited for. */
	if (forked() == 0)
		_exit(33);
	NEED_EQ(waitid(P_ALL, 0, &(siginfo_t){ 0 }, WEXITED | WNOWAIT), 0);
}

static void has_group(void)
{
	NEED_EQ(setpgid(0, 0), 0);
	spawn(GROUPED);
	if (forked() == 0) {
		setsid();
		spawn(CHILD);
		serve(LEADER);
	}
	ask(LEADER);
}

static void inner_session(void)
{
	NEED(setsid() == getpid());
	spawn(INNER);
}

static void outer_session(void)
{
	NEED(setsid() == getpid());
	spawn(OUTER);
	passing(inner_session);
}

/* One that ends in a check, and leaves a child. */
static void parent_up(void)
{
	if (forked() == 0) {
		char byte;
		close(parent_ends[1]);
		spawn(LATER);
		told[PARENT].asked = 0;
		_exit(read(parent_ends[0], &byte, 1) == 1 ? 44 : 1);
	}
	for (int i = 0; told[PARENT].asked; i++, tick())
		NEED(i < 20000);
}

static void setup(void)
{
	told = mmap(NULL, WHO * sizeof *told, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	NEED(told != MAP_FAILED);
	NEED_EQ(pipe(parent_ends), 0);
	NEED_EQ(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
	passing(has_session);
	passing(has_group);
	passing(outer_session);
	told[PARENT].asked = 1;
	parent_up();
}

/* Nobody has this pid any more: it is only the name of a session or group. */
static void is_gone(pid_t pid)
{
	NEED(pid > 0);
	NEED(kill(pid, 0) < 0 && errno == ESRCH);
}

/* Waits for a child that ends with this status. */
static void ends_with(int expected)
{
	siginfo_t info;
	NEED_EQ(waitid(P_ALL, 0, &info, WEXITED), 0);
	NEED_EQ(info.si_code, CLD_EXITED);
	NEED_EQ(info.si_status, expected);
}

static void check(int generation)
{
	int on = 0, me = getpid();
	NEED_EQ(prctl(PR_GET_CHILD_SUBREAPER, &on), 0);
	NEED_EQ(on, 1);
	for (int i = 0; i < WHO; i++)
		if (i != PARENT)
			ask(i);
	for (int i = 0; i < WHO; i++)
		if (i != PARENT && i != CHILD && i != LATER)
			NEED_EQ(told[i].parent, me);
	NEED_EQ(told[CHILD].parent, told[LEADER].pid);
	NEED(told[LATER].parent != me);

	NEED_EQ(told[FIRST].session, told[SECOND].session);
	NEED_EQ(told[FIRST].group, told[FIRST].session);
	is_gone(told[FIRST].session);
	NEED_EQ(told[GROUPED].session, getsid(0));
	is_gone(told[GROUPED].group);
	NEED_EQ(told[LEADER].session, told[LEADER].pid);
	NEED_EQ(told[CHILD].session, told[LEADER].pid);
	is_gone(told[OUTER].session);
	is_gone(told[INNER].session);
	NEED(told[OUTER].session != told[INNER].session && told[OUTER].session != told[FIRST].session);

	if (generation == 1)
		ends_with(33);
	NEED(waitid(P_ALL, 0, &(siginfo_t){ 0 }, WEXITED | WNOHANG | WNOWAIT) == 0);
	NEED_EQ(write(parent_ends[1], "x", 1), 1);
	ends_with(44);
	ask(LATER);
	NEED_EQ(told[LATER].parent, me);
	/* It ends as our child, and everything can be done once more. */
	NEED_EQ(kill(told[LATER].pid, SIGKILL), 0);
	NEED_EQ(waitpid(told[LATER].pid, NULL, 0), told[LATER].pid);
	told[PARENT].asked = 1;
	parent_up();
	if (generation == 2)
		for (int i = 0; i < WHO; i++)
			if (i != PARENT) {
				ask(i);
				kill(told[i].pid, SIGKILL);
			}
}
