/* What the programs about pidfds have in common. */
#ifndef PIDFD_H
#define PIDFD_H

#include "state.h"

/* Whose it is, as /proc says. */
static int whose(int fd)
{
	char name[64], text[512], *line;
	snprintf(name, sizeof name, "/proc/self/fdinfo/%d", fd);
	int info = open(name, O_RDONLY | O_CLOEXEC);
	NEED(info >= 0);
	ssize_t len = read(info, text, sizeof text - 1);
	NEED(len > 0);
	text[len] = 0;
	close(info);
	line = strstr(text, "\nPid:");
	NEED(line);
	return atoi(line + 5);
}

#endif
