/* What is refused by looking at the arguments alone: -1, the right errno, a message, nothing changed. */
#include "check.h"

static void want(struct cr_restart_args *a, int err)
{
	struct outcome o = restart(a);
	check_outcome(&o, 0, err);
	CHECK(no_children());
}

static void null_pointers(void)
{
	about("NULL args");
	errno = 0;
	CHECK(cr_restart(NULL) == -1 && errno == EFAULT);
	errno = 0;
	CHECK(cr_checkpoint(getpid(), NULL) == -1 && errno == EFAULT);
}

static void bad_descriptors(void)
{
	static const int bad[] = { -1, -77, 777, 0x7fffffff };
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		about("image descriptor %d", bad[i]);
		struct cr_restart_args a = usual(bad[i]);
		want(&a, EBADF);
		struct cr_checkpoint_args c = usual_dump(bad[i]);
		struct outcome o = checkpoint(getpid(), &c);
		check_outcome(&o, 0, EBADF);
	}
	/* Messages for a descriptor that is not open, or that nobody reads, are lost; the error is not. */
	about("message descriptors that are not open");
	struct cr_restart_args a = usual(-1);
	a.uerrfd = 777, a.ulogfd = 778, a.klogfd = 779, a.verbose = a.debug = 1;
	errno = 0;
	CHECK(cr_restart(&a) == -1 && errno == EBADF && a.klogfd == 779);
	about("message pipe without a reader");
	int p[2];
	CHECK(pipe2(p, O_CLOEXEC) == 0 && signal(SIGPIPE, SIG_DFL) != SIG_ERR);
	close(p[0]);
	a.uerrfd = a.ulogfd = p[1];
	errno = 0;
	CHECK(cr_restart(&a) == -1 && errno == EBADF);
	close(p[1]);
}

static void self_alone(void)
{
	for (int i = 0; i < 5; i++) {
		about("self with what it excludes, number %d", i);
		struct cr_restart_args a = usual(open("/dev/null", O_RDONLY | O_CLOEXEC));
		char here[] = ".";
		a.self = 1;
		a.pids = i == 0;
		a.pidns = i == 1;
		a.show_status = i == 2;
		a.copy_status = i == 3;
		a.freezer = i == 4 ? here : NULL;
		want(&a, EINVAL);
		close(a.infd);
	}
}

/* The fields that are documented as written are written, also when the call fails; no others. */
static void written_back(void)
{
	about("what is written back");
	struct cr_restart_args a = usual(-1), before;
	a.klogfd = -7, a.pidns = a.mnt_pty = 1, a.wait = 5;
	before = a;
	want(&a, EBADF);
	before.pids = before.mntns = 1, before.klogfd = -1;
	CHECK(memcmp(&a, &before, sizeof a) == 0);
	struct cr_checkpoint_args c = usual_dump(-1);
	for (int container = 0; container < 2; container++) {
		c.container = container, c.flags = CHECKPOINT_NETNS;
		struct outcome o = checkpoint(getpid(), &c);
		check_outcome(&o, 0, EBADF);
		CHECK(c.flags == (CHECKPOINT_NETNS | (container ? 0 : CHECKPOINT_SUBTREE)) && c.outfd == -1);
	}
}

int main(void)
{
	static char before[1 << 16], after[1 << 16];
	list_fds(before, sizeof before);
	null_pointers();
	bad_descriptors();
	self_alone();
	written_back();
	list_fds(after, sizeof after);
	about("open descriptors");
	CHECK(strcmp(before, after) == 0);
	CHECK(global_send_sigint == -1);
	return 0;
}
