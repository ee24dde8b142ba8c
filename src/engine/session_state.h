/* The inside of a session, for the two files that make it up: session.c (time) and session_file.c (save and load). */
#ifndef CT_ENGINE_SESSION_STATE_H
#define CT_ENGINE_SESSION_STATE_H

#include "engine/batch.h"
#include "engine/session.h"
#include "engine/snapshot.h"

struct ct_session {
    const ct_gemma *model;
    ct_batch *batch;
    ct_sampler *sampler;
    int32_t *ids;       /* [context] the history */
    uint8_t *roles;     /* [context] 1 = it was a decode row: a row that is computed again takes the role it had */
    ct_batch_row *rows; /* [chunk] */
    int32_t context, chunk;
    bool exact;
    bool has_logits;      /* the batch has those of the last token */
    bool expects;         /* how the next token is chosen is known: */
    ct_sampling expected; /* like this */
    bool screened;        /* the logits are, for: */
    ct_screen screen;
    int32_t also[CT_SCREEN_MAX], other[CT_SCREEN_MAX]; /* of screen; of what is asked for now */
    int64_t heads, scored;
    bool screen_all;
    bool last_decoded; /* role of the last row */
    ct_snapshots snapshots;
    int32_t replay; /* next position to be computed again for the rings' sake, up to the length; -1 = nothing is due */
    int32_t replay_low; /* from where on the rings will be right then */
    size_t bytes;
};

/* Computes again what is due, `most` rows of it at most. Fails as a step does, and what is due stays due. */
ct_status ct_session_replay_some(ct_session *s, int32_t most, ct_error *err);

/* What the last eight bytes of a saved session must be: the sum of the n before them (a multiple of 8). */
uint64_t ct_session_sum(const void *data, size_t n);

#endif
