/* The lower limit: an echo server in plain C on io_uring, without liburing and without a scheduler.
 *
 * One multishot accept; per connection one multishot receive into a ring of provided buffers, and one send at a
 * time, so that answers keep their order. A buffer is on loan from its receive until its send has completed.
 * The kernel takes buffers from the group in turn, so the group is given few at a time, the last used first: that keeps
 * them in the cache.
 * Prints {"port": N} and serves until its standard input ends or its parent dies. Listens on 127.0.0.1 only. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/io_uring.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ENTRIES 1024u
#define COMPLETIONS 8192u
#define BUFFERS 1024u
#define OFFERED 32u /* buffers in the group; one enter handles about twenty receives */
#define BUFFER_SIZE 131072u
#define GROUP 1
#define NONE UINT16_MAX

enum kind { ACCEPT, RECEIVE, SEND, INPUT };

/* A connection is closed when its receive has ended and nothing is left to send: then nothing in flight names its fd. */
struct connection {
    uint16_t first, last;  /* buffers to send, the first one in flight */
    int receiving, broken, starved;
};

static int ring, listener;
static struct io_uring_sqe *sqes;
static struct io_uring_cqe *cqes;
static uint32_t *sq_tail, *cq_head, *cq_tail, sq_mask, cq_mask, tail, queued;
static struct io_uring_buf_ring *group;
static unsigned char *memory;
static uint16_t next[BUFFERS], idle[BUFFERS], group_tail;
static uint32_t idle_count, offered;
static uint32_t length[BUFFERS];
static struct connection *connections;
static int *starved, starved_count, connection_limit;

static void die(const char *what)
{
    fprintf(stderr, "echo_ring: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void enter(uint32_t wait)
{
    long n = syscall(SYS_io_uring_enter, ring, queued, wait, IORING_ENTER_GETEVENTS, NULL, 0);
    if (n < 0 && errno != EINTR)
        die("io_uring_enter");
    if (n > 0)
        queued -= n;
}

static struct io_uring_sqe *prepare(uint8_t opcode, int fd, enum kind kind)
{
    while (queued == ENTRIES)
        enter(0);
    struct io_uring_sqe *sqe = &sqes[tail & sq_mask];
    memset(sqe, 0, sizeof *sqe);
    sqe->opcode = opcode;
    sqe->fd = fd;
    sqe->user_data = (uint64_t)kind << 32 | (uint32_t)fd;
    __atomic_store_n(sq_tail, ++tail, __ATOMIC_RELEASE);
    queued++;
    return sqe;
}

static void arm_accept(void)
{
    struct io_uring_sqe *sqe = prepare(IORING_OP_ACCEPT, listener, ACCEPT);
    sqe->ioprio = IORING_ACCEPT_MULTISHOT;
    sqe->accept_flags = SOCK_CLOEXEC;
}

static void arm_receive(int fd)
{
    struct io_uring_sqe *sqe = prepare(IORING_OP_RECV, fd, RECEIVE);
    sqe->ioprio = IORING_RECV_MULTISHOT;
    sqe->flags = IOSQE_BUFFER_SELECT;
    sqe->buf_group = GROUP;
    connections[fd].receiving = 1;
}

static void send_first(int fd)
{
    uint16_t id = connections[fd].first;
    struct io_uring_sqe *sqe = prepare(IORING_OP_SEND, fd, SEND);
    sqe->addr = (uint64_t)(uintptr_t)(memory + (size_t)id * BUFFER_SIZE);
    sqe->len = length[id];
    sqe->msg_flags = MSG_NOSIGNAL | MSG_WAITALL;
}

static void give_back(uint16_t id)
{
    idle[idle_count++] = id;
}

static void offer_buffers(void)
{
    while (offered < OFFERED && idle_count) {
        struct io_uring_buf *entry = &group->bufs[group_tail & (OFFERED - 1)];
        uint16_t id = idle[--idle_count];
        entry->addr = (uint64_t)(uintptr_t)(memory + (size_t)id * BUFFER_SIZE);
        entry->len = BUFFER_SIZE;
        entry->bid = id;
        group_tail++;
        offered++;
    }
    __atomic_store_n(&group->tail, group_tail, __ATOMIC_RELEASE);
    while (starved_count && offered) {
        int fd = starved[--starved_count];
        connections[fd].starved = 0;
        arm_receive(fd);
    }
}

static void close_when_idle(int fd)
{
    struct connection *c = &connections[fd];
    if (!c->receiving && !c->starved && c->first == NONE)
        close(fd);
}

static void accepted(int32_t result, uint32_t flags)
{
    if (result >= connection_limit)
        close(result);
    else if (result >= 0) {
        connections[result] = (struct connection){.first = NONE, .last = NONE};
        arm_receive(result);
    }
    if (!(flags & IORING_CQE_F_MORE))
        arm_accept();
}

static void received(int fd, int32_t result, uint32_t flags)
{
    struct connection *c = &connections[fd];
    c->receiving = (flags & IORING_CQE_F_MORE) != 0;
    if (flags & IORING_CQE_F_BUFFER) {
        uint16_t id = flags >> IORING_CQE_BUFFER_SHIFT;
        offered--;
        if (result <= 0 || c->broken)
            give_back(id);
        else {
            length[id] = result;
            next[id] = NONE;
            if (c->first != NONE)
                next[c->last] = id;
            else
                c->first = id;
            c->last = id;
            if (c->first == id)
                send_first(fd);
        }
    }
    if (!c->receiving && !c->broken && result > 0)
        arm_receive(fd);
    else if (!c->receiving && !c->broken && result == -ENOBUFS) {
        c->starved = 1;
        starved[starved_count++] = fd;
    } else if (!c->receiving)
        close_when_idle(fd);
}

static void sent(int fd, int32_t result)
{
    struct connection *c = &connections[fd];
    if (result < 0 || (uint32_t)result != length[c->first]) {
        c->broken = 1;
        shutdown(fd, SHUT_RDWR);
    }
    do {
        uint16_t id = c->first;
        c->first = next[id];
        give_back(id);
    } while (c->broken && c->first != NONE);
    if (c->first != NONE)
        send_first(fd);
    else
        close_when_idle(fd);
}

static void set_up_ring(void)
{
    struct io_uring_params p = {
        .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_CQSIZE | IORING_SETUP_SUBMIT_ALL,
        .cq_entries = COMPLETIONS,
    };
    if ((ring = syscall(SYS_io_uring_setup, ENTRIES, &p)) < 0)
        die("io_uring_setup");
    size_t bytes = p.cq_off.cqes + p.cq_entries * sizeof *cqes;
    size_t array_end = p.sq_off.array + p.sq_entries * sizeof(uint32_t);
    unsigned char *map = mmap(NULL, bytes > array_end ? bytes : array_end, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
                              ring, IORING_OFF_SQ_RING);
    sqes = mmap(NULL, p.sq_entries * sizeof *sqes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring, IORING_OFF_SQES);
    if (map == MAP_FAILED || sqes == MAP_FAILED)
        die("mmap");
    sq_tail = (uint32_t *)(map + p.sq_off.tail);
    sq_mask = *(uint32_t *)(map + p.sq_off.ring_mask);
    cq_head = (uint32_t *)(map + p.cq_off.head);
    cq_tail = (uint32_t *)(map + p.cq_off.tail);
    cq_mask = *(uint32_t *)(map + p.cq_off.ring_mask);
    cqes = (struct io_uring_cqe *)(map + p.cq_off.cqes);
    for (uint32_t i = 0; i < p.sq_entries; i++)
        ((uint32_t *)(map + p.sq_off.array))[i] = i;
}

static void set_up_buffers(void)
{
    size_t bytes = OFFERED * sizeof(struct io_uring_buf);
    group = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memory = mmap(NULL, (size_t)BUFFERS * BUFFER_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (group == MAP_FAILED || memory == MAP_FAILED)
        die("mmap");
    struct io_uring_buf_reg reg = {.ring_addr = (uint64_t)(uintptr_t)group, .ring_entries = OFFERED, .bgid = GROUP};
    if (syscall(SYS_io_uring_register, ring, IORING_REGISTER_PBUF_RING, &reg, 1) < 0)
        die("register buffers");
    for (unsigned i = 0; i < BUFFERS; i++)
        give_back(i);
    offer_buffers();
}

static void set_up_listener(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int on = 1;
    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* accepted sockets inherit it */
    if (bind(listener, (struct sockaddr *)&address, size) || listen(listener, 1024)
        || getsockname(listener, (struct sockaddr *)&address, &size))
        die("listen");
    printf("{\"port\": %d}\n", ntohs(address.sin_port));
    fflush(stdout);
}

int main(void)
{
    struct rlimit files;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    getrlimit(RLIMIT_NOFILE, &files);
    connection_limit = files.rlim_cur < 65536 ? (int)files.rlim_cur : 65536;
    connections = calloc(connection_limit, sizeof *connections);
    starved = calloc(connection_limit, sizeof *starved);
    if (!connections || !starved)
        die("memory");
    set_up_ring();
    set_up_buffers();
    set_up_listener();
    arm_accept();
    prepare(IORING_OP_POLL_ADD, 0, INPUT)->poll32_events = 0x10; /* POLLHUP: the harness has closed our input */
    for (;;) {
        enter(1);
        uint32_t head = *cq_head, end = __atomic_load_n(cq_tail, __ATOMIC_ACQUIRE);
        for (; head != end; head++) {
            struct io_uring_cqe *cqe = &cqes[head & cq_mask];
            int fd = (int)(uint32_t)cqe->user_data;
            switch ((enum kind)(cqe->user_data >> 32)) {
            case ACCEPT: accepted(cqe->res, cqe->flags); break;
            case RECEIVE: received(fd, cqe->res, cqe->flags); break;
            case SEND: sent(fd, cqe->res); break;
            case INPUT: return 0;
            }
        }
        __atomic_store_n(cq_head, head, __ATOMIC_RELEASE);
        offer_buffers();
    }
}
