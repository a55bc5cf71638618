/* SIGINT while a restart waits for its tree: what it becomes, and that the caller's own handling of it is as before afterwards. */
#include "counter.h"

static const struct end late = { 3000, 0, 0 };

/* Calls cr_restart in a process of its own, sends that a SIGINT while the tree counts, and gives the number of steps at the end. */
static int interrupted(int pidns, int init, int setting, int wanted_after)
{
	int status;
	about("SIGINT with global_send_sigint %d%s", setting, init ? ", pidns with an init root" : pidns ? ", pidns" : "");
	pid_t before = start_counter(init ? CLONE_NEWPID : 0, late);
	save(before, init);
	end_child(before);
	pid_t caller = fork();
	CHECK(caller >= 0);
	if (!caller) {
		struct sigaction old, now;
		struct cr_restart_args a = usual(open_image());
		a.pidns = pidns, a.wait = 1;
		global_send_sigint = setting;
		CHECK(signal(SIGINT, SIG_DFL) != SIG_ERR && sigaction(SIGINT, NULL, &old) == 0);
		struct outcome o = restart(&a);
		check_outcome(&o, 1, 0);
		CHECK(sigaction(SIGINT, NULL, &now) == 0 && now.sa_handler == old.sa_handler);
		CHECK(global_send_sigint == wanted_after && no_children());
		_exit(0);
	}
	wait_steps(50);
	CHECK(kill(caller, SIGINT) == 0);
	CHECK(waitpid(caller, &status, 0) == caller && WIFEXITED(status) && WEXITSTATUS(status) == 0);
	CHECK(no_children());
	check_lines();
	return steps();
}

/* With copy_status the caller ends by the SIGINT too, as its tree does. */
static void copied(void)
{
	int status;
	about("SIGINT with copy_status");
	pid_t before = start_counter(0, late);
	save(before, 0);
	end_child(before);
	pid_t caller = fork();
	CHECK(caller >= 0);
	if (!caller) {
		struct cr_restart_args a = usual(open_image());
		a.wait = a.copy_status = 1;
		CHECK(signal(SIGINT, SIG_DFL) != SIG_ERR);
		restart(&a);
		_exit(99);
	}
	wait_steps(50);
	CHECK(kill(caller, SIGINT) == 0);
	CHECK(waitpid(caller, &status, 0) == caller && WIFSIGNALED(status) && WTERMSIG(status) == SIGINT);
	CHECK(no_children() && steps() < late.step);
}

int main(void)
{
	sandbox();
	copied();
	CHECK(interrupted(0, 0, -1, SIGINT) < late.step);
	CHECK(interrupted(0, 0, SIGTERM, SIGTERM) < late.step);
	CHECK(interrupted(0, 0, 0, 0) == late.step);
	CHECK(interrupted(1, 0, -1, SIGINT) < late.step);
	CHECK(interrupted(1, 1, -1, SIGKILL) < late.step);
	CHECK(interrupted(1, 1, 0, 0) == late.step);
	return 0;
}
