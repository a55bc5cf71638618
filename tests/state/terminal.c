/*
 * A pair of pseudo terminals: settings, window, packet mode; the session that it controls, whose foreground
 * group is another one than the leader's.
 */
#include "state.h"
#include <pty.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <termios.h>

static int master, number, packets;
/* Flags of the leader's descriptors, and of the master: F_GETFL, F_GETFD. */
static int flags[4][2];
static pid_t leader;
static volatile pid_t *job;

static void look_at_flags(int fd, int found[2])
{
	/* What it was opened with is of no meaning here. */
	found[0] = fcntl(fd, F_GETFL) & ~O_CLOEXEC;
	found[1] = fcntl(fd, F_GETFD);
}

/* The session: a leader, and a job in the foreground that doubles each number that it reads. */
static void session(void)
{
	NEED(setsid() == getpid());
	/* Then /proc shows all of its descriptors as close-on-exec. */
	int slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_CLOEXEC);
	NEED(slave >= 0);
	close(master);
	for (int fd = 0; fd < 3; fd++) {
		NEED_EQ(dup2(slave, fd), fd);
		look_at_flags(fd, flags[fd]);
	}
	close(slave);
	NEED_EQ(tcgetpgrp(0), getpid());
	signal(SIGTTOU, SIG_IGN);
	pid_t child = fork();
	if (child == 0) {
		char line[64];
		/* Whoever runs the tests may ignore it. */
		NEED(signal(SIGINT, SIG_DFL) != SIG_ERR);
		NEED_EQ(setpgid(0, 0), 0);
		NEED_EQ(tcsetpgrp(0, getpid()), 0);
		/* It stays that of the session. */
		int tty = open("/dev/tty", O_WRONLY);
		NEED(tty >= 0);
		*job = getpid();
		while (fgets(line, sizeof line, stdin)) {
			for (int fd = 0; fd < 3; fd++) {
				int now[2];
				look_at_flags(fd, now);
				NEED_EQ(now[0], flags[fd][0]);
				NEED_EQ(now[1], flags[fd][1]);
			}
			NEED_EQ(tcgetsid(0), getsid(0));
			NEED_EQ(tcgetpgrp(0), getpgrp());
			dprintf(tty, "%d\n", 2 * atoi(line));
			int again = open("/dev/tty", O_WRONLY);
			NEED(again >= 0);
			close(again);
		}
		_exit(0);
	}
	for (;;)
		pause();
}

/* A pair of its own in packet mode, with an exclusive and locked slave that nobody has open. */
static void packets_up(void)
{
	int on = 1;
	packets = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK);
	NEED(packets >= 0 && grantpt(packets) == 0);
	NEED_EQ(ioctl(packets, TIOCPKT, &on), 0);
}

static void is_in_packets(int generation)
{
	int on = 0, locked = 0;
	char name[64], byte[8];
	NEED_EQ(ioctl(packets, TIOCGPKT, &on), 0);
	NEED_EQ(on, 1);
	NEED_EQ(ioctl(packets, TIOCGPTLCK, &locked), 0);
	NEED_EQ(locked, 1);
	NEED_EQ(fcntl(packets, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
	if (generation == 1)
		return;
	NEED(unlockpt(packets) == 0 && ptsname_r(packets, name, sizeof name) == 0);
	int slave = open(name, O_RDWR | O_NOCTTY);
	NEED(slave >= 0 && write(slave, "data", 4) == 4);
	/* The first byte says that it is data. */
	NEED_EQ(read(packets, byte, sizeof byte), 5);
	NEED(memcmp(byte, "\0data", 5) == 0);
	close(slave);
}

static void await_line(const char *wanted)
{
	char text[64] = "";
	size_t length = 0;
	while (!strstr(text, wanted)) {
		ssize_t got = read(master, text + length, sizeof text - 1 - length);
		NEED(got > 0);
		length += (size_t)got;
		text[length] = 0;
		NEED(length < sizeof text - 1);
	}
}

static void setup(void)
{
	struct termios line;
	struct winsize window = { 31, 97, 310, 970 };
	struct timespec tick = { 0, 1000000 };
	job = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	NEED(job != MAP_FAILED);
	master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	NEED(master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0);
	NEED_EQ(ioctl(master, TIOCGPTN, &number), 0);
	NEED_EQ(tcgetattr(master, &line), 0);
	look_at_flags(master, flags[3]);
	line.c_lflag &= ~(tcflag_t)ECHO;
	line.c_oflag &= ~(tcflag_t)ONLCR;
	line.c_cc[VERASE] = 'x';
	NEED_EQ(tcsetattr(master, TCSANOW, &line), 0);
	NEED_EQ(ioctl(master, TIOCSWINSZ, &window), 0);
	leader = fork();
	if (leader == 0) {
		session();
	}
	while (!*job)
		nanosleep(&tick, NULL);
	packets_up();
}

static void check(int generation)
{
	struct termios line;
	struct winsize window;
	int again;
	NEED_EQ(ioctl(master, TIOCGPTN, &again), 0);
	NEED_EQ(again, number);
	NEED_EQ(tcgetattr(master, &line), 0);
	NEED(!(line.c_lflag & ECHO) && line.c_lflag & ICANON && !(line.c_oflag & ONLCR));
	NEED_EQ(line.c_cc[VERASE], 'x');
	NEED_EQ(cfgetospeed(&line), B38400);
	NEED_EQ(ioctl(master, TIOCGWINSZ, &window), 0);
	NEED(window.ws_row == 31 && window.ws_col == 97 && window.ws_xpixel == 310 && window.ws_ypixel == 970);
	int now[2];
	look_at_flags(master, now);
	NEED_EQ(now[0], flags[3][0]);
	NEED_EQ(now[1], FD_CLOEXEC);
	NEED_EQ(now[1], flags[3][1]);
	is_in_packets(generation);
	/* Through the line discipline there and back. */
	NEED_EQ(write(master, "29x1\n", 5), 5);
	await_line("42\n");
	if (generation == 2) {
		/* The interrupt character goes to the foreground group alone. */
		int status;
		NEED_EQ(write(master, "\003", 1), 1);
		struct timespec tick = { 0, 1000000 };
		while (kill(*job, 0) == 0) {
			char path[64], text[128] = "";
			snprintf(path, sizeof path, "/proc/%d/stat", (int)*job);
			int fd = open(path, O_RDONLY);
			if (fd >= 0 && read(fd, text, sizeof text - 1) > 0 && strstr(text, ") Z"))
				break;
			close(fd);
			nanosleep(&tick, NULL);
		}
		NEED_EQ(waitpid(leader, &status, WNOHANG), 0);
		/* Its end takes the terminal away from the session. */
		NEED_EQ(kill(leader, SIGKILL), 0);
		NEED_EQ(waitpid(leader, &status, 0), leader);
	}
}
