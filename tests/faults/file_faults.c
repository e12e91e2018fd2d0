/* Loaded with LD_PRELOAD: disturbs a process at its Nth operation on the files below a folder.

   An operation makes, writes, renames, links, removes or syncs a file or a folder. All processes
   that inherit the settings count together. The settings are environment variables, read when the
   library is loaded and whenever `read_settings` is called:

     FAULT_FOLDER    the folder; without it nothing happens
     FAULT_COUNTER   a file of 8 zero bytes, in which operations are counted
     FAULT_AT        the operation at which the fault strikes, from 1; 0 only counts
     FAULT_KIND      kill: the process is killed, in the middle of a write
                     EIO: this one operation fails
                     ENOSPC: the disk is full from here on; the write is cut short
                     EROFS: from here on nothing can be changed */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum need { ROOM, NO_ROOM }; /* whether an operation takes room on the disk */
enum verdict { PASS, CUT, FAIL };

static char folder[PATH_MAX];
static char kind[16];
static long at;
static long *counter;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

__attribute__((constructor)) void read_settings(void) {
    const char *where = getenv("FAULT_FOLDER"), *file = getenv("FAULT_COUNTER");
    folder[0] = 0;
    if (!where || !file) return;
    int descriptor = REAL(open)(file, O_RDWR);
    if (descriptor < 0) return;
    counter = mmap(NULL, sizeof *counter, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    close(descriptor);
    if (counter == MAP_FAILED) return;
    snprintf(kind, sizeof kind, "%s", getenv("FAULT_KIND") ? getenv("FAULT_KIND") : "");
    at = getenv("FAULT_AT") ? atol(getenv("FAULT_AT")) : 0;
    snprintf(folder, sizeof folder, "%s", where);
}

static int below(const char *path) {
    size_t length = strlen(folder);
    return length && !strncmp(path, folder, length) && (path[length] == '/' || !path[length]);
}

static int descriptor_below(int descriptor) {
    char link[64], path[PATH_MAX];
    if (!folder[0]) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return below(path);
}

static int path_below(int parent, const char *path) {
    char whole[2 * PATH_MAX], current[PATH_MAX];
    if (!folder[0]) return 0;
    if (path[0] == '/') return below(path);
    if (parent != AT_FDCWD) return descriptor_below(parent);
    if (!getcwd(current, sizeof current)) return 0;
    snprintf(whole, sizeof whole, "%s/%s", current, path);
    return below(whole);
}

/* Counts an operation. Sets errno where it is to fail. */
static enum verdict judge(enum need need, int is_write) {
    long number = __atomic_add_fetch(counter, 1, __ATOMIC_SEQ_CST);
    if (!at || number < at) return PASS;
    if (!strcmp(kind, "kill")) {
        if (number > at) return PASS; /* of another process: this one is no longer there */
        if (is_write) return CUT;
        kill(getpid(), SIGKILL);
    }
    if (!strcmp(kind, "EIO")) return number > at ? PASS : (errno = EIO, FAIL);
    if (!strcmp(kind, "EROFS")) return errno = EROFS, FAIL;
    if (!strcmp(kind, "ENOSPC") && need == ROOM) {
        if (number == at && is_write) return CUT;
        return errno = ENOSPC, FAIL;
    }
    return PASS;
}

#define DISTURB(concerned, need, ...)                                                  \
    if ((concerned) && judge(need, 0) == FAIL) return -1;                              \
    return __VA_ARGS__

/* ---------------------------------------------------------------------- writing */

static ssize_t after_a_cut(ssize_t written) {
    if (!strcmp(kind, "kill")) kill(getpid(), SIGKILL);
    return written;
}

#define WRITE(name, descriptor, size, whole, half)                                     \
    if (descriptor_below(descriptor)) {                                                \
        enum verdict verdict = judge(ROOM, 1);                                         \
        if (verdict == FAIL) return -1;                                                \
        if (verdict == CUT && (size) > 1) return after_a_cut(half);                    \
        if (verdict == CUT) {                                                          \
            if (!strcmp(kind, "kill")) kill(getpid(), SIGKILL);                        \
            return errno = ENOSPC, -1;                                                 \
        }                                                                              \
    }                                                                                  \
    return whole

ssize_t write(int d, const void *b, size_t n) {
    WRITE(write, d, n, REAL(write)(d, b, n), REAL(write)(d, b, n / 2));
}
ssize_t pwrite(int d, const void *b, size_t n, off_t o) {
    WRITE(pwrite, d, n, REAL(pwrite)(d, b, n, o), REAL(pwrite)(d, b, n / 2, o));
}
ssize_t pwrite64(int d, const void *b, size_t n, off64_t o) {
    WRITE(pwrite64, d, n, REAL(pwrite64)(d, b, n, o), REAL(pwrite64)(d, b, n / 2, o));
}
ssize_t writev(int d, const struct iovec *v, int n) {
    WRITE(writev, d, n, REAL(writev)(d, v, n), REAL(writev)(d, v, n / 2));
}

/* ---------------------------------------------------------------------- making and opening */

static int makes(int flags) { return flags & (O_CREAT | O_TRUNC); }

#define OPEN(name, parent, ...)                                                        \
    va_list rest;                                                                      \
    va_start(rest, flags);                                                             \
    mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(rest, mode_t) : 0;          \
    va_end(rest);                                                                      \
    DISTURB(makes(flags) && path_below(parent, path), ROOM, REAL(name)(__VA_ARGS__))

int open(const char *path, int flags, ...) { OPEN(open, AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { OPEN(open64, AT_FDCWD, path, flags, mode); }
int openat(int parent, const char *path, int flags, ...) {
    OPEN(openat, parent, parent, path, flags, mode);
}
int openat64(int parent, const char *path, int flags, ...) {
    OPEN(openat64, parent, parent, path, flags, mode);
}
int mkdir(const char *path, mode_t mode) {
    DISTURB(path_below(AT_FDCWD, path), ROOM, REAL(mkdir)(path, mode));
}
int mkdirat(int parent, const char *path, mode_t mode) {
    DISTURB(path_below(parent, path), ROOM, REAL(mkdirat)(parent, path, mode));
}
int link(const char *from, const char *to) {
    DISTURB(path_below(AT_FDCWD, to), ROOM, REAL(link)(from, to));
}
int linkat(int a, const char *from, int b, const char *to, int flags) {
    DISTURB(path_below(b, to), ROOM, REAL(linkat)(a, from, b, to, flags));
}

/* ---------------------------------------------------------------------- moving and removing */

int rename(const char *from, const char *to) {
    DISTURB(path_below(AT_FDCWD, to), NO_ROOM, REAL(rename)(from, to));
}
int renameat(int a, const char *from, int b, const char *to) {
    DISTURB(path_below(b, to), NO_ROOM, REAL(renameat)(a, from, b, to));
}
int unlink(const char *path) {
    DISTURB(path_below(AT_FDCWD, path), NO_ROOM, REAL(unlink)(path));
}
int unlinkat(int parent, const char *path, int flags) {
    DISTURB(path_below(parent, path), NO_ROOM, REAL(unlinkat)(parent, path, flags));
}
int rmdir(const char *path) {
    DISTURB(path_below(AT_FDCWD, path), NO_ROOM, REAL(rmdir)(path));
}

/* ---------------------------------------------------------------------- sizes and syncs */

int ftruncate(int descriptor, off_t size) {
    DISTURB(descriptor_below(descriptor), ROOM, REAL(ftruncate)(descriptor, size));
}
int ftruncate64(int descriptor, off64_t size) {
    DISTURB(descriptor_below(descriptor), ROOM, REAL(ftruncate64)(descriptor, size));
}
int fsync(int descriptor) {
    DISTURB(descriptor_below(descriptor), NO_ROOM, REAL(fsync)(descriptor));
}
int fdatasync(int descriptor) {
    DISTURB(descriptor_below(descriptor), NO_ROOM, REAL(fdatasync)(descriptor));
}
