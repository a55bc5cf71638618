/* A counting process is saved, killed and restarted in each mode, and goes on counting. */
#include "counter.h"

enum mode { NEW_PIDS, PIDS, PIDNS, PIDNS_INIT };
static const char *const mode_names[] = { "new pids", "pids", "pidns", "pidns with an init root" };

static struct cr_restart_args in_mode(enum mode mode, int infd)
{
	struct cr_restart_args a = usual(infd);
	a.pids = mode == PIDS;
	a.pidns = mode >= PIDNS;
	return a;
}

static pid_t start(enum mode mode, struct end end)
{
	return start_counter(mode == PIDNS_INIT ? CLONE_NEWPID : 0, end);
}

static const struct end never;

/* The pids that the counter has after a restart, by what it says and by what the kernel says. */
static void check_ids(enum mode mode, pid_t before, pid_t returned)
{
	struct line now = line(steps() - 1);
	pid_t root = mode == PIDNS ? only_child(returned) : returned;
	CHECK(now.session == now.pid && now.group == now.pid);
	switch (mode) {
	case NEW_PIDS:
		CHECK(returned != before && now.pid == returned && now.parent == getpid());
		break;
	case PIDS:
		CHECK(returned == before && now.pid == returned && now.parent == getpid());
		break;
	case PIDNS:
		CHECK(now.pid == before && now.parent == 1);
		break;
	case PIDNS_INIT:
		CHECK(now.pid == 1 && now.parent == 0);
		break;
	}
	CHECK(mode != NEW_PIDS || line(0).pid == before);
	CHECK(kill(root, 0) == 0);
}

static void goes_on(enum mode mode)
{
	about("mode %s", mode_names[mode]);
	pid_t before = start(mode, never);
	save(before, mode == PIDNS_INIT);
	wait_steps(20); /* the original goes on after its checkpoint */
	end_child(before);
	struct cr_restart_args a = in_mode(mode, open_image());
	struct outcome o = restart(&a);
	check_outcome(&o, 1, 0);
	CHECK(a.pids == (mode != NEW_PIDS));
	wait_steps(100);
	check_ids(mode, before, o.ret);
	end_child(o.ret);
	check_lines();
	CHECK(no_children());
	close(a.infd);
}

/* The restarted tree can be saved and restarted again. */
static void twice(enum mode mode)
{
	about("twice in mode %s", mode_names[mode]);
	pid_t before = start(mode, never);
	for (int round = 0; round < 2; round++) {
		pid_t root = before;
		save(root, mode == PIDNS_INIT);
		end_child(before);
		struct cr_restart_args a = in_mode(mode, open_image());
		struct outcome o = restart(&a);
		check_outcome(&o, 1, 0);
		close(a.infd);
		before = o.ret;
		wait_steps(50);
	}
	end_child(before);
	check_lines();
}

/* The image comes through a pipe or a socket. */
static void through(int sockets)
{
	int p[2];
	about("image through a %s", sockets ? "socket" : "pipe");
	pid_t before = start(NEW_PIDS, never);
	save(before, 0);
	end_child(before);
	CHECK((sockets ? socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, p) : pipe2(p, O_CLOEXEC)) == 0);
	pid_t feeder = fork();
	CHECK(feeder >= 0);
	if (!feeder) {
		char part[65536];
		ssize_t n;
		int image = open_image();
		close(p[0]);
		while ((n = read(image, part, sizeof part)) > 0)
			for (ssize_t done = 0, w; done < n; done += w)
				if ((w = write(p[1], part + done, (size_t)(n - done))) <= 0)
					_exit(1);
		_exit(n != 0);
	}
	close(p[1]);
	struct cr_restart_args a = in_mode(NEW_PIDS, p[0]);
	struct outcome o = restart(&a);
	check_outcome(&o, 1, 0);
	int status;
	CHECK(waitpid(feeder, &status, 0) == feeder && status == 0);
	wait_steps(50);
	end_child(o.ret);
	check_lines();
	close(p[0]);
}

/* Saves a counter, kills it, and gives the descriptor of its image. */
static int saved(enum mode mode, struct end end)
{
	pid_t before = start(mode, end);
	save(before, mode == PIDNS_INIT);
	end_child(before);
	return open_image();
}

/* With wait the call returns when the root has ended, and says how it did if asked to. */
static void waits(enum mode mode)
{
	static const struct end at = { 1000, 7, 0 };
	about("wait in mode %s", mode_names[mode]);
	struct cr_restart_args a = in_mode(mode, saved(mode, at));
	int log = memfd_create("log", MFD_CLOEXEC);
	a.wait = a.show_status = 1;
	a.ulogfd = log;
	struct outcome o = restart(&a);
	check_outcome(&o, 1, 0);
	CHECK(steps() == at.step && no_children());
	char text[4096];
	take_text(log, text, sizeof text);
	CHECK(strstr(text, "7") != NULL);
	check_lines();
	close(a.infd);
}

/* With copy_status the caller ends by the signal that ended the root. */
static void copies(enum mode mode, int signal)
{
	struct end at = { 1000, 0, signal };
	int status, image = saved(mode, at);
	about("copy_status of signal %d in mode %s", signal, mode_names[mode]);
	pid_t caller = fork();
	CHECK(caller >= 0);
	if (!caller) {
		struct cr_restart_args a = in_mode(mode, image);
		a.wait = a.copy_status = 1;
		CHECK(cr_restart(&a) < 0);
		_exit(1);
	}
	CHECK(waitpid(caller, &status, 0) == caller);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == signal);
	CHECK(steps() == at.step && no_children());
	close(image);
}

/* An exit status, of whatever value, is not copied. */
static void ends_with(enum mode mode, int status)
{
	struct end at = { 300, status, 0 };
	about("copy_status of exit status %d in mode %s", status, mode_names[mode]);
	struct cr_restart_args a = in_mode(mode, saved(mode, at));
	a.wait = a.copy_status = 1;
	struct outcome o = restart(&a);
	check_outcome(&o, 1, 0);
	CHECK(steps() == at.step && no_children());
	close(a.infd);
}

int main(void)
{
	sandbox();
	for (enum mode m = NEW_PIDS; m <= PIDNS_INIT; m++)
		goes_on(m);
	twice(NEW_PIDS);
	twice(PIDS);
	through(0);
	through(1);
	for (enum mode m = NEW_PIDS; m <= PIDNS_INIT; m++)
		waits(m);
	copies(NEW_PIDS, SIGTERM);
	copies(PIDS, SIGKILL);
	copies(PIDNS, SIGTERM);
	copies(PIDNS, SIGKILL);
	ends_with(PIDNS, 128 + SIGTERM);
	return 0;
}
