/* Counts what a proxy allocates: preloaded into it, adds one to a number in a file for each call of
 * malloc and its relatives, and passes the call on to the allocator that comes next in the search
 * order (glibc's, or jemalloc where a proxy is linked with it). The file is mapped shared, so that
 * forked workers count into it too. A program that brings its allocator within itself is not seen.
 * BENCH_ALLOC_FILE names the file, which must have 8 bytes.
 *
 * Finding the next allocator may itself allocate: until it is found, calls are served from a small
 * block that is never given back. */

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#pragma GCC visibility push(default)

enum { EARLY_BYTES = 64 * 1024, EARLY_ALIGN = 64 };

static struct {
    void *(*malloc)(size_t size);
    void *(*calloc)(size_t number, size_t size);
    void *(*realloc)(void *old, size_t size);
    void *(*aligned_alloc)(size_t alignment, size_t size);
    void (*free)(void *block);
    bool finding, found;
} next;

static _Alignas(EARLY_ALIGN) uint8_t early[EARLY_BYTES];
static size_t early_used;
static _Atomic uint64_t before_open;
static _Atomic uint64_t *counter = &before_open;

static void counter_open(void)
{
    const char *path = getenv("BENCH_ALLOC_FILE");
    int fd = path != NULL ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0) {
        return;
    }
    void *page = mmap(NULL, sizeof *counter, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    (void)close(fd);
    if (page != MAP_FAILED) {
        counter = page;
    }
}

/* dlsym gives an object pointer for a function: POSIX wants it copied so, ISO C has no cast. */
static void find(const char *name, void *into)
{
    void *symbol = dlsym(RTLD_NEXT, name);
    memcpy(into, &symbol, sizeof symbol);
}

/* False while the search itself allocates. */
static bool ready(void)
{
    if (next.found || next.finding) {
        return next.found;
    }
    next.finding = true;
    find("malloc", &next.malloc);
    find("calloc", &next.calloc);
    find("realloc", &next.realloc);
    find("aligned_alloc", &next.aligned_alloc);
    find("free", &next.free);
    counter_open();
    next.found = true;
    return true;
}

static void count(void)
{
    atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

static bool is_early(const void *block)
{
    const uint8_t *byte = block;
    return byte >= early && byte < early + EARLY_BYTES;
}

/* Zeroed, as calloc wants it: the block is static and never used twice. */
static void *early_alloc(size_t size)
{
    size_t begin = early_used;
    if (size > EARLY_BYTES - begin) {
        abort();
    }
    early_used = (begin + size + EARLY_ALIGN - 1) / EARLY_ALIGN * EARLY_ALIGN;
    return early + begin;
}

void *malloc(size_t size)
{
    if (!ready()) {
        return early_alloc(size);
    }
    count();
    return next.malloc(size);
}

void *calloc(size_t number, size_t size)
{
    if (!ready()) {
        return early_alloc(number * size);
    }
    count();
    return next.calloc(number, size);
}

void *realloc(void *old, size_t size)
{
    if (!ready()) {
        return early_alloc(size);
    }
    count();
    if (!is_early(old)) {
        return next.realloc(old, size);
    }
    void *block = next.malloc(size);
    size_t old_room = (size_t)(early + EARLY_BYTES - (uint8_t *)old);
    if (block != NULL) {
        memcpy(block, old, size < old_room ? size : old_room);
    }
    return block;
}

void *aligned_alloc(size_t alignment, size_t size)
{
    if (!ready()) {
        return early_alloc(size);
    }
    count();
    return next.aligned_alloc(alignment, size);
}

void *memalign(size_t alignment, size_t size)
{
    return aligned_alloc(alignment, size);
}

int posix_memalign(void **result, size_t alignment, size_t size)
{
    *result = aligned_alloc(alignment, size);
    return *result != NULL ? 0 : ENOMEM;
}

void free(void *block)
{
    if (!is_early(block) && block != NULL && ready()) {
        next.free(block);
    }
}
