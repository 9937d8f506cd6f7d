/* Cancel scopes: `CancelScope(...)`, entering one and leaving it, in a step of `_ticks.c`.
 *
 * The usual scope is entered once, has a deadline in the future or none, and is left by the task that entered it,
 * with nothing cancelled around it. The fields that Trio's methods write are written here in place, so that every
 * other method finds what it expects. uring_trio/seams/scopes.py finds where they lie and puts the shortcuts into
 * the class.
 *
 * Invariants
 *  - A usual case begins to write only when nothing can fail any more but for memory, and undoes what it wrote then.
 *  - A scope with a deadline has one entry in Trio's heap that counts, and is counted once in `_active`. An entry
 *    that no longer counts stays, as with Trio's own methods, unless it is found soon.
 *  - No Python code runs while entries move: the heap and the scope both hold references to what is moved, and an
 *    entry whose deadline is not simply a number is neither moved nor compared.
 *  - Whatever can run the collector, and with it the end of any generator, comes before the checks that count: all
 *    objects of an entering scope are made first.
 *  - The statuses on the free list belong to no scope, and the list has the only reference to each.
 */
#include "_shortcut.h"

#include <math.h>

/* Where the fields lie in instances of Trio's CancelScope, CancelStatus and Deadlines; those of a scope come in
 * the order of its class. */
enum scope_field {
    S_STATUS, S_ENTERED, S_REGISTERED, S_CALLED, S_CAUGHT, S_REASON, S_RELATIVE, S_DEADLINE, S_SHIELD, OF_SCOPE,
    U_SCOPE = OF_SCOPE, U_CANCELLED, U_PARENT, U_CHILDREN, U_TASKS, U_ABANDONED, SCOPE_FIELDS
};
enum { KEPT = 64, LAST = 4, VISITS = 60 };
static const double SOON = 1e-3; /* seconds within which Trio may find a deadline due at once */

/* Set once; references are owned for ever. */
static PyObject *scope_type, *status_type, *push, *nothing, *initial[OF_SCOPE];
static Py_ssize_t at[SCOPE_FIELDS];

static PyObject *kept[KEPT];
static int kept_count;

static PyObject *s_deadline, *s_relative, *s_shield;

static inline PyObject *get(PyObject *obj, enum scope_field name) { return *field(obj, at[name]); }

static inline int is(PyObject *obj, PyObject *type) { return obj && (PyObject *)Py_TYPE(obj) == type; }

static inline void set(PyObject *obj, enum scope_field name, PyObject *value)
{
    Py_INCREF(value);
    put(obj, at[name], value);
}

/* The number of seconds; NaN for everything that is not simply one. */
static double seconds(PyObject *obj)
{
    if (obj && (PyFloat_CheckExact(obj) || PyLong_CheckExact(obj))) {
        double value = PyFloat_AsDouble(obj);
        if (value != -1 || !PyErr_Occurred())
            return value;
        PyErr_Clear();
    }
    return NAN;
}

/* ---- a new scope ---- */

/* CancelScope.__init__ */
static int new_scope(Ticks *t, PyObject *const *args, Py_ssize_t n, PyObject *keywords, PyObject **result)
{
    PyObject *given[OF_SCOPE] = { NULL };
    (void)t;
    if (n != 1 || !is(args[0], scope_type))
        return 0;
    Py_ssize_t count = keywords ? PyTuple_Size(keywords) : 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *name = PyTuple_GetItem(keywords, i), *value = args[n + i];
        if (name == s_relative && seconds(value) >= 0)
            given[S_RELATIVE] = value;
        else if (name == s_deadline && !isnan(seconds(value)))
            given[S_DEADLINE] = value;
        else if (name == s_shield && (value == Py_False || value == Py_True))
            given[S_SHIELD] = value;
        else
            return 0;
    }
    if (given[S_RELATIVE] && given[S_DEADLINE])
        return 0;
    for (int i = 0; i < OF_SCOPE; i++)
        set(args[0], i, given[i] ? given[i] : initial[i]);
    Py_INCREF(Py_None);
    *result = Py_None;
    return 1;
}

/* ---- deadlines ---- */

/* When a scope that is entered now is due, owned; NULL without an exception: left to Trio. */
static PyObject *deadline_of(Ticks *t, PyObject *scope)
{
    PyObject *deadline = get(scope, S_DEADLINE);
    double relative = seconds(get(scope, S_RELATIVE)), absolute = seconds(deadline);
    if (isinf(absolute) && absolute > 0 && relative > SOON) {
        if (!isinf(relative))
            return PyFloat_FromDouble(t->offset + now() + relative);
    } else if (!isinf(relative) || !(absolute > t->offset + now())) {
        return NULL;
    }
    Py_INCREF(deadline);
    return deadline;
}

/* What Trio's heap keeps of a scope with a deadline, owned. */
static PyObject *make_entry(PyObject *deadline, PyObject *scope)
{
    PyObject *id = PyLong_FromVoidPtr(scope);
    PyObject *entry = id ? PyTuple_Pack(3, deadline, id, scope) : NULL;
    Py_XDECREF(id);
    return entry;
}

/* Pushes an entry on Trio's heap: 0, or -1. */
static int add_deadline(Ticks *t, PyObject *entry)
{
    PyObject *heap = *field(t->deadlines, t->at[D_HEAP]);
    Py_ssize_t n = PyList_Size(heap);
    PyObject *above = n > 0 ? PyTuple_GetItem(PyList_GetItem(heap, (n - 1) / 2), 0) : NULL;
    int ret;
    if (!n || (above && seconds(above) < seconds(PyTuple_GetItem(entry, 0)))) {
        ret = PyList_Append(heap, entry);
    } else {
        PyErr_Clear();
        PyObject *none = PyObject_CallFunctionObjArgs(push, heap, entry, NULL);
        Py_XDECREF(none);
        ret = none ? 0 : -1;
    }
    return ret < 0 ? -1 : bump(t->deadlines, t->at[D_ACTIVE]);
}

/* The deadline of an entry; NaN without an entry that is as expected. */
static double due(PyObject *heap, Py_ssize_t i)
{
    PyObject *entry = PyList_GetItem(heap, i);
    return entry && PyTuple_Check(entry) && PyTuple_Size(entry) == 3 ? seconds(PyTuple_GetItem(entry, 0)) : NAN;
}

/* Where this scope's entry is, if it is found soon: among the last ones, or below entries that are no later. -1: it
 * was not. */
static Py_ssize_t find_entry(PyObject *heap, Py_ssize_t n, PyObject *scope, double deadline)
{
    Py_ssize_t open[VISITS + 2];
    for (Py_ssize_t i = n; i > 0 && i > n - LAST; i--)
        if (due(heap, i - 1) == deadline && PyTuple_GetItem(PyList_GetItem(heap, i - 1), 2) == scope)
            return i - 1;
    int count = 1;
    open[0] = 0;
    for (int visits = 0; count && visits < VISITS; visits++) {
        Py_ssize_t i = open[--count];
        double here = i < n ? due(heap, i) : NAN;
        if (!(here <= deadline))
            continue;
        if (PyTuple_GetItem(PyList_GetItem(heap, i), 2) == scope)
            return i;
        open[count++] = 2 * i + 1;
        open[count++] = 2 * i + 2;
    }
    return -1;
}

/* Puts the entry at `from` in the place of the one at `to`. */
static void move_entry(PyObject *heap, Py_ssize_t to, Py_ssize_t from)
{
    PyObject *entry = PyList_GetItem(heap, from);
    Py_INCREF(entry);
    PyList_SetItem(heap, to, entry);
}

/* Where the last of `n` entries goes, from `i` up or down; with `move`, others make room. -1: one of those that it
 * would be compared with has a deadline that is not simply a number. */
static Py_ssize_t place_for_last(PyObject *heap, Py_ssize_t n, Py_ssize_t i, int move)
{
    double key = due(heap, n - 1);
    for (Py_ssize_t up; i > 0; i = up) {
        up = (i - 1) / 2;
        double above = due(heap, up);
        if (isnan(key) || isnan(above))
            return -1;
        if (!(key < above))
            break;
        if (move)
            move_entry(heap, i, up);
    }
    for (Py_ssize_t child; (child = 2 * i + 1) < n - 1; i = child) {
        double below = due(heap, child), other = child + 1 < n - 1 ? due(heap, child + 1) : INFINITY;
        if (isnan(key) || isnan(below) || isnan(other))
            return -1;
        if (other < below) {
            child++;
            below = other;
        }
        if (!(below < key))
            break;
        if (move)
            move_entry(heap, i, child);
    }
    return i;
}

/* Takes an entry out, of the `n` there are: the last one goes to its place. */
static void remove_entry(PyObject *heap, Py_ssize_t n, Py_ssize_t i)
{
    if (place_for_last(heap, n, i, 0) < 0)
        return; /* it stays, as with Trio's own methods */
    PyObject *last = PyList_GetItem(heap, n - 1);
    Py_INCREF(last);
    PyList_SetItem(heap, place_for_last(heap, n, i, 1), last);
    PyList_SetSlice(heap, n - 1, n, NULL);
}

/* Stops counting the deadline of this scope. */
static int drop_deadline(Ticks *t, PyObject *scope)
{
    PyObject *heap = *field(t->deadlines, t->at[D_HEAP]);
    long active = PyLong_AsLong(*field(t->deadlines, t->at[D_ACTIVE]));
    PyObject *less = active == -1 && PyErr_Occurred() ? NULL : PyLong_FromLong(active - 1);
    if (!less)
        return -1;
    put(t->deadlines, t->at[D_ACTIVE], less);
    Py_ssize_t n = PyList_Size(heap), i = find_entry(heap, n, scope, seconds(get(scope, S_REGISTERED)));
    if (i >= 0)
        remove_entry(heap, n, i);
    PyErr_Clear();
    return 0;
}

/* ---- entering ---- */

/* A status that no scope has yet, owned. */
static PyObject *make_status(void)
{
    if (kept_count)
        return kept[--kept_count];
    newfunc make = (newfunc)PyType_GetSlot((PyTypeObject *)status_type, Py_tp_new);
    PyObject *children = PySet_New(NULL), *tasks = PySet_New(NULL), *status = NULL;
    if (children && tasks && (status = make((PyTypeObject *)status_type, nothing, NULL))) {
        put(status, at[U_CHILDREN], children);
        put(status, at[U_TASKS], tasks);
        set(status, U_SCOPE, Py_None);
        set(status, U_PARENT, Py_None);
    } else {
        Py_XDECREF(children);
        Py_XDECREF(tasks);
    }
    return status;
}

/* Keeps or frees a status that no scope has any more; takes the reference. */
static void release_status(PyObject *status)
{
    put_none(status, at[U_PARENT]);
    if (kept_count == KEPT || Py_REFCNT(status) != 1 || PySet_Size(get(status, U_TASKS)) ||
        PySet_Size(get(status, U_CHILDREN))) {
        Py_DECREF(status);
        return;
    }
    kept[kept_count++] = status; /* first: the scope may be freed now, and its finalizers may do anything */
    put_none(status, at[U_SCOPE]);
}

/* Whether a scope could be entered below this status in the usual way. */
static int plain(PyObject *status)
{
    return is(status, status_type) && get(status, U_CANCELLED) == Py_False && get(status, U_ABANDONED) == Py_False;
}

/* Whether this scope could be entered below this status in the usual way. */
static int may_enter(PyObject *scope, PyObject *parent)
{
    return get(scope, S_ENTERED) == Py_False && get(scope, S_CALLED) == Py_False && get(scope, S_STATUS) == Py_None &&
           seconds(get(scope, S_REGISTERED)) == INFINITY && plain(parent);
}

/* Enters a scope: no Python code runs here but comparisons of deadlines. */
static int enter_now(Ticks *t, PyObject *scope, PyObject *status, PyObject *parent, PyObject *deadline, PyObject *entry)
{
    PyObject *task = task_here;
    if (PySet_Add(get(status, U_TASKS), task) < 0 || PySet_Add(get(parent, U_CHILDREN), status) < 0 ||
        (entry && add_deadline(t, entry) < 0)) {
        PySet_Discard(get(parent, U_CHILDREN), status);
        PySet_Discard(get(status, U_TASKS), task);
        return -1;
    }
    set(status, U_SCOPE, scope);
    set(status, U_PARENT, parent);
    set(status, U_CANCELLED, Py_False);
    set(status, U_ABANDONED, Py_False);
    PySet_Discard(get(parent, U_TASKS), task);
    set(scope, S_ENTERED, Py_True);
    if (get(scope, S_DEADLINE) != deadline) {
        set(scope, S_DEADLINE, deadline);
        set(scope, S_RELATIVE, initial[S_RELATIVE]);
    }
    if (entry)
        set(scope, S_REGISTERED, deadline);
    set(scope, S_STATUS, status);
    Py_INCREF(status);
    put(task, t->at[T_CANCEL_STATUS], status);
    return 1;
}

/* CancelScope.__enter__ */
static int enter_scope(Ticks *t, PyObject *const *args, Py_ssize_t n, PyObject *keywords, PyObject **result)
{
    PyObject *scope, *deadline, *status = NULL, *parent = NULL, *entry = NULL;
    if (n != 1 || keywords || !is(scope = args[0], scope_type) ||
        !may_enter(scope, *field(task_here, t->at[T_CANCEL_STATUS])))
        return 0;
    if (!(deadline = deadline_of(t, scope)))
        return PyErr_Occurred() ? -1 : 0;
    int ret = -1;
    if (!(status = make_status()) || (!isinf(seconds(deadline)) && !(entry = make_entry(deadline, scope))))
        goto out;
    parent = *field(task_here, t->at[T_CANCEL_STATUS]);
    Py_INCREF(parent);
    ret = may_enter(scope, parent) ? enter_now(t, scope, status, parent, deadline, entry) : 0;
    if (ret > 0) {
        Py_INCREF(scope);
        *result = scope;
    }
out:
    Py_XDECREF(parent);
    Py_XDECREF(entry);
    Py_XDECREF(status);
    Py_DECREF(deadline);
    return ret;
}

/* ---- leaving ---- */

static int leave(Ticks *t, PyObject *scope)
{
    PyObject *task = task_here, *status, *parent;
    if (!is(scope, scope_type) || !(status = get(scope, S_STATUS)) || *field(task, t->at[T_CANCEL_STATUS]) != status ||
        !plain(status) || get(status, U_SCOPE) != scope || get(scope, S_CALLED) != Py_False ||
        PySet_Size(get(status, U_TASKS)) != 1 || PySet_Size(get(status, U_CHILDREN)) ||
        !plain(parent = get(status, U_PARENT)))
        return 0;
    if (PySet_Add(get(parent, U_TASKS), task) < 0)
        return -1;
    if (get(scope, S_REGISTERED) != initial[S_REGISTERED]) {
        if (seconds(get(scope, S_REGISTERED)) != INFINITY && drop_deadline(t, scope) < 0) {
            PySet_Discard(get(parent, U_TASKS), task);
            return -1;
        }
        set(scope, S_REGISTERED, initial[S_REGISTERED]);
    }
    PySet_Discard(get(status, U_TASKS), task);
    PySet_Discard(get(parent, U_CHILDREN), status);
    Py_INCREF(parent);
    put(task, t->at[T_CANCEL_STATUS], parent);
    release_status(take(scope, at[S_STATUS]));
    return 1;
}

/* CancelScope.__exit__ */
static int exit_scope(Ticks *t, PyObject *const *args, Py_ssize_t n, PyObject *keywords, PyObject **result)
{
    int left = n == 4 && !keywords ? leave(t, args[0]) : 0;
    if (left > 0) {
        *result = args[2] == Py_None ? Py_True : Py_False;
        Py_INCREF(*result);
    }
    return left;
}

/* CancelScope._close */
static int close_scope(Ticks *t, PyObject *const *args, Py_ssize_t n, PyObject *keywords, PyObject **result)
{
    int left = n == 2 && !keywords ? leave(t, args[0]) : 0;
    if (left > 0) {
        *result = args[1];
        Py_INCREF(*result);
    }
    return left;
}

/* ---- the functions ---- */

/* use_scopes(scope class, status class, heappush, initial fields of a scope, offsets, functions): the shortcuts of
 * `__init__`, `__enter__`, `__exit__` and `_close`. */
static PyObject *use_scopes(PyObject *module, PyObject *args)
{
    static usual_case *const cases[] = { new_scope, enter_scope, exit_scope, close_scope };
    enum { CASES = sizeof cases / sizeof *cases };
    PyObject *given[3], **const places[] = { &scope_type, &status_type, &push }, *fields, *offsets, *functions[CASES];
    (void)module;
    if (!PyArg_ParseTuple(args, "OOOO!O!(OOOO)", &given[0], &given[1], &given[2], &PyTuple_Type, &fields,
                          &PyTuple_Type, &offsets, &functions[0], &functions[1], &functions[2], &functions[3]))
        return NULL;
    if (PyTuple_Size(fields) != OF_SCOPE || PyTuple_Size(offsets) != SCOPE_FIELDS) {
        PyErr_Format(PyExc_TypeError, "scopes need %d fields and %d offsets", (int)OF_SCOPE, (int)SCOPE_FIELDS);
        return NULL;
    }
    if (read_offsets(offsets, at, SCOPE_FIELDS) < 0)
        return NULL;
    for (int i = 0; i < 3; i++)
        keep(places[i], given[i]);
    for (int i = 0; i < OF_SCOPE; i++)
        keep(&initial[i], PyTuple_GetItem(fields, i));
    return make_shortcuts(cases, functions, CASES);
}

static PyMethodDef methods[] = {
    { "use_scopes", use_scopes, METH_VARARGS,
      "Takes where the fields of scopes lie; returns shortcuts of four functions." },
    { NULL, NULL, 0, NULL },
};

int load_scope(PyObject *module)
{
    static const struct { PyObject **at; const char *text; } names[] = {
        { &s_deadline, "deadline" }, { &s_relative, "relative_deadline" }, { &s_shield, "shield" },
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!(*names[i].at = PyUnicode_InternFromString(names[i].text)))
            return -1;
    if (!(nothing = PyTuple_New(0)))
        return -1;
    return PyModule_AddFunctions(module, methods);
}
