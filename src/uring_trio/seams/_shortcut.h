/* Functions of Trio's classes whose usual case is in C: what the files that hold such cases share. */
#ifndef URING_TRIO_SHORTCUT_H
#define URING_TRIO_SHORTCUT_H

#include "_ticks.h"

/* The usual case of a function, called in a step of a task: `n` positional arguments, then the values of `keywords`.
 * 1: `*result` is a new reference; 0: nothing was done, the function has to do all of it; -1: an exception is set. */
typedef int usual_case(Ticks *t, PyObject *const *args, Py_ssize_t n, PyObject *keywords, PyObject **result);

/* An object that looks like `function`, and is called and bound like it; a new reference. */
PyObject *make_shortcut(usual_case *usual, PyObject *function);

/* The same for several: a tuple, which is a new reference. */
PyObject *make_shortcuts(usual_case *const *usual, PyObject *const *functions, int n);

/* An attribute of an object that looks like a function; a new reference. */
PyObject *attribute_like(PyObject *self, PyObject *function, PyObject *name);

/* What binding such an object gives; a new reference. */
PyObject *bound(PyObject *self, PyObject *obj);

#endif
