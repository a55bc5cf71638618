/* What the kernel that there is tells of a task: its status, its pids, what is mounted where it is. */
#ifndef LOOK_H
#define LOOK_H

#include "../check.h"

/* /proc of this program: the one of the tasks is mounted over it. */
static int proc;

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

#endif
