/* llama.cpp's mixtures as a table (its src/llama-quant.cpp, b10256, as far as it concerns Gemma 3): which tensors get other
 * types than the rest. Knows names and layers, no files. tests/unit/test_convert_mixture.c compares with a real file. */
#include "convert/mixture.h"

#include <ctype.h>
#include <string.h>

#define NONE             \
    {                    \
        WHEN_NEVER, 0, 0 \
    }
#define RULE(when, then, otherwise)            \
    {                                          \
        WHEN_##when, CT_##then, CT_##otherwise \
    }
#define ALL(type) RULE(ALWAYS, type, type)

/*   name, base, file type             attn_v                         ffn_down                            attn_output */
static const ct_mixture table[] = {
    {"f32", CT_F32, 0, NONE, NONE, NONE},
    {"f16", CT_F16, 1, NONE, NONE, NONE},
    {"bf16", CT_BF16, 32, NONE, NONE, NONE},
    {"q8_0", CT_Q8_0, 7, NONE, NONE, NONE},
    {"q6_k", CT_Q6_K, 18, NONE, NONE, NONE},
    {"q5_k_m", CT_Q5_K, 17, RULE(MORE_BITS, Q6_K, Q5_K), RULE(MORE_BITS, Q6_K, Q5_K), NONE},
    {"q5_k_s", CT_Q5_K, 16, NONE, NONE, NONE},
    {"q5_1", CT_Q5_1, 9, NONE, NONE, NONE},
    {"q5_0", CT_Q5_0, 8, NONE, RULE(EIGHTH_IMPORTANT, Q5_1, Q5_0), NONE},
    {"q4_k_m", CT_Q4_K, 15, RULE(MORE_BITS, Q6_K, Q4_K), RULE(MORE_BITS, Q6_K, Q4_K), NONE},
    {"q4_k_s", CT_Q4_K, 14, RULE(FIRST_FOUR, Q5_K, Q4_K), RULE(EIGHTH, Q5_K, Q4_K), NONE},
    {"q4_1", CT_Q4_1, 3, NONE, NONE, NONE},
    {"q4_0", CT_Q4_0, 2, NONE, RULE(EIGHTH_IMPORTANT, Q4_1, Q4_0), NONE},
    {"iq4_nl", CT_IQ4_NL, 25, RULE(FOUR_QUERIES, Q5_K, IQ4_NL), RULE(EIGHTH_PLAIN, Q5_K, IQ4_NL), NONE},
    {"iq4_xs", CT_IQ4_XS, 30, RULE(FOUR_QUERIES, Q5_K, IQ4_XS), RULE(EIGHTH_PLAIN, Q5_K, IQ4_XS), NONE},
    {"q3_k_l", CT_Q3_K, 13, ALL(Q5_K), ALL(Q5_K), ALL(Q5_K)},
    {"q3_k_m", CT_Q3_K, 12, RULE(FIRST_TWO, Q5_K, Q4_K), RULE(SIXTEENTH, Q5_K, Q4_K), ALL(Q4_K)},
    {"q3_k_s", CT_Q3_K, 11, NONE, NONE, NONE},
    {"q2_k", CT_Q2_K, 10, RULE(FOUR_QUERIES, Q4_K, Q3_K), ALL(Q3_K), ALL(Q3_K)},
};

const ct_mixture *ct_mixture_at(size_t i) { return i < sizeof table / sizeof table[0] ? &table[i] : NULL; }

const ct_mixture *ct_mixture_find(const char *name)
{
    static const char *const medium[] = {"q3_k", "q4_k", "q5_k"};
    char lower[16] = "";
    size_t n = strlen(name);
    if (n + 3 > sizeof lower)
        return NULL;
    for (size_t i = 0; i < n; i++)
        lower[i] = (char)tolower((unsigned char)name[i]);
    for (size_t i = 0; i < sizeof medium / sizeof medium[0]; i++)
        if (strcmp(lower, medium[i]) == 0)
            memcpy(lower + n, "_m", 3);
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (strcmp(table[i].name, lower) == 0)
            return &table[i];
    return NULL;
}

static bool holds(enum mixture_when when, const ct_mixture_model *model, int32_t layer)
{
    int32_t n = model->layers, eighth = n / 8;
    switch (when) {
    case WHEN_NEVER: return false;
    case WHEN_ALWAYS: return true;
    case WHEN_MORE_BITS: return layer < eighth || layer >= 7 * n / 8 || (layer - eighth) % 3 == 2;
    case WHEN_FIRST_TWO: return layer < 2;
    case WHEN_FIRST_FOUR: return layer < 4;
    case WHEN_SIXTEENTH: return layer < n / 16;
    case WHEN_EIGHTH: return layer < eighth;
    case WHEN_EIGHTH_PLAIN: return layer < eighth && !model->importance;
    case WHEN_EIGHTH_IMPORTANT: return layer < eighth && model->importance;
    case WHEN_FOUR_QUERIES: return model->heads / model->kv_heads >= 4;
    }
    return false;
}

static const ct_dtype_info *fitting(ct_dtype type, size_t row)
{
    const ct_dtype_info *t = ct_dtype_get((int32_t)type);
    if (row % (size_t)t->block_elems == 0)
        return t;
    switch (type) {
    case CT_Q2_K:
    case CT_Q3_K: type = CT_Q4_0; break;
    case CT_Q4_K: type = CT_Q5_0; break;
    case CT_Q5_K: type = CT_Q5_1; break;
    case CT_Q6_K: type = CT_Q8_0; break;
    case CT_IQ4_XS: type = CT_IQ4_NL; break;
    default: break;
    }
    t = ct_dtype_get((int32_t)type);
    return row % (size_t)t->block_elems == 0 ? t : ct_dtype_get(CT_F16);
}

/* The head, which a tied embedding is: few bits would be seen in every logit. */
static ct_dtype head_type(const ct_mixture *m, size_t row)
{
    if (m->base == CT_Q8_0 || row % (size_t)ct_dtype_get((int32_t)m->base)->block_elems != 0)
        return CT_Q8_0;
    return CT_Q6_K;
}

const ct_dtype_info *ct_mixture_type(const ct_mixture *m, const ct_mixture_model *model, const char *name,
                                     int32_t layer, size_t row)
{
    if (!ct_dtype_get((int32_t)m->base)->quantized)
        return ct_dtype_get((int32_t)m->base);
    if (strcmp(name, "output") == 0 || (model->tied && strcmp(name, "token_embd") == 0))
        return fitting(head_type(m, row), row);
    const struct mixture_rule *rule = strcmp(name, "attn_v") == 0        ? &m->v
                                      : strcmp(name, "ffn_down") == 0    ? &m->down
                                      : strcmp(name, "attn_output") == 0 ? &m->o
                                                                         : NULL;
    if (rule == NULL || rule->when == WHEN_NEVER)
        return fitting(m->base, row);
    return fitting(holds(rule->when, model, layer) ? rule->then : rule->otherwise, row);
}
