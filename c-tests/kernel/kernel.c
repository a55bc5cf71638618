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
#include "caller.h"
#include "look.h"
#include <sys/ptrace.h>
#include <sys/user.h>

struct call {
	__u64 id;
	pid_t pid;
	__u64 flags;
	int root, done;
};

static struct call calls[MOST], coordinator;
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
