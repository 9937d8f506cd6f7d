/* What the files of calls share: the awaitable, the method that makes it, and where fields of sockets lie. */
#ifndef URING_TRIO_IO_H
#define URING_TRIO_IO_H

#include "_ticks.h"

/* Where the fields lie in instances of our RingSocket, Fd and Operation. */
enum io_field {
    S_OWNER, S_PLAIN, S_STREAMING, F_READER, F_RECEIVE_SIZE, F_RECEIVE, F_RECEIVING, O_REACH, O_PARK,
    IO_FIELDS
};

/* Set once, by `describe`: until then nothing is usual. References are owned for ever. */
struct io {
    PyObject *socket_type, *fd_type, *plain_type;
    PyObject *done;   /* the outcome of an operation that nothing interrupted */
    PyObject *unwrap; /* unwraps any other, protected from Ctrl-C */
    Py_ssize_t at[IO_FIELDS];
    int ready;
};
extern struct io io;

typedef struct call Call;

/* What a method does. Each answers 1: there is a message or a result, which the caller owns; 0: a coroutine has to
 * go on, `again` if `go_on` was called, else from the beginning: nothing was done; -1: an exception is set. */
struct kind {
    const char *name;
    int (*begin)(Call *, Ticks *, PyObject **message);
    int (*end)(Call *, PyObject *got, PyObject **result);
};

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
    int all;                 /* `again` wants to know of an end and of an interruption too */
} Method;

/* A call that is awaited: once. All references are owned. */
struct call {
    PyObject_HEAD
    Method *method;
    PyObject *self, *arg;    /* `arg` is NULL where there is none */
    PyObject *socket;        /* while it waits: what it waits for, and by what */
    PyObject *owner, *receive;
    PyObject *guard;         /* whose flag is to be taken down at the end */
    PyObject *delegate;      /* the coroutine that goes on */
    PyObject *frame;         /* what is shown to those who ask for one */
    enum { FRESH, WAITING, DELEGATED, OVER } state;
    PyObject *data;          /* what was received at once */
    long sent;               /* bytes that were sent, or the negative errno of either */
};

extern const struct kind kind_receive, kind_send, kind_send_all;

/* Starts the method's second coroutine function; 0, or -1. */
int go_on(Call *c, PyObject *with);

int load_io_socket(PyObject *module);

/* Whether a checkpoint of the current task would let it pass. */
static inline int passes(Ticks *t)
{
    return task_here && *field(*field(task_here, t->at[T_CANCEL_STATUS]), t->at[C_CANCELLED]) == Py_False &&
           *field(t->runner, t->at[R_KI_PENDING]) == Py_False;
}

#endif
