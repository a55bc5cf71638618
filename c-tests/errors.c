/* What is refused by looking at the image, the system or the tree: -1, the right errno, a message, nothing changed. */
#include "check.h"

static void want(struct cr_restart_args *a, int err)
{
	struct outcome o = restart(a);
	check_outcome(&o, 0, err);
	CHECK(no_children());
}

static void unreadable(void)
{
	about("image descriptor for writing only");
	struct cr_restart_args a = usual(open("only-written", O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
	want(&a, EBADF);
	close(a.infd);
	about("image descriptor of a folder");
	a = usual(open(".", O_RDONLY | O_CLOEXEC));
	want(&a, EISDIR);
	close(a.infd);
}

static void orphans(void)
{
	static const struct {
		const char *image, *lines;
	} bad[] = {
		{ "orphan-live-leader.nopids", "Bad orphan task (#3) with --no-pidns\n" },
		{ "orphan-live-leader.pids", "Bad orphan task (#3) with --no-pidns\n" },
		{ "daemon-double-fork.nopids",
		  "Bad orphan task (#3) with --no-pidns\nBad orphan task (#4) with --no-pidns\n" },
	};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		about("%s", bad[i].image);
		struct cr_restart_args a = usual(golden(bad[i].image));
		a.pids = strstr(bad[i].image, ".pids") != NULL;
		struct outcome o = restart(&a);
		check_outcome(&o, 0, EINVAL);
		/* The lines come first and to the letter; a sentence may follow. */
		CHECK(strncmp(o.text, bad[i].lines, strlen(bad[i].lines)) == 0);
		CHECK(strstr(o.text + strlen(bad[i].lines), "Bad orphan") == NULL);
		CHECK(no_children());
		close(a.infd);
	}
}

static void pid_zero(void)
{
	about("pid number 0 that is not tolerated");
	struct cr_restart_args a = usual(golden("pgid0.nopids"));
	a.fail = CKPT_COND_PIDZERO;
	a.warn |= CKPT_COND_PIDZERO;
	want(&a, EINVAL);
	close(a.infd);
}

static void missing_folders(void)
{
	char none[] = "no-such-folder";
	struct cr_restart_args a = usual(golden("single.nopids"));
	about("freezer that is not there");
	a.freezer = none;
	want(&a, ENOENT);
	close(a.infd);
}

/* An image that has no security labels, mostly on a kernel that has none either. */
static void no_labels(void)
{
	about("keep_lsm");
	struct cr_restart_args a = usual(golden("single.nopids"));
	a.keep_lsm = 1;
	struct outcome o = restart(&a);
	check_outcome(&o, 0, EOPNOTSUPP);
	CHECK(strstr(o.text, "keep_lsm") != NULL && no_children());
	/* The image has not been touched. */
	CHECK(lseek(a.infd, 0, SEEK_CUR) == 0);
	close(a.infd);
}

/* An image that comes through a pipe, cut short. */
static void cut_pipe(void)
{
	char head[64];
	int image = golden("single.nopids"), p[2];
	about("image cut short in a pipe");
	CHECK(pipe2(p, O_CLOEXEC) == 0 && read(image, head, sizeof head) == sizeof head);
	CHECK(write(p[1], head, sizeof head) == sizeof head);
	close(p[1]);
	struct cr_restart_args a = usual(p[0]);
	struct outcome o = restart(&a);
	CHECK(o.ret == -1 && (o.err == EINVAL || o.err == EIO) && o.text[0] && no_children());
	CHECK(a.infd == p[0] && fcntl(p[0], F_GETFD) == FD_CLOEXEC);
	close(p[0]);
	close(image);
}

int main(void)
{
	static char before[1 << 16], after[1 << 16];
	list_fds(before, sizeof before);
	unreadable();
	orphans();
	pid_zero();
	missing_folders();
	no_labels();
	cut_pipe();
	list_fds(after, sizeof after);
	about("open descriptors");
	CHECK(strcmp(before, after) == 0);
	/* None of these got as far as to need it. */
	CHECK(global_send_sigint == -1);
	return 0;
}
