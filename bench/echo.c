/* The floor: a loop that receives 64 datagrams, appends one A record to each, and sends them back.
   cc -O2 -o echo echo.c; ./echo PORT */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define BATCH 64
#define SPACE 512

int main(int argc, char **argv) {
    static unsigned char octets[BATCH][SPACE + 16];
    static struct sockaddr_in clients[BATCH];
    static struct iovec vectors[BATCH];
    static struct mmsghdr messages[BATCH];
    static const unsigned char record[16] = "\xc0\x0c\0\1\0\1\0\0\0\x1e\0\4\xf0\0\0\1";
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(argc > 1 ? atoi(argv[1]) : 5300)};
    int receive_buffer = 1 << 20, fd = socket(AF_INET, SOCK_DGRAM, 0);

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
    if (fd < 0 || bind(fd, (void *)&address, sizeof address)) return 1;
    for (int i = 0; i < BATCH; i++) {
        vectors[i].iov_base = octets[i];
        messages[i].msg_hdr.msg_iov = &vectors[i];
        messages[i].msg_hdr.msg_iovlen = 1;
        messages[i].msg_hdr.msg_name = &clients[i];
    }
    for (;;) {
        for (int i = 0; i < BATCH; i++) {
            vectors[i].iov_len = SPACE;
            messages[i].msg_hdr.msg_namelen = sizeof clients[i];
        }
        int count = recvmmsg(fd, messages, BATCH, MSG_WAITFORONE, 0);
        for (int i = 0; i < count; i++) {
            unsigned length = messages[i].msg_len;
            octets[i][2] = 0x85;
            octets[i][7] = 1;
            memcpy(octets[i] + length, record, sizeof record);
            vectors[i].iov_len = length + sizeof record;
        }
        if (count > 0) sendmmsg(fd, messages, count, 0);
    }
}
