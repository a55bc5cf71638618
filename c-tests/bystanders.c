/*
 * What is near the caller: others in its process group, whom no failure may reach; children whose signals come all the time; thousands of
 * open descriptors, none of which the tasks may have.
 */
#include "counter.h"

#include <sys/resource.h>

enum { DESCRIPTORS = 3000 };

static const struct end never;

static pid_t pausing(void)
{
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (!pid)
		for (;;)
			pause();
	return pid;
}

/* Restarts that fail before, while and after tasks are made; each with a bystander in the caller's process group. */
static void failures_spare_the_group(void)
{
	static const struct {
		const char *image;
		int inspect, pids, pidns, err;
	} bad[] = {
		{ "inspect-error-record", 1, 0, 0, EIO },
		{ "inspect-bad-length", 1, 0, 0, EINVAL },
		{ "bad-cut-in-tree", 0, 0, 0, EIO },
		{ "bad-cut-before-tree", 1, 0, 0, EINVAL },
		{ "two-sessions.pidns-reaper-tag1", 0, 0, 1, EINVAL },
		{ "orphan-live-leader.pids", 0, 1, 0, EINVAL },
	};
	int status;
	CHECK(setpgid(0, 0) == 0);
	pid_t other = pausing();
	CHECK(getpgid(other) == getpid());
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		about("%s", bad[i].image);
		struct cr_restart_args a = usual(golden(bad[i].image));
		a.inspect = bad[i].inspect, a.pids = bad[i].pids, a.pidns = bad[i].pidns;
		struct outcome o = restart(&a);
		check_outcome(&o, 0, bad[i].err);
		CHECK(waitpid(other, &status, WNOHANG) == 0);
		close(a.infd);
	}
	about("a pid that is taken");
	pid_t taken = start_counter(0, never);
	save(taken, 0);
	struct cr_restart_args a = usual(open_image());
	a.pids = 1;
	struct outcome o = restart(&a);
	check_outcome(&o, 0, EEXIST);
	CHECK(waitpid(other, &status, WNOHANG) == 0 && waitpid(taken, &status, WNOHANG) == 0);
	close(a.infd);
	end_child(taken);
	end_child(other);
	CHECK(no_children());
}

static volatile sig_atomic_t signals;

static void on_child(int signal)
{
	(void)signal;
	signals++;
}

/* SIGCHLD comes all through the restarts, to a handler after which calls are not made again by themselves. */
static void signals_of_children(void)
{
	struct sigaction act = { .sa_handler = on_child }, old;
	sigset_t children;
	sigemptyset(&children);
	sigaddset(&children, SIGCHLD);
	pid_t target = pausing(), sender = fork();
	CHECK(sender >= 0);
	if (!sender)
		for (;;) {
			kill(target, SIGSTOP);
			kill(target, SIGCONT);
		}
	CHECK(sigaction(SIGCHLD, &act, &old) == 0);
	for (int i = 0; i < 20; i++) {
		about("restart %d, with signals of children", i);
		struct cr_restart_args a = usual(open_image());
		a.pidns = i % 2;
		int before = signals;
		struct outcome o = restart(&a);
		check_outcome(&o, 1, 0);
		CHECK(signals != before);
		close(a.infd);
		CHECK(sigprocmask(SIG_BLOCK, &children, NULL) == 0);
		end_child(o.ret);
		CHECK(sigprocmask(SIG_UNBLOCK, &children, NULL) == 0);
	}
	CHECK(sigaction(SIGCHLD, &old, NULL) == 0);
	end_child(sender);
	end_child(target);
	CHECK(no_children());
}

/* Descriptors of a process, 0 to 2 not counted. */
static int descriptors(pid_t pid)
{
	char path[64];
	int n = 0;
	snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
	DIR *d = opendir(path);
	CHECK(d != NULL);
	for (struct dirent *e; (e = readdir(d));)
		n += e->d_name[0] != '.' && atoi(e->d_name) > 2;
	closedir(d);
	return n;
}

static void many_descriptors(int own)
{
	about("%d descriptors", DESCRIPTORS);
	struct rlimit limit;
	CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
	if (limit.rlim_max < DESCRIPTORS + 100)
		skip("so many descriptors are not allowed");
	limit.rlim_cur = DESCRIPTORS + 100;
	CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
	for (int i = 50; i < DESCRIPTORS + 50; i++)
		CHECK(dup2(2, i) == i);
	struct cr_restart_args a = usual(open_image());
	struct outcome o = restart(&a);
	check_outcome(&o, 1, 0);
	CHECK(descriptors(o.ret) == own);
	close(a.infd);
	end_child(o.ret);
}

int main(void)
{
	sandbox();
	failures_spare_the_group();
	pid_t counter = start_counter(0, never);
	int own = descriptors(counter);
	save(counter, 0);
	end_child(counter);
	signals_of_children();
	many_descriptors(own);
	return 0;
}
