/*
 * Recorded images that must be refused before a task is forked. Each line of the file USERCR_CASES is: name, pids, pidns, errno,
 * and what the messages must contain ("-" for nothing in particular), separated by tabs.
 */
#include "check.h"

static void one(const char *name, int pids, int pidns, int err, const char *text)
{
	static char before[1 << 16], after[1 << 16];
	about("%s", name);
	struct cr_restart_args a = usual(golden(name));
	a.pids = pids, a.pidns = pidns, a.wait = 1;
	list_fds(before, sizeof before);
	int forked = last_pid();
	struct outcome o = restart(&a);
	check_outcome(&o, 0, err);
	if (strcmp(text, "-") != 0 && strstr(o.text, text) == NULL) {
		fprintf(stderr, "%s: wanted \"%s\" in: %s\n", name, text, o.text);
		exit(1);
	}
	list_fds(after, sizeof after);
	CHECK(strcmp(before, after) == 0);
	CHECK(last_pid() == forked);
	CHECK(no_children());
	CHECK(global_send_sigint == -1);
	close(a.infd);
}

int main(void)
{
	char line[1024];
	int cases = 0;
	sandbox();
	int forked = last_pid();
	pid_t child = fork();
	if (!child)
		_exit(0);
	CHECK(child > 0 && waitpid(child, NULL, 0) == child && last_pid() != forked);
	FILE *list = fopen(folder("USERCR_CASES"), "re");
	CHECK(list != NULL);
	while (fgets(line, sizeof line, list)) {
		char name[256], text[256];
		int pids, pidns, err;
		CHECK(sscanf(line, "%255[^\t]\t%d\t%d\t%d\t%255[^\n]", name, &pids, &pidns, &err, text) == 5);
		one(name, pids, pidns, err, text);
		cases++;
	}
	fclose(list);
	CHECK(cases > 100);
	printf("%d images refused\n", cases);
	return 0;
}
