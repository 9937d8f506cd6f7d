/* What the files of calls share: the awaitable, the method that makes it, and where fields of sockets lie. */
#ifndef URING_TRIO_IO_H
#define URING_TRIO_IO_H

#include "_ticks.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

/* Where the fields lie in instances of RingSocket, Fd and Operation. */
enum io_field {
    S_OWNER, S_PLAIN, S_STREAMING, S_IDLE, F_READER, F_WRITER, F_OTHERS, F_LEAVING, F_RECEIVE_SIZE, F_RECEIVE,
    F_RECEIVING, F_IN_KERNEL, O_REACH, O_PARK, O_TEMPLATE,
    IO_FIELDS
};

/* Set once, by `describe`: until then nothing is usual. References are owned for ever. */
struct io {
    PyObject *socket_type, *fd_type, *plain_type;
    PyObject *done;   /* the outcome of an operation that nothing interrupted */
    PyObject *unwrap; /* unwraps any other, protected from Ctrl-C */
    PyObject *prepare; /* sets a socket's reader up for a size, and returns its owner; None: not for this socket */
    PyObject *adopt; /* makes the socket of a connection, from its listener's plain socket and its descriptor */
    Py_ssize_t at[IO_FIELDS];
    int ready;
};
extern struct io io;

typedef struct call Call;

/* What a method does. Each returns 1: there is a message or a result, which the caller owns; 0: a coroutine has to
 * go on, `again` if `go_on` was called, else from the beginning: nothing was done; -1: an exception is set. `begin` may
 * return 2: there is the result already. */
struct kind {
    const char *name;
    size_t arguments; /* besides the object, at most */
    int (*begin)(Call *, Ticks *, PyObject **message);
    int (*end)(Call *, PyObject *got, PyObject **result);
    void (*leave)(Call *); /* gives back what a call holds that ends without `end`; NULL: nothing */
    /* Of a receive: does it now, on that descriptor: how many bytes, with the result in `data`; or a negative errno. */
    long (*attempt)(Call *, int);
};

enum { PARTS = 4 };

/* A coroutine function in a class, and the names of what it uses of its first argument; NULL: not needed. */
typedef struct {
    PyObject_HEAD
    void *vectorcall;
    const struct kind *kind;
    PyObject *function;      /* whose calls these are */
    PyObject *again;         /* goes on after a result that is not usual */
    PyObject *socket;        /* where the socket is: the argument itself without it */
    PyObject *guard, *flag;  /* where the object is that tells whether a task is here, and its flag */
    PyObject *unread;        /* what has to be None */
    PyObject *usual;         /* the second argument where there is none, or where it is None */
    int all;                 /* `again` is called for an end and for an interruption too */
} Method;

/* A call that is awaited: once. All references are owned but the awaiter's. */
struct call {
    PyObject_HEAD
    Method *method;
    PyObject *self, *arg, *more; /* the arguments; NULL where there are none */
    PyObject *socket;        /* while it waits: what it waits for, and by what */
    PyObject *owner, *receive; /* of a request: its operation, and the ticks of its run */
    PyObject *kept[PARTS];    /* of a request: what its result needs of its `Op` */
    PyObject *guard;         /* whose flag is to be cleared at the end */
    const void *awaiter;     /* see `may_await` */
    PyObject *delegate;      /* the coroutine that goes on */
    PyObject *weak;          /* the list of weak references */
    PyObject *frame;         /* what `cr_frame` shows before there is a delegate */
    enum { FRESH, WAITING, DELEGATED, OVER } state;
    int running;             /* it is being sent to, thrown into or closed */
    PyObject *data;          /* the result of what was done at once, or its exception */
    long sent;               /* bytes that were sent, or the negative errno of either */
    int polls;               /* a receive that waits for input, to be received then */
};

/* Looks at what woke a task: 0 for the end of what it waited for; -1 and the exception of an interruption. */
static inline int check_woken(PyObject *got)
{
    PyObject *none = got == io.done ? NULL : PyObject_CallFunctionObjArgs(io.unwrap, got, NULL);
    Py_XDECREF(none);
    return none || got == io.done ? 0 : -1;
}

/* Reads where fields lie, for what is described `again` or for the first time: 0, or -1 and an exception. */
static inline int read_once(int again, PyObject *offsets, Py_ssize_t *at, int n)
{
    if (!again && PyTuple_Size(offsets) == n)
        return read_offsets(offsets, at, n);
    PyErr_Format(PyExc_TypeError, "once, with %d offsets", n);
    return -1;
}

extern const struct kind kind_receive, kind_receive_from, kind_receive_into, kind_send, kind_send_all, kind_send_to,
    kind_accept, kind_perform, kind_get, kind_next;

/* Starts the method's second coroutine function; 0, or -1. */
int go_on(Call *c, PyObject *with);

int load_io_socket(PyObject *module);
int load_io_attempts(PyObject *module);
int load_io_memory(PyObject *module);
int load_io_receive(PyObject *module);
int load_io_connection(PyObject *module);
int load_io_perform(PyObject *module);
int load_io_next(PyObject *module);

/* Where the memory of a ring of provided buffers is. */
typedef struct {
    PyObject_HEAD
    PyObject *buffers; /* the Python object whose memory it is */
    void *group;
    int (*recycle)(void *, int);
    const char *start;
    long long each; /* bytes of a buffer */
    long count;     /* of buffers */
} Memory;
extern PyTypeObject *memory_type;

/* Copies what arrived out of the buffer that the kernel chose, as a completion's flags say: a new reference, or NULL with
 * an exception. */
PyObject *copy_buffer(Memory *m, unsigned long flags, long res);
/* Gives that buffer back, if there is such a one. */
void recycle_buffer(Memory *m, unsigned long flags);
/* Both, whatever becomes of the copy. A new reference, or NULL with an exception. */
PyObject *take_buffer(Memory *m, unsigned long flags, long res);

/* Whether the kernel is to hold the current task's deadline, or might have to, in what goes by this operation. */
int near_deadline(Ticks *t, PyObject *op);

/* ---- sockets ---- */

/* The descriptor of a socket of the standard library; -1: it is closed. Behind it is its address family. See
 * `describe_sockets` in calls.py. */
static inline int descriptor(PyObject *plain) { return *(int *)((char *)plain + sizeof(PyObject)); }
static inline int family_of(PyObject *plain) { return ((int *)((char *)plain + sizeof(PyObject)))[1]; }

/* The socket of a call, owned; NULL without an exception: it is no RingSocket, or not as usual. */
PyObject *socket_of(Call *c);

/* Whether an attribute is there and is that object. */
int attribute_is(PyObject *obj, PyObject *name, PyObject *what);

union address {
    struct sockaddr any;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
    struct sockaddr_un un;
};

/* An address as the kernel gave it, the way the standard library has it; a new reference. */
PyObject *address_of(const union address *a, socklen_t length);

/* How many bytes an object says; 0: not as many as a receive may be of. */
long long number_of(PyObject *size);

/* How many bytes a call asks for, borrowed; NULL: it does not say. */
static inline PyObject *size_of(Call *c) { return c->arg && c->arg != Py_None ? c->arg : c->method->usual; }

/* See `struct kind`. */
long attempt_receive(Call *c, int fd);
long attempt_receive_from(Call *c, int fd);
long attempt_receive_into(Call *c, int fd);

/* Takes the guard, if the method has one: 1, or 0 with nothing done. */
int enter(Call *c);

/* Gives up in `begin`: as if nothing had been done. 0, or -1. */
int give_up(Call *c);

/* Whether a checkpoint of the current task would let it pass. */
static inline int passes(Ticks *t)
{
    return task_here && *field(*field(task_here, t->at[T_CANCEL_STATUS]), t->at[C_CANCELLED]) == Py_False &&
           *field(t->runner, t->at[R_KI_PENDING]) == Py_False;
}

#endif
