/*
 * Restarts images one after the other in a sandbox, and prints what then lives there. Arguments: pairs of a mode (nopids, pids,
 * pidns) and a path. Without any: prints /proc/self/status, which has the credentials that the images must ask for.
 *
 * Output for each image: a line "call RET ERRNO MESSAGES", then for each thread that lives a line of words, separated by tabs: "task",
 * then the values of /proc/PID/task/TID/status that are named in `wanted`, in that order.
 */
#include "../check.h"

static const char *const wanted[] = { "Name", "State", "Tgid", "PPid", "NSpid", "NSsid", "NSpgid" };

/* Reads a file of /proc: 0 where there is none. */
static size_t text_of(const char *path, char *text, size_t room)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, text, room - 1);
	if (fd >= 0)
		close(fd);
	CHECK(n >= 0);
	text[n] = 0;
	return (size_t)n;
}

static void thread(const char *folder, const char *tid)
{
	char path[600], text[8192], name[32];
	snprintf(path, sizeof path, "%s/%s/status", folder, tid);
	CHECK(text_of(path, text, sizeof text) > 0);
	printf("task");
	for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
		snprintf(name, sizeof name, i ? "\n%s:\t" : "%s:\t", wanted[i]);
		char *at = strstr(text, name);
		CHECK(at != NULL);
		at += strlen(name);
		putchar('\t');
		/* The numbers in the nested namespaces are separated by tabs too. */
		for (; *at && *at != '\n'; at++)
			putchar(*at == '\t' ? ' ' : *at);
	}
	putchar('\n');
}

static int is_number(const char *name)
{
	return name[0] >= '1' && name[0] <= '9';
}

/* Everything but this program and pid 1. */
static void list(void)
{
	char path[300];
	DIR *all = opendir("/proc");
	CHECK(all != NULL);
	for (struct dirent *p; (p = readdir(all));) {
		if (!is_number(p->d_name) || atoi(p->d_name) <= 2)
			continue;
		snprintf(path, sizeof path, "/proc/%s/task", p->d_name);
		DIR *threads = opendir(path);
		CHECK(threads != NULL);
		for (struct dirent *t; (t = readdir(threads));)
			if (is_number(t->d_name))
				thread(path, t->d_name);
		closedir(threads);
	}
	closedir(all);
}

static void one(const char *mode, const char *image)
{
	about("%s, %s", mode, image);
	int fd = open(image, O_RDONLY | O_CLOEXEC);
	CHECK(fd >= 0);
	struct cr_restart_args a = usual(fd);
	a.pids = strcmp(mode, "pids") == 0;
	a.pidns = strcmp(mode, "pidns") == 0;
	struct outcome o = restart(&a);
	for (char *c = o.text; *c; c++)
		if (*c == '\n')
			*c = '|';
	printf("call %d %d %s\n", o.ret, o.err, o.text);
	list();
	kill_all();
	close(fd);
}

int main(int argc, char **argv)
{
	char text[8192];
	sandbox();
	if (argc == 1) {
		CHECK(text_of("/proc/self/status", text, sizeof text) > 0);
		fputs(text, stdout);
		return 0;
	}
	CHECK(setsid() == getpid());
	for (int i = 1; i + 1 < argc; i += 2) {
		one(argv[i], argv[i + 1]);
		fflush(stdout);
	}
	return 0;
}
