/* Pulling: the list, the choice, the room on the disk, then file by file. See pull.h. */
#include "fetch/pull.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "fetch/cache.h"
#include "fetch/hub.h"

struct job {
    const ct_pull_options *o;
    ct_hub hub;
    ct_hub_list list;
    ct_cache cache;
    uint64_t total, done; /* bytes of wanted files; of those before the one at work */
    uint64_t fetched;
};

/* ---- one file: where its bytes go ---- */

struct incoming {
    struct job *job;
    ct_part part;
    bool resumed;     /* some of it is of an earlier run */
    ct_status status; /* why an answer was ended */
    bool again;       /* and whether another try may help */
    ct_error why;
};

static void show(const struct job *w, const char *name, uint64_t now)
{
    const char *tail = strrchr(name, '/');
    if (w->o->progress)
        w->o->progress(w->o->arg, tail ? tail + 1 : name, (double)(w->done + now), (double)w->total);
}

static bool stop(struct incoming *in, ct_status st)
{
    in->status = st;
    return false;
}

/* Two answers are put together only where their hash can be proved in the end. */
static uint64_t have(void *arg)
{
    const ct_part *p = &((const struct incoming *)arg)->part;
    return p->f->hashed ? p->size : 0;
}

static bool begin(void *arg, const ct_reply *r, uint64_t from)
{
    struct incoming *in = arg;
    const ct_hub_file *f = in->part.f;
    const char *endpoint = in->job->hub.endpoint;
    const char *linked = r->linked ? r->etag : in->job->hub.linked;
    if (linked[0] && f->hashed && strcmp(linked, f->etag) != 0)
        return stop(in,
                    ct_fail(&in->why, CT_EFORMAT, f->name,
                            "%s lists '%.60s' with the sha256 %.12s..., and sends it with %.12s...: try again later",
                            endpoint, f->name, f->etag, linked));
    if (from != in->part.size) { /* asked for the rest, and got all of it or something else */
        ct_status st = ct_part_restart(&in->part, &in->why);
        in->resumed = false;
        if (st != CT_OK)
            return stop(in, st);
        in->again = from != 0;
        if (from != 0)
            return stop(in, ct_fail(&in->why, CT_EIO, f->name, "%s sends another part of '%.80s' than was asked for",
                                    endpoint, f->name));
    }
    if (r->length != UINT64_MAX && (r->length > f->size || from + r->length != f->size))
        return stop(in,
                    ct_fail(&in->why, CT_EFORMAT, f->name,
                            "expected %llu bytes of '%.60s', as %s lists it, and it announces %llu: try again later",
                            (unsigned long long)(f->size - from), f->name, endpoint, (unsigned long long)r->length));
    return true;
}

static bool put(void *arg, const void *data, size_t size)
{
    struct incoming *in = arg;
    const ct_hub_file *f = in->part.f;
    if (size > f->size - in->part.size)
        return stop(in, ct_fail(&in->why, CT_EFORMAT, f->name,
                                "%s sends more than the %llu bytes that it lists for '%.80s': try again later",
                                in->job->hub.endpoint, (unsigned long long)f->size, f->name));
    ct_status st = ct_part_put(&in->part, data, size, &in->why);
    if (st != CT_OK)
        return stop(in, st);
    in->job->fetched += size;
    show(in->job, f->name, in->part.size);
    return true;
}

static ct_status end(void *arg, bool *again, ct_error *err)
{
    struct incoming *in = arg;
    const ct_hub_file *f = in->part.f;
    char hex[CT_SHA256_HEX];
    ct_status st = in->status;
    *again = in->again;
    in->status = CT_OK;
    in->again = false;
    if (st != CT_OK) {
        if (err)
            *err = in->why;
        return st;
    }
    *again = in->part.size < f->size;
    if (*again)
        return ct_fail(err, CT_EIO, f->name, "%s sent %llu of %llu bytes of '%.80s', again and again: try later",
                       in->job->hub.endpoint, (unsigned long long)in->part.size, (unsigned long long)f->size, f->name);
    if (ct_part_proved(&in->part, hex))
        return CT_OK;
    *again = in->resumed; /* what was there before may be of another file: once more, from the beginning */
    in->resumed = false;
    if ((st = ct_part_restart(&in->part, err)) != CT_OK)
        return st;
    return ct_fail(err, CT_EFORMAT, f->name,
                   "'%.60s' came damaged: expected the sha256 %.16s..., found %.16s...; it was not kept, pull it again",
                   f->name, f->etag, hex);
}

static ct_status fetch(struct job *w, const ct_hub_file *f, ct_error *err)
{
    struct incoming in = {.job = w};
    const ct_sink sink = {have, begin, put, end, &in};
    bool there, again = true;
    show(w, f->name, 0);
    ct_status st = ct_part_open(&in.part, &w->cache, f, w->o->keep_going, w->o->arg, &there, err);
    if (st != CT_OK || there)
        goto done;
    in.resumed = in.part.size > 0;
    /* what is empty or was complete before it could be renamed needs no bytes */
    if (in.part.size == f->size)
        st = end(&in, &again, err);
    if (again)
        st = ct_hub_get(&w->hub, w->list.commit, f, &sink, err);
    if (st == CT_OK)
        st = ct_part_commit(&in.part, err);
done:
    ct_part_close(&in.part);
    return st;
}

/* ---- all of them ---- */

static void human(char out[24], uint64_t bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double v = (double)bytes;
    size_t u = 0;
    for (; v >= 1024 && u < 6; u++)
        v /= 1024;
    snprintf(out, 24, u > 0 && v < 10 ? "%.1f %s" : "%.0f %s", v, units[u]);
}

static ct_status list(struct job *w, ct_error *err)
{
    const ct_pull_options *o = w->o;
    ct_status st = ct_hub_list_get(&w->hub, &w->list, err);
    if (st != CT_OK)
        return st;
    st = ct_hub_choose(&w->hub, &w->list, o->file, err);
    for (size_t i = 0; i < w->list.n && o->on_file; i++)
        o->on_file(o->on_file_arg, w->list.files[i].name, w->list.files[i].size, w->list.files[i].wanted);
    return st;
}

/* Sizes, and whether the disk has room for what is missing. */
static ct_status measure(struct job *w, ct_error *err)
{
    uint64_t missing = 0;
    ct_status st = CT_OK;
    for (size_t i = 0; i < w->list.n && st == CT_OK; i++) {
        ct_hub_file *f = &w->list.files[i];
        bool whole;
        if (!f->wanted)
            continue;
        if (f->size == UINT64_MAX || f->etag[0] == '\0')
            st = ct_hub_complete(&w->hub, w->list.commit, f, err);
        if (st != CT_OK)
            return st;
        uint64_t part = ct_cache_have(&w->cache, f, &whole);
        if (f->size > INT64_MAX || w->total > INT64_MAX - f->size)
            return ct_fail(err, CT_EFORMAT, f->name, "'%.80s' cannot have %llu bytes", f->name,
                           (unsigned long long)f->size);
        w->total += f->size;
        missing += whole ? 0 : f->size - part;
    }
    size_t room = ct_cache_room(&w->cache);
    if (room != SIZE_MAX && missing > room) {
        char need[24], is[24];
        human(need, missing);
        human(is, room);
        return ct_fail(err, CT_EIO, w->cache.root,
                       "expected room for %s in '%.120s', found %s: make room, or name another disk by HF_HOME", need,
                       w->cache.root, is);
    }
    return CT_OK;
}

ct_status ct_pull(ct_pulled *out, ct_http *http, const ct_pull_options *o, ct_error *err)
{
    char endpoint[256];
    struct job w = {.o = o};
    *out = (ct_pulled){0};
    ct_status st = ct_hub_names(o->repo, o->revision, o->file, err);
    if (st == CT_OK)
        st = ct_hub_endpoint(endpoint, sizeof endpoint, o->endpoint, err);
    if (st != CT_OK)
        return st;
    w.hub = (ct_hub){.http = http,
                     .endpoint = endpoint,
                     .token = o->token,
                     .repo = o->repo,
                     .revision = o->revision,
                     .wait_ms = o->wait_ms,
                     .keep_going = o->keep_going,
                     .arg = o->arg};
    if ((st = list(&w, err)) != CT_OK || (st = ct_cache_init(&w.cache, o->cache, o->repo, err)) != CT_OK ||
        (st = measure(&w, err)) != CT_OK)
        goto done;
    for (size_t i = 0; i < w.list.n && st == CT_OK; i++) {
        const ct_hub_file *f = &w.list.files[i];
        bool whole;
        if (!f->wanted)
            continue;
        ct_cache_have(&w.cache, f, &whole);
        if (!whole)
            st = fetch(&w, f, err);
        if (st == CT_OK)
            st = ct_cache_link(&w.cache, w.list.commit, f, err);
        w.done += f->size;
        out->files++;
    }
    if (st == CT_OK)
        st = ct_cache_point(&w.cache, o->revision, w.list.commit, err);
    if (st == CT_OK) {
        out->path = ct_cache_path(&w.cache, w.list.commit, o->file);
        if (out->path == NULL)
            st = ct_fail(err, CT_ENOMEM, o->repo, "out of memory for a path");
    }
    out->bytes = w.total;
    out->fetched = w.fetched;
    memcpy(out->commit, w.list.commit, sizeof out->commit);
done:
    if (st != CT_OK)
        *out = (ct_pulled){0};
    ct_cache_deinit(&w.cache);
    ct_hub_list_deinit(&w.list);
    return st;
}
