/*
 * count LIMIT STATUS: counts on standard output, a line every 10 ms, up to LIMIT, then exits with STATUS.
 * A child that lives as long as its parent makes it a tree.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	struct timespec pause = { 0, 10 * 1000 * 1000 };
	int ends[2];
	char byte;

	if (argc != 3 || pipe(ends) != 0)
		return 99;
	switch (fork()) {
	case -1:
		return 99;
	case 0:
		close(ends[1]);
		return read(ends[0], &byte, 1) == 0 ? 0 : 99;
	}
	close(ends[0]);
	for (int i = 1; i <= atoi(argv[1]); i++) {
		if (printf("%d\n", i) < 0 || fflush(stdout) != 0)
			return 99;
		nanosleep(&pause, NULL);
	}
	close(ends[1]);
	wait(NULL);
	return atoi(argv[2]);
}
