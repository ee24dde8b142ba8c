/* Sorting for every reader's look-ups: duplicate names and overlaps are found by it, and no file can make it slow. */
#include <string.h>

#include "formats/directory.h"

int ct_str_compare(ct_str a, ct_str b)
{
    size_t n = a.len < b.len ? a.len : b.len;
    int c = n > 0 ? memcmp(a.data, b.data, n) : 0;
    return c != 0 ? c : (a.len > b.len) - (a.len < b.len);
}

static void sift_down(uint32_t *order, size_t root, size_t n, ct_less_fn *less, const void *arg)
{
    for (size_t child; (child = 2 * root + 1) < n; root = child) {
        if (child + 1 < n && less(arg, order[child], order[child + 1]))
            child++;
        if (!less(arg, order[root], order[child]))
            return;
        uint32_t swap = order[root];
        order[root] = order[child];
        order[child] = swap;
    }
}

/* A heap sort: no input makes it slow, and it takes no memory. */
void ct_sort(uint32_t *order, size_t n, ct_less_fn *less, const void *arg)
{
    for (size_t i = 0; i < n; i++)
        order[i] = (uint32_t)i;
    for (size_t i = n / 2; i-- > 0;)
        sift_down(order, i, n, less, arg);
    for (size_t end = n; end-- > 1;) {
        uint32_t swap = order[0];
        order[0] = order[end];
        order[end] = swap;
        sift_down(order, 0, end, less, arg);
    }
}
