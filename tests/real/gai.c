/* Prints the addresses of a name, one a line, or why there are none. */
#include <netdb.h>
#include <stdio.h>
#include <sys/socket.h>

int main(int argc, char **argv) {
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM}, *found;
    int error = argc == 2 ? getaddrinfo(argv[1], NULL, &hints, &found) : EAI_NONAME;
    if (error) {
        puts(gai_strerror(error));
        return 1;
    }
    for (; found; found = found->ai_next) {
        char host[NI_MAXHOST];
        if (!getnameinfo(found->ai_addr, found->ai_addrlen, host, sizeof host, NULL, 0, NI_NUMERICHOST))
            puts(host);
    }
    return 0;
}
