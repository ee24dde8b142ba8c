/* A machine that fails on demand: the n-th allocation, read, write, mapping or thread of the library does not happen.
 *
 * The linker sends the library's calls of libc through faults.c (-Wl,--wrap=...), so the product has no code for it, and the
 * objects tested are those that are shipped. What the library holds is counted on the way: blocks, mapped bytes, and, asked of
 * the system, descriptors and threads. libc's own calls are not seen, nor are those of other shared libraries.
 *
 * Processes too: with CARAT_FAULT=KIND:N[:forever] in the environment the fault is set before main(), which is how the command
 * line's program carat_faulty is tested. CARAT_FAULT_REPORT=FILE gets "KIND calls fired" at exit. */
#ifndef CARAT_TESTS_FAULTS_H
#define CARAT_TESTS_FAULTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum fault_kind {
    FAULT_ALLOC,  /* malloc, calloc, realloc, anonymous mmap: ENOMEM                   */
    FAULT_MAP,    /* mmap of a file: ENOMEM                                            */
    FAULT_OPEN,   /* open: EMFILE; fopen, mkdir likewise                               */
    FAULT_STAT,   /* stat, fstat: EIO                                                  */
    FAULT_READ,   /* read: EIO                                                         */
    FAULT_WRITE,  /* write, pwrite: ENOSPC                                             */
    FAULT_SYNC,   /* fsync: EIO                                                        */
    FAULT_CLOSE,  /* close: EIO, and it is closed                                      */
    FAULT_RENAME, /* rename: EIO                                                       */
    FAULT_THREAD, /* pthread_create: EAGAIN                                            */
    FAULT_LOCK,   /* pthread_mutex_init, pthread_cond_init: ENOMEM                     */
    FAULT_SHRINK, /* no failure: the n-th file that is mapped is cut to half its length right afterwards */
    FAULT_VANISH, /* likewise: it is deleted                                           */
    FAULT_GROW,   /* likewise: a byte is written behind its end                        */
    FAULT_SHORT,  /* read and write move one byte, then a signal comes first (EINTR): no failure at all */
    FAULT_KINDS
};

const char *fault_name(enum fault_kind kind);

/* The n-th call (1-based) of a kind from now on fails: that one alone, or with `forever` all from there on. */
void fault_set(enum fault_kind kind, size_t n, bool forever);
void fault_clear(void);
/* Calls of the kind that was set last, since it was set; whether one of them failed. */
size_t fault_calls(void);
bool fault_fired(void);

/* What the library holds now. Test code's own malloc counts as well: hold as much before as after. */
struct holdings {
    long blocks; /* of malloc and its kin    */
    long mapped; /* bytes of mmap            */
    int files, threads;
};
struct holdings holdings_now(void);

/* fopen("/path") opens folder/path instead: a /proc and a /sys of a test's own. NULL: as it is. Borrows the string. */
void files_redirect(const char *folder);

#endif
