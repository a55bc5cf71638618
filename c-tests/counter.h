/*
 * A process that counts: a line in the file "count" for each step, with the step and the process's own ids. All lines are of one
 * length, so what a killed run wrote after its checkpoint is overwritten by the run that goes on from there.
 */
#ifndef COUNTER_H
#define COUNTER_H
#include "check.h"

enum { LINE = 55 };

struct line {
	int step, pid, parent, session, group;
};

/* How a counter ends by itself. */
struct end {
	int step;   /* there; 0: never */
	int status; /* with this exit status */
	int signal; /* or by this signal, if not 0 */
};

/* Detaches from the caller and counts. It checks what it has in registers and on the heap. */
static inline void __attribute__((noreturn)) count(struct end end)
{
	const struct timespec pause = { 0, 500000 };
	double halves = 0;
	int *heap = malloc(sizeof *heap), null = open("/dev/null", O_RDWR);
	if (!heap || dup2(null, 0) || dup2(null, 1) != 1 || dup2(null, 2) != 2 || close_range(3, ~0U, 0))
		_exit(100);
	if (getsid(0) != getpid() && setsid() < 0)
		_exit(101);
	int out = open("count", O_WRONLY | O_CREAT | O_TRUNC, 0600);
	for (int step = *heap = 0; !end.step || step < end.step; step++, ++*heap, halves += 0.5) {
		char text[LINE + 1];
		snprintf(text, sizeof text, "%10d %10d %10d %10d %10d\n", step, (int)getpid(), (int)getppid(),
			 (int)getsid(0), (int)getpgrp());
		if (*heap != step || halves != step / 2.0 || write(out, text, LINE) != LINE)
			_exit(102);
		nanosleep(&pause, NULL);
	}
	if (end.signal)
		raise(end.signal);
	_exit(end.status);
}

/* The number of steps so far. */
static inline int steps(void)
{
	struct stat s;
	return stat("count", &s) == 0 ? (int)(s.st_size / LINE) : 0;
}

static inline int has_steps(const void *arg)
{
	return steps() >= *(const int *)arg;
}

/* Waits until there are `more` lines than now. */
static inline void wait_steps(int more)
{
	int wanted = steps() + more;
	CHECK(wait_in_folder(has_steps, &wanted, 20000));
}

/* Line number `step`, which must say that it is. */
static inline struct line line(int step)
{
	struct line l;
	char text[LINE + 1] = "";
	int fd = open("count", O_RDONLY | O_CLOEXEC);
	CHECK(fd >= 0 && pread(fd, text, LINE, (off_t)step * LINE) == LINE);
	close(fd);
	CHECK(sscanf(text, "%d %d %d %d %d", &l.step, &l.pid, &l.parent, &l.session, &l.group) == 5);
	CHECK(l.step == step);
	return l;
}

/* Every line must be there, in order. */
static inline void check_lines(void)
{
	for (int i = steps(); i > 0; i--)
		line(i - 1);
}

/* Starts a counter as child of the caller. With flags CLONE_NEWPID it is the init of a pid namespace. */
static inline pid_t start_counter(int flags, struct end end)
{
	unlink("count");
	pid_t pid = (pid_t)syscall(SYS_clone, flags | SIGCHLD, NULL, NULL, NULL, NULL);
	CHECK(pid >= 0);
	if (!pid)
		count(end);
	wait_steps(50);
	return pid;
}

static inline int new_file(const char *name)
{
	unlink(name);
	int fd = open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	CHECK(fd >= 0);
	return fd;
}

/* Writes the image of a tree to the file "image". */
static inline void save(pid_t pid, int container)
{
	struct cr_checkpoint_args a = usual_dump(new_file("image"));
	a.container = container;
	struct outcome o = checkpoint(pid, &a);
	check_outcome(&o, 1, 0);
	CHECK(a.flags == (container ? 0 : CHECKPOINT_SUBTREE));
	close(a.outfd);
}

static inline void end_child(pid_t pid)
{
	int status;
	CHECK(kill(pid, SIGKILL) == 0);
	CHECK(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status));
}

static inline int open_image(void)
{
	int fd = open("image", O_RDONLY | O_CLOEXEC);
	CHECK(fd >= 0);
	return fd;
}

/* The only child of a process. */
static inline pid_t only_child(pid_t parent)
{
	pid_t found = 0;
	DIR *proc = opendir("/proc");
	struct dirent *e;
	CHECK(proc != NULL);
	while ((e = readdir(proc))) {
		char path[300];
		int pid, ppid;
		snprintf(path, sizeof path, "/proc/%s/stat", e->d_name);
		FILE *f = atoi(e->d_name) > 0 ? fopen(path, "re") : NULL;
		if (f && fscanf(f, "%d (%*[^)]) %*c %d", &pid, &ppid) == 2 && ppid == parent) {
			CHECK(found == 0);
			found = pid;
		}
		if (f)
			fclose(f);
	}
	closedir(proc);
	CHECK(found > 0);
	return found;
}
#endif
