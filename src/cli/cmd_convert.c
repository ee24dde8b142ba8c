/* carat convert: a model in another type, in the form that its name and type ask for. */
#include "cli/cli.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"

static int report(const args *a, const char *out, const carat_conversion *r)
{
    char size[24];
    buffer b = {0};
    if (a->json) {
        json_open(&b, NULL, '{');
        json_str(&b, "path", out);
        json_str(&b, "format", r->format);
        json_uint(&b, "bytes", r->bytes_out);
        json_uint(&b, "bytes_in", r->bytes_in);
        json_uint(&b, "tensors", r->tensors);
        json_uint(&b, "parameters", r->parameters);
        json_real(&b, "bits_per_weight", r->bits_per_weight);
        json_real(&b, "seconds", r->seconds);
        json_open(&b, "notes", '[');
        for (int32_t i = 0; i < r->n_notes; i++)
            json_str(&b, NULL, r->notes[i]);
        json_close(&b, ']');
        json_close(&b, '}');
    } else {
        put_clean(&b, out);
        putf(&b, ": %s, %s, %.2f bits per weight (%.1f s, %.0f MB/s of what was read)\n", r->format,
             human_bytes(size, (double)r->bytes_out), r->bits_per_weight, r->seconds,
             r->seconds > 0 ? (double)r->bytes_in * 1e-6 / r->seconds : 0);
    }
    int status = buffer_print(&b);
    buffer_free(&b);
    return status;
}

int cmd_convert(args *a)
{
    char path[4096];
    carat_error e = {0};
    carat_conversion r = {0};
    progress p;
    if (a->n_words != 2)
        return fail(EXIT_USAGE,
                    "expected what to read and what to write: carat convert IN OUT --type T, found %d name%s",
                    a->n_words, a->n_words == 1 ? "" : "s");
    if (a->type == NULL)
        return fail(EXIT_USAGE, "expected a type: carat convert IN OUT --type q4_k_m, or q8_0, bf16, mlx4, ...");
    int status = model_path(a, a->words[0], path, sizeof path);
    if (status >= 0)
        return status;
    carat_convert_options o = carat_convert_options_default();
    o.type = a->type;
    o.group = a->group;
    o.threads = a->threads;
    o.force = a->force;
    o.imatrix = a->imatrix;
    char *text = NULL;
    if (a->calibrate) {
        if ((status = read_input(a->calibrate, NULL, &text, &o.text_len)) >= 0)
            return status;
        o.text = text;
    }
    signals_polled();
    progress_init(&p, a);
    carat_job job = {keep_going, progress_show, &p};
    carat_status st = carat_convert(path, a->words[1], &o, &job, &r, &e);
    progress_clear(&p);
    ct_free(text);
    if (st != CARAT_OK)
        return fail_error(&e, false);
    for (int32_t i = 0; i < r.n_notes; i++)
        note(a, "warning: %s", r.notes[i]);
    status = report(a, a->words[1], &r);
    return status < 0 ? EXIT_DONE : status;
}
