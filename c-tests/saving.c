/* The fields of cr_checkpoint_args: where the image goes, who is told what, containers, flags. What is written restarts. */
#include "counter.h"

static const struct end never;

/* Whether an image ends as one should: with a record of type TAIL. */
static int is_whole(const char *name)
{
	unsigned tail[4] = { 0 };
	struct stat s;
	int fd = open(name, O_RDONLY | O_CLOEXEC);
	CHECK(fd >= 0 && fstat(fd, &s) == 0);
	ssize_t n = s.st_size > 16 ? pread(fd, tail, sizeof tail, s.st_size - 16) : 0;
	close(fd);
	return n == 16 && tail[0] == 9001 && tail[1] == 16;
}

/* The counter of the file "image" goes on. */
static void goes_on(int pidns)
{
	struct cr_restart_args a = usual(open_image());
	a.pidns = pidns;
	struct outcome o = restart(&a);
	check_outcome(&o, 1, 0);
	wait_steps(20);
	end_child(o.ret);
	check_lines();
	close(a.infd);
}

/* The image goes through a pipe or a socket, to somebody who writes it to a file. */
static void through(int sockets)
{
	int p[2], status;
	about("outfd is a %s", sockets ? "socket" : "pipe");
	pid_t pid = start_counter(0, never);
	CHECK((sockets ? socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, p) : pipe2(p, O_CLOEXEC)) == 0);
	pid_t reader = fork();
	CHECK(reader >= 0);
	if (!reader) {
		char part[65536];
		ssize_t n;
		int image = new_file("image");
		close(p[1]);
		while ((n = read(p[0], part, sizeof part)) > 0)
			CHECK(write(image, part, (size_t)n) == n);
		_exit(n != 0);
	}
	close(p[0]);
	struct cr_checkpoint_args a = usual_dump(p[1]);
	struct outcome o = checkpoint(pid, &a);
	check_outcome(&o, 1, 0);
	CHECK(a.outfd == p[1]);
	close(p[1]);
	CHECK(waitpid(reader, &status, 0) == reader && status == 0);
	wait_steps(20);
	end_child(pid);
	CHECK(is_whole("image"));
	goes_on(0);
}

/* The image goes where the descriptor of a file stands, and each has a number of its own. */
static void file(void)
{
	char start[14];
	about("outfd is a file");
	pid_t pid = start_counter(0, never);
	int fd = new_file("image"), other = new_file("other");
	CHECK(write(fd, "something else", 14) == 14);
	struct cr_checkpoint_args a = usual_dump(fd);
	struct outcome o = checkpoint(pid, &a);
	check_outcome(&o, 1, 0);
	CHECK(!o.text[0] && pread(fd, start, 14, 0) == 14 && memcmp(start, "something else", 14) == 0);
	CHECK(is_whole("image"));
	a = usual_dump(other);
	struct outcome second = checkpoint(pid, &a);
	check_outcome(&second, 1, 0);
	CHECK(second.ret != o.ret);
	end_child(pid);
	CHECK(rename("other", "image") == 0);
	goes_on(0);
	close(fd);
	close(other);
}

static void messages(void)
{
	char text[4096];
	pid_t pid = start_counter(0, never);
	for (int i = 0; i < 4; i++) {
		int verbose = i & 1, fails = i >> 1;
		about("verbose %d, of a checkpoint that %s", verbose, fails ? "fails" : "succeeds");
		struct cr_checkpoint_args a = usual_dump(new_file("image"));
		a.logfd = memfd_create("log", MFD_CLOEXEC);
		a.verbose = verbose, a.flags = fails ? 0x40 : 0;
		struct outcome o = checkpoint(pid, &a);
		check_outcome(&o, !fails, EINVAL);
		take_text(a.logfd, text, sizeof text);
		/* A failure is in the log in any case. */
		CHECK(lines(text) == (verbose || fails) && (!text[0] || strstr(text, fails ? "flags" : "1 task")));
		CHECK(lines(o.text) == fails && (!fails || strstr(o.text, "flags")));
		close(a.outfd);
	}
	end_child(pid);
}

/* Those that are known, alone and together; all others are refused before the tree is touched. */
static void flags(void)
{
	pid_t pid = start_counter(0, never);
	for (int i = 0; i < 32; i++) {
		int flag = (int)(1u << i), known = i < 2;
		about("flag %#x", (unsigned)flag);
		struct cr_checkpoint_args a = usual_dump(new_file("image"));
		struct stat s;
		a.flags = flag;
		struct outcome o = checkpoint(pid, &a);
		check_outcome(&o, known, EINVAL);
		CHECK(a.flags == (flag | CHECKPOINT_SUBTREE));
		CHECK(fstat(a.outfd, &s) == 0 && (s.st_size > 0) == known);
		close(a.outfd);
	}
	end_child(pid);
	/* A network namespace of the tree's own would be left out. */
	about("CHECKPOINT_NETNS of a tree with a network namespace");
	pid = start_counter(CLONE_NEWNET, never);
	for (int asked = 0; asked < 2; asked++) {
		struct cr_checkpoint_args a = usual_dump(new_file("image"));
		a.flags = asked ? CHECKPOINT_NETNS : 0;
		struct outcome o = checkpoint(pid, &a);
		check_outcome(&o, !asked, EOPNOTSUPP);
		CHECK(!asked || (strstr(o.text, "net namespace") && lines(o.text) == 1));
		close(a.outfd);
	}
	wait_steps(20);
	end_child(pid);
}

/* With container the image is that of a whole pid namespace; without, it is a subtree, also of an init. */
static void container(void)
{
	for (int whole = 0; whole < 2; whole++) {
		about("the init of a pid namespace, container %d", whole);
		pid_t pid = start_counter(CLONE_NEWPID, never);
		save(pid, whole);
		unsigned long long flags = 0;
		int image = open_image();
		/* Where the HEADER record, which comes first, has them. */
		CHECK(pread(image, &flags, sizeof flags, 64) == sizeof flags);
		CHECK(flags == (whole ? 0 : CHECKPOINT_SUBTREE));
		close(image);
		end_child(pid);
		goes_on(1);
	}
}

int main(void)
{
	static char before[1 << 16], after[1 << 16];
	sandbox();
	list_fds(before, sizeof before);
	file();
	through(0);
	through(1);
	messages();
	flags();
	container();
	list_fds(after, sizeof after);
	about("open descriptors");
	CHECK(strcmp(before, after) == 0 && no_children());
	return 0;
}
