/* A load generator that is cheap enough not to be the limit: one thread, epoll, N connections.
 *
 * Every connection sends a message of M bytes, waits for the same bytes to come back, and starts over.
 * Each message is a slice of one pseudo-random pattern, at an offset that depends on the connection and on
 * the message's number, so that sending copies nothing, checking every byte is one memcmp, and an answer that
 * went to the wrong connection or came twice is seen.
 *
 *   load --port P [--host 127.0.0.1] [--connections N] [--size M] [--seconds S]
 *        [--think MICROSECONDS] [--churn] [--progress MILLISECONDS]
 *
 * --churn makes each request a connection of its own: connect, one exchange, close.
 *
 *   load --port P --http PATH --body FILE ...
 *
 * speaks HTTP/1.1 instead: every request is a GET of PATH on a connection that is kept alive, every answer must be 200, with a
 * Content-Length and exactly the bytes of FILE. --size is not used then.
 *
 * Protocol with the harness: "ready" on stdout once every connection has made one exchange; then one line on stdin starts
 * the measured part; one JSON line reports it; the connections stay open until stdin ends. So the server's CPU
 * time around the measured part holds neither set-up nor closing.
 * Only loopback addresses are accepted: this must never become a weapon. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PATTERN 65536u
#define RECEIVE (256 * 1024)
#define SET_UP_NS 100000000000ll /* how long a wave of connections may take before the first answer on each */
#define WAVE 1000
#define DRAIN_NS 5000000000ll    /* how long answers may take after the end before they count as lost */

enum state { CLOSED, CONNECTING, BUSY, IDLE };

struct connection {
    int fd;
    enum state state;
    uint32_t serial;
    uint32_t sequence;
    size_t sent, received;
    int in_body;
    size_t head; /* bytes of headers so far */
    char headers[4096];
    int64_t started, due;
};

static struct sockaddr_in server = {.sin_family = AF_INET};
static int connections = 1, churn;
static size_t size = 1024;        /* of an answer's body */
static size_t request_size;       /* of what is sent for it */
static const char *http, *body_file;
static char http_request[1024];
static double seconds = 1.0;
static int64_t think, progress;

static int poller, accepting_work;
static uint32_t serials;
static unsigned char *pattern, incoming[RECEIVE];
static struct connection *all;
static int outstanding, alive;
static uint64_t requests, bytes, errors, mismatches;
static uint32_t *samples;
static size_t sample_count, sample_room;

static int64_t now_ns(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static void die(const char *what)
{
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(2);
}

/* The bytes that are to come back. */
static const unsigned char *message(const struct connection *c)
{
    if (http)
        return pattern;
    uint64_t x = ((uint64_t)c->serial << 32 | c->sequence) * 0x9E3779B97F4A7C15ull;
    return pattern + (x >> 48) % PATTERN;
}

static void record(int64_t latency)
{
    if (sample_count == sample_room) {
        sample_room = sample_room ? sample_room * 2 : 65536;
        samples = realloc(samples, sample_room * sizeof *samples);
        if (!samples)
            die("memory for the latencies");
    }
    samples[sample_count++] = latency > UINT32_MAX ? UINT32_MAX : (uint32_t)latency;
}

static void disconnect(struct connection *c)
{
    if (c->state == BUSY || c->state == CONNECTING)
        outstanding--;
    close(c->fd);
    c->state = CLOSED;
    alive--;
}

/* The first one says why: the harness shows stderr when a count of errors is not 0. */
static void fail(struct connection *c, const char *what, int error)
{
    if (!errors++)
        fprintf(stderr, "load: connection %u: %s: %s\n", c->serial, what, error ? strerror(error) : "the end of the stream");
    disconnect(c);
}

/* Many connections in a row would use up one address's ports while they linger in TIME_WAIT: spread them over 127/8. */
static void spread_source(int fd, uint32_t serial)
{
    struct sockaddr_in source = {.sin_family = AF_INET};
    int on = 1;
    source.sin_addr.s_addr = htonl(0x7F000002u + serial % 250);
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&source, sizeof source))
        die("bind");
}

static void open_connection(struct connection *c)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = c};
    int on = 1;
    memset(c, 0, sizeof *c);
    c->serial = serials++;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0)
        die("socket");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (churn)
        spread_source(c->fd, c->serial);
    c->state = CONNECTING;
    c->started = now_ns(CLOCK_MONOTONIC);
    outstanding++;
    alive++;
    if (connect(c->fd, (struct sockaddr *)&server, sizeof server) && errno != EINPROGRESS) {
        fail(c, "connect", errno);
        return;
    }
    if (epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &event))
        die("epoll_ctl");
}

static void send_more(struct connection *c)
{
    const void *what = http ? (const unsigned char *)http_request : message(c);
    while (c->state == BUSY && c->sent < request_size) {
        ssize_t n = send(c->fd, (const char *)what + c->sent, request_size - c->sent, MSG_NOSIGNAL);
        if (n >= 0)
            c->sent += n;
        else if (errno == EAGAIN)
            return;
        else if (errno != EINTR)
            fail(c, "send", errno);
    }
}

static void start_request(struct connection *c)
{
    c->sequence++;
    c->sent = c->received = c->head = c->in_body = 0;
    c->started = now_ns(CLOCK_MONOTONIC);
    c->state = BUSY;
    outstanding++;
    send_more(c);
}

static void finish_request(struct connection *c)
{
    int64_t now = now_ns(CLOCK_MONOTONIC);
    record(now - c->started);
    requests++;
    bytes += size;
    outstanding--;
    c->state = IDLE;
    c->due = now + think;
    if (churn) {
        disconnect(c);
        if (accepting_work)
            open_connection(c);
    } else if (accepting_work && !think)
        start_request(c);
}

/* Reads the head of an HTTP answer. 1: it is complete and what is due, `c->headers` may hold the begin of the body behind it;
 * 0: not yet; -1: it is not what is due. */
static int check_head(struct connection *c, size_t *body)
{
    static const char ok[] = "HTTP/1.1 200 ", length[] = "\r\ncontent-length:";
    c->headers[c->head] = 0;
    char *end = strstr(c->headers, "\r\n\r\n"), *found;
    if (!end)
        return c->head < sizeof c->headers - 1 ? 0 : -1;
    *body = end + 4 - c->headers;
    found = strcasestr(c->headers, length);
    if (strncmp(c->headers, ok, sizeof ok - 1) || !found || found > end)
        return -1;
    return strtoull(found + sizeof length - 1, NULL, 10) == size ? 1 : -1;
}

/* The head, with what came of the body behind it. Whether there is more to receive now. */
static int receive_head(struct connection *c)
{
    size_t body;
    ssize_t n = recv(c->fd, c->headers + c->head, sizeof c->headers - 1 - c->head, 0);
    if (n < 0 && errno == EINTR)
        return 1;
    if (n < 0 && errno == EAGAIN)
        return 0;
    if (n <= 0) {
        fail(c, "recv", n ? errno : 0);
        return 0;
    }
    c->head += n;
    int found = check_head(c, &body);
    if (!found)
        return 1;
    size_t there = c->head - body;
    if (found < 0 || there > size || memcmp(c->headers + body, pattern, there)) {
        mismatches++;
        fail(c, "wrong answer", EBADMSG);
        return 0;
    }
    c->received = there;
    c->in_body = 1;
    if (c->received == size) {
        finish_request(c);
        return 0;
    }
    return 1;
}

/* Asks for one byte more than is due, so that a server which sends too much is caught. */
static void receive_more(struct connection *c)
{
    while (c->state == BUSY || c->state == IDLE) {
        if (http && c->state == BUSY && !c->in_body) {
            if (!receive_head(c))
                return;
            continue;
        }
        size_t want = c->state == BUSY ? size - c->received : 0;
        size_t room = want + 1 < RECEIVE ? want + 1 : RECEIVE;
        ssize_t n = recv(c->fd, incoming, room, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) {
            fail(c, "recv", n ? errno : 0);
            return;
        }
        if ((size_t)n > want || memcmp(incoming, message(c) + c->received, n)) {
            mismatches++;
            fail(c, "wrong answer", EBADMSG);
            return;
        }
        c->received += n;
        if (c->received == size) {
            finish_request(c);
            return;
        }
        if ((size_t)n < room - 1)
            return;
    }
}

static void handle(struct connection *c, uint32_t events)
{
    if (c->state == CONNECTING && events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) {
        int error = 0;
        socklen_t length = sizeof error;
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &length);
        if (error) {
            fail(c, "connect", error);
            return;
        }
        c->state = BUSY;
    }
    if (c->state == BUSY && c->sent < request_size)
        send_more(c);
    if (events & (EPOLLIN | EPOLLRDHUP | EPOLLERR | EPOLLHUP))
        receive_more(c);
}

/* Starts what is due; the nanoseconds until the next is due, or until `end`. */
static int64_t start_due(int64_t now, int64_t end)
{
    int64_t next = end;
    for (int i = 0; i < connections; i++) {
        struct connection *c = &all[i];
        if (c->state != IDLE)
            continue;
        if (c->due <= now)
            start_request(c);
        else if (c->due < next)
            next = c->due;
    }
    return next - now;
}

static void wait_and_handle(int64_t timeout)
{
    struct epoll_event events[256];
    struct timespec t = {timeout / 1000000000, timeout % 1000000000};
    int n = epoll_pwait2(poller, events, 256, &t, NULL);
    if (n < 0 && errno != EINTR)
        die("epoll_pwait2");
    for (int i = 0; i < n; i++)
        handle(events[i].data.ptr, events[i].events);
}

static void drain(int64_t allowed)
{
    int64_t limit = now_ns(CLOCK_MONOTONIC) + allowed, now;
    accepting_work = 0;
    while (outstanding && (now = now_ns(CLOCK_MONOTONIC)) < limit)
        wait_and_handle(limit - now);
    errors += outstanding;
}

/* In waves: the kernel answers a burst beyond a listener's backlog with SYN cookies and dropped ACKs, whose connections may be
 * reset after a minute of retries, whatever the server does. */
static void open_connections(void)
{
    for (int first = 0; first < connections; first += WAVE) {
        for (int i = first; i < connections && i < first + WAVE; i++)
            open_connection(&all[i]);
        drain(SET_UP_NS);
    }
}

static void work(void)
{
    int64_t now = now_ns(CLOCK_MONOTONIC), end = now + (int64_t)(seconds * 1e9), report = now + progress;
    accepting_work = 1;
    for (int i = 0; churn && i < connections; i++)
        open_connection(&all[i]);
    while (now < end && alive) {
        int64_t timeout = think || requests == 0 ? start_due(now, end) : end - now;
        if (progress && now + timeout > report)
            timeout = report > now ? report - now : 0;
        wait_and_handle(timeout > 0 ? timeout : 0);
        now = now_ns(CLOCK_MONOTONIC);
        if (progress && now >= report) {
            printf("{\"progress\": %llu}\n", (unsigned long long)requests);
            report = now + progress;
        }
    }
    drain(DRAIN_NS);
}

static int by_value(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static double quantile(double q)
{
    return sample_count ? samples[(size_t)(q * (sample_count - 1))] / 1e3 : 0;
}

static void parse(int argc, char **argv)
{
    static const struct option options[] = {
        {"host", 1, 0, 'h'}, {"port", 1, 0, 'p'}, {"connections", 1, 0, 'c'}, {"size", 1, 0, 'm'}, {"seconds", 1, 0, 's'},
        {"think", 1, 0, 't'}, {"churn", 0, 0, 'x'}, {"progress", 1, 0, 'r'},
        {"http", 1, 0, 'g'}, {"body", 1, 0, 'b'}, {0, 0, 0, 0},
    };
    const char *host = "127.0.0.1";
    int o;
    while ((o = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (o) {
        case 'h': host = optarg; break;
        case 'p': server.sin_port = htons((uint16_t)atoi(optarg)); break;
        case 'c': connections = atoi(optarg); break;
        case 'm': size = strtoul(optarg, NULL, 10); break;
        case 's': seconds = atof(optarg); break;
        case 't': think = atoll(optarg) * 1000; break;
        case 'x': churn = 1; break;
        case 'r': progress = atoll(optarg) * 1000000; break;
        case 'g': http = optarg; break;
        case 'b': body_file = optarg; break;
        default: exit(2);
        }
    }
    if (inet_pton(AF_INET, host, &server.sin_addr) != 1 || ntohl(server.sin_addr.s_addr) >> 24 != 127) {
        fprintf(stderr, "load: only 127.0.0.0/8 is allowed, not %s\n", host);
        exit(2);
    }
    if (!server.sin_port || connections < 1 || size < 1 || seconds <= 0 || think < 0) {
        fprintf(stderr, "load: --port is required; counts, size and seconds must be positive\n");
        exit(2);
    }
    if (!http != !body_file || (http && churn)) {
        fprintf(stderr, "load: --http goes with --body and without --churn\n");
        exit(2);
    }
}

/* What is sent and what is to come back. */
static void prepare(void)
{
    uint64_t x = 88172645463325252ull;
    size_t room = PATTERN + size;
    if (http) {
        FILE *file = fopen(body_file, "rb");
        if (!file || fseek(file, 0, SEEK_END) || (long)(room = size = ftell(file)) < 1)
            die(body_file);
        rewind(file);
        pattern = malloc(size);
        if (!pattern || fread(pattern, 1, size, file) != size)
            die(body_file);
        fclose(file);
        request_size = snprintf(http_request, sizeof http_request, "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", http);
        if (request_size >= sizeof http_request)
            die("too long a path");
        return;
    }
    request_size = size;
    pattern = malloc(room);
    if (!pattern)
        die("set-up");
    for (size_t i = 0; i < room; i++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        pattern[i] = x >> 32;
    }
}

int main(int argc, char **argv)
{
    char line[64];
    parse(argc, argv);
    setvbuf(stdout, NULL, _IOLBF, 0);
    prctl(PR_SET_TIMERSLACK, 1);
    prepare();
    all = calloc(connections, sizeof *all);
    poller = epoll_create1(EPOLL_CLOEXEC);
    if (!all || poller < 0)
        die("set-up");
    if (!churn)
        open_connections();
    requests = bytes = sample_count = 0;
    puts("ready");
    if (!fgets(line, sizeof line, stdin))
        return 2;
    int64_t start = now_ns(CLOCK_MONOTONIC), cpu = now_ns(CLOCK_PROCESS_CPUTIME_ID);
    work();
    double took = (now_ns(CLOCK_MONOTONIC) - start) / 1e9;
    cpu = now_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    qsort(samples, sample_count, sizeof *samples, by_value);
    printf("{\"requests\": %llu, \"seconds\": %.6f, \"p50_us\": %.3f, \"p99_us\": %.3f, \"bytes\": %llu, "
           "\"errors\": %llu, \"mismatches\": %llu, \"client_cpu_us\": %.1f}\n",
           (unsigned long long)requests, took, quantile(0.5), quantile(0.99), (unsigned long long)bytes,
           (unsigned long long)errors, (unsigned long long)mismatches, cpu / 1e3);
    while (fgets(line, sizeof line, stdin))
        ;
    return errors ? 1 : 0;
}
