/* A client that asks without waiting, many datagrams by one call: what dnsperf cannot do, which never overtakes its server.
   cc -O2 -o flood flood.c; ./flood HOST PORT KIND SECONDS rate|window NUMBER
   KIND: mesh (n0 ... n999.mesh), garbage (headers of queries with noise behind them, each due a FORMERR), external (names
   that nobody asked before, each in a domain of its own), domain (the same in one domain).
   rate: so many a second, whatever comes back. window: so many wait for their replies, which measures a capacity.
   Prints as JSON what was sent and what came back, by rcode where it matters, and what our own socket lost. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define BATCH 64
#define SPACE 2048
#define PATIENCE 0.2 /* seconds without a reply after which a window is taken for lost */

static uint64_t state = 88172645463325252ull;

static uint64_t draw(void) {
    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static int label(unsigned char *at, const char *text) {
    int length = strlen(text);
    *at = length;
    memcpy(at + 1, text, length);
    return length + 1;
}

static int make(unsigned char *octets, const char *kind) {
    unsigned id = draw() & 0xffff;
    int length = 12;
    char text[64];

    memcpy(octets, "\0\0\1\0\0\1\0\0\0\0\0\0", 12);
    octets[0] = id >> 8;
    octets[1] = id;
    if (!strcmp(kind, "garbage")) {
        octets[4] = 1 + draw() % 255; /* 256 questions and more: FORMERR whatever follows */
        length += draw() % 60;
        for (int i = 12; i < length; i++) octets[i] = draw();
        return length;
    }
    if (!strcmp(kind, "mesh")) {
        snprintf(text, sizeof text, "n%d", (int)(draw() % 1000));
        length += label(octets + length, text);
        length += label(octets + length, "mesh");
    } else {
        snprintf(text, sizeof text, "%016llx", (unsigned long long)draw());
        length += label(octets + length, text);
        snprintf(text, sizeof text, "%012llx", (unsigned long long)draw() & 0xffffffffffffull);
        length += label(octets + length, strcmp(kind, "domain") ? text : "flooded");
        length += label(octets + length, "example");
    }
    memcpy(octets + length, "\0\0\1\0\1", 5);
    return length + 5;
}

int main(int argc, char **argv) {
    static unsigned char out[BATCH][SPACE], in[BATCH][SPACE];
    static struct iovec out_vectors[BATCH], in_vectors[BATCH];
    static struct mmsghdr out_messages[BATCH], in_messages[BATCH];
    struct sockaddr_in server = {.sin_family = AF_INET};
    int buffer = 8 << 20;
    long long sent = 0, received = 0, good = 0, outstanding = 0;

    if (argc != 7) return 2;
    const char *kind = argv[3];
    double seconds = atof(argv[4]), number = atof(argv[6]);
    int window = !strcmp(argv[5], "window");
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    inet_pton(AF_INET, argv[1], &server.sin_addr);
    server.sin_port = htons(atoi(argv[2]));
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof buffer))
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
    if (fd < 0 || connect(fd, (void *)&server, sizeof server)) return 1;
    state ^= (uint64_t)(now() * 1e9) << 1;
    for (int i = 0; i < BATCH; i++) {
        out_vectors[i].iov_base = out[i];
        out_messages[i].msg_hdr.msg_iov = &out_vectors[i];
        in_vectors[i].iov_base = in[i];
        in_vectors[i].iov_len = SPACE;
        in_messages[i].msg_hdr.msg_iov = &in_vectors[i];
        out_messages[i].msg_hdr.msg_iovlen = in_messages[i].msg_hdr.msg_iovlen = 1;
    }
    double began = now(), last = began, time = began;
    while (time < began + seconds) {
        long long room = (window ? number - outstanding : (time - began) * number - sent);
        int count = room > BATCH ? BATCH : room, came;
        if (count > 0) {
            for (int i = 0; i < count; i++) out_vectors[i].iov_len = make(out[i], kind);
            int taken = sendmmsg(fd, out_messages, count, 0);
            if (taken > 0) sent += taken, outstanding += taken;
        } else {
            struct pollfd wait = {.fd = fd, .events = POLLIN};
            poll(&wait, 1, 1);
        }
        while ((came = recvmmsg(fd, in_messages, BATCH, MSG_DONTWAIT, NULL)) > 0) {
            received += came;
            outstanding -= came;
            last = time;
            for (int i = 0; i < came; i++) good += !(in[i][3] & 15);
            if (came < BATCH) break;
        }
        time = now();
        if (outstanding < 0 || time - last > PATIENCE) outstanding = 0, last = time;
    }
    double flooded = time - began;
    long long meanwhile = received;
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    while (now() < time + 1 && poll(&wait, 1, 200) > 0)
        for (int came; (came = recvmmsg(fd, in_messages, BATCH, MSG_DONTWAIT, NULL)) > 0;) received += came;
    unsigned memory[9] = {0};
    socklen_t size = sizeof memory;
    getsockopt(fd, SOL_SOCKET, 55, memory, &size); /* SO_MEMINFO; the last of them: what our buffer dropped */
    printf("{\"seconds\": %.3f, \"sent\": %lld, \"received\": %lld, \"after\": %lld, \"noerror\": %lld, \"dropped\": %u}\n",
           flooded, sent, meanwhile, received - meanwhile, good, memory[8]);
    return 0;
}
