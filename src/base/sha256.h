/* SHA-256 (FIPS 180-4), for files that come from elsewhere: added piece by piece, given as 64 hexadecimal digits.
 *
 * Plain C, about 250 MB/s on one core: faster than what it checks arrives. Not for secrets: no care is taken of what others can
 * measure. */
#ifndef CT_BASE_SHA256_H
#define CT_BASE_SHA256_H

#include <stddef.h>
#include <stdint.h>

#define CT_SHA256_HEX 65 /* digits and the NUL */

typedef struct ct_sha256 { /* the caller's memory; private */
    uint32_t h[8];
    uint64_t size;
    uint8_t block[64]; /* the last size % 64 bytes */
} ct_sha256;

void ct_sha256_init(ct_sha256 *s);
void ct_sha256_add(ct_sha256 *s, const void *data, size_t size);
/* Small letters. s is of no use afterwards, until init. */
void ct_sha256_end(ct_sha256 *s, char hex[CT_SHA256_HEX]);

#endif
