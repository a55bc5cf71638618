/*
 * A program in a terminal that is not its own. Says each event on a line, and does what it is told line by line:
 * look, raw (ends with q), exit STATUS. With an argument a child does all this, as the leader of a session, which the program outlives. Everything is looked at from inside.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

static void say(const char *format, ...)
{
	char text[256];
	va_list arguments;
	va_start(arguments, format);
	int length = vsnprintf(text, sizeof text, format, arguments);
	va_end(arguments);
	if (write(STDOUT_FILENO, text, (size_t)length) != length)
		_exit(9);
}

static void on_interrupt(int signal)
{
	(void)signal;
	say("interrupted\n");
}

static void on_size(int signal)
{
	struct winsize size;
	(void)signal;
	if (!ioctl(STDIN_FILENO, TIOCGWINSZ, &size))
		say("size %d\n", size.ws_row);
}

static void look(int opened, int only_read)
{
	int tty = open("/dev/tty", O_RDWR | O_CLOEXEC);
	struct termios line;
	char name[64] = "";
	say("terminals %d%d%d%d%d", isatty(0), isatty(1), isatty(2), isatty(opened), isatty(only_read));
	say(" controlling %d", tty >= 0);
	say(" foreground %d", tcgetpgrp(0) == getpgrp());
	say(" flags %d%d", (fcntl(opened, F_GETFL) & (O_NONBLOCK | O_ACCMODE)) == (O_NONBLOCK | O_RDWR),
		(fcntl(only_read, F_GETFL) & (O_NONBLOCK | O_ACCMODE)) == O_RDONLY);
	say(" cloexec %d%d", fcntl(opened, F_GETFD), fcntl(0, F_GETFD));
	say(" erase %d", tcgetattr(0, &line) ? -1 : line.c_cc[VERASE]);
	say(" one %d.\n", ttyname_r(0, name, sizeof name) == 0 && strcmp(name, ttyname(only_read)) == 0);
	close(tty);
}

static void raw(void)
{
	struct termios before, line;
	char byte = 0;
	tcgetattr(0, &before);
	line = before;
	cfmakeraw(&line);
	tcsetattr(0, TCSANOW, &line);
	say("raw\r\n");
	while (byte != 'q') {
		ssize_t got = read(0, &byte, 1);
		if (got == 1)
			say("<%d>", byte);
		else if (got == 0 || errno != EINTR)
			_exit(8);
	}
	tcsetattr(0, TCSANOW, &before);
	say("cooked\n");
}

/* Gives the terminal to a child, and outlives it. */
static void host(void)
{
	signal(SIGHUP, SIG_IGN);
	ioctl(STDIN_FILENO, TIOCNOTTY);
	pid_t child = fork();
	if (child) {
		waitpid(child, NULL, 0);
		sleep(1);
		_exit(11);
	}
	signal(SIGHUP, SIG_DFL);
	setsid();
	ioctl(STDIN_FILENO, TIOCSCTTY, 0);
}

int main(int argc, char **argv)
{
	(void)argv;
	if (argc > 1)
		host();

	struct sigaction interrupt = { .sa_handler = on_interrupt }, size = { .sa_handler = on_size };
	int opened = open("/dev/tty", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	int only_read = open(ttyname(0), O_RDONLY | O_NOCTTY);
	struct termios line;
	tcgetattr(0, &line);
	line.c_cc[VERASE] = '#';
	tcsetattr(0, TCSANOW, &line);
	sigaction(SIGINT, &interrupt, NULL);
	sigaction(SIGWINCH, &size, NULL);
	say("begun\n");
	for (;;) {
		char text[128];
		ssize_t got = read(STDIN_FILENO, text, sizeof text - 1);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return 7;
		text[got] = 0;
		if (!strncmp(text, "look", 4))
			look(opened, only_read);
		else if (!strncmp(text, "raw", 3))
			raw();
		else if (!strncmp(text, "exit ", 5))
			return atoi(text + 5);
		else
			say("got %s", text);
	}
}
