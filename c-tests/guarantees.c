/*
 * What a caller may rely on while it calls cr_restart 200 times: no deadlock with its own threads, which use malloc all the time; its own children,
 * signal dispositions, signal mask, descriptors, folder and umask as before.
 */
#include "counter.h"

#include <pthread.h>

enum { HAMMERS = 4, CALLS = 200 };

/* The caller's state that must not change. */
struct state {
	struct sigaction actions[65];
	sigset_t mask;
	mode_t umask;
	int threads, shared_mappings, deathsig, subreaper;
	char cwd[4096], fds[1 << 16];
};

static volatile int hammering = 1;

static void *hammer(void *seed)
{
	unsigned x = *(unsigned *)seed;
	char *kept[64] = { NULL };
	while (hammering) {
		x = x * 1664525 + 1013904223;
		char **slot = &kept[(x >> 8) % 64];
		free(*slot);
		*slot = malloc(1 + (x >> 16) % 5000);
		CHECK(*slot != NULL);
		**slot = 'x';
	}
	for (int i = 0; i < 64; i++)
		free(kept[i]);
	return NULL;
}

static void on_signal(int signal)
{
	(void)signal;
}

static int lines_with(const char *path, const char *what)
{
	char text[4096];
	int n = 0;
	FILE *f = fopen(path, "re");
	CHECK(f != NULL);
	while (fgets(text, sizeof text, f))
		n += strstr(text, what) != NULL;
	fclose(f);
	return n;
}

static int threads(void)
{
	int n = 0;
	DIR *d = opendir("/proc/self/task");
	CHECK(d != NULL);
	for (struct dirent *e; (e = readdir(d));)
		n += e->d_name[0] != '.';
	closedir(d);
	return n;
}

static void take_state(struct state *s)
{
	memset(s, 0, sizeof *s);
	for (int i = 1; i < 65; i++)
		sigaction(i, NULL, &s->actions[i]);
	CHECK(pthread_sigmask(SIG_SETMASK, NULL, &s->mask) == 0);
	s->umask = umask(0);
	umask(s->umask);
	s->threads = threads();
	s->shared_mappings = lines_with("/proc/self/maps", "-s ") + lines_with("/proc/self/maps", "xs ");
	CHECK(prctl(PR_GET_PDEATHSIG, &s->deathsig) == 0 && prctl(PR_GET_CHILD_SUBREAPER, &s->subreaper) == 0);
	CHECK(getcwd(s->cwd, sizeof s->cwd) != NULL);
	list_fds(s->fds, sizeof s->fds);
}

static void check_state(const struct state *before)
{
	static struct state now;
	take_state(&now);
	for (int i = 1; i < 65; i++) {
		const struct sigaction *b = &before->actions[i], *n = &now.actions[i];
		CHECK(b->sa_handler == n->sa_handler && b->sa_flags == n->sa_flags);
		for (int j = 1; j < 65; j++)
			CHECK(sigismember(&b->sa_mask, j) == sigismember(&n->sa_mask, j));
	}
	CHECK(memcmp(&before->mask, &now.mask, sizeof now.mask) == 0 && before->umask == now.umask);
	CHECK(before->threads == now.threads && before->shared_mappings == now.shared_mappings);
	CHECK(before->deathsig == now.deathsig && before->subreaper == now.subreaper);
	CHECK(strcmp(before->cwd, now.cwd) == 0);
	if (strcmp(before->fds, now.fds) != 0)
		fprintf(stderr, "descriptors before:\n%safter:\n%s", before->fds, now.fds);
	CHECK(strcmp(before->fds, now.fds) == 0);
}

static void refused_call(int i)
{
	static const struct {
		const char *image;
		int err;
	} bad[] = {
		{ "bad-empty", EINVAL },
		{ "bad-cut-in-tree", EIO },
		{ "bad-self-parent", EINVAL },
		{ "orphan-live-leader.nopids", EINVAL },
		{ "nested-1.nopids", EINVAL },
	};
	int n = i % (int)(sizeof bad / sizeof *bad);
	struct cr_restart_args a = usual(golden(bad[n].image));
	struct outcome o = restart(&a);
	check_outcome(&o, 0, bad[n].err);
	close(a.infd);
}

static void real_call(void)
{
	struct cr_restart_args a = usual(open_image());
	struct outcome o = restart(&a);
	check_outcome(&o, 1, 0);
	close(a.infd);
	end_child(o.ret);
}

static void *real_calls(void *arg)
{
	for (int i = 0; i < 25; i++)
		real_call();
	return arg;
}

int main(void)
{
	static struct state before, before_one;
	static unsigned seeds[HAMMERS] = { 1, 2, 3, 4 };
	static const struct end never;
	pthread_t hammers[HAMMERS], other;
	sigset_t some;
	int status;

	sandbox();
	pid_t counter = start_counter(0, never);
	save(counter, 0);
	end_child(counter);

	/* A caller with habits of its own. */
	struct sigaction act = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
	CHECK(sigaction(SIGCHLD, &act, NULL) == 0 && sigaction(SIGUSR1, &act, NULL) == 0);
	act.sa_flags = SA_NODEFER;
	CHECK(sigaction(SIGINT, &act, NULL) == 0);
	sigemptyset(&some);
	sigaddset(&some, SIGUSR2);
	CHECK(pthread_sigmask(SIG_BLOCK, &some, NULL) == 0);
	umask(027);

	pid_t sleeper = fork();
	CHECK(sleeper >= 0);
	if (!sleeper)
		for (;;)
			pause();
	pid_t gone = fork();
	CHECK(gone >= 0);
	if (!gone)
		_exit(42);
	siginfo_t info;
	CHECK(waitid(P_PID, (id_t)gone, &info, WEXITED | WNOWAIT) == 0);

	for (int i = 0; i < HAMMERS; i++)
		CHECK(pthread_create(&hammers[i], NULL, hammer, &seeds[i]) == 0);
	take_state(&before);
	for (int i = 0; i < CALLS; i++) {
		about("call %d", i);
		take_state(&before_one);
		if (i % 2)
			real_call();
		else
			refused_call(i / 2);
		if (i < 10)
			check_state(&before_one);
	}
	about("after %d calls", CALLS);
	check_state(&before);

	about("two threads that call at once");
	CHECK(pthread_create(&other, NULL, real_calls, NULL) == 0);
	real_calls(NULL);
	CHECK(pthread_join(other, NULL) == 0);
	check_state(&before);

	hammering = 0;
	for (int i = 0; i < HAMMERS; i++)
		CHECK(pthread_join(hammers[i], NULL) == 0);
	CHECK(waitpid(sleeper, &status, WNOHANG) == 0);
	CHECK(waitpid(gone, &status, 0) == gone && WIFEXITED(status) && WEXITSTATUS(status) == 42);
	end_child(sleeper);
	CHECK(no_children());
	return 0;
}
