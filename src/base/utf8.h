/* Where a UTF-8 character ends, and whether it is one. Knows nothing of what characters mean. */
#ifndef CT_BASE_UTF8_H
#define CT_BASE_UTF8_H

#include <stddef.h>
#include <stdint.h>

/* What the bytes at s begin with: 1..4, the length of a whole character; 0, no character; -1, one that n cuts short. */
static inline int ct_utf8_step(const uint8_t *s, size_t n)
{
    uint8_t c = s[0];
    if (c < 0x80)
        return 1;
    if (c < 0xc2 || c > 0xf4)
        return 0; /* continuation bytes, overlong two-byte forms, beyond U+10FFFF */
    int len = c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
    if (n < 2)
        return -1;
    /* the second byte excludes overlong forms, surrogates and what lies beyond U+10FFFF */
    uint8_t low = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;
    uint8_t high = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
    if (s[1] < low || s[1] > high)
        return 0;
    for (int i = 2; i < len; i++) {
        if ((size_t)i == n)
            return -1;
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    }
    return len;
}

#endif
