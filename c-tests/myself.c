/* A process becomes the process of an image: it goes on counting where that one was, and ends as that one does. */
#include "counter.h"

#include <pthread.h>
#include <sys/time.h>

/* A child of ours restarts itself from the image. It comes back only to say that it could not. */
static pid_t become(void (*first)(void), int expected)
{
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid)
		return pid;
	if (first)
		first();
	struct cr_restart_args a = usual(open_image());
	a.self = 1;
	struct outcome o = restart(&a);
	if (expected)
		check_outcome(&o, 0, expected);
	else
		fprintf(stderr, "errno %d, %s\n", o.err, o.text);
	_exit(expected ? 0 : 99);
}

static void *sleeper(void *unused)
{
	for (;;)
		pause();
	return unused;
}

static void threaded(void)
{
	pthread_t thread;
	CHECK(pthread_create(&thread, NULL, sleeper, NULL) == 0);
}

/* What the caller had must not show in the program that it becomes. */
static void busy(void)
{
	struct itimerval soon = { { 0, 1000 }, { 0, 1000 } };
	stack_t stack = { .ss_sp = malloc(65536), .ss_size = 65536 };
	struct sigaction action;
	memset(&action, 0, sizeof action);
	action.sa_handler = SIG_IGN;
	CHECK(sigaction(SIGTERM, &action, NULL) == 0 && sigaltstack(&stack, NULL) == 0);
	signal(SIGALRM, SIG_IGN);
	CHECK(setitimer(ITIMER_REAL, &soon, NULL) == 0);
	CHECK(chdir("/") == 0 && chdir(folder("HERE")) == 0 && dup2(1, 900) == 900);
}

int main(void)
{
	char here[4096];
	CHECK(getcwd(here, sizeof here) && setenv("HERE", here, 1) == 0);
	const struct end at = { 1000, 7, 0 };
	pid_t before = start_counter(0, at);
	save(before, 0);
	end_child(before);
	int status, reached = steps();

	pid_t pid = become(busy, 0);
	CHECK(waitpid(pid, &status, 0) == pid);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
	CHECK(steps() == 1000 && reached < 1000);
	check_lines();
	CHECK(line(999).pid == pid && line(0).pid == before && line(999).parent == getpid());

	/* Signals reach it as they reached the counter. */
	CHECK(truncate("count", (off_t)reached * LINE) == 0);
	pid = become(busy, 0);
	wait_steps(10);
	CHECK(line(steps() - 1).pid == pid);
	CHECK(kill(pid, SIGTERM) == 0);
	CHECK(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);

	pid = become(threaded, EBUSY);
	CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0);
	return 0;
}
