/*
 * What the test programs share. Each is a caller of the library as any C program is: it includes checkpoint.h, and
 * is linked with -lusercr.
 *
 * Exit status: 0 all held, 1 something did not (said on stderr), 77 not possible here ("skipped: why").
 * Environment: USERCR_GOLDEN the folder of recorded images, USERCR_WORKLOADS that of the built workloads, USERCR_CASES
 * a list for golden.c, USERCR_USER whom root is to become. The working directory is empty and the program's own.
 */
#ifndef CHECK_H
#define CHECK_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dirent.h>
#include <grp.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "checkpoint.h"

#define CHECK(c) \
	do { \
		if (!(c)) \
			broken(__FILE__, __LINE__, #c); \
	} while (0)

/* What was under test when a check failed; set by the programs. */
static char check_about[256];

static inline void __attribute__((noreturn)) broken(const char *file, int line, const char *what)
{
	int err = errno;
	fprintf(stderr, "%s:%d: not so: %s (errno %d, %s)%s%s\n", file, line, what, err, strerror(err),
		check_about[0] ? ", in " : "", check_about);
	exit(1);
}

static inline void __attribute__((format(printf, 1, 2))) about(const char *format, ...)
{
	va_list ap;
	va_start(ap, format);
	vsnprintf(check_about, sizeof check_about, format, ap);
	va_end(ap);
}

static inline void __attribute__((noreturn)) skip(const char *why)
{
	printf("skipped: %s: %s\n", why, strerror(errno));
	exit(77);
}

static inline const char *folder(const char *variable)
{
	const char *path = getenv(variable);
	CHECK(path != NULL);
	return path;
}

/* Opens a recorded image. */
static inline int golden(const char *name)
{
	char path[4096];
	snprintf(path, sizeof path, "%s/%s/image.bin", folder("USERCR_GOLDEN"), name);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	CHECK(fd >= 0);
	return fd;
}

/* What a call left behind for its caller. */
struct outcome {
	int ret, err;
	char text[8192]; /* on uerrfd */
};

static inline struct cr_restart_args usual(int infd)
{
	struct cr_restart_args a;
	memset(&a, 0, sizeof a);
	a.infd = infd;
	a.klogfd = a.ulogfd = a.uerrfd = CHECKPOINT_FD_NONE;
	a.warn = CKPT_COND_MNTPROC | CKPT_COND_MNTPTY;
	return a;
}

static inline struct cr_checkpoint_args usual_dump(int outfd)
{
	struct cr_checkpoint_args a;
	memset(&a, 0, sizeof a);
	a.outfd = outfd;
	a.logfd = a.uerrfd = CHECKPOINT_FD_NONE;
	return a;
}

/* The messages that were written to fd, which is closed. */
static inline void take_text(int fd, char *text, size_t room)
{
	ssize_t n = pread(fd, text, room - 1, 0);
	CHECK(n >= 0);
	text[n] = 0;
	close(fd);
}

/* Calls cr_restart with a place for its messages. */
static inline struct outcome restart(struct cr_restart_args *a)
{
	struct outcome o;
	int messages = memfd_create("messages", MFD_CLOEXEC);
	CHECK(messages >= 0);
	a->uerrfd = messages;
	errno = 0;
	o.ret = cr_restart(a);
	o.err = errno;
	a->uerrfd = CHECKPOINT_FD_NONE;
	take_text(messages, o.text, sizeof o.text);
	return o;
}

static inline struct outcome checkpoint(pid_t pid, struct cr_checkpoint_args *a)
{
	struct outcome o;
	int messages = memfd_create("messages", MFD_CLOEXEC);
	CHECK(messages >= 0);
	a->uerrfd = messages;
	errno = 0;
	o.ret = cr_checkpoint(pid, a);
	o.err = errno;
	a->uerrfd = CHECKPOINT_FD_NONE;
	take_text(messages, o.text, sizeof o.text);
	return o;
}

/* Ends the test if a call did not do what it should. */
static inline void check_outcome(const struct outcome *o, int good, int err)
{
	if (good ? o->ret > 0 : o->ret == -1 && o->err == err && o->text[0])
		return;
	fprintf(stderr, "%s: returned %d, errno %d (%s), messages: %s\n", check_about, o->ret, o->err,
		strerror(o->err), o->text[0] ? o->text : "none");
	fprintf(stderr, "wanted: %s%s\n", good ? "a pid or an id" : "-1 and a message and errno: ",
		good ? "" : strerror(err));
	exit(1);
}

/* How many lines a text has. */
static inline int lines(const char *text)
{
	int n = 0;
	for (; *text; text++)
		n += *text == '\n';
	return n;
}

static inline int no_children(void)
{
	return waitpid(-1, NULL, WNOHANG | __WALL) == -1 && errno == ECHILD;
}

/* The open descriptors of this process, with what they are, as text. */
static inline void list_fds(char *text, size_t room)
{
	size_t used = 0;
	text[0] = 0;
	for (int fd = 0; fd < 1024; fd++) {
		char link[64], to[512];
		snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
		ssize_t n = readlink(link, to, sizeof to - 1);
		if (n < 0)
			continue;
		to[n] = 0;
		used += (size_t)snprintf(text + used, room - used, "%d %s flags %x\n", fd, to, fcntl(fd, F_GETFD));
		CHECK(used < room);
	}
}

static inline long long now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

/* Waits until ready(arg) is true, looking again whenever something happens in the working directory. */
static inline int wait_in_folder(int (*ready)(const void *), const void *arg, int limit_ms)
{
	long long end = now_ms() + limit_ms;
	int in = inotify_init1(IN_CLOEXEC | IN_NONBLOCK), good;
	CHECK(in >= 0 && inotify_add_watch(in, ".", IN_MODIFY | IN_CREATE | IN_MOVED_TO) >= 0);
	while (!(good = ready(arg)) && now_ms() < end) {
		struct pollfd p = { .fd = in, .events = POLLIN };
		char events[4096];
		CHECK(poll(&p, 1, (int)(end - now_ms()) + 1) >= 0 || errno == EINTR);
		while (read(in, events, sizeof events) > 0)
			;
	}
	close(in);
	return good;
}

static inline void put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		skip(path);
	close(fd);
}

/* Root goes on as the user USERCR_USER, if that is set. */
static inline void be_ordinary(void)
{
	const char *user = getenv("USERCR_USER");
	uid_t uid = user ? (uid_t)atoi(user) : 0;
	if (!uid || getuid())
		return;
	if (setgroups(0, NULL) || setresgid(uid, uid, uid) || setresuid(uid, uid, uid))
		skip("root may not become another user");
	/* Without it /proc/self belongs to root. */
	CHECK(prctl(PR_SET_DUMPABLE, 1) == 0);
}

/* A new pid namespace and mount namespace, in a new user namespace where the caller may not do it without. */
static inline void new_namespaces(void)
{
	char map[64];
	unsigned uid = getuid(), gid = getgid();
	if (unshare(CLONE_NEWPID | CLONE_NEWNS) == 0)
		return;
	if (unshare(CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS) != 0)
		skip("no user namespace with a pid namespace");
	put("/proc/self/setgroups", "deny");
	snprintf(map, sizeof map, "0 %u 1", uid);
	put("/proc/self/uid_map", map);
	snprintf(map, sizeof map, "0 %u 1", gid);
	put("/proc/self/gid_map", map);
}

static inline int exit_like(int status)
{
	if (WIFSIGNALED(status))
		fprintf(stderr, "ended by signal %d in %s\n", WTERMSIG(status), check_about);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

static int sandboxed;

/*
 * Goes on as pid 2 of a new pid namespace with its own /proc, with every capability there. Nothing that happens in it
 * outlives the program, even if that is killed: pid 1 dies with the process that was started, and all the rest with
 * pid 1.
 */
static inline void sandbox(void)
{
	int status;
	pid_t pid;
	be_ordinary();
	new_namespaces();
	CHECK((pid = fork()) >= 0);
	if (pid) {
		CHECK(waitpid(pid, &status, 0) == pid);
		_exit(exit_like(status));
	}
	CHECK(getpid() == 1 && prctl(PR_SET_PDEATHSIG, SIGKILL) == 0);
	if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) || mount("proc", "/proc", "proc", 0, NULL))
		skip("no new /proc");
	CHECK((pid = fork()) >= 0);
	if (pid) {
		pid_t gone;
		while ((gone = wait(&status)) != pid)
			CHECK(gone > 0);
		_exit(exit_like(status));
	}
	/* Whoever loses its parent becomes our child, not that of pid 1. */
	CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
	sandboxed = 1;
}

/* The pid that was given out last in the sandbox: the same as long as nobody forks. */
static inline int last_pid(void)
{
	int pid = 0;
	FILE *f = fopen("/proc/loadavg", "re");
	CHECK(f != NULL && fscanf(f, "%*s %*s %*s %*s %d", &pid) == 1);
	fclose(f);
	return pid;
}

/* Kills everything in the sandbox but this program and waits until it is gone. */
static inline void kill_all(void)
{
	/* Outside, this would be every process of the user. */
	CHECK(sandboxed && getpid() == 2);
	CHECK(kill(-1, SIGKILL) == 0 || errno == ESRCH);
	while (waitpid(-1, NULL, __WALL) > 0)
		;
	CHECK(errno == ECHILD);
}
#endif
