/* global_send_sigint is one variable for the library and its caller: what the library sets is seen here, and what is set here is
 * left alone. */
#include "counter.h"

static void set_by_call(int before, int after)
{
	about("global_send_sigint %d", before);
	struct cr_restart_args a = usual(open_image());
	global_send_sigint = before;
	struct outcome o = restart(&a);
	check_outcome(&o, 1, 0);
	CHECK(global_send_sigint == after);
	end_child(o.ret);
	close(a.infd);
}

int main(void)
{
	static const struct end never;
	CHECK(global_send_sigint == -1);
	sandbox();
	pid_t pid = start_counter(0, never);
	save(pid, 0);
	end_child(pid);
	set_by_call(-1, SIGINT);
	set_by_call(SIGTERM, SIGTERM);
	set_by_call(0, 0);
	set_by_call(-1, SIGINT);
	return 0;
}
