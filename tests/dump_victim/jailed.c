/* Listens at a path in a root directory of its own, and says so in a file there. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	struct sockaddr_un name = { AF_UNIX, "/socket" };
	if (argc != 2 || chroot(argv[1]) || chdir("/"))
		return 1;
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	if (bind(fd, (struct sockaddr *)&name, sizeof name) || listen(fd, 1))
		return 1;
	if (open("/ready", O_WRONLY | O_CREAT | O_CLOEXEC, 0644) < 0)
		return 1;
	for (;;)
		pause();
}
