/*
 * The programs in c-tests/workloads: each is started, saved, killed with all of its processes, restarted, told to check itself, and must say
 * "ok". Nothing may be left of it then. With an argument: only those of that name.
 */
#include "check.h"

static char cwd[4096];

/* One way to run and restart a workload. */
struct job {
	const char *name, *arg;
	int pids, pidns;
};

static int has_file(const void *name)
{
	return access(name, F_OK) == 0;
}

static void read_file(const char *name, char *text, size_t room)
{
	int fd = open(name, O_RDONLY | O_CLOEXEC);
	CHECK(fd >= 0);
	take_text(fd, text, room);
}

/* Starts the workload, which detaches, and gives the pid of its root. */
static pid_t start(const struct job *job)
{
	char program[4096], text[64];
	int status;
	snprintf(program, sizeof program, "%s/%s", folder("USERCR_WORKLOADS"), job->name);
	pid_t launcher = fork();
	CHECK(launcher >= 0);
	if (!launcher) {
		char pid_file[5000], out_file[5000];
		snprintf(pid_file, sizeof pid_file, "%s/pid", cwd);
		snprintf(out_file, sizeof out_file, "%s/out", cwd);
		if (job->arg)
			execl(program, program, job->arg, pid_file, out_file, NULL);
		else
			execl(program, program, pid_file, out_file, NULL);
		_exit(127);
	}
	CHECK(waitpid(launcher, &status, 0) == launcher && status == 0);
	read_file("pid", text, sizeof text);
	return atoi(text);
}

/* The task that has `inside` as its pid in the innermost of its pid namespaces, and is in one below ours. */
static pid_t find_inside(pid_t inside)
{
	pid_t found = 0;
	DIR *proc = opendir("/proc");
	struct dirent *e;
	CHECK(proc != NULL);
	while ((e = readdir(proc))) {
		char path[300], text[256];
		int a, b;
		snprintf(path, sizeof path, "/proc/%s/status", e->d_name);
		FILE *f = atoi(e->d_name) > 0 ? fopen(path, "re") : NULL;
		while (f && fgets(text, sizeof text, f))
			if (sscanf(text, "NSpid: %d %d", &a, &b) == 2 && b == inside)
				found = a;
		if (f)
			fclose(f);
	}
	closedir(proc);
	CHECK(found > 0);
	return found;
}

/* Says on stderr what became of a restarted task that does not answer. */
static void say_state(pid_t pid)
{
	char path[64], line[256];
	int status;
	fprintf(stderr, "%s: no answer\n", check_about);
	if (waitpid(pid, &status, WNOHANG) == pid)
		fprintf(stderr, "it has ended, status %x\n", status);
	snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
	FILE *f = fopen(path, "re");
	while (f && fgets(line, sizeof line, f))
		if (!strncmp(line, "State", 5) || !strncmp(line, "Sig", 3) || !strncmp(line, "ShdPnd", 6))
			fputs(line, stderr);
	snprintf(path, sizeof path, "/proc/%d/syscall", (int)pid);
	f = f ? freopen(path, "re", f) : NULL;
	while (f && fgets(line, sizeof line, f))
		fputs(line, stderr);
	if (f)
		fclose(f);
}

static void run(const struct job *job)
{
	char text[1024];
	int status;
	about("workload %s %s, %s", job->name, job->arg ? job->arg : "",
	      job->pidns ? "pidns" : job->pids ? "pids" : "new pids");
	pid_t root = start(job);
	int image = open("image", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	struct cr_checkpoint_args c = usual_dump(image);
	struct outcome o = checkpoint(root, &c);
	check_outcome(&o, 1, 0);
	kill_all();
	CHECK(lseek(image, 0, SEEK_SET) == 0);
	struct cr_restart_args a = usual(image);
	a.pids = job->pids, a.pidns = job->pidns;
	o = restart(&a);
	check_outcome(&o, 1, 0);
	close(image);
	CHECK(kill(job->pidns ? find_inside(root) : o.ret, SIGUSR1) == 0);
	if (!wait_in_folder(has_file, "out", 60000)) {
		say_state(o.ret);
		exit(1);
	}
	read_file("out", text, sizeof text);
	if (strcmp(text, "ok\n") != 0) {
		fprintf(stderr, "%s: %s", check_about, text);
		exit(1);
	}
	CHECK(waitpid(o.ret, &status, 0) == o.ret && status == 0);
	CHECK(no_children());
	CHECK(unlink("image") == 0 && unlink("pid") == 0 && unlink("out") == 0);
}

int main(int argc, char **argv)
{
	static const struct job jobs[] = {
		{ "one", NULL, 1, 0 },         { "one", NULL, 0, 1 },
		{ "wide", "100", 1, 0 },       { "wide", "100", 0, 1 },
		{ "chain", "50", 1, 0 },       { "chain", "50", 0, 1 },
		{ "mem", "256", 0, 0 },        { "mem", "256", 1, 0 },       { "mem", "256", 0, 1 },
		{ "pipes", "10", 1, 0 },       { "pipes", "10", 0, 1 },
		{ "sessions", "same", 1, 0 },  { "sessions", "same", 0, 1 }, { "sessions", "moved", 0, 0 },
		{ "mem", "1024", 1, 0 },
	};
	CHECK(getcwd(cwd, sizeof cwd) != NULL);
	sandbox();
	for (size_t i = 0; i < sizeof jobs / sizeof *jobs; i++)
		if (argc < 2 || !strcmp(argv[1], jobs[i].name))
			run(&jobs[i]);
	return 0;
}
