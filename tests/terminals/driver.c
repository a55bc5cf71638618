/*
 * Holds the master of a terminal, as a terminal emulator does: driver FOLDER PROGRAM ARGUMENTS. What the program
 * prints is appended to the file FOLDER/screen; what the test puts in FOLDER/type.1, type.2, ... is typed, a
 * file after the other. Ends as the program ends. The driver is the root of the tree: the whole pair is in it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* Types the next file, if it is there. */
static void type(int master)
{
	static int number = 1;
	char name[32], text[4096];
	snprintf(name, sizeof name, "type.%d", number);
	int fd = open(name, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	ssize_t length = read(fd, text, sizeof text);
	close(fd);
	if (length < 0 || write(master, text, (size_t)length) != length)
		_exit(4);
	number++;
}

int main(int argc, char **argv)
{
	struct winsize window = { 24, 80, 0, 0 };
	int master, status;
	if (argc < 3 || chdir(argv[1]))
		return 2;
	int screen = open("screen", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	pid_t program = forkpty(&master, NULL, NULL, &window);
	if (program == 0) {
		execvp(argv[2], argv + 2);
		_exit(127);
	}
	if (screen < 0 || program < 0 || fcntl(master, F_SETFD, FD_CLOEXEC))
		return 3;
	for (;;) {
		char text[4096];
		struct pollfd poll_master = { .fd = master, .events = POLLIN };
		if (poll(&poll_master, 1, 5) > 0) {
			ssize_t length = read(master, text, sizeof text);
			if (length > 0 && write(screen, text, (size_t)length) != length)
				return 5;
		}
		type(master);
		if (waitpid(program, &status, WNOHANG) == program)
			return WIFEXITED(status) ? WEXITSTATUS(status) : 100;
	}
}
