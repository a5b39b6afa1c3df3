/* Lets the k-th change of files below a folder fail, for a process that this is loaded into (LD_PRELOAD).
 *
 * Counted are: opening for writing, creating a folder, writing, syncing, truncating and renaming. The folder, k (from 1;
 * 0: only count), the error's number and whether all later ones fail too come by fault_set, or from the environment:
 * FAULT_FOLDER, FAULT_AT, FAULT_ERRNO, FAULT_LASTING. FAULT_LOG names a file that says at the end how many there were.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#undef open64
#undef openat64
#undef fopen64
#undef pwrite64
#undef ftruncate64
#undef sendfile64

static char folder[4096];
static size_t length;
static long at;
static int number, lasting;
static atomic_long seen;

void fault_set(const char *where, long k, int error, int for_good) {
    snprintf(folder, sizeof folder, "%s", where);
    length = strlen(folder);
    at = k;
    number = error;
    lasting = for_good;
    atomic_store(&seen, 0);
}

long fault_seen(void) { return atomic_load(&seen); }

__attribute__((constructor)) static void begin(void) {
    const char *where = getenv("FAULT_FOLDER"), *k = getenv("FAULT_AT"), *error = getenv("FAULT_ERRNO");
    if (where != NULL)
        fault_set(where, k ? atol(k) : 0, error ? atoi(error) : ENOSPC, getenv("FAULT_LASTING") != NULL);
}

__attribute__((destructor)) static void end(void) {
    const char *log = getenv("FAULT_LOG");
    FILE *file = log != NULL && length ? fopen(log, "a") : NULL;
    if (file != NULL) {
        fprintf(file, "%ld\n", fault_seen());
        fclose(file);
    }
}

/* A process that was forked for the work ends by this, which calls no destructors. */
__attribute__((noreturn)) void _exit(int code) {
    void (*real)(int) = (void (*)(int))dlsym(RTLD_NEXT, "_exit");
    end();
    real(code);
    __builtin_unreachable();
}

static int below(const char *path) {
    return length && path != NULL && strncmp(path, folder, length) == 0;
}

/* Returns whether this one fails; errno is set. */
static int fails(void) {
    long count = atomic_fetch_add(&seen, 1) + 1;
    if (at == 0 || count < at || (count > at && !lasting))
        return 0;
    errno = number;
    return 1;
}

static int fails_at(const char *path) { return below(path) && fails(); }

static int fails_on(int descriptor) {
    char link[64], path[4096];
    if (!length)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size < 0)
        return 0;
    path[size] = 0;
    return fails_at(path);
}

#define REAL(name) __typeof__(name) *real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)
#define CHANGES(flags) (((flags) & O_ACCMODE) != O_RDONLY || ((flags) & O_CREAT))

#define OPEN(name)                                                                                                     \
    int name(const char *path, int flags, ...) {                                                                       \
        int (*real)(const char *, int, ...) = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, #name);                \
        va_list rest;                                                                                                  \
        va_start(rest, flags);                                                                                         \
        mode_t mode = va_arg(rest, mode_t);                                                                            \
        va_end(rest);                                                                                                  \
        return CHANGES(flags) && fails_at(path) ? -1 : real(path, flags, mode);                                        \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                                                                   \
    int name(int directory, const char *path, int flags, ...) {                                                        \
        int (*real)(int, const char *, int, ...) = (int (*)(int, const char *, int, ...))dlsym(RTLD_NEXT, #name);      \
        va_list rest;                                                                                                  \
        va_start(rest, flags);                                                                                         \
        mode_t mode = va_arg(rest, mode_t);                                                                            \
        va_end(rest);                                                                                                  \
        return CHANGES(flags) && fails_at(path) ? -1 : real(directory, path, flags, mode);                             \
    }
OPENAT(openat)
OPENAT(openat64)

#define FOPEN(name)                                                                                                    \
    FILE *name(const char *path, const char *mode) {                                                                   \
        FILE *(*real)(const char *, const char *) = (FILE * (*)(const char *, const char *)) dlsym(RTLD_NEXT, #name);  \
        return strpbrk(mode, "wa+") != NULL && fails_at(path) ? NULL : real(path, mode);                               \
    }
FOPEN(fopen)
FOPEN(fopen64)

int mkdir(const char *path, mode_t mode) {
    REAL(mkdir);
    struct stat there;
    /* One that exists already is no change. */
    return below(path) && stat(path, &there) != 0 && fails() ? -1 : real(path, mode);
}

int rename(const char *from, const char *to) {
    REAL(rename);
    return fails_at(to) ? -1 : real(from, to);
}

ssize_t write(int descriptor, const void *data, size_t size) {
    REAL(write);
    return fails_on(descriptor) ? -1 : real(descriptor, data, size);
}

ssize_t writev(int descriptor, const struct iovec *data, int count) {
    REAL(writev);
    return fails_on(descriptor) ? -1 : real(descriptor, data, count);
}

#define PWRITE(name)                                                                                                   \
    ssize_t name(int descriptor, const void *data, size_t size, off_t offset) {                                        \
        ssize_t (*real)(int, const void *, size_t, off_t) =                                                            \
            (ssize_t(*)(int, const void *, size_t, off_t))dlsym(RTLD_NEXT, #name);                                     \
        return fails_on(descriptor) ? -1 : real(descriptor, data, size, offset);                                       \
    }
PWRITE(pwrite)
PWRITE(pwrite64)

#define SENDFILE(name)                                                                                                 \
    ssize_t name(int to, int from, off_t *offset, size_t size) {                                                       \
        ssize_t (*real)(int, int, off_t *, size_t) = (ssize_t(*)(int, int, off_t *, size_t))dlsym(RTLD_NEXT, #name);   \
        return fails_on(to) ? -1 : real(to, from, offset, size);                                                       \
    }
SENDFILE(sendfile)
SENDFILE(sendfile64)

#define TRUNCATE(name)                                                                                                 \
    int name(int descriptor, off_t size) {                                                                             \
        int (*real)(int, off_t) = (int (*)(int, off_t))dlsym(RTLD_NEXT, #name);                                        \
        return fails_on(descriptor) ? -1 : real(descriptor, size);                                                     \
    }
TRUNCATE(ftruncate)
TRUNCATE(ftruncate64)

int fsync(int descriptor) {
    REAL(fsync);
    return fails_on(descriptor) ? -1 : real(descriptor);
}

int fdatasync(int descriptor) {
    REAL(fdatasync);
    return fails_on(descriptor) ? -1 : real(descriptor);
}
