/* Unix sockets with names: who listens, who was accepted, who waits, and datagrams by name. */
#include "state.h"
#include <poll.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

/* Sockets that listen, by path, by a relative path, abstract, and without a path any more. */
static int by_path, relative, abstract, removed;
/* Connections: the accepted end and the client's. */
static int path_pair[2], named_pair[2], removed_pair[2], gone_pair[2][2], orphan;
/* Those that wait at by_path, in order. */
static int first, second;
/* Datagrams. */
static int receiver, sender, automatic, nobody, rebound;
/* Bound, no more. */
static int bound;
static char folder[100];
static struct sockaddr_un automatic_name;
static socklen_t automatic_length;

/* Address of a path in the test's folder, of a relative path ("./..."), or abstract ("@..."). */
static socklen_t address(struct sockaddr_un *to, const char *name)
{
	memset(to, 0, sizeof *to);
	to->sun_family = AF_UNIX;
	if (name[0] == '@') {
		/* Of this run alone. */
		int length = snprintf(to->sun_path + 1, sizeof to->sun_path - 1, "usercr%s%s", folder, name);
		return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length);
	}
	if (name[0] == '.')
		snprintf(to->sun_path, sizeof to->sun_path, "%s", name + 2);
	else
		snprintf(to->sun_path, sizeof to->sun_path, "%.90s/%s", folder, name);
	return sizeof *to;
}

static int bind_to(int type, const char *name)
{
	struct sockaddr_un to;
	socklen_t length = address(&to, name);
	int fd = socket(AF_UNIX, type, 0);
	NEED(fd >= 0);
	NEED_EQ(bind(fd, (struct sockaddr *)&to, length), 0);
	return fd;
}

static int listen_at(int type, const char *name, int backlog)
{
	int fd = bind_to(type, name);
	NEED_EQ(listen(fd, backlog), 0);
	return fd;
}

static void connect_to(int fd, const char *name)
{
	struct sockaddr_un to;
	socklen_t length = address(&to, name);
	NEED_EQ(connect(fd, (struct sockaddr *)&to, length), 0);
}

static int client_of(int type, const char *name)
{
	int fd = socket(AF_UNIX, type, 0);
	NEED(fd >= 0);
	connect_to(fd, name);
	return fd;
}

static int accept_at(int listener)
{
	struct pollfd wait = { .fd = listener, .events = POLLIN };
	NEED_EQ(poll(&wait, 1, 0), 1);
	int fd = accept(listener, NULL, NULL);
	NEED(fd >= 0);
	return fd;
}

/* Whether a socket, or its peer, has this name; NULL: none. */
static void has_name(int fd, int peer, const char *name)
{
	struct sockaddr_un want, is;
	socklen_t length = sizeof is, wanted = 0;
	memset(&is, 0, sizeof is);
	NEED_EQ(peer ? getpeername(fd, (struct sockaddr *)&is, &length) : getsockname(fd, (struct sockaddr *)&is, &length), 0);
	if (!name) {
		NEED_EQ(length, sizeof(sa_family_t));
		return;
	}
	wanted = address(&want, name);
	if (name[0] == '@')
		NEED_EQ(length, wanted);
	NEED(memcmp(&is, &want, sizeof is) == 0);
}

static void say(int fd, const char *text)
{
	NEED_EQ(send(fd, text, strlen(text), MSG_DONTWAIT | MSG_NOSIGNAL), strlen(text));
}

static void say_to(int fd, const char *text, const char *name)
{
	struct sockaddr_un to;
	socklen_t length = address(&to, name);
	NEED_EQ(sendto(fd, text, strlen(text), MSG_DONTWAIT, (struct sockaddr *)&to, length), strlen(text));
}

/* The next message, and the name of its sender ("": none; NULL: whoever). */
static void hear(int fd, const char *text, const char *from)
{
	char got[64] = "";
	struct sockaddr_un is, want;
	socklen_t length = sizeof is;
	memset(&is, 0, sizeof is);
	NEED_EQ(recvfrom(fd, got, sizeof got - 1, MSG_DONTWAIT, (struct sockaddr *)&is, &length), strlen(text));
	NEED(strcmp(got, text) == 0);
	if (from && from[0]) {
		address(&want, from);
		NEED(memcmp(&is, &want, sizeof is) == 0);
	} else if (from) {
		NEED_EQ(length, 0);
	}
}

static void converse(int one, int other)
{
	say(one, "there");
	hear(other, "there", NULL);
	say(other, "back");
	hear(one, "back", NULL);
}

static void fill(void)
{
	say(path_pair[1], "to the accepted");
	say(named_pair[0], "to the client");
	say_to(sender, "from a name", "receiver");
	say_to(nobody, "from nobody", "receiver");
	say(rebound, "connected");
	first = client_of(SOCK_STREAM, "path");
	second = client_of(SOCK_STREAM, "path");
	NEED_EQ(shutdown(second, SHUT_WR), 0);
}

static void setup(void)
{
	struct sockaddr_un to;
	socklen_t length;
	int fd, listener;
	NEED(getcwd(folder, sizeof folder));
	umask(0);
	by_path = listen_at(SOCK_STREAM, "path", 5);
	NEED_EQ(chmod("path", 0640), 0);
	relative = listen_at(SOCK_SEQPACKET, "./relative", 1);
	abstract = listen_at(SOCK_STREAM, "@abstract", 0);
	removed = listen_at(SOCK_STREAM, "removed", 3);

	path_pair[1] = client_of(SOCK_STREAM, "path");
	path_pair[0] = accept_at(by_path);
	/* A client with a name of its own. */
	named_pair[1] = bind_to(SOCK_SEQPACKET, "client");
	connect_to(named_pair[1], "./relative");
	named_pair[0] = accept_at(relative);
	removed_pair[1] = client_of(SOCK_STREAM, "removed");
	removed_pair[0] = accept_at(removed);
	NEED_EQ(unlink("removed"), 0);
	/* Two that were accepted by one that is gone, as its path is. */
	listener = listen_at(SOCK_STREAM, "gone", 3);
	for (int i = 0; i < 2; i++) {
		gone_pair[i][1] = client_of(SOCK_STREAM, "gone");
		gone_pair[i][0] = accept_at(listener);
	}
	NEED_EQ(close(listener), 0);
	NEED_EQ(unlink("gone"), 0);
	/* Accepted, and closed. */
	orphan = client_of(SOCK_STREAM, "@abstract");
	fd = accept_at(abstract);
	say(fd, "bye");
	NEED_EQ(close(fd), 0);

	receiver = bind_to(SOCK_DGRAM, "receiver");
	sender = bind_to(SOCK_DGRAM, "@sender");
	nobody = socket(AF_UNIX, SOCK_DGRAM, 0);
	automatic = socket(AF_UNIX, SOCK_DGRAM, 0);
	rebound = socket(AF_UNIX, SOCK_DGRAM, 0);
	connect_to(rebound, "receiver");
	NEED_EQ(bind(automatic, (struct sockaddr *)&(sa_family_t){ AF_UNIX }, sizeof(sa_family_t)), 0);
	automatic_length = sizeof automatic_name;
	NEED_EQ(getsockname(automatic, (struct sockaddr *)&automatic_name, &automatic_length), 0);
	NEED_EQ(automatic_length, sizeof(sa_family_t) + 6);
	bound = bind_to(SOCK_STREAM, "bound");
	length = address(&to, "bound");
	NEED(connect(nobody, (struct sockaddr *)&to, length) < 0);

	/* The sockets that listen have a second owner, who takes the connections that a later one makes. */
	if (fork() == 0) {
		NEED_EQ(prctl(PR_SET_PDEATHSIG, SIGKILL), 0);
		for (;;) {
			struct timespec tick = { 0, 1000000 };
			fd = accept4(abstract, NULL, NULL, SOCK_CLOEXEC);
			if (fd >= 0) {
				say(fd, "welcome");
				close(fd);
			}
			nanosleep(&tick, NULL);
		}
	}
	fill();
}

static void check(int generation)
{
	struct sockaddr_un name;
	socklen_t length = sizeof name;
	struct stat meta;
	int fd, accepted;
	char byte;

	has_name(by_path, 0, "path");
	has_name(path_pair[0], 0, "path");
	has_name(path_pair[0], 1, NULL);
	has_name(path_pair[1], 0, NULL);
	has_name(path_pair[1], 1, "path");
	hear(path_pair[0], "to the accepted", NULL);
	converse(path_pair[0], path_pair[1]);

	has_name(named_pair[0], 0, "./relative");
	has_name(named_pair[0], 1, "client");
	has_name(named_pair[1], 0, "client");
	has_name(named_pair[1], 1, "./relative");
	hear(named_pair[1], "to the client", "./relative");
	say(named_pair[1], "back");
	hear(named_pair[0], "back", "client");

	has_name(removed_pair[1], 1, "removed");
	converse(removed_pair[0], removed_pair[1]);
	NEED_EQ(access("removed", F_OK), -1);
	for (int i = 0; i < 2; i++) {
		has_name(gone_pair[i][1], 1, "gone");
		converse(gone_pair[i][0], gone_pair[i][1]);
	}
	NEED_EQ(access("gone", F_OK), -1);

	NEED_EQ(stat("path", &meta), 0);
	NEED_EQ(meta.st_mode, S_IFSOCK | 0640);
	NEED_EQ(stat("relative", &meta), 0);
	NEED_EQ(meta.st_mode, S_IFSOCK | 0777);

	/* Those that waited, in their order; the second is the one that sends no more. */
	accepted = accept_at(by_path);
	say(first, "first");
	hear(accepted, "first", NULL);
	converse(first, accepted);
	NEED_EQ(close(accepted), 0);
	accepted = accept_at(by_path);
	NEED_EQ(recv(accepted, &byte, 1, MSG_DONTWAIT), 0);
	say(accepted, "still");
	hear(second, "still", NULL);
	NEED_EQ(close(accepted), 0);
	NEED_EQ(close(first), 0);
	NEED_EQ(close(second), 0);

	/* New ones come in. */
	fd = client_of(SOCK_SEQPACKET, "./relative");
	accepted = accept_at(relative);
	say(fd, "new");
	hear(accepted, "new", NULL);
	close(fd);
	close(accepted);
	fd = client_of(SOCK_STREAM, "@abstract");
	NEED_EQ(recv(fd, &byte, 1, 0), 1);
	NEED_EQ(byte, 'w');
	close(fd);

	if (generation == 2) {
		has_name(orphan, 1, "@abstract");
		hear(orphan, "bye", NULL);
		NEED_EQ(recv(orphan, &byte, 1, MSG_DONTWAIT), 0);
		/* It only had to be listened at. */
		NEED_EQ(listen(bound, 1), 0);
		fd = client_of(SOCK_STREAM, "bound");
		close(fd);
	}

	has_name(receiver, 0, "receiver");
	hear(receiver, "from a name", "@sender");
	hear(receiver, "from nobody", "");
	hear(receiver, "connected", "");
	has_name(rebound, 1, "receiver");
	NEED_EQ(getsockname(automatic, (struct sockaddr *)&name, &length), 0);
	NEED_EQ(length, automatic_length);
	NEED(memcmp(&name, &automatic_name, length) == 0);
	has_name(sender, 0, "@sender");
	say_to(nobody, "hello", "@sender");
	hear(sender, "hello", NULL);
	has_name(bound, 0, "bound");
	fill();
}
