/*
 * A kernel with restart(2), as far as its callers can tell: seccomp hands the calls with an unused number to this program, which reads
 * the image that the coordinator gives, keeps every task in its call until all have come, and then lets them go.
 *
 * Arguments: name=value, see struct wanted. Output, a line each:
 *   caller PID; task PID NUMBERS TGID PPID SID PGID CAUGHT FLAGS DEATH; coordinator PID OF FLAGS LOG NUMBER; root PID;
 *   mounts NAMESPACE PTS PROC ROOT; self FLAGS OWN FD; became PID; stayed N OF M GHOSTS; early; call RET ERRNO ...; said TEXT;
 *   ended STATUS
 * PIDs are numbers of this program's pid namespace; NUMBERS are a task's in the namespace of the caller and those below, and NUMBER
 * is the coordinator's in the former. DEATH is the signal that the task has asked for when its parent ends.
 */
/*
 * Without wait, the caller ends as the root task does, once that is let go. With self, restart(2) that succeeds makes the caller go on
 * in `became`.
 */
#include "../check.h"
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/ptrace.h>
#include <sys/user.h>

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

/* The kernel. */

struct call {
	__u64 id;
	pid_t pid;
	__u64 flags;
	int root, done;
};

static struct call calls[MOST], coordinator;
/* /proc of this program: the one of the tasks is mounted over it. */
static int proc;
static int count, listener = -1, clones;
static pid_t root_task;

static void answer(const struct call *c, long value, int error)
{
	struct seccomp_notif_resp r = { .id = c->id, .val = value, .error = -error };
	/* It may have been killed meanwhile. */
	CHECK(ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &r) == 0 || errno == ENOENT);
}

static int alive(const struct call *c)
{
	return ioctl(listener, SECCOMP_IOCTL_NOTIF_ID_VALID, &c->id) == 0;
}

/* The value of a line of /proc/PID/status, or its part number `nth`; nth < 0: the last. */
static const char *status_text(pid_t pid, const char *name)
{
	static char text[8192];
	char path[64];
	snprintf(path, sizeof path, "%d/status", pid);
	int fd = openat(proc, path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof text - 1);
	if (fd >= 0)
		close(fd);
	text[n > 0 ? n : 0] = 0;
	char *at = strstr(text, name);
	if (!at)
		return "";
	at += strlen(name);
	at[strcspn(at, "\n")] = 0;
	return at;
}

static long status_number(pid_t pid, const char *name)
{
	return strtol(status_text(pid, name), NULL, 10);
}

/* The signals that tasks have asked for when their parent ends, in the order of asking. A child has none. */
static struct { pid_t pid; int signal; } deaths[4 * MOST];
static int asked;

static int death_signal(pid_t pid)
{
	for (int i = asked; i-- > 0;)
		if (deaths[i].pid == pid)
			return deaths[i].signal;
	return 0;
}

/* What is mounted last at `place` for a task: its device and what kind of file system it is; empty if nothing is. */
static void mounted(pid_t pid, const char *place, char *device, char *options, size_t room)
{
	char path[64], line[4096], at[1024], dev[32];
	snprintf(path, sizeof path, "%d/mountinfo", pid);
	device[0] = options[0] = 0;
	int fd = openat(proc, path, O_RDONLY | O_CLOEXEC);
	FILE *f = fdopen(fd, "r");
	CHECK(f != NULL);
	while (fgets(line, sizeof line, f))
		if (sscanf(line, "%*s %*s %31s %*s %1023s", dev, at) == 2 && strcmp(at, place) == 0) {
			char *tail = strstr(line, " - ");
			CHECK(tail != NULL);
			snprintf(device, room, "%s", dev);
			snprintf(options, room, "%s", tail + 3);
		}
	fclose(f);
}

/* Whether what is mounted at `place` for `pid` is of this kind, and not what `other` has there. */
static int mounted_anew(pid_t pid, pid_t other, const char *place, const char *kind, const char *option)
{
	static char device[1024], options[1024], theirs[1024], unused[1024];
	mounted(pid, place, device, options, sizeof device);
	mounted(other, place, theirs, unused, sizeof theirs);
	return strncmp(options, kind, strlen(kind)) == 0 && strstr(options, option) != NULL && strcmp(device, theirs) != 0;
}

static void link_of(pid_t pid, const char *name, char *to, size_t room)
{
	char path[64];
	snprintf(path, sizeof path, "%d/%s", pid, name);
	ssize_t n = readlinkat(proc, path, to, room - 1);
	to[n > 0 ? n : 0] = 0;
}

/* What the file system is to a task, next to the caller. */
static void look_at_mounts(pid_t pid, pid_t caller)
{
	char space[64], callers[64], root[4096];
	link_of(pid, "ns/mnt", space, sizeof space);
	link_of(caller, "ns/mnt", callers, sizeof callers);
	link_of(pid, "root", root, sizeof root);
	CHECK(space[0] && callers[0] && root[0]);
	dprintf(1, "mounts %d %d %d %s\n", strcmp(space, callers) != 0, mounted_anew(pid, caller, "/dev/pts", "devpts", "ptmxmode=666"),
		mounted_anew(pid, caller, "/proc", "proc", ""), root);
}

/* Number `level` of a task's pids, -1 for the last; how many there are. */
static int number_at(pid_t pid, int level, long *number)
{
	const char *chain = status_text(pid, "\nNSpid:");
	int levels = 0;
	*number = 0;
	for (char *end;; chain = end, levels++) {
		long value = strtol(chain, &end, 10);
		if (end == chain)
			return levels;
		if (level < 0 || levels == level)
			*number = value;
	}
}

static void check_in(struct call *c)
{
	long number;
	pid_t pid = c->pid;
	dprintf(1, "task %d ", pid);
	for (int i = 1, levels = number_at(pid, -1, &number); i < levels; i++) {
		number_at(pid, i, &number);
		dprintf(1, "%s%ld", i > 1 ? "," : "", number);
	}
	dprintf(1, " %ld %ld %ld %ld ", status_number(pid, "\nTgid:"), status_number(pid, "\nPPid:"), status_number(pid, "\nNSsid:"),
		status_number(pid, "\nNSpgid:"));
	unsigned long long caught = strtoull(status_text(pid, "\nSigCgt:"), NULL, 16);
	dprintf(1, "%llx %llu %d\n", caught, (unsigned long long)c->flags, death_signal(pid));
}

static int full(int fd, char *buffer, size_t size)
{
	size_t done = 0;
	while (done < size) {
		ssize_t n = read(fd, buffer + done, size - done);
		if (n <= 0)
			break;
		done += (size_t)n;
	}
	return done == size;
}

static int their_fd(pid_t pid, int number)
{
	int process = (int)syscall(SYS_pidfd_open, pid, 0);
	if (process < 0)
		return -1;
	int fd = (int)syscall(SYS_pidfd_getfd, process, number, 0);
	close(process);
	return fd;
}

/* Reads the image up to its end record, or its end. */
static void take_image(pid_t pid, int number)
{
	static char body[1 << 20];
	unsigned head[2];
	int fd = their_fd(pid, number), out = open(want.refed, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	CHECK(fd >= 0 && out >= 0);
	do {
		if (!full(fd, (char *)head, sizeof head))
			break;
		size_t size = head[1] - sizeof head;
		if (write(out, head, sizeof head) != sizeof head || head[1] < sizeof head || size > sizeof body)
			break;
		if (!full(fd, body, size) || write(out, body, size) != (ssize_t)size)
			break;
	} while (head[0] != TAIL);
	close(fd);
	close(out);
}

/* The signal that ends the root task: the mask that the image has for it lets it through. */
static void end_root(struct call *c, int signal)
{
	int status;
	__u64 none = 0;
	CHECK(ptrace(PTRACE_SEIZE, c->pid, 0, 0) == 0 && ptrace(PTRACE_INTERRUPT, c->pid, 0, 0) == 0);
	CHECK(waitpid(c->pid, &status, __WALL) == c->pid);
	if (WIFSTOPPED(status)) {
		CHECK(ptrace(PTRACE_SETSIGMASK, c->pid, sizeof none, &none) == 0);
		kill(c->pid, signal);
		ptrace(PTRACE_DETACH, c->pid, 0, 0);
	}
}

static int released, said, root_done;
static long long release_at;

static void let_root_go(struct call *c)
{
	root_done = c->done = 1;
	if (want.root_signal == SIGKILL)
		kill(c->pid, SIGKILL);
	else if (want.root_signal)
		end_root(c, (int)want.root_signal);
	else
		answer(c, want.root_exit, 0);
}

/* Lets tasks go: those that are only there for their pid, the others, the root task. */
static void let_go(int ghosts, int others, int root)
{
	for (int i = 0; i < count; i++) {
		struct call *c = &calls[i];
		int is_root = c->pid == root_task;
		if (c->done || !(c->flags & RESTART_GHOST ? ghosts : is_root ? root : others))
			continue;
		/* A thread of the root task that ended would end it: it goes with it. */
		if (!is_root && status_number(c->pid, "\nTgid:") == root_task)
			continue;
		c->done = 1;
		if (is_root)
			let_root_go(c);
		else
			answer(c, 0, 0);
	}
}

static void all_are_here(void)
{
	dprintf(1, "checked-in %d\n", count);
	released = 1;
	if (want.coordinator_dies) {
		/* A restart without its coordinator has failed for everybody. */
		kill(coordinator.pid, (int)want.coordinator_dies);
		for (int i = 0; i < count; i++)
			answer(&calls[i], 0, ESRCH);
		return;
	}
	if (want.fail) {
		answer(&coordinator, 0, (int)want.fail);
		return;
	}
	let_go(1, want.wait != 0, 0);
	answer(&coordinator, 0, 0);
	release_at = now_ms() + want.delay;
}

/* The caller is another program from now on, whatever its stack and registers were. */
static void become(struct call *c)
{
	struct user_regs_struct r;
	int status;
	CHECK(ptrace(PTRACE_SEIZE, c->pid, 0, 0) == 0 && ptrace(PTRACE_INTERRUPT, c->pid, 0, 0) == 0);
	CHECK(waitpid(c->pid, &status, __WALL) == c->pid && WIFSTOPPED(status));
	CHECK(ptrace(PTRACE_GETREGS, c->pid, 0, &r) == 0);
	r.rip = (unsigned long long)(uintptr_t)became;
	/* As after a call, below what the function that is no more may keep under its stack. */
	r.rsp = ((r.rsp - 256) & ~15ULL) - 8;
	r.orig_rax = ~0ULL;
	CHECK(ptrace(PTRACE_SETREGS, c->pid, 0, &r) == 0 && ptrace(PTRACE_DETACH, c->pid, 0, 0) == 0);
}

static void self_call(struct call *c, const __u64 *args)
{
	dprintf(1, "self %llu %d %llu\n", (unsigned long long)args[2], status_number(c->pid, "\nTgid:") == c->pid, (unsigned long long)args[1]);
	/* Its parent is where it was itself. */
	look_at_mounts(c->pid, (pid_t)status_number(c->pid, "\nPPid:"));
	if (want.fail)
		answer(c, 0, (int)want.fail);
	else
		become(c);
}

/* The task that has a pid as the coordinator numbers it. */
static pid_t seen_by_coordinator(pid_t inner)
{
	long number;
	int level = number_at(coordinator.pid, -1, &number) - 1;
	for (int i = 0; i < count; i++)
		if (number_at(calls[i].pid, level, &number) && number == inner)
			return calls[i].pid;
	return 0;
}

static pid_t root_of, who;

static void serve(void)
{
	struct seccomp_notif n;
	memset(&n, 0, sizeof n);
	if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &n)) {
		CHECK(errno == ENOENT || errno == EINTR);
		return;
	}
	struct call c = { .id = n.id, .pid = (pid_t)n.pid, .flags = n.data.args[2] };
	if (n.data.nr == SYS_prctl) {
		CHECK(asked < 4 * MOST);
		deaths[asked].pid = c.pid;
		deaths[asked++].signal = (int)n.data.args[1];
	}
	if (n.data.nr != NUMBER) {
		int failing = n.data.nr == SYS_clone3 && ++clones == want.clone_fail;
		struct seccomp_notif_resp r = { .id = n.id, .error = failing ? -EAGAIN : 0,
			.flags = failing ? 0 : SECCOMP_USER_NOTIF_FLAG_CONTINUE };
		CHECK(ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &r) == 0 || errno == ENOENT);
		return;
	}
	if (c.flags & RESTART_TASKSELF) {
		self_call(&c, n.data.args);
	} else if (n.data.args[0]) {
		coordinator = c;
		root_of = (pid_t)n.data.args[0];
		long number;
		number_at(c.pid, 1, &number);
		dprintf(1, "coordinator %d %d %llu %d %ld\n", c.pid, root_of, (unsigned long long)c.flags, (int)n.data.args[3] >= 0, number);
		take_image(c.pid, (int)n.data.args[1]);
	} else {
		for (int i = 0; i < count; i++)
			if (calls[i].pid == c.pid) {
				/* Its call was interrupted and made again. */
				calls[i].id = c.id;
				if (calls[i].done)
					answer(&c, 0, 0);
				return;
			}
		CHECK(count < MOST);
		check_in(&c);
		calls[count++] = c;
	}
	if (!released && coordinator.pid && count >= want.tasks) {
		root_task = seen_by_coordinator(root_of);
		dprintf(1, "root %d\n", root_task);
		look_at_mounts(root_task, who);
		all_are_here();
	}
}

static void report(int from)
{
	char text[8192];
	ssize_t n, length = 0;
	while ((n = read(from, text + length, sizeof text - 1 - (size_t)length)) > 0)
		length += n;
	text[length] = 0;
	said = 1;
	if (length && released && !want.fail && want.wait && !root_done)
		dprintf(1, "early\n");
	if (length && released && !want.wait) {
		int stay = 0, ghosts = 0;
		for (int i = 0; i < count; i++) {
			ghosts += !!(calls[i].flags & RESTART_GHOST);
			stay += !(calls[i].flags & RESTART_GHOST) && alive(&calls[i]);
		}
		dprintf(1, "stayed %d %d %d\n", stay, count, ghosts);
		release_at = 0;
		let_go(1, 1, 1);
	}
	CHECK(write(1, text, (size_t)length) == length);
}

static void harness(int to)
{
	int status, ended = 0;
	CHECK(getpid() == 1 && prctl(PR_SET_PDEATHSIG, SIGKILL) == 0);
	if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) || mount("proc", "/proc", "proc", 0, NULL))
		skip("no new /proc");
	pid_t pid = fork(), gone;
	CHECK(pid >= 0);
	if (!pid)
		caller(to);
	close(to);
	/* Whatever the caller leaves behind is ours to wait for. */
	while ((gone = waitpid(-1, &status, __WALL)) > 0)
		if (gone == pid)
			ended = status;
	CHECK(errno == ECHILD);
	dprintf(1, "ended %d\n", ended);
	_exit(WIFEXITED(ended) && WEXITSTATUS(ended) == 77 ? 77 : 0);
}

int main(int argc, char **argv)
{
	int pair[2], status, yes = 1;
	for (int i = 1; i < argc; i++)
		option(argv[i]);
	CHECK(setenv("USERCR_RESTART_NR", "999", 1) == 0);
	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
	/* What is sent before that says nothing about its sender. */
	CHECK(setsockopt(pair[0], SOL_SOCKET, SO_PASSCRED, &yes, sizeof yes) == 0);
	CHECK((proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) >= 0);
	new_namespaces();
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (!pid) {
		close(pair[0]);
		harness(pair[1]);
	}
	close(pair[1]);
	if ((listener = passed(pair[0], &who)) < 0)
		return waitpid(pid, &status, 0) == pid ? exit_like(status) : 1;
	dprintf(1, "caller %d\n", who);
	int process = (int)syscall(SYS_pidfd_open, pid, 0);
	for (;;) {
		struct pollfd p[] = { { listener, POLLIN, 0 }, { process, POLLIN, 0 }, { said ? -1 : pair[0], POLLIN, 0 } };
		long long left = release_at ? release_at - now_ms() : -1;
		CHECK(poll(p, 3, release_at ? (left > 0 ? (int)left : 0) : -1) >= 0);
		if (p[1].revents)
			break;
		if (p[0].revents & POLLIN)
			serve();
		else if (p[0].revents)
			listener = -1;
		if (p[2].revents) {
			report(pair[0]);
			close(pair[0]);
		}
		if (release_at && now_ms() >= release_at && want.wait) {
			release_at = 0;
			let_go(1, 1, 1);
		}
		if (!want.wait)
			release_at = 0;
	}
	CHECK(waitpid(pid, &status, 0) == pid);
	return exit_like(status);
}
