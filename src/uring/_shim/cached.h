/* Answers that the kernel has in its caches, by system calls in the calling thread that never wait for a disk or a
 * server. -EAGAIN and everything else that says no more than "not this way" sends the caller to the ring. */

/* A read of what is in the page cache; off UINT64_MAX: at the file's position, which moves. Bytes, fewer than len
 * only at the end of the file; -UR_PART - n: n bytes, and for the next one it would have to wait. */
enum { UR_PART = 4096 };
int ur_read_cached(int fd, uint64_t off, uint64_t addr, uint32_t len);

/* The same of many pieces, which come to lie one behind the other from addr on. How many of them are whole, from the
 * first one on. */
int ur_read_cached_many(int fd, uint32_t n, uint64_t *offs, uint64_t *lens, uint64_t addr);

/* A descriptor (O_PATH, close on exec) of what a path leads to, for fstat; follow 0: only if no part of the path is a
 * symbolic link. -EAGAIN unless it is on a file system where fstat waits for nothing. */
int ur_find_cached(const char *path, int follow);

/* 1 when fstat of this descriptor waits for nothing. */
int ur_stat_is_local(int fd);
