/* When does a text loop? Small base models under greedy decoding fall into exact repetition and never leave it.
 *
 * The rule: the text's tail repeats with a period of p <= 100 tokens, at least three times, over at least 30 tokens; the last
 * repetition may be cut anywhere (generation stops at a length, not at a border). Only exact repeats count: a numbered list
 * whose items differ in one number, or a refrain with other words between, may be dull but is not a loop. A loop that the text
 * left again is not counted either. Of several periods the shortest is reported: "a a a a" has period 1, not 2. */
#include "bench/bench.h"

enum { MAX_PERIOD = 100, MIN_TIMES = 3, MIN_COVER = 30 };

bool ct_find_loop(const int32_t *ids, size_t n, int32_t *period, int32_t *start)
{
    for (size_t p = 1; p <= MAX_PERIOD && p < n; p++) {
        size_t same = 0; /* tokens of the tail that equal the one p before */
        while (same < n - p && ids[n - 1 - same] == ids[n - 1 - same - p])
            same++;
        size_t cover = same + p;
        if (cover < MIN_TIMES * p || cover < MIN_COVER)
            continue;
        if (period)
            *period = (int32_t)p;
        if (start)
            *start = (int32_t)(n - cover);
        return true;
    }
    return false;
}
