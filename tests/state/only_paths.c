/* Descriptors that only name a path (O_PATH): of a file, a folder, a link, a link to nowhere, a named pipe. */
#include "state.h"
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

static int regular, folder, symbolic, dangling, fifo, named_socket, copy;

static int made(int fd)
{
	NEED(fd >= 0);
	return fd;
}

static void setup(void)
{
	NEED_EQ(close(made(open("file", O_WRONLY | O_CREAT, 0))), 0);
	NEED_EQ(mkdir("folder", 0755), 0);
	NEED_EQ(close(made(open("folder/inside", O_WRONLY | O_CREAT, 0644))), 0);
	NEED_EQ(symlink("file", "link"), 0);
	NEED_EQ(symlink("not there", "dangling"), 0);
	NEED_EQ(mkfifo("fifo", 0600), 0);
	struct sockaddr_un name = { AF_UNIX, "socket" };
	int sock = made(socket(AF_UNIX, SOCK_STREAM, 0));
	NEED_EQ(bind(sock, (struct sockaddr *)&name, sizeof name), 0);
	close(sock);
	regular = made(open("file", O_PATH | O_CLOEXEC));
	folder = made(open("folder", O_PATH | O_DIRECTORY));
	symbolic = made(open("link", O_PATH | O_NOFOLLOW));
	dangling = made(open("dangling", O_PATH | O_NOFOLLOW));
	fifo = made(open("fifo", O_PATH));
	named_socket = made(open("socket", O_PATH));
	copy = made(dup(symbolic));
}

static void is(int fd, mode_t type)
{
	struct stat stat;
	char byte;
	NEED_EQ(fstat(fd, &stat), 0);
	NEED_EQ(stat.st_mode & S_IFMT, type);
	NEED(fcntl(fd, F_GETFL) & O_PATH);
	NEED(read(fd, &byte, 1) < 0 && errno == EBADF);
}

static void leads_to(int fd, const char *expected)
{
	char target[64] = "";
	NEED(readlinkat(fd, "", target, sizeof target - 1) > 0);
	NEED_EQ(strcmp(target, expected), 0);
}

static void check(int generation)
{
	(void)generation;
	is(regular, S_IFREG);
	NEED_EQ(fcntl(regular, F_GETFD), FD_CLOEXEC);
	is(folder, S_IFDIR);
	NEED_EQ(fcntl(folder, F_GETFD), 0);
	NEED_EQ(faccessat(folder, "inside", R_OK, 0), 0);
	is(symbolic, S_IFLNK);
	NEED(fcntl(symbolic, F_GETFL) & O_NOFOLLOW);
	leads_to(copy, "file");
	leads_to(dangling, "not there");
	is(fifo, S_IFIFO);
	is(named_socket, S_IFSOCK);
}
