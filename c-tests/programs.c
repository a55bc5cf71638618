/*
 * Programs that know nothing of checkpoints: a bash loop, a bash pipeline of three programs, python3 in a computing loop.
 * Each writes numbers to the file "count"; saved, killed and restarted, it must go on with the next number.
 */
#include "check.h"

#include <inttypes.h>

struct job {
	const char *about, *program, *script;
	int values; /* each line has a second number: the state of a generator */
};

static const struct job jobs[] = {
	{ "a bash loop", "bash", "i=0; while :; do i=$((i + 1)); echo $i >> count; done", 0 },
	{ "a bash loop that forks", "bash", "i=0; while :; do i=$((i + 1)); echo $i >> count; sleep 0.001; done", 0 },
	{ "a bash pipeline", "bash", "yes | cat -n | while read -r n rest; do echo $n; done >> count", 0 },
	{ "a python3 loop", "python3",
	  "i = x = 0\n"
	  "out = open('count', 'a')\n"
	  "while True:\n"
	  "    i += 1\n"
	  "    for _ in range(500):\n"
	  "        x = (x * 6364136223846793005 + 1442695040888963407) % 2**64\n"
	  "    print(i, x, file=out, flush=True)\n",
	  1 },
};

static int grown(const void *arg)
{
	struct stat s;
	return stat("count", &s) == 0 && s.st_size >= *(const off_t *)arg;
}

static void wait_bytes(off_t more)
{
	struct stat s = { .st_size = 0 };
	stat("count", &s);
	off_t wanted = s.st_size + more;
	CHECK(wait_in_folder(grown, &wanted, 20000));
}

static pid_t start(const struct job *job)
{
	int null = open("/dev/null", O_RDWR);
	CHECK(null >= 0 && (unlink("count") == 0 || errno == ENOENT));
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (!pid) {
		if (setsid() < 0 || dup2(null, 0) || dup2(null, 1) != 1 || dup2(null, 2) != 2 || close_range(3, ~0U, 0))
			_exit(100);
		execlp(job->program, job->program, "-c", job->script, NULL);
		_exit(127);
	}
	close(null);
	wait_bytes(200);
	return pid;
}

/* Each line but a cut one at the end is the line before plus one; where a run goes on after its checkpoint was
 * taken, `again` times a number that was already there. */
static void check_count(const struct job *job, int again)
{
	char text[256];
	long before = 0, n;
	uint64_t value, wanted = 0;
	FILE *f = fopen("count", "re");
	CHECK(f != NULL);
	while (fgets(text, sizeof text, f) && strchr(text, '\n')) {
		value = 0;
		CHECK(sscanf(text, "%ld %" SCNu64, &n, &value) == 1 + job->values);
		if (n != before + 1) {
			CHECK(again-- > 0 && n > 1 && n <= before);
			wanted = 0, before = 0;
		}
		if (job->values) {
			for (; before < n; before++)
				for (int i = 0; i < 500; i++)
					wanted = wanted * 6364136223846793005u + 1442695040888963407u;
			CHECK(value == wanted);
		}
		before = n;
	}
	fclose(f);
	CHECK(before > 1);
}

static void run(const struct job *job, int pidns)
{
	int status;
	about("%s, %s", job->about, pidns ? "pidns" : "pids");
	pid_t pid = start(job);
	int image = open("image", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	struct cr_checkpoint_args c = usual_dump(image);
	struct outcome o = checkpoint(pid, &c);
	check_outcome(&o, 1, 0);
	wait_bytes(50); /* it goes on after the checkpoint */
	kill_all();
	CHECK(lseek(image, 0, SEEK_SET) == 0);
	struct cr_restart_args a = usual(image);
	a.pids = 1, a.pidns = pidns;
	o = restart(&a);
	check_outcome(&o, 1, 0);
	CHECK(pidns || o.ret == pid);
	wait_bytes(500);
	CHECK(waitpid(o.ret, &status, WNOHANG) == 0);
	kill_all();
	check_count(job, 1);
	close(image);
}

int main(void)
{
	sandbox();
	for (size_t i = 0; i < sizeof jobs / sizeof *jobs; i++)
		for (int pidns = 0; pidns < 2; pidns++)
			run(&jobs[i], pidns);
	return 0;
}
