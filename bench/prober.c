/* An open-loop prober: asks on a fixed schedule whatever comes back, and measures from the time at which a query was due.

   cc -O2 -o prober prober.c
   ./prober PORT RATE SECONDS QUERIES [OUTSTANDING [CORE [NAP]]]

   QUERIES: lines "NAME" or "NAME INDEX", asked in turn for A. With an INDEX the answer must be 240.x.y.z, where x >> 1 is
   the generation of the table, the rest of x, y and z are the index: anything else is counted as wrong. SIGTERM ends the
   schedule early. OUTSTANDING: seconds to wait for what was sent last (default 2). CORE: the server's; then a watch is kept
   on it: a process at real-time priority, which is held up by nothing but the host, sleeps NAP µs (default 250) at a time.

   Writes one line of JSON: sent, lost, wrong; latencies in µs (p50, p90, p99, p999, max), from the time due until the
   reply was read; late: over 10 ms of that, late_sent: over 10 ms from the true time of sending until the reply reached
   our socket, which leaves out what held up the prober itself; behind: the longest such delay of a sending, in µs;
   stale: answers of an older generation after one of a newer; first: generation to CLOCK_MONOTONIC of its first answer.
   With CORE also calm: the latencies of the queries, after the first 50 ms, that were not in flight within a millisecond of
   a moment at which the watch, or the prober, was held up by more than 0.2 ms; held: how many were. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LATE 10000000 /* ns */
#define IDS 65536
#define GENERATIONS 128
#define STALL 200000  /* ns of delay that are not ours nor the server's */
#define SLOT 1000000  /* ns */
#define SETTLE 50000000 /* ns at the beginning in which the server finds its caches again */

struct query {
    unsigned char *octets;
    int length;
    long index; /* -1: any answer is right */
};

struct flight {
    int64_t due, sent; /* ns; due 0: nothing in flight under this id */
    long query;
};

static struct query *queries;
static long count_of_queries;
static struct flight flights[IDS];
static int64_t first[GENERATIONS];
static uint32_t *latencies, *dues; /* ns, at most 4 s; slots from the start */
static unsigned char *stalled;     /* for each slot; shared with the watch */
static int64_t start, slots;
static long answered, lost, wrong, late, late_sent, stale, newest = -1;
static volatile sig_atomic_t told_to_end;

static int64_t clock_of(clockid_t which) {
    struct timespec t;
    clock_gettime(which, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static int64_t now(void) { return clock_of(CLOCK_MONOTONIC); }

static int64_t slot_of(int64_t moment) {
    int64_t slot = (moment - start) / SLOT;
    return slot < 0 ? 0 : slot < slots ? slot : slots - 1;
}

static void stall(int64_t from, int64_t to) {
    for (int64_t slot = slot_of(from); stalled && to - from > STALL && slot <= slot_of(to); slot++) stalled[slot] = 1;
}

static void first_in_line(int priority) {
    struct sched_param wanted = {.sched_priority = priority};
    prctl(PR_SET_TIMERSLACK, 1);
    sched_setscheduler(0, SCHED_FIFO, &wanted); /* without the right to it: more noise, the same for everybody */
    mlockall(MCL_CURRENT | MCL_FUTURE);
}

static void watch(int core, int64_t nap) {
    cpu_set_t there;
    CPU_ZERO(&there);
    CPU_SET(core, &there);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (sched_setaffinity(0, sizeof there, &there)) perror("CORE"), exit(2);
    first_in_line(20);
    for (;;) {
        int64_t due = now() + nap;
        struct timespec until = {due / 1000000000, due % 1000000000};
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
        int64_t woken = now();
        if (woken - due > STALL) stall(due - nap, woken);
    }
}

static void end(int number) {
    (void)number;
    told_to_end = 1;
}

static void read_queries(const char *path) {
    FILE *file = fopen(path, "r");
    char line[400], name[300];
    long space = 0, index;
    if (!file) perror(path), exit(2);
    while (fgets(line, sizeof line, file)) {
        int fields = sscanf(line, "%299s %ld", name, &index);
        unsigned char octets[400] = "\0\0\1\0\0\1\0\0\0\0\0", *at = octets + 12;
        if (fields < 1) continue;
        for (char *label = strtok(name, "."); label; label = strtok(NULL, ".")) {
            *at++ = strlen(label);
            at = (unsigned char *)stpcpy((char *)at, label);
        }
        memcpy(at, "\0\0\1\0\1", 5);
        if (count_of_queries == space) queries = realloc(queries, (space = space * 2 + 1024) * sizeof *queries);
        struct query *query = &queries[count_of_queries++];
        query->length = at + 5 - octets;
        query->octets = malloc(query->length);
        query->index = fields == 2 ? index : -1;
        memcpy(query->octets, octets, query->length);
    }
    fclose(file);
    if (!count_of_queries) fprintf(stderr, "%s: no queries\n", path), exit(2);
}

/* The reply must repeat the question and have one A record; some servers write its owner out, most point at the question. */
static void judge(const struct query *query, const unsigned char *reply, int length, int64_t arrived) {
    const unsigned char *owner = reply + query->length;
    long owner_length = owner[0] == 0xc0 ? 2 : query->length - 16;
    if (length < query->length + owner_length + 14 || (reply[3] & 15) || reply[6] || reply[7] != 1 ||
        memcmp(reply + 12, query->octets + 12, query->length - 12)) {
        wrong++;
        return;
    }
    if (query->index < 0) return;
    const unsigned char *address = owner + owner_length + 10;
    long generation = address[1] >> 1, index = (address[1] & 1) << 16 | address[2] << 8 | address[3];
    if (address[0] != 240 || index != query->index) {
        wrong++;
        return;
    }
    if (!first[generation]) first[generation] = arrived;
    if (generation < newest) stale++;
    else newest = generation;
}

static void receive(int fd, int64_t realtime_ahead) {
    for (;;) {
        unsigned char reply[4096], control[CMSG_SPACE(sizeof(struct timespec))];
        struct iovec vector = {reply, sizeof reply};
        struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
        int length = recvmsg(fd, &message, MSG_DONTWAIT);
        if (length < 0 && errno != EAGAIN) continue; /* a port that is closed for a moment: those queries are lost */
        if (length < 0) return;
        int64_t read = now(), arrived = read;
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        if (header && header->cmsg_type == SCM_TIMESTAMPNS) {
            struct timespec stamp;
            memcpy(&stamp, CMSG_DATA(header), sizeof stamp);
            arrived = stamp.tv_sec * INT64_C(1000000000) + stamp.tv_nsec - realtime_ahead;
        }
        if (length < 12) continue;
        struct flight *flight = &flights[reply[0] << 8 | reply[1]];
        if (!flight->due) continue;
        int64_t latency = read - flight->due;
        stall(arrived, read);
        dues[answered] = slot_of(flight->due);
        latencies[answered++] = latency > UINT32_MAX ? UINT32_MAX : latency;
        late += latency > LATE;
        late_sent += arrived - flight->sent > LATE;
        judge(&queries[flight->query], reply, length, arrived);
        flight->due = 0;
    }
}

static int compare(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static void write_calm(void) {
    const char *between = "";
    long held = 0;
    printf("\"calm\": [");
    for (long i = 0; i < answered; i++) {
        int64_t slot = dues[i], last = slot_of(start + (slot + 1) * SLOT + latencies[i]);
        if (slot < SETTLE / SLOT) continue;
        int is_held = 0;
        for (slot--; slot <= last; slot++) is_held |= stalled[slot];
        if (is_held) held++;
        else printf("%s%.1f", between, latencies[i] / 1e3), between = ", ";
    }
    printf("], \"held\": %ld, ", held);
}

static double share(double part) { return answered ? latencies[(long)((answered - 1) * part)] / 1e3 : 0; }

int main(int argc, char **argv) {
    if (argc < 5) return fprintf(stderr, "prober PORT RATE SECONDS QUERIES [OUTSTANDING [CORE [NAP]]]\n"), 2;
    double rate = atof(argv[2]), seconds = atof(argv[3]);
    int64_t patience = (argc > 5 ? atof(argv[5]) : 2) * 1e9;
    long total = rate * seconds, sent = 0;
    read_queries(argv[4]);
    latencies = calloc(total + 1, sizeof *latencies);
    dues = calloc(total + 1, sizeof *dues);
    slots = (seconds * 1e9 + patience) / SLOT + 2;

    int fd = socket(AF_INET, SOCK_DGRAM, 0), on = 1, buffer = 8 << 20;
    struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]))};
    server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof buffer))
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
    setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on);
    if (connect(fd, (void *)&server, sizeof server)) return perror("connect"), 2;

    signal(SIGTERM, end);
    pid_t watcher = 0;
    start = now() + (argc > 6 ? 10000000 : 1000000);
    if (argc > 6) {
        stalled = mmap(NULL, slots, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (stalled == MAP_FAILED) return perror("mmap"), 2;
        watcher = fork();
        if (watcher < 0) return perror("fork"), 2;
        if (!watcher) watch(atoi(argv[6]), (argc > 7 ? atol(argv[7]) : 250) * 1000);
    }
    first_in_line(10);

    int64_t realtime_ahead = clock_of(CLOCK_REALTIME) - now(), last = start, behind = 0;
    for (;;) {
        int64_t moment = now();
        while (sent < total && !told_to_end) {
            int64_t due = start + (int64_t)(sent * 1e9 / rate);
            if (due > moment) break;
            struct query *query = &queries[sent % count_of_queries];
            struct flight *flight = &flights[sent & (IDS - 1)];
            lost += flight->due != 0;
            query->octets[0] = sent >> 8;
            query->octets[1] = sent;
            *flight = (struct flight){due, moment, sent % count_of_queries};
            if (moment - due > behind) behind = moment - due;
            stall(due, moment);
            send(fd, query->octets, query->length, MSG_DONTWAIT); /* what does not go out is lost, as on a network */
            sent++;
            last = moment = now();
        }
        receive(fd, realtime_ahead);
        int over = sent >= total || told_to_end;
        if (over && (answered + lost >= sent || now() - last > patience)) break;
        int64_t wait = over ? 10000000 : start + (int64_t)(sent * 1e9 / rate) - now();
        struct timespec timeout = {0, wait < 0 ? 0 : wait > 10000000 ? 10000000 : wait};
        struct pollfd readable = {fd, POLLIN, 0};
        ppoll(&readable, 1, &timeout, NULL);
    }
    lost = sent - answered;
    printf("{");
    if (watcher) {
        kill(watcher, SIGKILL);
        waitpid(watcher, NULL, 0);
        write_calm();
    }
    qsort(latencies, answered, sizeof *latencies, compare);
    printf("\"sent\": %ld, \"lost\": %ld, \"wrong\": %ld, \"late\": %ld, \"late_sent\": %ld, \"stale\": %ld, ", sent, lost, wrong,
           late, late_sent, stale);
    printf("\"p50\": %.1f, \"p90\": %.1f, \"p99\": %.1f, \"p999\": %.1f, \"max\": %.1f, \"behind\": %.1f, \"first\": {", share(.5),
           share(.9), share(.99), share(.999), share(1), behind / 1e3);
    const char *between = "";
    for (int generation = 0; generation < GENERATIONS; generation++)
        if (first[generation]) printf("%s\"%d\": %.6f", between, generation, first[generation] / 1e9), between = ", ";
    printf("}}\n");
}
