/* The module uring._cached: reads out of the page cache, stats by names out of the cache of directory entries.
 * uring/cached.py says what each function promises.
 *
 * Invariants
 *  - Nothing here waits. A read has RWF_NOWAIT; a lookup has RESOLVE_CACHED, with which the kernel gives up where it
 *    would ask the file system; fstat is for file systems only that answer it from memory.
 *  - System calls are made without the GIL. What they write into meanwhile is the caller's memory, or a bytes object
 *    that no other code has seen.
 *  - No state but the answers about mounts, each of them one word that is written whole, and the type of a stat.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
    NR_OPENAT2 = 437, NR_STATMOUNT = 457,
    NO_SYMLINKS = 0x04, CACHED = 0x20, /* RESOLVE_ */
    NOWAIT = 0x08, /* RWF_ */
    HANDLE_MNT_ID_UNIQUE = 1, SB_BASIC = 1,
    MOUNTS = 64,
    PART = 4096,
    STAT_FIELDS = 19,
};

struct how { uint64_t flags, mode, resolve; };
struct handle { uint32_t bytes; int32_t type; };
struct mount_request { uint32_t size, ns_fd; uint64_t mnt_id, param, ns_id; };
struct mount { uint32_t size, opts; uint64_t mask; uint32_t dev_major, dev_minor; uint64_t magic, rest[60]; };
_Static_assert(sizeof(struct mount_request) == 32, "mnt_id_req layout");
_Static_assert(offsetof(struct mount, magic) == 24 && sizeof(struct mount) == 512, "statmount layout");

/* By its number: some C libraries of musl have no preadv2. */
static ssize_t read_nowait(int fd, const struct iovec *to, off_t off)
{
    return syscall(SYS_preadv2, fd, to, 1L, (long)off, 0L, NOWAIT);
}

/* ---- reads ---- */

static int64_t read_cached(int fd, uint64_t off, char *to, uint32_t len)
{
    uint32_t done = 0;
    do {
        struct iovec rest = { to + done, len - done };
        /* A short read met the end of the file, or a page that is not there: the next call tells. */
        ssize_t n = read_nowait(fd, &rest, off == UINT64_MAX ? -1 : (off_t)(off + done));
        if (n < 0)
            return done ? -PART - (int64_t)done : -errno;
        if (!n)
            break;
        done += (uint32_t)n;
    } while (done < len);
    return done;
}

/* 1 and the number; 0 and an exception: then no other argument may be converted, whose __index__ would be called. */
static int is_number(PyObject *arg, int64_t *number)
{
    *number = PyLong_AsLongLong(arg);
    return *number != -1 || !PyErr_Occurred();
}

static PyObject *read_into(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    (void)module;
    if (count != 4)
        return PyErr_Format(PyExc_TypeError, "read_cached takes 4 arguments");
    int64_t fd;
    if (!is_number(args[0], &fd))
        return NULL;
    uint64_t off = PyLong_AsUnsignedLongLong(args[1]), to = PyLong_AsUnsignedLongLong(args[2]);
    unsigned long len = PyLong_AsUnsignedLong(args[3]);
    if (PyErr_Occurred())
        return NULL;
    if (fd != (int)fd || len > INT32_MAX)
        return PyErr_Format(PyExc_OverflowError, "a descriptor or length is too large");
    int64_t res;
    Py_BEGIN_ALLOW_THREADS
    res = read_cached((int)fd, off, (char *)(uintptr_t)to, (uint32_t)len);
    Py_END_ALLOW_THREADS
    return PyLong_FromLongLong(res);
}

static PyObject *read_piece(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    (void)module;
    if (count != 3)
        return PyErr_Format(PyExc_TypeError, "read_piece takes 3 arguments");
    int64_t fd, len, off;
    if (!is_number(args[0], &fd) || !is_number(args[1], &len) || !is_number(args[2], &off))
        return NULL;
    if (fd != (int)fd || len < 0 || len > INT32_MAX || off < 0)
        return PyErr_Format(PyExc_OverflowError, "a descriptor, length or offset is out of range");
    PyObject *piece = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)len);
    if (!piece)
        return NULL;
    char *contents = PyBytes_AsString(piece);
    int64_t res;
    Py_BEGIN_ALLOW_THREADS
    res = read_cached((int)fd, (uint64_t)off, contents, (uint32_t)len);
    Py_END_ALLOW_THREADS
    if (res == len)
        return piece;
    PyObject *less = res < 0 ? Py_NewRef(Py_None) : PyBytes_FromStringAndSize(contents, (Py_ssize_t)res);
    Py_DECREF(piece);
    return less;
}

struct place { PyObject *piece; struct iovec room; int64_t off; };

/* 1 and the place; 0 for what only the caller can judge. */
static int is_place(PyObject *pair, struct place *place)
{
    PyObject *off, *len;
    if (!PyTuple_CheckExact(pair) || PyTuple_Size(pair) != 2)
        return 0;
    off = PyTuple_GetItem(pair, 0);
    len = PyTuple_GetItem(pair, 1);
    if (!PyLong_CheckExact(off) || !PyLong_CheckExact(len))
        return 0;
    int64_t size = PyLong_AsLongLong(len);
    place->off = PyLong_AsLongLong(off);
    if (place->off < 0 || size < 0) {
        PyErr_Clear();
        return 0;
    }
    place->room.iov_len = (size_t)size;
    return 1;
}

static uint32_t read_places(int fd, struct place *places, uint32_t n)
{
    uint32_t i;
    for (i = 0; i < n; i++)
        if (read_nowait(fd, &places[i].room, (off_t)places[i].off) != (ssize_t)places[i].room.iov_len)
            break;
    return i;
}

static PyObject *read_pieces(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    (void)module;
    if (count != 3 || !PyList_CheckExact(args[1]))
        return PyErr_Format(PyExc_TypeError, "read_pieces takes 3 arguments, of which the second is a list");
    int64_t fd, most;
    if (!is_number(args[0], &fd) || !is_number(args[2], &most))
        return NULL;
    Py_ssize_t n = PyList_Size(args[1]), i, whole = 0;
    if (fd != (int)fd || n > INT32_MAX)
        return PyErr_Format(PyExc_OverflowError, "a descriptor or the number of pieces is too large");
    struct place *places = PyMem_Calloc((size_t)n, sizeof *places);
    if (!places)
        return PyErr_NoMemory();
    PyObject *found = NULL;
    size_t left = most < 0 ? 0 : (size_t)most;
    for (i = 0; i < n; i++) {
        if (!is_place(PyList_GetItem(args[1], i), &places[i]) || places[i].room.iov_len > left) {
            found = Py_NewRef(Py_None);
            goto out;
        }
        left -= places[i].room.iov_len;
    }
    for (i = 0; i < n; i++) {
        if (!(places[i].piece = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)places[i].room.iov_len)))
            goto out;
        places[i].room.iov_base = PyBytes_AsString(places[i].piece);
    }
    Py_BEGIN_ALLOW_THREADS
    whole = read_places((int)fd, places, (uint32_t)n);
    Py_END_ALLOW_THREADS
    if (!(found = PyList_New(whole)))
        goto out;
    for (i = 0; i < whole; i++) {
        PyList_SetItem(found, i, places[i].piece);
        places[i].piece = NULL;
    }
out:
    for (i = 0; i < n; i++)
        Py_XDECREF(places[i].piece);
    PyMem_Free(places);
    return found;
}

/* ---- names ---- */

/* File systems whose getattr reads fields of the inode in memory alone. */
static int answers_from_memory(uint64_t magic)
{
    return magic == 0xef53 /* ext2 to ext4 */ || magic == 0x58465342 /* xfs */ || magic == 0x9123683e /* btrfs */ ||
           magic == 0x01021994 /* tmpfs */;
}

static int is_local(int fd)
{
    /* Ids of mounts, which are never used again, shifted by one; the answer is bit 0. */
    static uint64_t known[MOUNTS];
    /* Not by statx, in which a file system may ask its server whatever the flags. This call fails for want of room
     * for the handle, and gives the mount's id nevertheless. */
    struct handle handle = { 0, 0 };
    uint64_t id;
    if (syscall(SYS_name_to_handle_at, fd, "", &handle, &id, AT_EMPTY_PATH | HANDLE_MNT_ID_UNIQUE) < 0 &&
        errno != EOVERFLOW)
        return 0;
    uint64_t *place = &known[id % MOUNTS], entry = __atomic_load_n(place, __ATOMIC_RELAXED);
    if (entry >> 1 == id)
        return (int)(entry & 1);
    struct mount_request req = { .size = sizeof req, .mnt_id = id, .param = SB_BASIC };
    struct mount mount;
    if (syscall(NR_STATMOUNT, &req, &mount, sizeof mount, 0) < 0)
        return 0;
    int local = (mount.mask & SB_BASIC) && answers_from_memory(mount.magic);
    __atomic_store_n(place, id << 1 | (uint64_t)local, __ATOMIC_RELAXED);
    return local;
}

/* 0 and the stat, or an errno; EAGAIN: it cannot be answered so. */
static int find(const char *path, int follow, struct stat *st)
{
    struct how how = { .flags = O_PATH | O_CLOEXEC, .resolve = CACHED | (follow ? 0 : NO_SYMLINKS) };
    int fd = (int)syscall(NR_OPENAT2, AT_FDCWD, path, &how, sizeof how);
    if (fd < 0)
        return errno;
    /* Not by the C library's fstat, which glibc has since 2.33: a wheel is for older ones too. */
    int res = is_local(fd) && syscall(SYS_fstat, fd, st) == 0 ? 0 : EAGAIN;
    close(fd);
    return res;
}

static PyTypeObject *stat_type; /* os.stat_result */
static Py_ssize_t stat_fields;  /* how many it has; newer Pythons may have some that are not known here */

/* As os.fstat makes it; a new reference, which owns the fields that are set in it. */
static PyObject *stat_result(const struct stat *st)
{
    const struct timespec times[3] = { st->st_atim, st->st_mtim, st->st_ctim };
    PyObject *made = PyStructSequence_New(stat_type);
    if (!made)
        return NULL;
    PyStructSequence_SetItem(made, 0, PyLong_FromUnsignedLong(st->st_mode));
    PyStructSequence_SetItem(made, 1, PyLong_FromUnsignedLongLong(st->st_ino));
    PyStructSequence_SetItem(made, 2, PyLong_FromUnsignedLongLong(st->st_dev));
    PyStructSequence_SetItem(made, 3, PyLong_FromUnsignedLongLong(st->st_nlink));
    PyStructSequence_SetItem(made, 4, PyLong_FromUnsignedLong(st->st_uid));
    PyStructSequence_SetItem(made, 5, PyLong_FromUnsignedLong(st->st_gid));
    PyStructSequence_SetItem(made, 6, PyLong_FromLongLong(st->st_size));
    for (int i = 0; i < 3; i++) {
        long long sec = times[i].tv_sec, ns = times[i].tv_nsec;
        PyStructSequence_SetItem(made, 7 + i, PyLong_FromLongLong(sec));
        PyStructSequence_SetItem(made, 10 + i, PyFloat_FromDouble((double)sec + 1e-9 * (double)ns));
        PyStructSequence_SetItem(made, 13 + i, PyLong_FromLongLong(sec * 1000000000 + ns));
    }
    PyStructSequence_SetItem(made, 16, PyLong_FromLongLong(st->st_blksize));
    PyStructSequence_SetItem(made, 17, PyLong_FromLongLong(st->st_blocks));
    PyStructSequence_SetItem(made, 18, PyLong_FromUnsignedLongLong(st->st_rdev));
    for (Py_ssize_t i = STAT_FIELDS; i < stat_fields; i++)
        PyStructSequence_SetItem(made, i, Py_NewRef(Py_None));
    if (PyErr_Occurred()) {
        Py_DECREF(made);
        return NULL;
    }
    return made;
}

/* Whether its nanoseconds since 1970 are a 64-bit number: true of 1678 to 2261. */
static int is_near(const struct timespec *when)
{
    return when->tv_sec > -9200000000 && when->tv_sec < 9200000000;
}

static PyObject *find_stat(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    (void)module;
    if (count != 2)
        return PyErr_Format(PyExc_TypeError, "find_stat takes 2 arguments");
    int follow = PyObject_IsTrue(args[1]), res;
    if (follow < 0)
        return NULL;
    PyObject *name;
    if (!PyUnicode_FSConverter(args[0], &name)) {
        if (!PyErr_ExceptionMatches(PyExc_TypeError) && !PyErr_ExceptionMatches(PyExc_ValueError))
            return NULL;
        PyErr_Clear(); /* a descriptor, or what the caller has an error for */
        Py_RETURN_NONE;
    }
    const char *path = PyBytes_AsString(name);
    struct stat st = { 0 };
    Py_BEGIN_ALLOW_THREADS
    res = find(path, follow, &st);
    Py_END_ALLOW_THREADS
    Py_DECREF(name);
    if (res == ENOENT)
        return PyLong_FromLong(res);
    if (res || !is_near(&st.st_atim) || !is_near(&st.st_mtim) || !is_near(&st.st_ctim))
        Py_RETURN_NONE;
    return stat_result(&st);
}

static PyObject *stat_is_local(PyObject *module, PyObject *number)
{
    (void)module;
    long fd = PyLong_AsLong(number);
    if (PyErr_Occurred())
        return NULL;
    int local;
    Py_BEGIN_ALLOW_THREADS
    local = fd == (int)fd && is_local((int)fd);
    Py_END_ALLOW_THREADS
    return PyBool_FromLong(local);
}

/* ---- the module ---- */

static PyMethodDef functions[] = {
    { "read_cached", (PyCFunction)(void (*)(void))read_into, METH_FASTCALL, NULL },
    { "read_piece", (PyCFunction)(void (*)(void))read_piece, METH_FASTCALL, NULL },
    { "read_pieces", (PyCFunction)(void (*)(void))read_pieces, METH_FASTCALL, NULL },
    { "find_stat", (PyCFunction)(void (*)(void))find_stat, METH_FASTCALL, NULL },
    { "stat_is_local", stat_is_local, METH_O, NULL },
    { NULL, NULL, 0, NULL },
};

static int load(PyObject *module)
{
    /* The type of a stat is this interpreter's. From 3.12 on Python itself refuses an interpreter with its own GIL. */
    if (PyInterpreterState_GetID(PyInterpreterState_Get()) != 0) {
        PyErr_SetString(PyExc_ImportError, "uring._cached is for the main interpreter of a process");
        return -1;
    }
    PyObject *os = PyImport_ImportModule("os");
    PyObject *type = os ? PyObject_GetAttrString(os, "stat_result") : NULL;
    PyObject *fields = type ? PyObject_GetAttrString(type, "n_fields") : NULL;
    stat_fields = fields ? PyLong_AsSsize_t(fields) : -1;
    Py_XDECREF(os);
    Py_XDECREF(fields);
    if (stat_fields < STAT_FIELDS) {
        Py_XDECREF(type);
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_ImportError, "os.stat_result has fewer fields than are known");
        return -1;
    }
    stat_type = (PyTypeObject *)type; /* this reference is never dropped */
    return PyModule_AddIntConstant(module, "PART", PART);
}

static PyModuleDef_Slot slots[] = { { Py_mod_exec, load }, { 0, NULL } };

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "_cached", .m_methods = functions, .m_slots = slots,
};

PyMODINIT_FUNC PyInit__cached(void) { return PyModuleDef_Init(&definition); }
