/* Children that have ended and were not waited for: how they ended is still there, and told once. */
#include "state.h"
#include <sys/wait.h>

enum { EXITED, KILLED, GRANDCHILD, LATER, COUNT };
static pid_t pids[COUNT];
static int told[2];

static void ended(pid_t pid)
{
	siginfo_t info;
	NEED_EQ(waitid(P_PID, pid, &info, WEXITED | WNOWAIT), 0);
}

static pid_t exits_with(int status)
{
	pid_t pid = fork();
	if (pid == 0)
		_exit(status);
	NEED(pid > 0);
	ended(pid);
	return pid;
}

static void setup(void)
{
	char c;
	NEED(pipe(told) == 0);
	pids[EXITED] = exits_with(3);
	pids[KILLED] = fork();
	if (pids[KILLED] == 0)
		for (;;)
			pause();
	NEED(kill(pids[KILLED], SIGTERM) == 0);
	ended(pids[KILLED]);
	/* A child that lives and has a zombie of its own. */
	pids[GRANDCHILD] = fork();
	if (pids[GRANDCHILD] == 0) {
		struct timespec tick = { 0, 1000000 };
		int status;
		pid_t own = exits_with(77);
		NEED(write(told[1], "x", 1) == 1);
		while (access("go.2", F_OK))
			nanosleep(&tick, NULL);
		_exit(waitpid(own, &status, 0) == own && WIFEXITED(status) ? WEXITSTATUS(status) : 1);
	}
	NEED(read(told[0], &c, 1) == 1);
	pids[LATER] = exits_with(200);
}

static void named(pid_t pid, const char *wanted)
{
	char path[64], name[32] = "";
	snprintf(path, sizeof path, "/proc/%d/comm", (int)pid);
	int fd = open(path, O_RDONLY);
	NEED(fd >= 0 && read(fd, name, sizeof name - 1) > 0 && close(fd) == 0);
	NEED(!strcmp(name, wanted));
}

static void check(int generation)
{
	int status;
	named(pids[LATER], "zombies\n");
	if (generation == 1) {
		NEED_EQ(waitpid(pids[EXITED], &status, 0), pids[EXITED]);
		NEED(WIFEXITED(status) && WEXITSTATUS(status) == 3);
		NEED(waitpid(pids[EXITED], &status, 0) < 0 && errno == ECHILD);
		NEED_EQ(waitpid(pids[KILLED], &status, 0), pids[KILLED]);
		NEED(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
		return;
	}
	/* A zombie that has gone through two images. */
	NEED_EQ(waitpid(pids[LATER], &status, 0), pids[LATER]);
	NEED(WIFEXITED(status) && WEXITSTATUS(status) == 200);
	NEED_EQ(waitpid(pids[GRANDCHILD], &status, 0), pids[GRANDCHILD]);
	NEED(WIFEXITED(status));
	NEED_EQ(WEXITSTATUS(status), 77);
	NEED(waitpid(-1, &status, 0) < 0 && errno == ECHILD);
}
