/* Clients of DNS over TCP that mean no good: one thread, as many connections as it is told, for ever.

   cc -O2 -o abuser abuser.c
   ./abuser PORT noread|reset COUNT QUERIES

   noread: each connection sends queries for ever and reads nothing; one that was closed is opened again.
   reset: each connects, sends a query and resets, as fast as it can.
   QUERIES: lines that begin with a name. Ends on SIGTERM and writes one line of JSON: opened, closed (by the server, while
   it was open), refused, written (octets). */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MOST 1000
#define PIECE 65536

static volatile sig_atomic_t told_to_end;
static unsigned char piece[PIECE]; /* whole messages, sent again and again */
static int piece_length, first_length;
static long opened, closed, refused, written;
static struct sockaddr_in server = {.sin_family = AF_INET};
static size_t offsets[MOST]; /* how far each connection is within the piece */
static int connected[MOST];

static void end(int number) {
    (void)number;
    told_to_end = 1;
}

static void read_queries(const char *path) {
    FILE *file = fopen(path, "r");
    char line[400], name[300];
    if (!file) perror(path), exit(2);
    while (piece_length < PIECE - 400 && fgets(line, sizeof line, file)) {
        unsigned char *message = piece + piece_length, *at = message + 14;
        if (sscanf(line, "%299s", name) < 1) continue;
        memcpy(message + 2, "\0\1\1\0\0\1\0\0\0\0\0\0", 12);
        for (char *label = strtok(name, "."); label; label = strtok(NULL, ".")) {
            *at++ = strlen(label);
            at = (unsigned char *)stpcpy((char *)at, label);
        }
        memcpy(at, "\0\0\1\0\1", 5);
        int length = at + 5 - (message + 2);
        message[0] = length >> 8;
        message[1] = length;
        piece_length += length + 2;
        if (!first_length) first_length = piece_length;
    }
    fclose(file);
    if (!piece_length) fprintf(stderr, "%s: no queries\n", path), exit(2);
}

static int open_one(void) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), buffer = 1 << 18;
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer); /* or it grows, and filling it is most of the work */
    if (fd >= 0 && (!connect(fd, (void *)&server, sizeof server) || errno == EINPROGRESS)) return opened++, fd;
    refused++;
    if (fd >= 0) close(fd);
    return -1;
}

static void reset(int fd) {
    struct linger linger = {1, 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    close(fd);
}

int main(int argc, char **argv) {
    if (argc < 5) return fprintf(stderr, "abuser PORT noread|reset COUNT QUERIES\n"), 2;
    int resets = !strcmp(argv[2], "reset"), count = atoi(argv[3]);
    struct pollfd polled[MOST];
    server.sin_port = htons(atoi(argv[1]));
    server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    read_queries(argv[4]);
    signal(SIGTERM, end);
    signal(SIGPIPE, SIG_IGN);
    if (count > MOST) count = MOST;
    for (int i = 0; i < count; i++) polled[i] = (struct pollfd){-1, POLLOUT, 0};
    while (!told_to_end) {
        for (int i = 0; i < count; i++)
            if (polled[i].fd < 0) {
                polled[i] = (struct pollfd){open_one(), POLLOUT, 0};
                offsets[i] = connected[i] = 0;
            }
        if (poll(polled, count, 50) <= 0) continue;
        for (int i = 0; i < count; i++) {
            struct pollfd *one = &polled[i];
            if (!one->revents) continue;
            int failed = one->revents & (POLLERR | POLLHUP);
            if (!failed) connected[i] = 1;
            if (!failed && resets) {
                written += send(one->fd, piece, first_length, MSG_DONTWAIT) > 0 ? first_length : 0;
                reset(one->fd);
                one->fd = -1;
                continue;
            }
            while (!failed) {
                ssize_t sent = send(one->fd, piece + offsets[i], piece_length - offsets[i], MSG_DONTWAIT);
                if (sent < 0) failed = errno != EAGAIN;
                if (sent < 0) break;
                written += sent;
                offsets[i] = (offsets[i] + sent) % piece_length;
            }
            if (failed) {
                if (connected[i]) closed++;
                else refused++;
                close(one->fd);
                one->fd = -1;
            }
        }
    }
    printf("{\"opened\": %ld, \"closed\": %ld, \"refused\": %ld, \"written\": %ld}\n", opened, closed, refused, written);
}
