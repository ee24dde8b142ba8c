/* The handshake between the program and a backend that it loads at run time. See plugin.c. */
#ifndef CT_BACKEND_PLUGIN_H
#define CT_BACKEND_PLUGIN_H

#include "backend/backend.h"

/* Both sides were built from the same structs, or they do not speak: sizes change with nearly every change of a contract. */
typedef struct ct_handshake {
    char version[16];
    uint32_t backend, ops, kv, weight, ctx, limits;
} ct_handshake;

#define CT_HANDSHAKE                                                                                         \
    {                                                                                                        \
        CARAT_VERSION_TEXT, (uint32_t)sizeof(ct_backend), (uint32_t)sizeof(ct_ops), (uint32_t)sizeof(ct_kv), \
            (uint32_t)sizeof(ct_weight), (uint32_t)sizeof(ct_ctx), (uint32_t)sizeof(ct_limits)               \
    }

/* What libcarat-cuda.so shows: one object named carat_cuda_plugin. open may be called once. EUNSUPPORTED in a sentence where there
 * is no driver, no card, or none that will do. */
typedef struct ct_plugin {
    ct_handshake is;
    ct_status (*open)(const ct_backend **out, ct_error *err);
} ct_plugin;

#endif
