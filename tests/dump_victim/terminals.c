/*
 * Pairs of pseudo terminals in which something waits to be read: terminals TOLD [MODE].
 *
 * Writes its pid to TOLD when all is there. On SIGUSR1 it reads everything, and ends with 0 where it is what was
 * there. Modes: stopped, full, async, status, locked, ends: one pair with output that is refused for this reason.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NEED(what) \
	do { \
		if (!(what)) { \
			fprintf(stderr, "line %d: %s: %s\n", __LINE__, #what, strerror(errno)); \
			exit(1); \
		} \
	} while (0)

#include "../state/waiting.h"

int main(int argc, char **argv)
{
	const char *mode = argc > 2 ? argv[2] : "";
	sigset_t set;
	int signal_number;
	NEED(argc > 1);
	NEED(sigemptyset(&set) == 0 && sigaddset(&set, SIGUSR1) == 0);
	NEED(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
	waiting_setup(mode);
	FILE *told = fopen(argv[1], "w");
	NEED(told && fprintf(told, "%d", getpid()) > 0 && fclose(told) == 0);
	NEED(sigwait(&set, &signal_number) == 0);
	waiting_check(mode);
	return 0;
}
