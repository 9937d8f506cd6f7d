/* Calls that begin with a checkpoint: what `_checkpoint.c` shares with the files of locks and of channels. */
#ifndef URING_TRIO_CHECKPOINT_H
#define URING_TRIO_CHECKPOINT_H

#include "_ticks.h"

/* What the first step of a call did. */
enum begun {
    FAILED = -1, /* an exception is set, and nothing was done */
    UNUSUAL_CALL, /* nothing was done: Trio's function has to do all of it */
    RETURNS,     /* all: it returns `*result` */
    YIELDS,      /* all but the cancel-shielded checkpoint after which it returns `*result` */
    PARKS        /* the task waits for somebody to reschedule it: by the message `*result` */
};

/* The first step of a call on `self`, with `given` where it takes an argument; both are borrowed. `*result` is a new
 * reference. Nothing may have been written where it answers that nothing was done. */
typedef enum begun begin_call(Ticks *t, PyObject *self, PyObject *given, PyObject **result);

/* Whether the class of an object is the one whose calls these are. */
typedef int takes_self(PyObject *self);

begin_call acquire_lock, enter_lock, leave_lock, send_value, receive_value, next_value;
takes_self is_lock, is_sender, is_receiver;

/* An outcome.Value that was not looked at before; a new reference. */
PyObject *make_value(Ticks *t, PyObject *value);

/* The message that parks a task, with the function that aborts its wait: a new reference. */
PyObject *park_message(Ticks *t, PyObject *abort_func);

/* Whether `name`, looked up in the class of `self`, is that function. */
int class_has(PyObject *self, PyObject *name, PyObject *function);

#endif
