/* TCP sockets that listen or are not connected yet, UDP sockets, and their options. */
#include "state.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

static int four, six, bound, plain, udp, connected, peer, udp6;
static struct sockaddr_storage names[8];

static int new_socket(int family, int type)
{
	int fd = socket(family, type, 0);
	NEED(fd >= 0);
	return fd;
}

static void set(int fd, int level, int option, int value)
{
	NEED_EQ(setsockopt(fd, level, option, &value, sizeof value), 0);
}

static int number(int fd, int level, int option)
{
	int value = 0;
	socklen_t size = sizeof value;
	NEED_EQ(getsockopt(fd, level, option, &value, &size), 0);
	return value;
}

/* Binds to a free port of the loopback device. */
static void bind_free(int fd, int family)
{
	struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_addr = in6addr_loopback };
	if (family == AF_INET)
		NEED_EQ(bind(fd, (struct sockaddr *)&v4, sizeof v4), 0);
	else
		NEED_EQ(bind(fd, (struct sockaddr *)&v6, sizeof v6), 0);
}

static socklen_t name_of(int fd, struct sockaddr_storage *name)
{
	socklen_t length = sizeof *name;
	memset(name, 0, sizeof *name);
	NEED_EQ(getsockname(fd, (struct sockaddr *)name, &length), 0);
	return length;
}

/* All sockets, in the order of `names`. */
static int *all[] = { &four, &six, &bound, &plain, &udp, &connected, &peer, &udp6 };
enum { ALL = sizeof all / sizeof all[0] };

/* Whether somebody can connect to a socket that listens. */
static void serves(int listener, int family)
{
	struct sockaddr_storage name;
	struct pollfd wait = { .fd = listener, .events = POLLIN };
	char byte = 'x';
	socklen_t length = name_of(listener, &name);
	int client = new_socket(family, SOCK_STREAM);
	NEED_EQ(connect(client, (struct sockaddr *)&name, length), 0);
	NEED_EQ(send(client, &byte, 1, 0), 1);
	NEED_EQ(poll(&wait, 1, 10000), 1);
	int accepted = accept(listener, NULL, NULL);
	NEED(accepted >= 0);
	NEED_EQ(recv(accepted, &byte, 1, 0), 1);
	/* No state that keeps the port busy stays. */
	struct linger now = { 1, 0 };
	NEED_EQ(setsockopt(client, SOL_SOCKET, SO_LINGER, &now, sizeof now), 0);
	NEED_EQ(close(client), 0);
	NEED_EQ(close(accepted), 0);
}

static void setup(void)
{
	struct linger linger = { 1, 17 };
	four = new_socket(AF_INET, SOCK_STREAM);
	bind_free(four, AF_INET);
	set(four, SOL_SOCKET, SO_REUSEADDR, 1);
	set(four, SOL_SOCKET, SO_KEEPALIVE, 1);
	set(four, IPPROTO_TCP, TCP_KEEPIDLE, 123);
	set(four, IPPROTO_TCP, TCP_DEFER_ACCEPT, 3);
	set(four, SOL_SOCKET, SO_RCVBUF, 20000);
	NEED_EQ(listen(four, 11), 0);
	six = new_socket(AF_INET6, SOCK_STREAM);
	set(six, IPPROTO_IPV6, IPV6_V6ONLY, 1);
	bind_free(six, AF_INET6);
	NEED_EQ(listen(six, 7), 0);
	bound = new_socket(AF_INET, SOCK_STREAM);
	bind_free(bound, AF_INET);
	plain = new_socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK);
	set(plain, IPPROTO_TCP, TCP_NODELAY, 1);
	NEED_EQ(setsockopt(plain, SOL_SOCKET, SO_LINGER, &linger, sizeof linger), 0);
	udp = new_socket(AF_INET, SOCK_DGRAM);
	set(udp, SOL_SOCKET, SO_BROADCAST, 1);
	set(udp, IPPROTO_IP, IP_TTL, 9);
	set(udp, IPPROTO_IP, IP_PKTINFO, 1);
	peer = new_socket(AF_INET, SOCK_DGRAM);
	bind_free(peer, AF_INET);
	connected = new_socket(AF_INET, SOCK_DGRAM);
	socklen_t length = name_of(peer, &names[0]);
	NEED_EQ(connect(connected, (struct sockaddr *)&names[0], length), 0);
	udp6 = new_socket(AF_INET6, SOCK_DGRAM);
	bind_free(udp6, AF_INET6);
	set(udp6, IPPROTO_IPV6, IPV6_UNICAST_HOPS, 5);
	for (int i = 0; i < ALL; i++)
		name_of(*all[i], &names[i]);
}

static void check(int generation)
{
	struct linger linger;
	struct tcp_info info;
	struct sockaddr_storage name;
	socklen_t length = sizeof linger;
	char byte = 'y';
	(void)generation;
	for (int i = 0; i < ALL; i++) {
		name_of(*all[i], &name);
		NEED(memcmp(&name, &names[i], sizeof name) == 0);
	}
	NEED_EQ(number(four, SOL_SOCKET, SO_REUSEADDR), 1);
	NEED_EQ(number(six, SOL_SOCKET, SO_REUSEADDR), 0);
	NEED_EQ(number(four, SOL_SOCKET, SO_KEEPALIVE), 1);
	NEED_EQ(number(six, SOL_SOCKET, SO_KEEPALIVE), 0);
	NEED_EQ(number(four, IPPROTO_TCP, TCP_KEEPIDLE), 123);
	NEED_EQ(number(four, IPPROTO_TCP, TCP_DEFER_ACCEPT), 3);
	NEED_EQ(number(four, SOL_SOCKET, SO_RCVBUF), 40000);
	NEED_EQ(number(four, SOL_SOCKET, SO_ACCEPTCONN), 1);
	NEED_EQ(number(bound, SOL_SOCKET, SO_ACCEPTCONN), 0);
	NEED_EQ(number(six, IPPROTO_IPV6, IPV6_V6ONLY), 1);
	NEED_EQ(number(plain, IPPROTO_TCP, TCP_NODELAY), 1);
	NEED_EQ(fcntl(plain, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
	NEED_EQ(fcntl(four, F_GETFL) & O_NONBLOCK, 0);
	NEED_EQ(getsockopt(plain, SOL_SOCKET, SO_LINGER, &linger, &length), 0);
	NEED(linger.l_onoff == 1 && linger.l_linger == 17);
	NEED_EQ(number(udp, SOL_SOCKET, SO_BROADCAST), 1);
	NEED_EQ(number(udp, IPPROTO_IP, IP_TTL), 9);
	NEED_EQ(number(udp, IPPROTO_IP, IP_PKTINFO), 1);
	NEED_EQ(number(peer, IPPROTO_IP, IP_PKTINFO), 0);
	NEED_EQ(number(udp6, IPPROTO_IPV6, IPV6_UNICAST_HOPS), 5);
	length = sizeof info;
	NEED_EQ(getsockopt(four, IPPROTO_TCP, TCP_INFO, &info, &length), 0);
	/* Of a socket that listens: its backlog. */
	NEED_EQ(info.tcpi_sacked, 11);
	serves(four, AF_INET);
	serves(six, AF_INET6);
	NEED_EQ(send(connected, &byte, 1, 0), 1);
	NEED_EQ(recv(peer, &byte, 1, 0), 1);
	length = sizeof name;
	NEED_EQ(getpeername(connected, (struct sockaddr *)&name, &length), 0);
	NEED(memcmp(&name, &names[6], length) == 0);
	NEED(getpeername(udp, (struct sockaddr *)&name, &length) < 0 && errno == ENOTCONN);
}
