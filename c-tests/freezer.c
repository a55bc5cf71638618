/*
 * freezer and keep_frozen, with cgroup v1 and v2: the tasks are in the folder, frozen where that was asked for, and go on when
 * they are thawed. What cannot be is refused, and then nobody is left in the folder.
 */
#include "counter.h"

#include <pthread.h>

static const struct version {
	const char *name, *type, *options, *state, *freeze, *thaw, *members, *file, *line;
} versions[] = {
	{ "v1", "cgroup", "freezer", "freezer.state", "FROZEN", "THAWED", "tasks", "freezer.state", "FROZEN\n" },
	{ "v2", "cgroup2", NULL, "cgroup.freeze", "1", "0", "cgroup.procs", "cgroup.events", "frozen 1\n" },
};

enum mode { NEW_PIDS, PIDS, PIDNS, PIDNS_INIT };

/* The version under test, and its folder for this program. */
static const struct version *now;
static char top[64], dir[200];

/* A path in a folder. Each of some calls has room of its own. */
static char *in(const char *folder, const char *name)
{
	static char paths[8][400];
	static int turn;
	char *path = paths[turn++ % 8];
	snprintf(path, sizeof paths[0], "%s/%s", folder, name);
	return path;
}

static void get(const char *path, char *text, size_t room)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, room - 1);
	text[n < 0 ? 0 : n] = 0;
	close(fd);
}

static int say(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	int good = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
	close(fd);
	return good;
}

static int frozen(void)
{
	char text[200];
	get(in(dir, now->file), text, sizeof text);
	return strstr(text, now->line) != NULL;
}

static int member(pid_t pid)
{
	int found = 0, other;
	FILE *f = fopen(in(dir, now->members), "re");
	CHECK(f != NULL);
	while (fscanf(f, "%d", &other) == 1)
		found |= other == pid;
	fclose(f);
	return found;
}

static int is_empty(void)
{
	char text[200];
	get(in(dir, now->members), text, sizeof text);
	return !text[0];
}

/* Ends what is in a folder, and removes it. */
static void clear(const struct version *v, const char *folder)
{
	long long end = now_ms() + 5000;
	int pid;
	do {
		say(in(folder, v->state), v->thaw);
		FILE *f = fopen(in(folder, v->members), "re");
		while (f && fscanf(f, "%d", &pid) == 1 && pid > 0)
			kill(pid, SIGKILL);
		if (f)
			fclose(f);
		if (rmdir(folder) == 0 || errno == ENOENT)
			return;
		/* Until the kernel has let go of those that were killed. */
		poll(NULL, 0, 5);
	} while (now_ms() < end);
	fprintf(stderr, "%s is left: %s\n", folder, strerror(errno));
}

/*
 * Mounts the hierarchies, and leaves a process behind that clears the folders as soon as this program is gone, however
 * it ended: a frozen task of cgroup v1 does not even die. Whoever waits for the end of our output waits for that too.
 */
static void hierarchies(void)
{
	if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL))
		skip("no mount namespace for cgroups");
	snprintf(top, sizeof top, "usercr-test-%d", (int)getpid());
	for (size_t i = 0; i < 2; i++) {
		const struct version *v = &versions[i];
		CHECK(mkdir(v->name, 0700) == 0);
		if (mount("none", v->name, v->type, 0, v->options) || mkdir(in(v->name, top), 0700) ||
		    access(in(in(v->name, top), v->state), W_OK))
			printf("skipped: cgroup %s: %s\n", v->name, strerror(errno));
	}
	CHECK(mkfifo("held", 0600) == 0);
	int held = open("held", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	pid_t pid = fork();
	CHECK(held >= 0 && pid >= 0);
	if (pid)
		return;
	struct pollfd gone[] = { { .fd = held }, { .fd = (int)syscall(SYS_pidfd_open, getppid(), 0), .events = POLLIN } };
	CHECK(setsid() > 0 && gone[1].fd >= 0);
	while (poll(gone, 2, -1) <= 0)
		;
	for (size_t i = 0; i < 2; i++)
		if (access(in(versions[i].name, top), F_OK) == 0) {
			say(in(in(versions[i].name, top), versions[i].state), versions[i].thaw);
			clear(&versions[i], in(in(versions[i].name, top), "b"));
			clear(&versions[i], in(in(versions[i].name, top), "a"));
			clear(&versions[i], in(versions[i].name, top));
		}
	_exit(0);
}

static void *rests(void *unused)
{
	for (;;)
		pause();
	return unused;
}

/* A counter with a thread and a child. */
static pid_t start_tree(int flags, struct end end)
{
	unlink("count");
	pid_t pid = (pid_t)syscall(SYS_clone, flags | SIGCHLD, NULL, NULL, NULL, NULL);
	CHECK(pid >= 0);
	if (!pid) {
		pthread_t thread;
		int null = open("/dev/null", O_RDWR);
		if (null < 0 || dup2(null, 0) || dup2(null, 1) != 1 || dup2(null, 2) != 2 || close_range(3, ~0U, 0))
			_exit(100);
		if (setsid() < 0 || pthread_create(&thread, NULL, rests, NULL))
			_exit(101);
		pid_t child = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
		if (child <= 0)
			rests(NULL);
		count(end);
	}
	wait_steps(50);
	return pid;
}

/* The image of such a tree, which has ended. */
static int saved(enum mode mode, struct end end)
{
	pid_t pid = start_tree(mode == PIDNS_INIT ? CLONE_NEWPID : 0, end);
	save(pid, mode == PIDNS_INIT);
	kill_all();
	return open_image();
}

static const struct end never;

static struct cr_restart_args in_folder(enum mode mode, int keep)
{
	struct cr_restart_args a = usual(saved(mode, never));
	a.pids = mode == PIDS;
	a.pidns = mode >= PIDNS;
	a.freezer = dir;
	a.keep_frozen = keep;
	return a;
}

static struct timespec written(void)
{
	struct stat s;
	CHECK(stat("count", &s) == 0);
	return s.st_mtim;
}

static int written_since(const void *then)
{
	struct timespec t = written();
	return memcmp(&t, then, sizeof t) != 0;
}

static void thaw(void)
{
	CHECK(say(in(dir, now->state), now->thaw));
}

/* The tree is in the folder, the helper above it is not; with keep it does not run before it is thawed. */
static void joins(enum mode mode, int keep)
{
	about("cgroup %s, mode %d, keep_frozen %d", now->name, (int)mode, keep);
	struct cr_restart_args a = in_folder(mode, keep);
	/* It is thawed first. */
	CHECK(say(in(dir, now->state), now->freeze));
	struct timespec before = written();
	struct outcome o = restart(&a);
	check_outcome(&o, 1, 0);
	pid_t root = mode == PIDNS ? only_child(o.ret) : o.ret;
	CHECK(member(root) && member(only_child(root)));
	CHECK(mode != PIDNS || !member(o.ret));
	CHECK(frozen() == keep);
	if (keep) {
		CHECK(!written_since(&before));
		thaw();
	}
	CHECK(wait_in_folder(written_since, &before, 20000));
	wait_steps(20);
	kill_all();
	CHECK(is_empty());
	close(a.infd);
}

/* With wait the call returns when the tree has been thawed and its root has ended. */
static void waits(void)
{
	const struct end at = { 1000, 7, 0 };
	long long limit;
	int status;
	about("cgroup %s, keep_frozen and wait", now->name);
	struct cr_restart_args a = usual(saved(NEW_PIDS, at));
	a.freezer = dir, a.keep_frozen = a.wait = 1;
	struct timespec before = written();
	pid_t caller = fork();
	CHECK(caller >= 0);
	if (!caller) {
		struct outcome o = restart(&a);
		check_outcome(&o, 1, 0);
		_exit(42);
	}
	for (limit = now_ms() + 20000; !frozen() || is_empty();) {
		CHECK(now_ms() < limit && waitpid(caller, &status, WNOHANG) == 0);
		poll(NULL, 0, 1);
	}
	CHECK(!written_since(&before) && waitpid(caller, &status, WNOHANG) == 0);
	thaw();
	CHECK(waitpid(caller, &status, 0) == caller && WIFEXITED(status) && WEXITSTATUS(status) == 42);
	CHECK(steps() == at.step);
	kill_all();
	check_lines();
	close(a.infd);
}

static void refused(const char *what, char *freezer, int keep, int err)
{
	about("cgroup %s, %s", now->name, what);
	int image = open_image();
	struct cr_restart_args a = usual(image);
	a.freezer = freezer, a.keep_frozen = keep;
	struct outcome o = restart(&a);
	check_outcome(&o, 0, err);
	CHECK(strchr(o.text, '\n') == o.text + strlen(o.text) - 1);
	CHECK(no_children() && is_empty());
	close(image);
}

static void refusals(void)
{
	char plain[] = "plain", file[] = "count", none[] = "none";
	close(saved(NEW_PIDS, never));
	CHECK(mkdir(plain, 0700) == 0 || errno == EEXIST);
	pid_t last = last_pid();
	refused("no folder", none, 0, ENOENT);
	refused("a file", file, 1, ENOTDIR);
	refused("no cgroup", plain, 1, ENOENT);
	refused("the top of the hierarchy, which has no freezer", in(now->name, "."), 1, ENOENT);
	refused("keep_frozen alone", NULL, 1, EINVAL);

	CHECK(mount(dir, plain, NULL, MS_BIND, NULL) == 0);
	CHECK(mount(NULL, plain, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL) == 0);
	refused("not writable", plain, 0, EROFS);
	CHECK(umount(plain) == 0);

	char *a = in(dir, "a");
	CHECK(mkdir(a, 0700) == 0);
	CHECK(say(in(dir, now->state), now->freeze));
	refused("below a frozen one", a, 0, EBUSY);
	thaw();
	CHECK(say(in(a, now->members), "0"));
	refused("around the caller", dir, 1, EINVAL);
	CHECK(say(in(in(now->name, "."), now->members), "0") && rmdir(a) == 0);
	CHECK(last_pid() == last);
}

/* What fails when tasks are in the folder already: they go. */
static void fails(void)
{
	close(saved(NEW_PIDS, never));
	CHECK(rename("count", "other") == 0);
	for (int keep = 0; keep < 2; keep++)
		refused("a file that is missing", dir, keep, ENOENT);
	CHECK(rename("other", "count") == 0);
	if (now->options)
		return;
	/* Beside a threaded cgroup there is none for processes. */
	char *a = in(dir, "a"), *b = in(dir, "b");
	CHECK(mkdir(a, 0700) == 0 && mkdir(b, 0700) == 0 && say(in(a, "cgroup.type"), "threaded"));
	refused("one that takes no processes", b, 1, EOPNOTSUPP);
	CHECK(rmdir(a) == 0 && rmdir(b) == 0);
}

int main(void)
{
	int tested = 0;
	if (getuid())
		errno = EPERM, skip("cgroups");
	hierarchies();
	sandbox();
	/* Only this process has it open. */
	CHECK(open("held", O_WRONLY | O_CLOEXEC) >= 0);
	for (size_t i = 0; i < 2; i++) {
		now = &versions[i];
		snprintf(dir, sizeof dir, "%s/%s", now->name, top);
		if (access(in(dir, now->state), W_OK))
			continue;
		tested++;
		for (enum mode mode = NEW_PIDS; mode <= PIDNS_INIT; mode++) {
			joins(mode, 0);
			joins(mode, 1);
		}
		waits();
		refusals();
		fails();
	}
	return tested ? 0 : 77;
}
