/*
 * The fields of cr_restart_args that no other program here is about: where the tree lives (root, mntns, mnt_pty), what is
 * tolerated (warn, fail), who is told what (ulogfd, uerrfd, klogfd, verbose, debug), and where the image begins.
 */
#include "counter.h"

#define CKPT_COND_ANY (~0L)

static const struct end never;

/* A link of a process in /proc. */
static char *link_of(pid_t pid, const char *name)
{
	static char texts[2][4096];
	static int turn;
	char path[64], *text = texts[turn++ % 2];
	snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
	ssize_t n = readlink(path, text, sizeof texts[0] - 1);
	CHECK(n >= 0);
	text[n] = 0;
	return text;
}

/* All of the file system in the folder "new", but for what is mounted on /proc and /dev/pts. */
static void new_root(void)
{
	CHECK(mkdir("new", 0700) == 0);
	if (mount("/", "new", NULL, MS_BIND | MS_REC, NULL) || umount2("new/proc", MNT_DETACH))
		skip("no other root folder");
	/* Something may be mounted there twice, or nothing at all. */
	while (umount2("new/proc", MNT_DETACH) == 0)
		;
	while (umount2("new/dev/pts", MNT_DETACH) == 0)
		;
}

static void end_tree(pid_t pid)
{
	wait_steps(20);
	end_child(pid);
	check_lines();
	CHECK(no_children());
}

static void root(void)
{
	char here[3000], wanted[4000], new[] = "new", none[] = "none", file[] = "image";
	CHECK(getcwd(here, sizeof here) != NULL);
	snprintf(wanted, sizeof wanted, "%s/new", here);
	for (int pidns = 0; pidns < 2; pidns++) {
		about("root, pidns %d", pidns);
		struct cr_restart_args a = usual(open_image());
		a.root = new, a.pidns = pidns;
		struct outcome o = restart(&a);
		check_outcome(&o, 1, 0);
		wait_steps(1);
		pid_t task = pidns ? only_child(o.ret) : o.ret;
		CHECK(strcmp(link_of(task, "root"), wanted) == 0);
		end_tree(o.ret);
		close(a.infd);
	}
	for (int i = 0; i < 2; i++) {
		about("root that is %s", i ? "a file" : "not there");
		struct cr_restart_args a = usual(open_image());
		a.root = i ? file : none;
		struct outcome o = restart(&a);
		check_outcome(&o, 0, i ? ENOTDIR : ENOENT);
		CHECK(strstr(o.text, a.root) && lines(o.text) == 1 && no_children());
		close(a.infd);
	}
}

static void mntns(void)
{
	for (int own = 0; own < 2; own++) {
		about("mntns %d", own);
		struct cr_restart_args a = usual(open_image());
		a.mntns = own;
		struct outcome o = restart(&a);
		check_outcome(&o, 1, 0);
		CHECK((strcmp(link_of(o.ret, "ns/mnt"), link_of(getpid(), "ns/mnt")) == 0) == !own);
		end_tree(o.ret);
		close(a.infd);
	}
}

static void mnt_pty(void)
{
	struct stat ours, theirs, ptmx;
	char path[64];
	about("mnt_pty");
	struct cr_restart_args a = usual(open_image());
	CHECK(stat("/dev/pts", &ours) == 0);
	a.mnt_pty = 1;
	struct outcome o = restart(&a);
	check_outcome(&o, 1, 0);
	CHECK(a.mntns == 1 && strcmp(link_of(o.ret, "ns/mnt"), link_of(getpid(), "ns/mnt")) != 0);
	snprintf(path, sizeof path, "/proc/%d/root/dev/pts", (int)o.ret);
	CHECK(stat(path, &theirs) == 0 && theirs.st_dev != ours.st_dev);
	strcat(path, "/ptmx");
	CHECK(stat(path, &ptmx) == 0 && S_ISCHR(ptmx.st_mode) && (ptmx.st_mode & 0777) == 0666);
	CHECK(stat("/dev/pts", &theirs) == 0 && theirs.st_dev == ours.st_dev);
	end_tree(o.ret);
	close(a.infd);
}

/* A condition that is met: silent, told about, or the end of the restart. */
static void condition(struct cr_restart_args a, long which, const char *words)
{
	const struct { long warn, fail; } cases[] = {
		{ 0, 0 }, { CKPT_COND_ANY & ~which, 0 }, { which, 0 }, { CKPT_COND_ANY, 0 },
		{ 0, which }, { which, which }, { 0, CKPT_COND_ANY },
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		about("condition %ld, warn %lx, fail %lx", which, cases[i].warn, cases[i].fail);
		int fails = (cases[i].fail & which) != 0, warns = !fails && (cases[i].warn & which);
		a.warn = cases[i].warn, a.fail = cases[i].fail;
		a.infd = open_image();
		struct outcome o = restart(&a);
		check_outcome(&o, !fails, EINVAL);
		CHECK(lines(o.text) == (fails || warns) && (!o.text[0] || strstr(o.text, words)));
		if (!fails)
			end_child(o.ret);
		CHECK(no_children());
		close(a.infd);
	}
}

static void conditions(void)
{
	char new[] = "new";
	/* Nothing is mounted on /proc there, nor on /dev/pts. */
	struct cr_restart_args proc = usual(-1), pty = proc, zero = proc;
	proc.root = pty.root = new;
	proc.pidns = pty.mnt_pty = 1;
	condition(proc, CKPT_COND_MNTPROC, "/proc");
	condition(pty, CKPT_COND_MNTPTY, "/dev/pts");

	/* A task in a session from outside. */
	about("a task in our session");
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (!pid) {
		int null = open("/dev/null", O_RDWR);
		if (null < 0 || dup2(null, 0) || dup2(null, 1) != 1 || dup2(null, 2) != 2 || close_range(3, ~0U, 0))
			_exit(100);
		kill(getpid(), SIGSTOP);
		for (;;)
			pause();
	}
	int status;
	CHECK(waitpid(pid, &status, WUNTRACED) == pid && WIFSTOPPED(status) && kill(pid, SIGCONT) == 0);
	CHECK(waitpid(pid, &status, WCONTINUED) == pid && WIFCONTINUED(status));
	save(pid, 0);
	end_child(pid);
	condition(zero, CKPT_COND_PIDZERO, "is 0");
}

/* A call with all descriptors, and what came on each. */
static struct outcome told(struct cr_restart_args *a, char log[4096], char engine[4096])
{
	a->ulogfd = memfd_create("log", MFD_CLOEXEC);
	a->klogfd = memfd_create("engine", MFD_CLOEXEC);
	CHECK(a->ulogfd >= 0 && a->klogfd >= 0);
	struct outcome o = restart(a);
	take_text(a->ulogfd, log, 4096);
	take_text(a->klogfd, engine, 4096);
	if (o.ret > 0)
		end_tree(o.ret);
	return o;
}

static void messages(void)
{
	static char log[4096], engine[4096], none[] = "none";
	char pid[32];
	for (int i = 0; i < 4; i++) {
		int verbose = i & 1, debug = i >> 1;
		about("verbose %d, debug %d", verbose, debug);
		struct cr_restart_args a = usual(open_image());
		a.verbose = verbose, a.debug = debug;
		struct outcome o = told(&a, log, engine);
		check_outcome(&o, 1, 0);
		snprintf(pid, sizeof pid, "%d", o.ret);
		CHECK(verbose ? strstr(log, pid) && lines(log) == 1 : !log[0]);
		CHECK(debug ? lines(o.text) > 3 && strstr(o.text, "tasks exist") : !o.text[0]);
		/* The engine tells its steps in any case. */
		CHECK(lines(engine) > 3 && strstr(engine, pid));
		close(a.infd);
	}
	about("messages of a failure");
	struct cr_restart_args a = usual(open_image());
	a.root = none, a.verbose = 1;
	struct outcome o = told(&a, log, engine);
	check_outcome(&o, 0, ENOENT);
	CHECK(lines(o.text) == 1 && o.text[strlen(o.text) - 1] == '\n' && !log[0]);
	CHECK(strstr(engine, o.text) != NULL);
	close(a.infd);
}

/* show_status says it on ulogfd, and only where it was asked for. */
static void show_status(void)
{
	static const struct { struct end end; const char *words; } ends[] = {
		{ { 300, 77, 0 }, "status 77" }, { { 300, 0, SIGTERM }, "signal 15" },
	};
	static char log[4096];
	for (int i = 0; i < 4; i++) {
		about("show_status %d of end %d", i & 1, i / 2);
		pid_t pid = start_counter(0, ends[i / 2].end);
		save(pid, 0);
		end_child(pid);
		struct cr_restart_args a = usual(open_image());
		a.wait = 1, a.show_status = i & 1;
		a.ulogfd = memfd_create("log", MFD_CLOEXEC);
		struct outcome o = restart(&a);
		check_outcome(&o, 1, 0);
		take_text(a.ulogfd, log, sizeof log);
		CHECK(a.show_status ? strstr(log, ends[i / 2].words) && lines(log) == 1 : !log[0]);
		CHECK(!o.text[0] && no_children());
		close(a.infd);
	}
}

static size_t whole_image(char *bytes, size_t room)
{
	int image = open_image();
	ssize_t n = read(image, bytes, room);
	CHECK(n > 0 && (size_t)n < room);
	close(image);
	return (size_t)n;
}

/* The image begins where the descriptor stands. */
static void infd(void)
{
	static char bytes[4 << 20];
	about("an image behind something else");
	size_t n = whole_image(bytes, sizeof bytes);
	int fd = new_file("behind");
	CHECK(write(fd, "something else", 14) == 14 && write(fd, bytes, n) == (ssize_t)n);
	CHECK(lseek(fd, 14, SEEK_SET) == 14);
	struct cr_restart_args a = usual(fd);
	struct outcome o = restart(&a);
	check_outcome(&o, 1, 0);
	CHECK(a.infd == fd);
	end_tree(o.ret);
	/* From its first byte it is none. */
	CHECK(lseek(fd, 0, SEEK_SET) == 0);
	o = restart(&a);
	check_outcome(&o, 0, EINVAL);
	close(fd);
}

/* A checkpoint that failed says so at its end; that is found with inspect and without. */
static void inspect(void)
{
	static char bytes[4 << 20];
	static const char text[] = "\0disk full";
	const unsigned tail = 16, error[] = { 9999, 8 + sizeof text };
	size_t n = whole_image(bytes, sizeof bytes);
	int fd = new_file("failed");
	CHECK(write(fd, bytes, n - tail) == (ssize_t)(n - tail) && write(fd, error, 8) == 8);
	CHECK(write(fd, text, sizeof text) == sizeof text);
	for (int asked = 0; asked < 2; asked++) {
		about("inspect %d of an image with an error record", asked);
		CHECK(lseek(fd, 0, SEEK_SET) == 0);
		struct cr_restart_args a = usual(fd);
		a.inspect = asked;
		struct outcome o = restart(&a);
		check_outcome(&o, 0, EIO);
		CHECK(strstr(o.text, "disk full") && lines(o.text) == 1 && no_children());
	}
	close(fd);
	about("inspect of a good image");
	struct cr_restart_args a = usual(open_image());
	a.inspect = 1;
	struct outcome o = restart(&a);
	check_outcome(&o, 1, 0);
	end_tree(o.ret);
	close(a.infd);
}

int main(void)
{
	static char before[1 << 16], after[1 << 16];
	sandbox();
	pid_t pid = start_counter(0, never);
	save(pid, 0);
	end_child(pid);
	list_fds(before, sizeof before);
	mntns();
	mnt_pty();
	messages();
	infd();
	inspect();
	new_root();
	root();
	conditions();
	show_status();
	list_fds(after, sizeof after);
	about("open descriptors");
	CHECK(strcmp(before, after) == 0);
	return 0;
}
