/* Numbers that stand for several measurements: median, quantile, spread. Medians, because a shared machine disturbs some
 * runs much and most runs little. No memory is taken: lists are as short as a benchmark's repeats, or sorted by the caller. */
#include "bench/bench.h"

#include <math.h>
#include <stdlib.h>

/* The value with exactly k smaller-or-equal-ranked ones before it: O(n log range) by counting, without a copy. */
static double nth(const double *x, size_t n, size_t k)
{
    for (size_t i = 0; i < n; i++) {
        size_t below = 0, equal = 0;
        for (size_t j = 0; j < n; j++) {
            below += x[j] < x[i];
            equal += x[j] == x[i];
        }
        if (below <= k && k < below + equal)
            return x[i];
    }
    return NAN;
}

double ct_median(const double *x, size_t n)
{
    if (n == 0)
        return 0;
    return n % 2 ? nth(x, n, n / 2) : 0.5 * (nth(x, n, n / 2 - 1) + nth(x, n, n / 2));
}

double ct_quantile(const double *x, size_t n, double q)
{
    if (n == 0)
        return 0;
    double rank = ceil(q * (double)n) - 1;
    size_t k = rank < 0 ? 0 : (size_t)rank;
    return nth(x, n, k < n ? k : n - 1);
}

double ct_spread(const double *x, size_t n)
{
    if (n < 2)
        return 0;
    double mean = 0, sum = 0;
    for (size_t i = 0; i < n; i++)
        mean += x[i] / (double)n;
    for (size_t i = 0; i < n; i++)
        sum += (x[i] - mean) * (x[i] - mean);
    return sqrt(sum / (double)(n - 1));
}
