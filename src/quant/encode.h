/* Floats into the bytes of a weight type, where the program itself makes weights: the rough copy of a head (model/rough.c).
 * What the bytes mean is dtype.h's. */
#ifndef CT_QUANT_ENCODE_H
#define CT_QUANT_ENCODE_H

#include <stddef.h>
#include <stdint.h>

/* n_blocks blocks of q4_0 from 32 finite floats each; returns the sum of the squared errors. */
double ct_q4_0_encode(uint8_t *dst, const float *src, size_t n_blocks);

#endif
