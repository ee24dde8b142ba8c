/* A backend for tests: the oracle, in memory that the CPU cannot touch, with the manners of a device. See glass.c. */
#ifndef CARAT_TESTS_GLASS_H
#define CARAT_TESTS_GLASS_H

#include "backend/backend.h"

const ct_backend *glass_backend(void);
extern int32_t glass_replays; /* runs that were played back so far */
extern int32_t glass_fail_at; /* the n-th read, write or end from now fails; 0: none does */

#endif
