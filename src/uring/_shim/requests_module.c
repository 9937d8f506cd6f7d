/* The module uring._requests, and its shortcuts: functions of `uring` with their usual case in C.
 *
 * A `Shortcut` in a class has the attributes of its function, and is called and bound like it. A call tries the usual
 * case first, and calls the function for everything else.
 */
#include "requests.h"

/* Not in the limited API of 3.11, though every CPython has them. */
PyAPI_FUNC(PyObject *) PyMethod_New(PyObject *, PyObject *);
PyAPI_FUNC(PyObject *) PyObject_Vectorcall(PyObject *, PyObject *const *, size_t, PyObject *);
PyAPI_FUNC(PyObject *) PyVectorcall_Call(PyObject *, PyObject *, PyObject *);
static const unsigned long HAVE_VECTORCALL = 1UL << 11;
static const size_t ARGUMENTS_OFFSET = (size_t)1 << (8 * sizeof(size_t) - 1);

typedef struct {
    PyObject_HEAD
    void *vectorcall;
    PyObject *function;
    usual_case *usual;
    const struct kind *kind;
} Shortcut;

static PyTypeObject *shortcut_type;

static PyObject *call_operation(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *keywords)
{
    Shortcut *s = (Shortcut *)self;
    PyObject *result = NULL;
    int usual = usual_operation(s->kind, args, (Py_ssize_t)(nargsf & ~ARGUMENTS_OFFSET), keywords, &result);
    return usual ? result : PyObject_Vectorcall(s->function, args, nargsf, keywords);
}

static PyObject *call_usual(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *keywords)
{
    Shortcut *s = (Shortcut *)self;
    PyObject *result = NULL;
    int usual = s->usual(args, (Py_ssize_t)(nargsf & ~ARGUMENTS_OFFSET), keywords, &result);
    return usual ? result : PyObject_Vectorcall(s->function, args, nargsf, keywords);
}

static PyObject *shortcut_get(PyObject *self, PyObject *obj, PyObject *type)
{
    (void)type;
    return obj && obj != Py_None ? PyMethod_New(self, obj) : Py_NewRef(self);
}

/* Attributes are the function's, except those of the shortcut's type. */
static PyObject *shortcut_getattro(PyObject *self, PyObject *name)
{
    static const char *const own[] = { "__class__", "__get__", "__call__", "__reduce__", "__reduce_ex__", "__hash__",
                                       "__eq__", "__dir__" };
    PyObject *function = ((Shortcut *)self)->function;
    if (PyUnicode_CompareWithASCIIString(name, "__wrapped__") == 0)
        return Py_NewRef(function);
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        if (PyUnicode_CompareWithASCIIString(name, own[i]) == 0)
            return PyObject_GenericGetAttr(self, name);
    return PyObject_GetAttr(function, name);
}

static PyObject *shortcut_repr(PyObject *self) { return PyObject_Repr(((Shortcut *)self)->function); }

static int shortcut_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((Shortcut *)self)->function);
    return 0;
}

/* The function is kept until the end: a cycle through it is broken elsewhere. */
static void shortcut_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    Py_CLEAR(((Shortcut *)self)->function);
    PyObject_GC_Del(self);
    Py_DECREF(type);
}

static PyMemberDef shortcut_members[] = {
    { "__vectorcalloffset__", T_PYSSIZET, offsetof(Shortcut, vectorcall), READONLY, NULL },
    { NULL, 0, 0, 0, NULL },
};

static PyType_Slot shortcut_slots[] = {
    { Py_tp_dealloc, shortcut_dealloc },   { Py_tp_traverse, shortcut_traverse }, { Py_tp_members, shortcut_members },
    { Py_tp_call, PyVectorcall_Call },     { Py_tp_getattro, shortcut_getattro }, { Py_tp_descr_get, shortcut_get },
    { Py_tp_repr, shortcut_repr },         { 0, NULL },
};

static PyType_Spec shortcut_spec = {
    "uring._requests.Shortcut", sizeof(Shortcut), 0,
    /* Immutable, so that the interpreter caches look-ups of it. */
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_METHOD_DESCRIPTOR | Py_TPFLAGS_DISALLOW_INSTANTIATION |
        Py_TPFLAGS_IMMUTABLETYPE,
    shortcut_slots,
};

/* shortcut(case, function): the function with its usual case in C, or the function itself where there is none. */
static PyObject *make_shortcut(PyObject *module, PyObject *args)
{
    static const struct { const char *name; usual_case *usual; } cases[] = {
        { "Request.result", usual_result }, { "Request.done", usual_done }, { "Ring.request", usual_request },
        { "Ring._queue_all", usual_many },  { "Ring._collect", usual_collect }, { "Ring._release", usual_release },
    };
    const struct kind *kind = NULL;
    usual_case *usual = NULL;
    const char *name;
    PyObject *function;
    (void)module;
    if (!PyArg_ParseTuple(args, "sO", &name, &function))
        return NULL;
    for (size_t i = 0; i < kind_count; i++)
        if (strcmp(kinds[i].name, name) == 0)
            kind = &kinds[i];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (strcmp(cases[i].name, name) == 0)
            usual = cases[i].usual;
    if (!kind && !usual)
        return Py_NewRef(function);
    Shortcut *s = PyObject_GC_New(Shortcut, shortcut_type);
    if (!s)
        return NULL;
    s->vectorcall = kind ? (void *)call_operation : (void *)call_usual;
    s->function = Py_NewRef(function);
    s->usual = usual;
    s->kind = kind;
    PyObject_GC_Track((PyObject *)s);
    return (PyObject *)s;
}

int is_shortcut(PyObject *obj, usual_case *usual)
{
    return Py_IS_TYPE(obj, shortcut_type) && ((Shortcut *)obj)->usual == usual;
}

static PyMethodDef functions[] = {
    { "shortcut", make_shortcut, METH_VARARGS, NULL },
    { NULL, NULL, 0, NULL },
};

static int load(PyObject *module)
{
    /* Its types are the process's. From 3.12 on Python itself refuses an interpreter with its own GIL. */
    if (PyInterpreterState_GetID(PyInterpreterState_Get()) != 0 || shortcut_type) {
        PyErr_SetString(PyExc_ImportError, "uring._requests is for the main interpreter of a process, and once");
        return -1;
    }
    shortcut_spec.flags |= (unsigned int)HAVE_VECTORCALL;
    shortcut_type = (PyTypeObject *)PyType_FromSpec(&shortcut_spec);
    if (!shortcut_type || load_table(module) < 0 || load_request(module) < 0 || load_queue(module) < 0)
        return -1;
    return load_deliver();
}

static PyModuleDef_Slot slots[] = { { Py_mod_exec, load }, { 0, NULL } };

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "_requests", .m_methods = functions, .m_slots = slots,
};

PyMODINIT_FUNC PyInit__requests(void) { return PyModuleDef_Init(&definition); }
