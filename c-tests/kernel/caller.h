/* The caller of restart(2): what is wanted of it, its namespaces, the call, and what it says of it. */
#ifndef CALLER_H
#define CALLER_H

#include "../check.h"
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>

enum { NUMBER = 999, MOST = 512, TAIL = 9001 };

static struct wanted {
	const char *image, *refed, *root, *freezer;
	long tasks, self, pids, pidns, inspect, wait, mntns, mnt_pty, show_status, copy_status, keep_frozen, keep_lsm, infd, klog;
	long verbose, quiet, sigint, fail, clone_fail, root_exit, root_signal, delay, coordinator_dies, other_child, noise;
} want = { .sigint = -1, .delay = 40 };

static const struct {
	const char *name;
	long *to;
} numbers[] = {
	{ "tasks", &want.tasks }, { "self", &want.self }, { "pids", &want.pids }, { "pidns", &want.pidns },
	{ "inspect", &want.inspect }, { "wait", &want.wait }, { "mntns", &want.mntns }, { "mnt_pty", &want.mnt_pty },
	{ "show_status", &want.show_status }, { "copy_status", &want.copy_status }, { "keep_frozen", &want.keep_frozen },
	{ "keep_lsm", &want.keep_lsm }, { "infd", &want.infd }, { "klog", &want.klog }, { "verbose", &want.verbose },
	{ "quiet", &want.quiet }, { "sigint", &want.sigint }, { "fail", &want.fail }, { "clone_fail", &want.clone_fail },
	{ "root_exit", &want.root_exit }, { "root_signal", &want.root_signal }, { "root_delay_ms", &want.delay },
	{ "coordinator_dies", &want.coordinator_dies }, { "other_child", &want.other_child },
	{ "noise", &want.noise },
};

static void option(const char *text)
{
	const struct { const char *name; const char **to; } texts[] = {
		{ "image", &want.image }, { "refed", &want.refed }, { "root", &want.root }, { "freezer", &want.freezer },
	};
	const char *value = strchr(text, '=');
	CHECK(value != NULL);
	size_t length = (size_t)(value++ - text);
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
		if (strlen(texts[i].name) == length && !strncmp(texts[i].name, text, length)) {
			*texts[i].to = value;
			return;
		}
	for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
		if (strlen(numbers[i].name) == length && !strncmp(numbers[i].name, text, length)) {
			*numbers[i].to = atol(value);
			return;
		}
	CHECK(!"an option that is known");
}

static void on_child(int signal)
{
	(void)signal;
}

/* The caller: pid 2 of a pid namespace of its own. */

static int filter(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, NUMBER, 5, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, want.clone_fail ? SYS_clone3 : NUMBER, 4, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_prctl, 0, 2),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PR_SET_PDEATHSIG, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
	};
	struct sock_fprog program = { .len = sizeof code / sizeof *code, .filter = code };
	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
}

static void pass(int to, int fd)
{
	char room[CMSG_SPACE(sizeof fd)] = { 0 }, byte = 0;
	struct iovec part = { &byte, 1 };
	struct msghdr m = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room };
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof fd);
	memcpy(CMSG_DATA(c), &fd, sizeof fd);
	CHECK(sendmsg(to, &m, 0) == 1);
}

/* The descriptor that was passed, and who passed it. */
static int passed(int from, pid_t *pid)
{
	int fd = -1;
	struct ucred who;
	char room[CMSG_SPACE(sizeof fd) + CMSG_SPACE(sizeof who)], byte;
	struct iovec part = { &byte, 1 };
	struct msghdr m = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room };
	if (recvmsg(from, &m, MSG_CMSG_CLOEXEC) != 1)
		return -1;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c))
		if (c->cmsg_type == SCM_RIGHTS) {
			memcpy(&fd, CMSG_DATA(c), sizeof fd);
		} else {
			memcpy(&who, CMSG_DATA(c), sizeof who);
			*pid = who.pid;
		}
	return fd;
}

/* Whether a process of the caller's namespace has not ended. */
static int runs(const char *pid)
{
	char path[300], text[512], *at;
	snprintf(path, sizeof path, "/proc/%s/stat", pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
	if (fd >= 0)
		close(fd);
	text[n > 0 ? n : 0] = 0;
	return (at = strrchr(text, ')')) && at[2] != 'Z' && at[2] != 'X';
}

static int entries(const char *path, int processes)
{
	int count = 0;
	DIR *d = opendir(path);
	CHECK(d != NULL);
	for (struct dirent *e; (e = readdir(d));)
		count += e->d_name[0] != '.' && (!processes || (e->d_name[0] >= '1' && e->d_name[0] <= '9' && runs(e->d_name)));
	closedir(d);
	return count;
}

static int has_handler(int signal)
{
	struct sigaction a;
	CHECK(sigaction(signal, NULL, &a) == 0);
	return a.sa_handler != SIG_DFL;
}

/* A child that is stopped and woken without end, by another one: SIGCHLD comes to the caller all the time. */
static void noise(pid_t pids[2])
{
	struct sigaction act = { .sa_handler = on_child };
	CHECK((pids[0] = fork()) >= 0);
	if (!pids[0])
		for (;;)
			pause();
	CHECK((pids[1] = fork()) >= 0);
	if (!pids[1])
		for (;;) {
			kill(pids[0], SIGSTOP);
			kill(pids[0], SIGCONT);
		}
	CHECK(sigaction(SIGCHLD, &act, NULL) == 0);
}

static void silence(const pid_t pids[2])
{
	CHECK(signal(SIGCHLD, SIG_DFL) == on_child);
	for (int i = 1; i >= 0; i--)
		CHECK(kill(pids[i], SIGKILL) == 0 && waitpid(pids[i], NULL, 0) == pids[i]);
}

static int tell;

/* What the image of a task that restarts itself would be. */
static void __attribute__((noreturn)) became(void)
{
	char byte;
	CHECK(dprintf(tell, "became %d\n", getpid()) > 0);
	shutdown(tell, SHUT_WR);
	while (read(tell, &byte, 1) > 0)
		;
	_exit(42);
}

static void one_line(char *text)
{
	for (char *c = text; *c; c++)
		if (*c == '\n')
			*c = '|';
}

static void caller(int to)
{
	int image = open(want.image, O_RDONLY | O_CLOEXEC), listener, ulog, uerr, klog, status;
	pid_t other = 0, noisy[2];
	char text[4096], said[4096];
	tell = to;
	CHECK(image >= 0 && setsid() == getpid());
	CHECK(dup2(image, 0) == 0 && close(image) == 0);
	ulog = memfd_create("ulog", MFD_CLOEXEC);
	uerr = memfd_create("uerr", MFD_CLOEXEC);
	klog = memfd_create("klog", MFD_CLOEXEC);
	CHECK(ulog >= 0 && uerr >= 0 && klog >= 0);
	if (want.other_child) {
		CHECK((other = fork()) >= 0);
		if (!other)
			_exit(3);
	}
	if (want.noise)
		noise(noisy);
	if ((listener = filter()) < 0)
		skip("no filter for system calls");
	pass(to, listener);
	close(listener);
	struct cr_restart_args a = {
		.self = (int)want.self, .pids = (int)want.pids, .pidns = (int)want.pidns, .inspect = (int)want.inspect,
		.root = (char *)want.root, .wait = (int)want.wait, .mntns = (int)want.mntns, .mnt_pty = (int)want.mnt_pty,
		.show_status = (int)want.show_status, .copy_status = (int)want.copy_status, .freezer = (char *)want.freezer,
		.keep_frozen = (int)want.keep_frozen, .infd = (int)want.infd, .klogfd = want.klog ? klog : -1,
		.ulogfd = want.quiet ? -1 : ulog, .uerrfd = want.quiet ? -1 : uerr,
		.warn = CKPT_COND_MNTPROC | CKPT_COND_MNTPTY, .verbose = (int)want.verbose, .keep_lsm = (int)want.keep_lsm,
	};
	int before = entries("/proc/self/fd", 0);
	global_send_sigint = (int)want.sigint;
	errno = 0;
	int ret = cr_restart(&a), err = errno;
	if (want.noise)
		silence(noisy);
	int after = entries("/proc/self/fd", 0), handlers = has_handler(SIGCHLD) + has_handler(SIGINT);
	int others = entries("/proc", 1) - 2;
	int seen = 0;
	if (other)
		seen = waitpid(other, &status, 0) == other && WIFEXITED(status) && WEXITSTATUS(status) == 3;
	take_text(uerr, text, sizeof text);
	one_line(text);
	take_text(ulog, said, sizeof said);
	one_line(said);
	CHECK(dprintf(to, "call %d %d infd %d pids %d mntns %d sigint %d fds %d handlers %d others %d child %d klog %d %s\nsaid %s\n",
		ret, err, a.infd, a.pids, a.mntns, global_send_sigint, after - before, handlers, others, seen,
		a.klogfd >= 0 ? 1 : 0, text, said) > 0);
	/* The supervisor has read it when it closes its end. */
	shutdown(to, SHUT_WR);
	while (read(to, text, sizeof text) > 0)
		;
	if (ret > 0 && !want.wait) {
		CHECK(waitpid(ret, &status, 0) == ret);
		_exit(exit_like(status));
	}
	_exit(0);
}

#endif
